"""The helper as a program of its own on a terminal, with this machine's kernel; its host is the test."""

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
import tty

import pytest
from channelpair import EID, HELPER, MACHINE, Host

from undercroft.channel.keys import confirmation
from undercroft.channel.messages import Answers, Confirmed, Pong, Requests
from undercroft.channel.requests import Answer, Operation, Outcome, Request, Rests
from undercroft.channel.session import Ready

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root may credit a seed")
SEED = os.urandom(32)
NOT_SEEDED = """
#include <errno.h>
#include <sys/types.h>
#include <unistd.h>
ssize_t getrandom(void *to, size_t size, unsigned flags) {
  if (!(flags & 1)) pause();
  errno = EAGAIN;
  return -1;
}
"""
"""A C library's getrandom early after a boot: who does not say that it must not wait, waits."""


class Program:
    """The daemon, started and killed, and its host's end of the line."""

    def __init__(self, folder, **environment):
        self.folder, self.host = folder, Host()
        self.environment = {**os.environ, **environment}
        (folder / "hooks").mkdir()
        self.line, self.end = pty.openpty()
        tty.setraw(self.line)
        tty.setraw(self.end)
        self.process = self.start()

    def start(self):
        words = [
            "--state",
            str(self.folder),
            "run",
            "--port",
            os.ttyname(self.end),
            "--hooks",
            str(self.folder / "hooks"),
        ]
        return subprocess.Popen([sys.executable, "-ISB", str(HELPER), *words], env=self.environment)

    def command(self, *words):
        command = [
            sys.executable,
            "-ISB",
            str(HELPER),
            "--state",
            str(self.folder),
            "--timeout",
            "60",
            *words,
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def send(self, data):
        os.write(self.line, data)

    def until(self, done):
        """Take what the helper says until `done()`; return that."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = done()
            if found:
                return found
            if select.select([self.line], [], [], 0.05)[0]:
                self.host.take(os.read(self.line, 4096))
        raise AssertionError(self.host.events)

    def meet(self, seed=None, generation=3):
        before = len(self.host.events)
        self.send(self.host.session.begin())
        self.until(lambda: [each for each in self.host.events[before:] if isinstance(each, Ready)])
        self.send(self.host.session.welcome(generation, seed, 1))

    def said(self, kind):
        return [each for each in self.host.said() if isinstance(each, kind)]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        self.kill()
        os.close(self.line)
        os.close(self.end)


@pytest.fixture
def program(tmp_path):
    program = Program(tmp_path)
    yield program
    program.close()


@pytest.fixture
def early(tmp_path):
    """The program under a kernel that is not seeded yet."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    library = tmp_path / "notseeded.so"
    command = ["cc", "-shared", "-fPIC", "-o", library, "-xc", "-"]
    subprocess.run(command, input=NOT_SEEDED.encode(), check=True)
    program = Program(tmp_path, LD_PRELOAD=str(library))
    yield program
    program.close()


def test_a_guest_whose_kernel_is_not_seeded_yet_answers_who_seeds_it(early):
    early.meet(SEED, generation=5)
    assert early.until(lambda: early.said(Confirmed))[0].credited
    waits = [sys.executable, "-ISBc", "import os; os.urandom(1)"]
    with pytest.raises(subprocess.TimeoutExpired):  # the control: what it drew with before
        subprocess.run(waits, env=early.environment, timeout=1, check=False)


def test_the_program_takes_a_seed_serves_commands_and_outlives_its_own_death(program):
    program.meet(SEED, generation=5)
    (confirmed,) = program.until(lambda: program.said(Confirmed))
    assert confirmed.tag == confirmation(SEED, MACHINE, EID, 5)
    assert confirmed.credited
    assert program.command("generation").communicate()[0] == b"5\n"

    asking = program.command("counter", "builds", "-n", "4")
    (asked,) = program.until(lambda: program.said(Requests))
    assert asked == Requests(1, (Request(Operation.INCREMENT, (b"builds", 4)),))
    program.send(program.host.session.seal(Answers(1, (Answer(Outcome.OK, Rests.ANCHORED, (6,)),))))
    assert asking.communicate()[0] == b"6 9\n"

    program.kill()
    program.process = program.start()
    program.until(program.host.breaks)  # it asks for a session
    program.meet()
    program.send(program.host.session.ping())
    program.until(lambda: program.said(Pong))
    assert not program.host.rewinds()
    asking = program.command("counter", "builds")
    assert program.until(lambda: program.said(Requests)[1:])[0].first == 2, "its numbers go on"
    asking.kill()
    asking.communicate()
