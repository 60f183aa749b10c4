"""The guest's daemon with a host at its port, programs at its socket, and a folder for a kernel."""

import contextlib
import copy
import errno
import mmap
import os
import select
import socket
import subprocess
import sys

import pytest
from channelpair import HELPER
from guestlab import EID, MACHINE, Lab, answers, helper, local

from undercroft.channel.keys import confirmation
from undercroft.channel.messages import About, Answers, Confirmed, Pong, Quiesce, Quiesced, Requests, Thawed
from undercroft.channel.requests import Answer, Operation, Outcome, Request, Rests
from undercroft.channel.seen import Rewound
from undercroft.channel.session import Ready

SEED = b"s" * 32


@pytest.fixture
def lab(tmp_path):
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def hook(lab, name, text, mode=0o700):
    path = lab.folder / "hooks" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


def test_a_seed_is_credited_before_stale_bytes_are_drained_the_generation_told_and_hooks_run(lab):
    seen = lab.folder / "seen"
    hook(lab, "10-first", f"cat {lab.folder}/generation > {seen}; echo $UNDERCROFT_GENERATION >> {seen}")
    hook(lab, "20-fails", "exit 3")
    lab.meet(SEED, generation=41)
    (confirmed,) = lab.until(lambda: lab.said(Confirmed))
    assert lab.kernel.log == [("credit", SEED), ("drain", 64)]
    assert seen.read_text() == "41\n41\n"
    assert confirmed == Confirmed(41, confirmation(SEED, MACHINE, EID, 41), True, 64, 2, 1)
    assert lab.said(About)[0].helper == helper.HELPER


def test_a_guest_whose_kernel_does_not_take_the_seed_says_so(lab):
    lab.kernel.takes = False
    lab.meet(SEED)
    assert lab.until(lambda: lab.said(Confirmed))[0].credited is False


def test_a_generator_that_never_answers_keeps_no_seed_from_being_confirmed(lab, monkeypatch):
    (lab.folder / "dev").mkdir()
    os.mkfifo(lab.folder / "dev/hwrng")
    end = os.open(lab.folder / "dev/hwrng", os.O_RDWR)
    monkeypatch.setattr(helper.os, "O_NONBLOCK", 0)
    lab.kernel.drain = lambda: helper.Kernel.drain(lab.kernel, most_s=0.05)
    for generation in (1, 2):
        lab.meet(SEED, generation)
        lab.until(lambda: len(lab.said(Confirmed)) == generation)  # noqa: B023 - called within the turn
    assert [(each.generation, each.drained) for each in lab.said(Confirmed)] == [(1, 0), (2, 0)]
    os.write(end, bytes(128))
    assert lab.kernel.reader.done.acquire(timeout=30)
    os.close(end)


def test_no_other_seed_makes_the_same_confirmation():
    told = {confirmation(bytes([n]) * 32, MACHINE, EID, 1) for n in range(9)}
    told |= {confirmation(SEED, MACHINE, EID, n) for n in range(9)}
    told |= {confirmation(SEED, EID, EID, 1), confirmation(SEED, MACHINE, MACHINE, 1)}
    assert len(told) == 20


def test_a_session_without_a_seed_changes_nothing_and_confirms_nothing(lab):
    lab.meet(None)
    lab.line.send(lab.host.session.ping())
    lab.until(lambda: lab.said(Pong))
    assert not lab.kernel.log
    assert not lab.said(Confirmed)
    assert not (lab.folder / "generation").exists()


def test_an_application_that_mapped_the_word_sees_each_generation(lab):
    with open(lab.folder / "generation.word", "rb") as file:
        word = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ)).cast("Q")
    for generation in (3, 1 << 40):
        lab.meet(SEED, generation)
        assert word[0] == generation
        assert (lab.folder / "generation").read_text() == f"{generation}\n"
    assert os.stat(lab.folder / "generation.word").st_mode & 0o777 == 0o644


