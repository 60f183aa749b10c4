"""The commands, as programs, against a socket on which a thread answers like the helper."""

import hashlib
import os
import subprocess
import sys
import threading

import pytest
from channelpair import HELPER, helper


class Answering(threading.Thread):
    """Answers one connection after another with what it was given, and keeps the requests."""

    def __init__(self, folder, *answers):
        super().__init__(daemon=True)
        self.listener, self.answers, self.asked = helper.listen(f"{folder}/guest.sock"), answers, []
        self.start()

    def run(self):
        for answer in self.answers:
            connection, _ = self.listener.accept()
            with connection:
                size = int.from_bytes(connection.recv(4), "big")
                body = b""
                while len(body) < size:
                    body += connection.recv(size - len(body))
                self.asked.append(helper.unpack(body))
                told = helper.pack(answer)
                connection.sendall(len(told).to_bytes(4, "big") + told)
        self.listener.close()


def run(folder, *words, given=b""):
    command = [sys.executable, "-ISB", str(HELPER), "--state", str(folder), "--timeout", "60", *words]
    return subprocess.run(command, input=given, capture_output=True, timeout=100, check=False)


DIGEST = hashlib.sha256(b"text").digest()
CASES = [
    (["counter", "c"], b"", ["increment", [b"c", 1]], [0, 1, 7], b"7\n"),
    (["counter", "c", "-n", "5"], b"", ["increment", [b"c", 5]], [0, 1, 5], b"5 9\n"),
    (["counter", "--read", "c"], b"", ["counter", [b"c"]], [0, 1, 9], b"9\n"),
    (["spend", "t"], b"", ["spend", [b"t", False]], [0, 1], b"synced\n"),
    (["spend", "--final", "t"], b"", ["spend", [b"t", True]], [0, 2], b"anchored\n"),
    (["seal", "--after", "2", "s"], b"a\0b", ["seal", [b"s", 2, b"a\0b"]], [0, 1, 3], b"3\n"),
    (["unseal", "s"], b"", ["unseal", [b"s", 0]], [0, 1, 3, b"a\0b"], b"a\0b"),
    (["sign", "k"], b"text", ["sign", [b"k", DIGEST]], [0, 1, b"\xab"], b"ab\n"),
    (["public", "k"], b"", ["public", [b"k"]], [0, 1, b"\xcd"], b"cd\n"),
    (["guard", "k"], b"", ["guard", [b"k"]], [0, 1, True], b""),
]


@pytest.mark.parametrize(
    ("words", "given", "asked", "answer", "shown"), CASES, ids=lambda case: str(case)[:30]
)
def test_a_command_asks_and_shows_the_answer(tmp_path, words, given, asked, answer, shown):
    thread = Answering(tmp_path, answer)
    done = run(tmp_path, *words, given=given)
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")
    assert thread.asked == [asked]


@pytest.mark.parametrize(
    ("words", "answer", "code", "told"),
    [
        (["spend", "t"], [1, 0, "it was spent"], 6, b"undercroft-guest: it was spent\n"),
        (["guard", "k"], [0, 1, False], 6, b"undercroft-guest: it holds no more\n"),
        (["unseal", "s"], [3, 0, "no such name"], 3, b"undercroft-guest: no such name\n"),
        (
            ["counter", "c"],
            [2, 0, "another copy holds the vault"],
            1,
            b"undercroft-guest: another copy holds the vault\n",
        ),
    ],
    ids=["spent", "revoked", "unknown", "fenced"],
)
def test_a_no_has_an_exit_code_of_its_own(tmp_path, words, answer, code, told):
    Answering(tmp_path, answer)
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", told)


@pytest.mark.parametrize(("latest", "after"), [([0, 1, 4, b"old"], 4), ([3, 0, "no such name"], 0)])
def test_sealing_without_a_version_goes_on_from_the_latest(tmp_path, latest, after):
    thread = Answering(tmp_path, latest, [0, 1, after + 1])
    assert run(tmp_path, "seal", "s", given=b"new").stdout == b"%d\n" % (after + 1)
    assert thread.asked == [["unseal", [b"s", 0]], ["seal", [b"s", after, b"new"]]]


def test_random_bytes_are_crossed_with_the_guests_own(tmp_path):
    outputs = set()
    for _ in range(2):
        thread = Answering(tmp_path, [0, 1, b"h" * 16])
        outputs.add(run(tmp_path, "random", "16").stdout)
        assert thread.asked == [["random", [16]]]
    assert len(outputs | {b"h" * 16}) == 3
    assert {len(each) for each in outputs} == {16}


def test_a_helper_that_is_not_there_is_an_error_and_a_wrong_word_is_usage(tmp_path):
    assert run(tmp_path, "guard", "k").returncode == 1
    assert run(tmp_path, "conquer").returncode == 2


def test_the_generation_is_read_from_its_file(tmp_path):
    (tmp_path / "generation").write_text("12\n")
    assert run(tmp_path, "generation").stdout == b"12\n"


def test_a_second_daemon_refuses_to_run(tmp_path):
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    helper.fcntl.flock(lock, helper.fcntl.LOCK_EX)
    done = run(tmp_path, "run", "--port", "/dev/null")
    assert done.returncode == 1
    assert b"another one runs" in done.stderr
    os.close(lock)
