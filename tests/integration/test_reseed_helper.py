"""Both helpers as programs, and each in the other's place: what the host sees is the same."""

import mmap
import os
import subprocess
from pathlib import Path

import helperprogram
import pytest
import reseedhelper
from channelpair import EID, MACHINE

from undercroft.channel.keys import confirmation
from undercroft.channel.messages import About, Confirmed, Pong
from undercroft.channel.seen import Proof

pytestmark = [
    pytest.mark.skipif(os.getuid() != 0, reason="only root may credit a seed"),
    pytest.mark.skipif(bool(reseedhelper.missing()), reason=reseedhelper.missing()),
]
SEED = os.urandom(32)


@pytest.fixture(scope="module")
def small():
    return helperprogram.small_words(reseedhelper.static())


@pytest.fixture(params=["python", "small"])
def words(request, small):
    return small if request.param == "small" else helperprogram.python_words


@pytest.fixture
def program(tmp_path, words):
    program = helperprogram.Program(tmp_path, words)
    yield program
    program.close()


def ping(program):
    count = len(program.said(Pong))
    program.send(program.host.session.ping())
    program.until(lambda: len(program.said(Pong)) > count)


def test_a_seed_is_taken_by_this_kernel_told_to_applications_and_confirmed_after_hooks(program):
    seen = program.folder / "seen"
    program.hook(
        "10-first", f"cat {program.folder}/generation > {seen}; echo $UNDERCROFT_GENERATION >> {seen}"
    )
    program.hook("20-fails", "exit 3")
    program.meet(SEED, 41)
    (confirmed,) = program.until(lambda: program.said(Confirmed))
    assert confirmed.tag == confirmation(SEED, MACHINE, EID, 41)
    assert (confirmed.credited, confirmed.hooks, confirmed.failed) == (True, 2, 1)
    assert seen.read_text() == "41\n41\n"
    assert (program.folder / "generation").read_text() == "41\n"
    with open(program.folder / "generation.word", "rb") as file:
        word = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE, prot=mmap.PROT_READ)).cast("Q")
    assert word[0] == 41
    program.meet(SEED, 1 << 40)
    program.until(lambda: len(program.said(Confirmed)) == 2)
    assert word[0] == 1 << 40, "who has mapped it sees each"
    assert len(program.said(About)) == 2


def test_a_helper_that_was_killed_is_started_anew_and_proves_nothing(program):
    program.meet(SEED)
    program.until(lambda: program.said(Confirmed))
    ping(program)
    program.kill()
    program.process = program.start()
    (broken,) = program.until(program.host.breaks)
    assert broken.reason.endswith("its helper has started")
    program.meet()
    ping(program)
    assert not program.host.rewinds()


def test_a_standing_that_was_put_back_is_proven(program):
    program.meet()
    ping(program)
    kept = (program.folder / "standing").read_bytes()
    ping(program)
    program.kill()
    (program.folder / "standing").write_bytes(kept)
    program.process = program.start()
    (rewound,) = program.begin()
    assert rewound.proof is Proof.STANDING


def test_frames_that_were_cut_off_and_frames_of_an_earlier_session_cost_nothing(program):
    hello = program.host.session.begin()
    program.send(hello[: len(hello) // 2])
    program.meet()
    stale = program.host.session.ping()
    program.send(stale[: len(stale) // 2])
    program.meet()
    program.send(stale + b"\0" + b"\xff" * 500 + b"\0" + stale)
    for _ in range(3):
        ping(program)
    assert not program.host.breaks()
    assert not program.host.rewinds()


def test_a_slow_hook_keeps_nobody_waiting_and_a_later_seed_begins_them_anew(program):
    go = program.folder / "go"
    program.hook("slow", f"touch {program.folder}/here; test -e {go} || exec sleep 60")
    program.meet(SEED, 1)
    program.until((program.folder / "here").exists)
    ping(program)
    assert not program.said(Confirmed)
    go.touch()
    program.meet(os.urandom(32), 2)
    program.until(lambda: program.said(Confirmed))
    assert [(each.generation, each.failed) for each in program.said(Confirmed)] == [(2, 0)]


def test_with_a_hook_that_is_ended_ends_what_it_started(program):
    program.hook(
        "slow", f"test -e {program.folder}/go && exit; sleep 1000 & echo $! > {program.folder}/pid; wait"
    )
    program.meet(SEED, 1)
    pid = program.until(
        lambda: (program.folder / "pid").exists() and (program.folder / "pid").read_text().strip()
    )
    (program.folder / "go").touch()
    program.meet(os.urandom(32), 2)
    program.until(lambda: program.said(Confirmed))

    def gone():
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            return True

    program.until(gone)


def test_a_second_one_of_either_kind_refuses_to_run(program, small):
    program.meet()
    for words in (small, helperprogram.python_words):
        second = words(program.folder, "/dev/null", program.folder / "hooks")
        done = subprocess.run(second, capture_output=True, timeout=60, check=False)
        assert done.returncode == 1
        assert b"another one runs" in done.stderr
    ping(program)


def test_each_helper_takes_the_place_of_the_other_within_a_boot(program, small):
    program.meet()
    ping(program)
    for words in (small, helperprogram.python_words, small):
        program.kill()
        program.words = words
        program.process = program.start()
        program.meet()
        ping(program)
    assert not program.host.rewinds()


def test_the_program_is_small_static_and_told_when_its_words_are_wrong():
    program = reseedhelper.static()
    assert program.stat().st_size < 1_000_000
    assert b"/ld-" not in program.read_bytes(), "no loader is named: it needs no file but itself"
    for words in (["run"], ["--state"], ["--port"], ["--help", "x"]):
        done = subprocess.run([program, *words], capture_output=True, timeout=60, check=False)
        assert done.returncode == 2
        assert b"usage" in done.stderr
