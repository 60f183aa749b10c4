"""The engine on the real kernel: single machines, others' changes, marks of old numbers, flows that move."""

import ctypes
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from enforced import as_wanted, classes_of, make
from enforcedruns import COMING, PORTS, fleet, policy
from firewallworld import LABELS, ip_packet, label, tcp
from netns import call_in_own_network, in_own_network
from spoofs import A4, B4, A, B, V, ethernet
from wire import HOST, Wire

from undercroft.adapters.nftables import Nftables
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.errors import DeniedError, StateError
from undercroft.firewall.classes import Classes
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.elements import device
from undercroft.firewall.fleet import Elsewhere, Fleet
from undercroft.firewall.kernel import Ruleset, SetDefinition, Table
from undercroft.firewall.marks import of_class
from undercroft.firewall.policy import FirewallPolicy, Flow, Ports
from undercroft.firewall.sets import FRAGMENT_SET_SIZE
from undercroft.firewall.tracking import StateKind

needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")

OPENING = struct.pack(">HH", 40000, 5432) + bytes(16)
ANSWERING = struct.pack(">HH", 5432, 40000) + bytes(16)
ASKED = ethernet(ip_packet(4, A4, B4, 6, OPENING))
ANSWER = A.mac + B.mac + ethernet(ip_packet(4, B4, A4, 6, ANSWERING))[12:]
LIKE_A = replace(
    COMING, labels=A.labels, machine="like-a", tap="vnet60", mac=b"\x52\x54\2\0\0\1", ipv4=(), ipv6=()
)
FOREIGN = Table("foreign", (SetDefinition("names", ("ifname",), "", 64),), ())


