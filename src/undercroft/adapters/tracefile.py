"""A file to which a process writes the events of its run (`assurance.trace`), for a checker to read later.

A line is one write to a file that is opened for appending: several threads and processes may share the file,
and a process that is killed leaves no half line.
"""

import os
import time
from pathlib import Path
from types import TracebackType

from undercroft.assurance import trace, tracelines
from undercroft.errors import OperationError


class TraceFile:
    """An open trace; `with` closes it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file, mode 0600. Raises OperationError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
        except OSError as error:
            raise OperationError(f"trace {path}: {error.strerror}") from error
        self._path = path

    @staticmethod
    def now_ns() -> int:
        """Return the moment, of the clock that all traces of a host share."""
        return time.monotonic_ns()

    def write(self, event: trace.Event) -> None:
        """Append an event. Raises InputError for one that no reader takes, OperationError."""
        line = tracelines.line(event)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise OperationError(f"trace {self._path}: {error.strerror}") from error
        if written != len(line):
            raise OperationError(f"trace {self._path}: the disk is full, and the last line is torn")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> "TraceFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_traces(paths: list[Path]) -> list[trace.Event]:
    """Return the events of all these files in their order. Raises InputError, OperationError."""
    lines: list[bytes] = []
    for path in paths:
        try:
            lines += path.read_bytes().splitlines(keepends=True)
        except OSError as error:
            raise OperationError(f"trace {path}: {error.strerror}") from error
    return tracelines.read(lines)
