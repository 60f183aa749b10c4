"""Messages and attributes of netlink(7), in the machine's byte order: what every family shares.

Reading checks each length against what is there and never reads beyond it. The kernel sends nothing
malformed: what is, is an OperationError that says so.
Source: include/uapi/linux/netlink.h.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.errors import OperationError

REQUEST, MULTI, ACK, ECHO, DUMP_INTERRUPTED = 0x01, 0x02, 0x04, 0x08, 0x10
DUMP = 0x300
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
CAPPED, EXTENDED_ACK = 0x100, 0x200
"""Flags of an error message: the request is not repeated in it; attributes follow."""

NOOP, ERROR, DONE, OVERRUN = 1, 2, 3, 4

MAX_ATTRIBUTE_BYTES = 0xFFFF
_NESTED = 0x8000
_KIND_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its type, flags, sequence number, what follows its header, and the port that it is for.

    The port of an event is that of the socket whose request has made it, 0 for none.
    """

    kind: int
    flags: int
    sequence: int
    body: bytes
    port: int = 0


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Return a message to the kernel; `body` is as long as a multiple of 4 bytes."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def messages(data: bytes) -> Iterator[Message]:
    """Yield the messages of one datagram. Raises OperationError for one that is malformed."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < HEADER.size:
            raise _malformed("a message", end - offset, end - offset)
        size, kind, flags, sequence, port = HEADER.unpack_from(data, offset)
        if not HEADER.size <= size <= end - offset:
            raise _malformed("a message", size, end - offset)
        yield Message(kind, flags, sequence, data[offset + HEADER.size : offset + size], port)
        offset += (size + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each attribute's type, without its flags, and its value. Raises OperationError if malformed."""
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _ATTRIBUTE.size:
            raise _malformed("an attribute", end - offset, end - offset)
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= size <= end - offset:
            raise _malformed("an attribute", size, end - offset)
        yield kind & _KIND_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded. Raises OperationError for a value that no attribute holds."""
    return _attribute(kind, value)


def nested(kind: int, *parts: bytes) -> bytes:
    """Return an attribute that holds attributes. Raises OperationError for more than one may hold."""
    return _attribute(kind | _NESTED, b"".join(parts))


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    if size > MAX_ATTRIBUTE_BYTES:
        raise OperationError(
            f"netlink: an attribute of {size} bytes; at most {MAX_ATTRIBUTE_BYTES} can be sent in one"
        )
    return _ATTRIBUTE.pack(size, kind) + value + _PADDING[size & 3]


def _malformed(what: str, size: int, there: int) -> OperationError:
    return OperationError(
        f"netlink: the kernel sent {what} of {size} bytes where {there} are left: "
        f"its answer cannot be read; please report this with `uname -r`"
    )