def test_a_seed_that_comes_while_hooks_run_begins_them_anew_and_is_the_one_confirmed(lab):
    hook(lab, "slow", f"test -e {lab.folder}/go || exec sleep 60")
    lab.meet(SEED, 1)
    lab.until(lambda: lab.daemon.hooks and lab.daemon.hooks.running)
    (lab.folder / "go").touch()
    lab.meet(b"t" * 32, 2)
    lab.until(lambda: lab.said(Confirmed))
    assert [each.generation for each in lab.said(Confirmed)] == [2]
    assert lab.said(Confirmed)[0].failed == 0


def test_a_hook_that_hangs_is_ended_and_signs_of_life_go_on(lab, monkeypatch):
    monkeypatch.setattr(helper, "HOOK_S", 0.3)
    hook(lab, "hangs", "sleep 60 & exec sleep 60")
    lab.meet(SEED)
    lab.line.send(lab.host.session.ping())
    lab.until(lambda: lab.said(Pong))
    assert not lab.said(Confirmed)
    assert lab.until(lambda: lab.said(Confirmed))[0].failed == 1


def test_only_hooks_that_nobody_else_can_write_run(lab):
    ran = lab.folder / "ran"
    for name, mode in (
        ("good", 0o700),
        ("others.write", 0o702),
        ("group", 0o770),
        ("not-run", 0o600),
        ("b ad", 0o700),
    ):
        hook(lab, name, f"echo {name} >> {ran}", mode)
    os.symlink("good", lab.folder / "hooks" / "gone")
    (lab.folder / "hooks" / "folder").mkdir()
    (lab.folder / "hooks" / "dangling").symlink_to("nothing")
    lab.meet(SEED)
    lab.until(lambda: lab.said(Confirmed))
    assert ran.read_text() == "good\n" * 2
    assert not helper.Hooks(str(lab.folder / "hooks"), 1, os.getuid() + 1).waiting


def test_what_was_frozen_thaws_after_a_later_sessions_seed_and_before_hooks(lab):
    lab.meet(SEED, 1)
    lab.line.send(lab.host.session.seal(Quiesce(5)))
    (quiesced,) = lab.until(lambda: lab.said(Quiesced))
    assert quiesced == Quiesced(5, True, 12, "groups and signals")
    lab.line.send(lab.host.session.ping())
    lab.until(lambda: lab.said(Pong))
    assert lab.meet(None).frozen
    assert ("thaw", 5) not in lab.kernel.log, "without a seed nothing thaws"
    hook(lab, "hook", "true")
    assert lab.meet(b"t" * 32, 2).frozen
    lab.until(lambda: lab.said(Thawed))
    assert lab.said(Thawed) == [Thawed(5, 12)]
    assert [each[0] for each in lab.kernel.log[3:]] == ["credit", "drain", "thaw"]
    assert lab.daemon.freezer.told == "2\n", "who thaws finds the new generation"
    assert not lab.meet(None).frozen


def test_no_hook_runs_while_all_else_is_frozen_and_all_do_after_the_thaw(lab):
    ran = lab.folder / "ran"
    hook(lab, "1-slow", f"test -e {lab.folder}/go || exec sleep 60")
    hook(lab, "2-draws", f"echo $UNDERCROFT_GENERATION >> {ran}")
    lab.meet(SEED, 1)
    lab.until(lambda: lab.daemon.hooks and lab.daemon.hooks.running)
    lab.line.send(lab.host.session.seal(Quiesce(5)))
    lab.until(lambda: lab.said(Quiesced))
    (lab.folder / "go").touch()
    lab.daemon.hooks.running.kill()
    lab.daemon.hooks.running.wait()
    lab.turn(20)
    assert not ran.exists(), "it would draw what is drawn again after the snapshot"
    assert not lab.said(Confirmed)
    lab.meet(b"t" * 32, 2)
    lab.until(lambda: lab.said(Confirmed))
    assert ran.read_text() == "2\n"


