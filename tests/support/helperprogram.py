"""Either helper as a program of its own on a terminal, with this machine's kernel; its host is the test.

Nothing here may send a quiesce: it would freeze this machine.
"""

import os
import pty
import select
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from pathlib import Path

from channelpair import HELPER, Host

from undercroft.channel.session import Ready


def python_words(folder: Path, port: str, hooks: Path) -> list[str]:
    """Return what starts the helper of Python."""
    started = [sys.executable, "-ISB", str(HELPER), "--state", str(folder)]
    return [*started, "run", "--port", port, "--hooks", str(hooks)]


def small_words(program: Path) -> Callable[[Path, str, Path], list[str]]:
    """Return what gives the words that start the small helper."""

    def words(folder: Path, port: str, hooks: Path) -> list[str]:
        return [str(program), "--state", str(folder), "--port", port, "--hooks", str(hooks)]

    return words


class Program:
    """The daemon, started and killed, and its host's end of the line."""

    def __init__(self, folder: Path, words: Callable[[Path, str, Path], list[str]]) -> None:
        self.folder, self.words, self.host = folder, words, Host()
        (folder / "hooks").mkdir()
        self.line, self.end = pty.openpty()
        tty.setraw(self.line)
        tty.setraw(self.end)
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, as after one before it was killed."""
        return subprocess.Popen(self.words(self.folder, os.ttyname(self.end), self.folder / "hooks"))

    def hook(self, name: str, text: str) -> None:
        """Write a program that runs after each seed."""
        path = self.folder / "hooks" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)

    def send(self, data: bytes) -> None:
        """Send bytes to the helper."""
        os.write(self.line, data)

    def until(self, done, most_s: float = 60.0):
        """Take what the helper says until `done()`; return that."""
        end = time.monotonic() + most_s
        while time.monotonic() < end:
            found = done()
            if found:
                return found
            if select.select([self.line], [], [], 0.05)[0]:
                self.host.take(os.read(self.line, 4096))
        raise AssertionError(self.host.events)

    def begin(self) -> list:
        """Begin a session; return the answer, or the proof that it gave."""
        before = len(self.host.events)
        self.send(self.host.session.begin())
        return self.until(
            lambda: (
                [each for each in self.host.events[before:] if isinstance(each, Ready)]
                or [each for each in self.host.rewinds() if each in self.host.events[before:]]
            )
        )

    def meet(self, seed: bytes | None = None, generation: int = 3) -> None:
        """Begin a session and welcome the guest."""
        self.begin()
        self.send(self.host.session.welcome(generation, seed, 1))

    def said(self, kind: type) -> list:
        """All messages of one kind so far."""
        return [each for each in self.host.said() if isinstance(each, kind)]

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it all."""
        self.kill()
        os.close(self.line)
        os.close(self.end)
