"""Faults of netlink on the real kernel: killed processes, foreign programs, overruns, large batches."""

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from netns import in_own_network

from undercroft.adapters.nftables import Nftables, codec, reading
from undercroft.adapters.nftables.difference import created
from undercroft.adapters.nftables.wire import Channel
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Rule,
    Ruleset,
    SetDefinition,
    Table,
    Verdict,
)

DROP, ACCEPT = Verdict(Code.DROP), Verdict(Code.ACCEPT)
NAMES = SetDefinition("names", ("ifname",), "verdict", 1 << 17)
PAIRS = SetDefinition("pairs", ("ifname", "ether_addr"), "mark", 1 << 17)
MACHINES = 500
ROUNDS = 6


def port(number: int) -> bytes:
    return b"vnet%d" % number + bytes(16 - len(b"vnet%d" % number))


def policy(name: str, machines: int = MACHINES) -> Ruleset:
    """One of two policies that have nothing in common: other chains, other marks, other verdicts."""
    by_name = Rule((Meta(0, Key.INPUT_NAME), Lookup("names", 0, verdicts=True)), name)
    chains = (
        Chain("forward", (by_name,) * 20, Hook.FORWARD, -400, Code.DROP),
        Chain(f"to-{name}", (Rule((Immediate(ACCEPT),), name),) * 20),
    )
    goto, mark = Verdict(Code.GOTO, f"to-{name}"), name.encode().ljust(4, b"\0")
    elements = {
        "names": {port(number): goto for number in range(machines)},
        "pairs": {port(number) + number.to_bytes(8, "little"): mark for number in range(machines)},
    }
    return Ruleset(Table("undercroft", (NAMES, PAIRS), chains), elements)


def which(found: Ruleset) -> str:
    """The name of the policy that this is, "mixture" where it is neither.

    Chains that no frame comes to are part of no policy: those of the next one are made before it counts.
    """
    reached = {chain.name for chain in found.table.chains if chain.hook}
    reached |= {data.chain for data in found.elements["names"].values() if isinstance(data, Verdict)}
    chains = tuple(chain for chain in found.table.chains if chain.name in reached)
    for name in ("old", "new"):
        wanted = policy(name)
        if (replace(found.table, chains=chains), found.elements) == (wanted.table, wanted.elements):
            return name
    return "mixture"


_PROGRAM = """
import sys
sys.path[:0] = sys.argv[2:]
from test_nftables_faults import policy
from undercroft.adapters.nftables import Nftables
from undercroft.adapters.nftables.difference import changed
nftables = Nftables()
policies = [policy("old"), policy("new")]
print("going", flush=True)
while True:
    for wanted in reversed(policies):
        if sys.argv[1] == "whole":
            nftables.replace(wanted)
            continue
        for request in changed(nftables.read("undercroft"), wanted):
            nftables._commit([request], 0)  # the control: each request a transaction of its own
"""


@contextmanager
def replacing(way: str) -> Iterator[subprocess.Popen[str]]:
    """A process that replaces one policy by the other for ever."""
    tests = Path(__file__).parent
    folders = [str(tests), str(tests.parent / "support")]
    command = [sys.executable, "-c", _PROGRAM, way, *folders]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        try:
            yield process
        finally:
            process.kill()


def kept_after_kills(way: str, rounds: int) -> Iterator[str]:
    pauses = random.Random(way)
    with Nftables() as nftables:
        for _ in range(rounds):
            nftables.replace(policy("old"))
            with replacing(way) as process:
                time.sleep(pauses.uniform(0.0, 0.05))
                process.send_signal(signal.SIGKILL)
                process.wait()
            yield which(nftables.read("undercroft"))


@in_own_network
def test_killed_in_the_midst_of_replacing_the_kernel_has_the_old_policy_or_the_new() -> None:
    assert set(kept_after_kills("whole", ROUNDS)) <= {"old", "new"}


@in_own_network
def test_control_without_one_transaction_a_kill_leaves_a_mixture() -> None:
    assert "mixture" in kept_after_kills("pieces", 10 * ROUNDS)


@in_own_network
def test_whoever_reads_while_it_is_replaced_sees_the_old_policy_or_the_new() -> None:
    with Nftables() as nftables:
        nftables.replace(policy("old"))
        with replacing("whole"):
            seen = []
            for _ in range(30):
                # A reading that finds no quiet moment says so.
                with contextlib.suppress(OperationError):
                    seen.append(which(nftables.read("undercroft")))
    assert set(seen) <= {"old", "new"}


@contextmanager
def changing(name: str) -> Iterator[None]:
    """Another program that changes an element of this table all the time."""
    stop, started = threading.Event(), threading.Event()
    table = Table(name, (NAMES,), ())

    def change() -> None:
        with Nftables() as other:
            while not stop.is_set():
                other.change(table, {"names": {port(99_999): DROP}}, {})
                started.set()
                other.change(table, {}, {"names": [port(99_999)]})

    thread = threading.Thread(target=change)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@in_own_network
def test_reading_gives_up_where_another_program_never_stops_to_change_our_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Nftables() as nftables, Nftables() as other:
        wanted = policy("old")
        nftables.replace(wanted)
        read_sets = reading._sets

        def changed_meanwhile(channel: Channel, table: str) -> list[SetDefinition]:
            other.change(wanted.table, {"names": {port(99_999): DROP}}, {})
            other.change(wanted.table, {}, {"names": [port(99_999)]})
            return read_sets(channel, table)

        with monkeypatch.context() as patched:
            patched.setattr(reading, "_sets", changed_meanwhile)
            with pytest.raises(OperationError, match="changes it all the time"):
                nftables.read("undercroft")
        assert len(nftables.read("undercroft").elements["names"]) == MACHINES