def test_a_seed_of_a_session_that_is_over_already_is_not_taken_for_the_next_ones(lab):
    lab.line.send(lab.host.session.begin())
    lab.until(lambda: [each for each in lab.host.events if isinstance(each, Ready)])
    welcome = lab.host.session.welcome(1, SEED, 1)
    lab.line.send(welcome + lab.host.session.begin())
    lab.until(lambda: len([each for each in lab.host.events if isinstance(each, Ready)]) == 2)
    lab.line.send(lab.host.session.welcome(2, b"t" * 32, 1))
    lab.until(lambda: lab.said(Confirmed))
    assert lab.said(Confirmed)[0].tag == confirmation(b"t" * 32, MACHINE, EID, 2)
    assert not lab.host.breaks()


def test_a_full_run_folder_does_not_leave_the_guest_frozen(lab, monkeypatch):
    lab.meet(SEED, 1)
    lab.line.send(lab.host.session.seal(Quiesce(5)))
    lab.until(lambda: lab.said(Quiesced))
    whole = helper.write_file

    def full(path, text, flags=0, mode=None):
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, "no space left on device")
        whole(path, text, flags, mode)

    monkeypatch.setattr(helper, "write_file", full)
    lab.meet(b"t" * 32, 2)
    lab.until(lambda: lab.said(Thawed))
    assert lab.daemon.freezer.told == "2\n", "in the place of the one before"
    assert lab.until(lambda: lab.said(Confirmed)[1:])


