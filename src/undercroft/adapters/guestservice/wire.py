"""Packets to and from the guest service: one JSON object each, over a socket in the file system."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from undercroft.errors import (
    DeniedError,
    InputError,
    NotFoundError,
    OperationError,
    StateError,
    UndercroftError,
)

MAX_PACKET_BYTES = 64 * 1024
TIMEOUT_S = 10.0
_CURE = "systemctl start undercroft-guest.socket, or look at what `undercroft up` says of it"
_ERRORS: Mapping[str, type[UndercroftError]] = {
    "input": InputError,
    "unknown": NotFoundError,
    "denied": DeniedError,
    "state": StateError,
}

Answer = dict[str, Any]


def connected(path: Path, timeout_s: float) -> socket.socket:
    """Return a connected socket. Raises OperationError with the cure, or DeniedError."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(timeout_s)
    try:
        line.connect(str(path))
    except PermissionError as error:
        line.close()
        raise DeniedError(f"{path}: only root may give the guest service orders") from error
    except OSError as error:
        line.close()
        raise OperationError(
            f"{path}: the guest service does not run ({error.strerror or error}): {_CURE}"
        ) from error
    return line


def ordered(line: socket.socket, order: Answer, descriptors: tuple[int, ...] = ()) -> Answer:
    """Send an order and return its answer. Raises OSError, and the error that is answered."""
    send(line, order, descriptors)
    while (packet := packet_of(line)).get("id") != order["id"]:
        pass  # the answer to an order that nobody waited for
    return checked(packet)


def send(line: socket.socket, order: Answer, descriptors: tuple[int, ...]) -> None:
    """Send an order. Raises OSError; InputError for one that no packet holds."""
    data = json.dumps(order, separators=(",", ":")).encode()
    if len(data) > MAX_PACKET_BYTES:
        raise InputError(f"an order of {len(data)} bytes cannot be given: {MAX_PACKET_BYTES} can")
    socket.send_fds(line, [data], list(descriptors))


def packet_of(line: socket.socket) -> Answer:
    """Return the next packet. Raises OSError, also for what is none."""
    data = line.recv(MAX_PACKET_BYTES)
    if not data:
        raise ConnectionResetError("it has closed the connection")
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConnectionResetError("it says what is no answer")
    return found


def checked(packet: Answer) -> Answer:
    """Return what an answer has. Raises the error that it is."""
    if "ok" in packet:
        found = packet["ok"]
        return found if isinstance(found, dict) else {}
    raise _ERRORS.get(packet.get("kind", ""), OperationError)(str(packet.get("error", "refused")))


def why(error: OSError) -> str:
    """Return why an order was not answered, with the cure."""
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return f"{error.strerror or error}; {_CURE}"
