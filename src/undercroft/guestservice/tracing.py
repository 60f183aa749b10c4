"""The service's own part of a trace (`assurance.trace`), where one is asked for."""

import os
import time
from pathlib import Path

from undercroft.assurance import trace, tracelines
from undercroft.assurance.tracelines import MAX_TEXT_CHARS
from undercroft.errors import OperationError


class Trace:
    """Writes lines to the end of a file, one write each; writes nothing where there is no file."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, None for no trace. Raises OperationError."""
        self._handle = -1
        if path is None:
            return
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OperationError(f"{path}: the trace cannot be opened: {error.strerror}") from error

    def served(self, epoch: int, counted: bool) -> None:
        """The vaults are served in this epoch."""
        self._write(trace.Served(time.monotonic_ns(), epoch, counted))

    def refused(self, reason: str) -> None:
        """The start was refused."""
        self._write(trace.Refused(time.monotonic_ns(), reason[:MAX_TEXT_CHARS]))

    def adopted(self, reason: str) -> None:
        """An administrator adopted a loss."""
        self._write(trace.Adopted(time.monotonic_ns(), reason[:MAX_TEXT_CHARS]))

    def seeded(self, execution: bytes, generation: int) -> None:
        """A seed is about to be given."""
        self._write(trace.Seeded(time.monotonic_ns(), execution.hex(), generation))

    def confirmed(self, execution: bytes, generation: int) -> None:
        """A seed was confirmed."""
        self._write(trace.Confirmed(time.monotonic_ns(), execution.hex(), generation))

    def _write(self, event: trace.Event) -> None:
        if self._handle >= 0:
            os.write(self._handle, tracelines.line(event))