def test_it_comes_before_all_other_programs_from_a_quiesce_until_the_seed_is_confirmed(lab):
    lab.meet(SEED, 1)
    lab.until(lambda: lab.said(Confirmed))
    told = []
    lab.daemon.hurry = told.append
    lab.line.send(lab.host.session.seal(Quiesce(5)))
    lab.until(lambda: lab.said(Quiesced))
    assert told == [True]
    lab.meet(b"t" * 32, 2)
    lab.until(lambda: lab.said(Confirmed)[1:])
    assert told == [True, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may come before others")
def test_the_kernel_lets_it_come_first_and_no_hook_after_it():
    """In a process of its own: what it asks for is the process's."""
    script = (
        "helper.hurry(True); print(os.sched_getscheduler(0) & 1, flush=True)\n"
        "os.fork() or (print(os.sched_getscheduler(0), flush=True), os._exit(0)); os.wait()\n"
        "helper.hurry(False); print(os.sched_getscheduler(0) & 1)\n"
    )
    program = [sys.executable, "-c", "import os, undercroft_guest as helper\n" + script]
    done = subprocess.run(program, capture_output=True, text=True, check=False, cwd=HELPER.parent)
    assert done.stdout.split() == [str(os.SCHED_FIFO), str(os.SCHED_OTHER), "0"], done.stderr


def test_a_helper_that_was_killed_while_all_was_frozen_thaws_it(lab):
    lab.meet(SEED, 1)
    lab.line.send(lab.host.session.seal(Quiesce(5)))
    lab.until(lambda: lab.said(Quiesced))
    lab.kill()
    lab.daemon = lab.started()
    assert lab.meet(SEED, 2).frozen
    assert lab.until(lambda: lab.said(Thawed)) == [Thawed(5, 12)]


def test_local_programs_share_batches_and_get_their_own_answers(lab):
    lab.meet(None, following=100)
    one, two = lab.client(), lab.client()
    one.send(local("increment", b"a", 1) + local("spend", b"t", False))
    two.send(local("counter", b"b"))
    (asked,) = lab.until(lambda: lab.said(Requests))
    assert asked.first == 100
    answered = {Operation.INCREMENT: 5, Operation.SPEND: True, Operation.COUNTER: 6}
    told = tuple(Answer(Outcome.OK, Rests.SYNCED, (answered[each.operation],)) for each in asked.requests)
    lab.line.send(lab.host.session.seal(Answers(100, told)))
    lab.turn(3)
    assert answers(one.recv(4096)) == [[0, 1, 5], [0, 1, True]]
    assert answers(two.recv(4096)) == [[0, 1, 6]]
    one.close()
    two.close()


def memory(session):
    """Copy a session as a snapshot of the guest's memory does, with where it stands."""
    was, standing = session.standing, helper.Standing()
    standing.eid, standing.serial, standing.sent, standing.taken = was.eid, was.serial, was.sent, was.taken
    return copy.deepcopy(session, {id(was): standing})


def answered(lab, number, value):
    """Answer the one request of a program's."""
    lab.until(lambda: lab.said(Requests))
    lab.line.send(lab.host.session.seal(Answers(number, (Answer(Outcome.OK, Rests.SYNCED, (value,)),))))


def test_no_program_has_an_answer_before_a_counted_frame_is_on_its_way(lab):
    lab.meet(None)
    client = lab.client()
    client.setblocking(False)
    client.send(local("increment", b"a", 1))
    lab.until(lambda: lab.said(Requests))
    with contextlib.suppress(BlockingIOError):
        while True:
            lab.port.send(b"\0" * 4096)  # nobody takes what the guest sends
    answered(lab, 1, 5)
    for _ in range(5):
        lab.daemon.step(0.01)
    with pytest.raises(BlockingIOError):
        client.recv(4096)
    lab.until(lambda: lab.said(Pong) and readable(client))
    assert answers(client.recv(4096)) == [[0, 1, 5]]
    client.close()


@pytest.mark.parametrize("counted", [True, False])
def test_a_load_to_before_an_answer_that_a_program_has_is_proven_by_the_frame_after_it(lab, counted):
    """Without that frame, as helpers did it once, the program would be given 5 again."""
    lab.meet(None)
    client = lab.client()
    client.send(local("increment", b"a", 1))
    lab.until(lambda: lab.said(Requests))
    before = memory(lab.daemon.session)  # a snapshot, while the answer is on its way
    if not counted:
        lab.daemon.session.send = lambda _message: None
    answered(lab, 1, 5)
    lab.until(lambda: readable(client))
    lab.turn(3)
    lab.daemon.session = before
    lab.line.send(lab.host.session.begin())
    opened = len(lab.host.events)
    (event,) = lab.until(lambda: lab.host.events[opened:])
    assert isinstance(event, Rewound if counted else Ready)
    client.close()


def test_an_answer_of_a_session_that_was_lost_is_asked_for_again(lab):
    lab.meet(None)
    client = lab.client()
    client.send(local("increment", b"a", 1))
    lab.until(lambda: lab.said(Requests))
    lab.daemon.given.append((1, [[0, 1, 5]]))  # taken, and the session is lost before it was handed on
    lab.meet(None)
    assert not lab.daemon.given
    assert lab.until(lambda: lab.said(Requests)[1:])[0].first == 1
    client.close()


def readable(connection):
    return select.select([connection], [], [], 0)[0]


def test_the_names_of_other_users_lie_below_their_number():
    named = helper.named_for
    assert named(0, "spend", [b"token", False]) == [3, b"token", False]
    assert named(1000, "spend", [b"token", False]) == [3, b"u1000/token", False]
    assert named(1000, "sign", [b"../u0/x", b"d" * 32]) == [8, b"u1000/../u0/x", b"d" * 32]
    assert named(1000, "guard", [b"key"]) == [10, b"key"]
    assert named(1000, "public", [b"key"]) == [9, b"u1000/key"], "whoever asks first makes the key"
    assert named(1000, "random", [8]) == [12, 8]
    for arguments in ([], ["text"], [b""], [b"x" * 129], None, [b"a"] * 5):
        with pytest.raises(helper.MalformedError):
            named(0, "spend", arguments)
    with pytest.raises(helper.MalformedError):
        named(0, "welcome", [b"x"])


def test_what_is_unanswered_is_asked_again_under_its_number_in_the_next_session(lab):
    lab.meet(None)
    program = lab.client()
    for name in (b"a", b"b", b"c"):
        program.send(local("increment", name, 1))
        lab.turn(3)
    first = lab.until(lambda: lab.said(Requests))
    lab.line.send(lab.host.session.seal(Answers(2, (Answer(Outcome.OK, Rests.SYNCED, (1,)),))))
    lab.turn(3)
    count = len(lab.said(Requests))
    lab.meet(None, following=2)
    lab.until(lambda: len(lab.said(Requests)) >= count + 2)
    again = lab.said(Requests)[count:]
    assert [(each.first, each.requests) for each in again] == [
        (1, (Request(Operation.INCREMENT, (b"a", 1)),)),
        (3, (Request(Operation.INCREMENT, (b"c", 1)),)),
    ]
    program.send(local("increment", b"d", 1))
    lab.until(lambda: lab.said(Requests)[-1].first == 4)
    assert first
    program.close()


def test_a_helper_that_starts_anew_goes_on_with_the_numbers_of_its_boot(lab):
    lab.meet(None, following=10)
    program = lab.client()
    program.send(local("counter", b"a") * 3)
    lab.until(lambda: lab.said(Requests))
    program.close()
    lab.kill()
    lab.daemon = lab.started()
    (event,) = lab.until(lab.host.breaks)
    assert event.reason.endswith("its helper has started")
    lab.meet(None, following=1)
    program = lab.client()
    program.send(local("counter", b"a"))
    lab.until(lambda: lab.said(Requests)[-1].first == 13)
    program.close()


def test_a_helper_that_finds_a_hello_waiting_asks_for_no_other(lab):
    lab.daemon.start_at = helper.time.monotonic()
    lab.line.send(lab.host.session.begin())
    lab.turn(1)
    lab.until(lambda: not lab.daemon.start_at)
    lab.turn(3)
    assert not lab.host.breaks()


def test_no_more_than_the_protocol_allows_is_in_flight(lab):
    lab.meet(None)
    programs = [lab.client() for _ in range(3)]
    for program in programs:
        program.send(local("counter", b"a") * 60)
    lab.turn(20)
    assert sum(len(each.requests) for each in lab.said(Requests)) == helper.MAX_IN_FLIGHT
    lab.line.send(lab.host.session.seal(Answers(1, (Answer(Outcome.BUSY),) * 64)))
    lab.turn(20)
    assert sum(len(each.requests) for each in lab.said(Requests)) == 2 * helper.MAX_IN_FLIGHT
    for program in programs:
        program.close()


def test_large_blobs_go_out_in_frames_that_the_host_takes(lab):
    lab.meet(None)
    program = lab.client()
    program.setblocking(True)
    blob = b"\0" * helper.MAX_BLOB_BYTES
    for _ in range(4):
        program.send(local("seal", b"name", 0, blob))
        lab.turn(4)
    lab.until(lambda: sum(len(each.requests) for each in lab.said(Requests)) == 4)
    assert not lab.host.breaks()[1:]
    program.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 9,
        local("spend")[:-1] + b"\xff",
        b"\0\0\0\1\xf6",
        b"\0\0\0\0",
        local("a" * 9)[:4] + b"\0" * 40,
    ],
)
def test_a_program_that_sends_junk_is_cut_off_and_no_other(lab, junk):
    lab.meet(None)
    bad, good = lab.client(), lab.client()
    bad.send(junk)
    good.send(local("nonsense") + local("counter", b"a"))
    lab.until(lambda: lab.said(Requests))
    assert bad.recv(100) == b""
    assert answers(good.recv(4096)) == [[4, 0, "no such operation"]]
    bad.close()
    good.close()


