"""What the demo shows: sentences, steps with their time, and commands as a user would type them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from undercroft.errors import OperationError

Result = TypeVar("Result")

PROGRAM = Path(sys.executable).with_name("undercroft")


def say(text: str, end: str = "\n") -> None:
    """Write a sentence."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def step(what: str, work: Callable[[], Result]) -> Result:
    """Do one step, and say what it does and how long it took."""
    say(f"  {what} ... ", end="")
    started_at_s = time.monotonic()
    result = work()
    say(f"{time.monotonic() - started_at_s:.1f} s")
    return result


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands and shows them.

    Attributes:
        folder: where they run.
        inside: put before each command; it is not shown.
        environment: variables besides the process's own.
    """

    folder: Path
    inside: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *command: str, codes: Sequence[int] = (0,), shown: str = "") -> None:
        """Show and run one command; its output goes where the demo's goes.

        Args:
            command: words; "undercroft" is this checkout's.
            codes: exit codes that belong to the story.
            shown: the command as it is shown, where its words are not enough.

        Raises:
            OperationError: it ended with another code.
        """
        say(f"\n$ {shown or ' '.join(command)}")
        started_at_s = time.monotonic()
        done = subprocess.run(
            self._whole(command),
            cwd=self.folder,
            env=self._variables(),
            stderr=subprocess.STDOUT,
            check=False,
        )
        say(f"({time.monotonic() - started_at_s:.2f} s)")
        if done.returncode not in codes:
            raise OperationError(f"{command[0]} ended with {done.returncode}; its message is above")

    def ask(self, *command: str) -> tuple[int, str]:
        """Run one command unseen; return its exit code and what it says."""
        done = subprocess.run(
            self._whole(command),
            cwd=self.folder,
            env=self._variables(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def begin(self, *command: str, log: Path) -> subprocess.Popen[bytes]:
        """Show a command, start it in the background, and return its process."""
        say(f"\n$ {' '.join(command)} &")
        with log.open("wb") as file:
            return subprocess.Popen(
                self._whole(command),
                cwd=self.folder,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    def _whole(self, command: Sequence[str]) -> list[str]:
        first = str(PROGRAM) if command[0] == "undercroft" else command[0]
        return [*self.inside, first, *command[1:]]

    def _variables(self) -> dict[str, str]:
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        return {**os.environ, "PATH": path, **self.environment}