def nft(*words: str) -> str:
    return subprocess.run(["nft", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def kernel() -> Iterator[Nftables]:
    with Nftables() as found:
        yield found


@contextmanager
def foreign_writer() -> Iterator[list[int]]:
    """Another program that changes a table of its own all the time; yields how often it has."""
    stop, started, count = threading.Event(), threading.Event(), [0]

    def write() -> None:
        with Nftables() as other:
            other.replace(Ruleset(FOREIGN))
            while not stop.is_set():
                other.change(FOREIGN, {"names": {device("x"): None}}, {})
                other.change(FOREIGN, {}, {"names": [device("x")]})
                count[0] += 2
                started.set()

    thread = threading.Thread(target=write)
    thread.start()
    started.wait()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


@in_own_network
def test_machines_come_change_and_go_and_each_change_is_proven(kernel: Nftables, tmp_path: Path) -> None:
    enforcer = make(kernel, tmp_path)
    assert enforcer.recall() == ""
    machines = replace(fleet("old"), ports=(B, V, LIKE_A))
    enforcer.enforce(policy("old"), machines)
    assert isinstance(enforcer.prove(), Certificate)
    moved = replace(A, tap="vnet90")
    steps = (
        (lambda: enforcer.admit([A]), (A, B, V, LIKE_A)),
        (lambda: enforcer.admit([moved]), (moved, B, V, LIKE_A)),
        (lambda: enforcer.dismiss(V.machine), (moved, B, LIKE_A)),
        (lambda: enforcer.admit([COMING]), (moved, B, LIKE_A, COMING)),
    )
    for step, ports in steps:
        done = step()
        assert done.generation == kernel.generation()
        assert done.whole == (COMING in ports)
        as_wanted(enforcer, kernel, policy("old"), replace(machines, ports=ports))
        certificate = enforcer.prove()
        assert isinstance(certificate, Certificate)
        assert certificate.generation == done.generation


@in_own_network
def test_our_generations_are_told_from_others_also_those_of_stages(kernel: Nftables, tmp_path: Path) -> None:
    enforcer = make(kernel, tmp_path)
    made = [enforcer.enforce(policy("old"), fleet("old")).generation]
    made.append(enforcer.enforce(policy("new"), fleet("new")).generation)
    assert made[1] == made[0] + 2
    made.append(enforcer.admit([COMING]).generation)
    with Nftables() as other:
        foreign = other.replace(Ruleset(FOREIGN))
    made.append(enforcer.dismiss(COMING.machine).generation)
    reads = kernel.read
    kernel.read = None  # type: ignore[method-assign, assignment]
    assert [enforcer.drifted(own) for own in range(made[0], made[2] + 1)] == [None] * (made[2] + 1 - made[0])
    assert enforcer.drifted(made[3]) is None
    kernel.read = reads  # type: ignore[method-assign]
    assert enforcer.drifted(foreign) is None


@in_own_network
def test_a_writer_of_another_table_that_never_stops_is_in_nobodys_way(
    kernel: Nftables, tmp_path: Path
) -> None:
    enforcer = make(kernel, tmp_path)
    with foreign_writer() as count:
        before = count[0]
        enforcer.enforce(policy("old"), fleet("old"))
        for number in range(10):
            enforcer.admit([replace(COMING, tap=f"vnet{800 + number}", labels=A.labels)])
        enforcer.enforce(policy("new"), fleet("new"))
        assert enforcer.drifted(kernel.generation()) is None
        assert isinstance(enforcer.prove(), Certificate)
        assert count[0] > before
    as_wanted(enforcer, kernel, policy("new"), fleet("new"))


@needs_nft
@pytest.mark.parametrize(
    "words",
    [
        ("add", "element", "bridge", TABLE_NAME, "classes", '{ "vnet99" : 0x55438001 }'),
        ("add", "element", "bridge", TABLE_NAME, "class-targets", "{ * : accept }"),
        ("delete", "table", "bridge", TABLE_NAME),
        ("add", "table", "bridge", TABLE_NAME, "{ flags dormant; }"),
    ],
)
@in_own_network
def test_what_nft_changes_in_our_table_is_drift_and_put_right(
    kernel: Nftables, tmp_path: Path, words: tuple[str, ...]
) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(policy("old"), fleet("old"))
    nft(*words)
    assert isinstance(enforcer.drifted(kernel.generation()), Counterexample)
    enforcer.enforce(policy("old"), fleet("old"))
    as_wanted(enforcer, kernel, policy("old"), fleet("old"))


@in_own_network
def test_what_is_full_is_told_and_the_kernel_has_what_it_had(kernel: Nftables, tmp_path: Path) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(policy("old"), fleet("old"))
    before = kernel.read(TABLE_NAME)
    addresses = tuple(IPv4Address(0x0B000000 + number) for number in range(4097))
    for wanted in (policy("old"), policy("new")):
        with pytest.raises(StateError, match="the set is full"):
            enforcer.enforce(wanted, replace(fleet("old"), host_addresses=addresses))
        after = kernel.read(TABLE_NAME)
        assert after.elements == before.elements
    flow = B4 + A4 + b"\6" + bytes(11)
    pieces = [A4 + number.to_bytes(4, "big") + b"\6\0\0\0\1\2\0\0" for number in range(FRAGMENT_SET_SIZE)]
    kernel.remember(before.table, {"pieces4": dict.fromkeys(pieces, 60_000)})
    with pytest.raises(StateError, match="the set is full"):
        enforcer.adopt({"pieces4": (A4 + B4 + bytes(8),), "flows4": (flow,)})
    found = kernel.read(TABLE_NAME, ("pieces4", "flows4")).elements
    assert (found["pieces4"].keys(), found["flows4"].keys()) == (set(pieces), {flow})
    enforcer.enforce(policy("old"), fleet("old"))
    as_wanted(enforcer, kernel, policy("old"), fleet("old"))


@in_own_network
def test_without_the_right_to_it_says_what_it_needs(kernel: Nftables, tmp_path: Path) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(policy("old"), fleet("old"))
    without_capabilities()
    with Nftables() as powerless:
        for again in (enforcer, make(powerless, tmp_path)):
            for ask in (again.recall, lambda again=again: again.enforce(policy("new"), fleet("new"))):
                with pytest.raises(DeniedError, match="CAP_NET_ADMIN"):
                    ask()
    assert enforcer.policy == policy("old")


def without_capabilities() -> None:
    """Let this thread, which ends with its test, have no capability any more."""
    header, data = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    if ctypes.CDLL(None, use_errno=True).capset(header, data):
        raise OSError(ctypes.get_errno(), "no capset")


# A packet on its way with the number of a class, as one that the host routes and keeps for a moment.

ONLY_DB = FirewallPolicy(
    labels=LABELS,
    flows=(Flow(label("db"), label("db"), (tcp(5432),)),),
    ports=Ports(uplinks=("eth0",)),
)
MACHINES = Fleet("here", (), (A, B, V))


@in_own_network
def test_control_where_numbers_are_given_anew_a_packet_on_its_way_passes_as_somebody_elses(
    kernel: Nftables, tmp_path: Path
) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(ONLY_DB, MACHINES)
    numbers = classes_of(enforcer, kernel).numbers
    web, db = A.labels, B.labels
    on_its_way = of_class(numbers[web])
    with Wire(PORTS) as wire:
        assert B.tap not in wire.put(HOST, ASKED, on_its_way)
        swapped = Classes({**numbers, web: numbers[db], db: numbers[web]})
        kernel.replace(compile_ruleset(ONLY_DB, MACHINES, swapped, StateKind.TUPLES))
        assert B.tap in wire.put(HOST, ASKED, on_its_way)


@in_own_network
def test_without_a_memory_a_packet_on_its_way_is_denied_whatever_its_number_was(
    kernel: Nftables, tmp_path: Path
) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(ONLY_DB, MACHINES)
    before = classes_of(enforcer, kernel).numbers
    enforcer.memory.unlink()
    again = make(kernel, tmp_path)
    assert "all classes get new numbers" in again.recall()
    again.enforce(ONLY_DB, replace(MACHINES, ports=(B, A, V, COMING)))
    db_sees_db = of_class(classes_of(again, kernel).numbers[B.labels])
    with Wire(PORTS) as wire:
        assert B.tap in wire.put(HOST, ASKED, db_sees_db)
        for number in before.values():
            assert B.tap not in wire.put(HOST, ASKED, of_class(number))


# Flows that move with their machine.


def flows_of_a(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Return what the host that A leaves remembers of its flow to B."""
    with Nftables() as kernel, Wire(PORTS) as wire:
        enforcer = make(kernel, folder)
        enforcer.enforce(policy("old"), fleet("old"))
        assert B.tap in wire.put(A.tap, ASKED)
        assert A.tap in wire.put(B.tap, ANSWER)
        return dict(enforcer.flows_of([A]))


@in_own_network
def test_an_answer_finds_its_machine_on_the_host_that_it_moved_to(kernel: Nftables, tmp_path: Path) -> None:
    moved = call_in_own_network(lambda: flows_of_a(tmp_path))
    assert moved == {"flows4": (B4 + A4 + b"\6\0\0\0" + ANSWERING[:2] + b"\0\0" + ANSWERING[2:4] + b"\0\0",)}
    left_behind = Elsewhere(B.machine, B.name, (*B.ipv4, *B.ipv6), B.labels)
    enforcer = make(kernel, tmp_path / "target")
    enforcer.memory.parent.mkdir()
    with Wire(PORTS) as wire:
        enforcer.enforce(policy("old"), Fleet("there", (), (V,), (left_behind,)))
        enforcer.admit([replace(A, arriving=True)])
        enforcer.admit([A])
        assert A.tap not in wire.put("eth0", ANSWER)  # The control: nobody has told this host of the flow.
        enforcer.adopt({"flows4": (*moved["flows4"], V.ipv4[0].packed + moved["flows4"][0][4:])}, A.machine)
        assert A.tap in wire.put("eth0", ANSWER)
    assert len(kernel.read(TABLE_NAME).elements["flows4"]) == 2


@needs_nft
@in_own_network
def test_flows_that_came_end_when_the_rules_say(kernel: Nftables, tmp_path: Path) -> None:
    enforcer = make(kernel, tmp_path)
    enforcer.enforce(policy("old"), fleet("old"))
    tcp_flow, udp_flow = (B4 + A4 + protocol + bytes(3) + bytes(8) for protocol in (b"\6", b"\x11"))
    enforcer.adopt({"flows4": (tcp_flow, udp_flow), "asked": (A.mac,)})
    listed = nft("list", "table", "bridge", TABLE_NAME)
    for element in ("tcp . 0 . 0 timeout 1h", "udp . 0 . 0", f"{A.mac.hex(':')} timeout 1m"):
        assert element in listed  # What ends when all of its set do says nothing of its own.