MALFORMED = [
    ("increment", b"x"),
    ("increment", b"x", 0),
    ("increment", b"x", -1),
    ("increment", b"x", True),
    ("increment", b"x", (1 << 20) + 1),
    ("increment", b"x", "9" * 39_000),
    ("increment", b"x", [0] * 4_000),
    ("spend", b"x", 1),
    ("append", b"x", 1 << 63, bytes(32), b""),
    ("append", b"x", 0, bytes(31), b""),
    ("append", b"x", 0, bytes(32), bytes(4_097)),
    ("latest", b"x", bytes(15)),
    ("seal", b"x", 0, bytes(32_769)),
    ("seal", b"x", 0, None),
    ("sign", b"x", b""),
    ("guard", b"x", b"x"),
    ("random",),
    ("random", 1_025),
    ("random", {1: 2}),
    ("status", 1),
]


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: str(bad)[:30])
def test_what_a_program_asks_beside_the_protocol_is_answered_here_and_ends_no_session(lab, bad):
    """One local user could else keep the whole machine from its vault, and its seed from being confirmed."""
    lab.meet(None)
    hostile, good = lab.client(), lab.client()
    hostile.setblocking(True)
    hostile.send(local(*bad))
    lab.turn(3)
    assert [each[0] for each in answers(hostile.recv(4096))] == [4]
    good.send(local("increment", b"c", 1))
    lab.until(lambda: lab.said(Requests))
    assert not lab.host.breaks()
    hostile.close()
    good.close()