@in_own_network
def test_a_program_that_never_stops_to_change_another_table_is_in_nobodys_way() -> None:
    with Nftables() as nftables:
        nftables.replace(Ruleset(Table("other", (NAMES,), ())))
        with changing("other"):
            nftables.replace(policy("new", machines=4000))
            for name in ("old", "new"):
                generation = nftables.replace(policy(name, machines=1000))
                found = nftables.read("undercroft")
                wanted = policy(name, machines=1000)
                assert (found.table, found.elements) == (wanted.table, wanted.elements)
                assert found.generation >= generation
            with pytest.raises(NotFoundError):
                nftables.read("nowhere")
            ends = time.monotonic() + 60.0
            while nftables.read("undercroft").generation == generation:  # the other program's turn
                assert time.monotonic() < ends


@in_own_network
def test_the_changes_of_this_process_wait_for_a_reading_that_they_keep_from_ending() -> None:
    stop = threading.Event()
    with Nftables() as nftables:
        wanted = policy("old", machines=4000)
        nftables.replace(wanted)

        def change() -> None:
            while not stop.is_set():
                nftables.change(wanted.table, {"names": {port(9999): DROP}}, {})
                nftables.change(wanted.table, {}, {"names": [port(9999)]})

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(3):
                assert len(nftables.read("undercroft").elements["names"]) in {4000, 4001}
        finally:
            stop.set()
            thread.join()


@in_own_network
@pytest.mark.parametrize("change", ["elements", "flags", "gone", "chains", "lost"])
def test_what_others_change_in_our_table_is_told_and_in_theirs_not(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = policy("old", machines=5)
    with Nftables() as nftables, Nftables() as other:
        monkeypatch.setattr("undercroft.adapters.nftables.bystander.EVENT_BYTES", 1 << 17)
        made = nftables.replace(wanted)
        assert nftables.untouched("undercroft", made) == made
        other.replace(Ruleset(Table("other", (NAMES,), wanted.table.chains)))
        own = nftables.change(wanted.table, {}, {"names": [port(1)]})
        other.delete("other")
        known = nftables.untouched("undercroft", made)
        assert known == own + 1
        if change == "elements":
            other.change(wanted.table, {"names": {port(9): DROP}}, {})
        elif change == "flags":
            other.replace(replace(other.read("undercroft"), table=replace(wanted.table, flags=1)))
        elif change == "gone":
            other.delete("undercroft")
        elif change == "chains":
            chains = (*wanted.table.chains, Chain("more", ()))
            other.replace(replace(other.read("undercroft"), table=replace(wanted.table, chains=chains)))
        else:  # So many changes that some are lost: they may have been of ours.
            pairs = {"pairs": policy("new", machines=5000).elements["pairs"]}
            other.replace(Ruleset(Table("other", (PAIRS,), ()), pairs))
        assert nftables.untouched("undercroft", known) == 0
        # Whoever reads it then knows again.
        if change != "gone":
            read = nftables.read("undercroft").generation
            assert nftables.untouched("undercroft", read) == read


@in_own_network
def test_ten_thousand_machines_are_one_transaction() -> None:
    wanted = policy("new", machines=10_000)
    with Nftables() as nftables:
        before = nftables.generation()
        assert nftables.replace(wanted) == before + 1
        found = nftables.read("undercroft")
        assert (found.table, found.elements) == (wanted.table, wanted.elements)
        assert nftables.delete("undercroft") == before + 2


@in_own_network
def test_more_errors_than_there_is_room_for_are_an_error_and_no_hang() -> None:
    channel = Channel(receive_bytes=2048)
    requests = [codec.delete_set("nowhere", f"set{number}") for number in range(5000)]
    with contextlib.closing(channel), pytest.raises(NotFoundError, match="set0"):
        channel.commit(requests)


@in_own_network
def test_lost_answers_are_an_error_and_the_next_question_has_its_own_answer() -> None:
    channel = Channel(receive_bytes=2048)
    table = policy("old").table
    with contextlib.closing(channel):
        made = channel.commit([codec.new_table("undercroft", 0)])
        failing = [codec.delete_set("nowhere", f"set{number}") for number in range(500)]
        with pytest.raises(NotFoundError):
            channel.commit(failing)
        # What the kernel said of the rest is still in the socket.
        assert channel.commit([codec.new_set("undercroft", table.sets[0], 1)]) == made + 1


@in_own_network
def test_a_batch_for_an_old_generation_leaves_no_trace() -> None:
    with Nftables() as nftables, contextlib.closing(Channel()) as channel:
        made = nftables.replace(policy("old"))
        with pytest.raises(StateError, match="read them again"):
            channel.commit(created(Ruleset(Table("another", (), ()))), made - 1 or made + 7)
        assert nftables.generation() == made
        assert [table.name for table in nftables.tables()] == ["undercroft"]


def test_a_change_that_is_too_large_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undercroft.adapters.nftables.wire.MAX_BATCH_BYTES", 100)
    with contextlib.closing(Channel()) as channel, pytest.raises(InputError, match="can be sent"):
        channel.commit([codec.delete_table("x" * 100)])
