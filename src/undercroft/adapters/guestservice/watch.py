"""What guests do, as the guest service tells it: events, on a connection of their own."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from undercroft.adapters.guestservice.wire import TIMEOUT_S, Answer, checked, connected, packet_of, send, why
from undercroft.errors import OperationError


@dataclass(frozen=True, slots=True)
class GuestEvent:
    """Something that a guest did.

    Attributes:
        event: `ready`, `about`, `confirmed`, `rewound`, `quiesced`, `silent`, `gone` or `fenced`; a later
            service may have more, which a client leaves alone.
        machine: UUID.
        execution: 32 hexadecimal digits.
        fields: the others, as ADR 7 has them. Texts are the guest's: untrusted.
    """

    event: str
    machine: str
    execution: str
    fields: Mapping[str, Any]


class Watch:
    """Events as they come."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Connect. Raises OperationError, DeniedError."""
        self._line = connected(path, timeout_s)
        self._waiting: list[GuestEvent] = []
        try:
            send(self._line, {"id": 1, "order": "watch"}, ())
            while "id" not in (packet := packet_of(self._line)):
                self._waiting.append(_event(packet))
            checked(packet)
        except OSError as error:
            self.close()
            raise OperationError(f"the guest service cannot be watched: {why(error)}") from error

    def __enter__(self) -> "Watch":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let the connection go. Twice is no error."""
        self._line.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when `ready` has something; ask `ready` once before."""
        return self._line.fileno()

    def ready(self) -> list[GuestEvent]:
        """Return the events that are there, without waiting. Raises OperationError: the service is gone."""
        found, self._waiting = self._waiting, []
        self._line.settimeout(0)
        try:
            while True:
                found.append(_event(packet_of(self._line)))
        except BlockingIOError:
            return found
        except OSError as error:
            if found:
                return found
            raise OperationError(f"the guest service tells nothing more: {why(error)}") from error

    def next(self, timeout_s: float | None = None) -> GuestEvent | None:
        """Return the next event, None where none came in time. Raises OperationError: the service is gone."""
        if self._waiting:
            return self._waiting.pop(0)
        self._line.settimeout(timeout_s)
        try:
            return _event(packet_of(self._line))
        except TimeoutError:
            return None
        except OSError as error:
            raise OperationError(f"the guest service tells nothing more: {why(error)}") from error

    def until(self, event: str, execution: str, timeout_s: float) -> GuestEvent | None:
        """Return the next event of a kind and an execution, None in time; drop the others."""
        end = time.monotonic() + timeout_s
        while (left := end - time.monotonic()) > 0:
            found = self.next(left)
            if found is not None and (found.event, found.execution) == (event, execution):
                return found
        return None

    def events(self) -> Iterator[GuestEvent]:
        """Yield events for ever. Raises OperationError when the service is gone."""
        while True:
            found = self.next()
            if found is not None:
                yield found


def _event(packet: Answer) -> GuestEvent:
    fields = {name: value for name, value in packet.items() if name not in ("event", "machine", "execution")}
    event, machine, execution = (packet.get(name) for name in ("event", "machine", "execution"))
    if not (isinstance(event, str) and isinstance(machine, str) and isinstance(execution, str)):
        raise ConnectionResetError("it tells what is no event")
    return GuestEvent(event, machine, execution, fields)