def test_what_a_program_may_ask_is_what_the_host_takes(lab):
    lab.meet(None)
    program = lab.client()
    program.setblocking(True)
    name = b"n" * 128
    for asked in (
        ("increment", name, 1 << 20),
        ("counter", b"c"),
        ("spend", b"t", True),
        ("append", b"l", (1 << 63) - 1, bytes(32), bytes(4_096)),
        ("latest", b"l", bytes(16)),
        ("seal", b"s", 0, bytes(32_768)),
        ("unseal", b"s", 7),
        ("sign", b"k", bytes(32)),
        ("public", b"k"),
        ("guard", b"k"),
        ("revoke", b"k"),
        ("random", 1_024),
        ("status",),
    ):
        program.send(local(*asked))
        lab.turn(3)
    lab.until(lambda: sum(len(each.requests) for each in lab.said(Requests)) == len(Operation))
    assert {each.operation for asked in lab.said(Requests) for each in asked.requests} == set(Operation)
    program.close()


def test_a_program_that_floods_is_told_that_it_is_busy(lab):
    program = lab.client()
    program.setblocking(True)
    program.send(local("counter", b"a") * 100)
    lab.turn(6)
    program.setblocking(False)
    assert answers(program.recv(65536)) == [[5, 0, "64 requests of this program are on their way"]] * 36
    program.close()


def test_what_one_connection_may_let_wait_is_bounded_in_bytes_too(lab):
    program = lab.client()
    program.setblocking(True)
    for _ in range(10):
        program.send(local("seal", b"s", 0, bytes(32_768)))
        lab.turn(3)
    assert [each[0] for each in answers(program.recv(4096))] == [5, 5]
    assert sum(len(request[3]) for request, *_ in lab.daemon.vault.queue) <= 9 * 32_768
    program.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, who is never shut out")
def test_the_connections_of_other_users_do_not_shut_root_out(lab, monkeypatch):
    monkeypatch.setattr(helper, "MAX_CLIENTS", 1)
    first = lab.client()
    for client in lab.daemon.clients.values():
        client.user = 1000
    second = lab.client()
    assert len(lab.daemon.clients) == 2
    first.close()
    second.close()


def test_one_user_has_a_bounded_number_of_connections(lab):
    programs = [lab.client() for _ in range(helper.MAX_CLIENTS_OF_ONE + 3)]
    lab.turn(30)
    assert len(lab.daemon.clients) == helper.MAX_CLIENTS_OF_ONE
    for program in programs:
        program.close()
    lab.turn(40)
    assert not lab.daemon.clients


def test_a_program_that_is_gone_when_its_answer_comes_harms_nothing(lab):
    lab.meet(None)
    program = lab.client()
    program.send(local("counter", b"a"))
    lab.until(lambda: lab.said(Requests))
    program.close()
    lab.turn(3)
    lab.line.send(lab.host.session.seal(Answers(1, (Answer(Outcome.OK, Rests.SYNCED, (1,)),))))
    lab.line.send(lab.host.session.ping())
    lab.until(lambda: lab.said(Pong))
    assert not lab.daemon.clients


def test_a_port_without_a_host_is_left_alone_and_not_polled_all_the_time(lab, monkeypatch):
    times = iter([0.0, 0.0, 0.0, 0.05, 0.05, 0.1, 0.15, 0.15])
    lab.line.close()
    reads = []
    monkeypatch.setattr(helper.os, "read", lambda *_: reads.append(1) or b"")
    monkeypatch.setattr(helper.time, "monotonic", lambda: next(times))
    for _ in range(4):
        lab.daemon.step(0)
    assert len(reads) == 1


def test_what_a_program_left_behind_that_is_gone_is_not_kept_for_it(lab):
    """One that comes and goes while no host answers would else fill the guest's memory."""
    for _ in range(5):
        program = lab.client()
        program.send(local("increment", b"a", 1) * 64)
        lab.turn(3)
        assert len(lab.daemon.vault.queue) == 64
        program.close()
        lab.turn(3)
        assert not lab.daemon.vault.queue
    lab.meet(None)
    program = lab.client()
    program.send(local("counter", b"a"))
    lab.until(lambda: lab.said(Requests))
    assert [each.requests for each in lab.said(Requests)] == [(Request(Operation.COUNTER, (b"a",)),)]
    program.close()


def test_what_waits_when_no_host_is_there_goes_out_when_one_is(lab):
    program = lab.client()
    program.send(local("counter", b"a"))
    lab.turn(5)
    assert not lab.said(Requests)
    lab.meet(None)
    assert lab.until(lambda: lab.said(Requests))
    program.close()


def test_the_standing_outlives_the_helper_and_its_rewind_is_proven_all_the_same(lab):
    lab.meet(None)
    kept = (lab.folder / "standing").read_bytes()
    lab.line.send(lab.host.session.ping())
    lab.until(lambda: lab.said(Pong))
    lab.kill()
    (lab.folder / "standing").write_bytes(kept)
    lab.daemon = lab.started()
    lab.turn(2)
    lab.line.send(lab.host.session.begin())
    lab.until(lab.host.rewinds)


def test_the_socket_tells_who_asks(lab):
    connection = lab.client()
    (client,) = lab.daemon.clients.values()
    assert client.user == os.getuid()
    assert os.stat(lab.folder / "guest.sock").st_mode & 0o777 == 0o666
    connection.close()


def test_a_socket_that_is_left_over_is_made_anew(tmp_path):
    path = str(tmp_path / "guest.sock")
    helper.listen(path).close()
    listener = helper.listen(path)
    with socket.socket(socket.AF_UNIX) as program:
        program.connect(path)
    listener.close()


def test_a_mistake_in_the_daemon_begins_it_anew_with_the_port_opened_again(tmp_path, monkeypatch):
    ports = []

    class Failing:
        def __init__(self, port, *rest, **more):
            ports.append(os.fstat(port).st_rdev)

        def step(self):
            raise ZeroDivisionError if len(ports) < 3 else KeyboardInterrupt

        def close(self):
            pass

    monkeypatch.setattr(helper, "Daemon", Failing)
    monkeypatch.setattr(helper.time, "sleep", lambda _: None)
    monkeypatch.setattr(helper, "listen", lambda path: None)
    with pytest.raises(KeyboardInterrupt):
        helper.main(["--state", str(tmp_path), "run", "--port", "/dev/null"])
    assert ports == [os.stat("/dev/null").st_rdev] * 3
