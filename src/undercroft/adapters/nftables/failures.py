"""What an errno of nftables means for the thing that it is about, and what to do."""

import errno
import os
import struct
import sys

from undercroft.adapters.netlinkcodec import CAPPED, EXTENDED_ACK, HEADER, Message, attributes
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.errors import DeniedError, NotFoundError, OperationError, StateError, UndercroftError

ERROR_NUMBER = struct.Struct("=i")
_ERROR_TEXT, _ERROR_OFFSET = 1, 2
_STALE = 85
"""ERESTART, which Python has no name for on all systems: the batch was made for another generation."""


class StaleError(StateError):
    """A batch was made for a generation that is over."""

    def __init__(self) -> None:
        super().__init__("nftables: somebody changed the tables meanwhile; read them again")


class FullError(StateError):
    """A set has no room for what was to be put into it."""


def failure(number: int, what: str, kind: int = -1, text: str = "") -> UndercroftError:
    """Return what an errno of the kernel means, for what it was about, and what to do.

    Args:
        number: the errno.
        what: the thing.
        kind: the request's kind, -1 for none.
        text: the kernel's own explanation, "" for none.
    """
    said = f"nftables: {what}: {text or os.strerror(number)}"
    making = kind in {numbers.NEW_TABLE, numbers.NEW_CHAIN, numbers.NEW_RULE, numbers.NEW_SET}
    if number == _STALE:
        return StaleError()
    if number in {errno.EPERM, errno.EACCES}:
        return DeniedError(
            f"{said}: this needs CAP_NET_ADMIN in this network namespace, "
            "and no other program that owns the table: run as root, or give the service the capability"
        )
    if number == errno.ENOENT and not making:
        return NotFoundError(f"{said}: the kernel does not have it")
    if number in {errno.EEXIST, errno.EBUSY}:
        return StateError(f"{said}: it is there already with other contents, or in use; read the table again")
    if number in {errno.ENFILE, errno.ENOSPC}:
        return FullError(f"{said}: the set is full; give it a larger size")
    if number in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTO}:
        return OperationError(
            f"{said}: it names what is not there, or what this kernel lacks; "
            "`undercroft doctor` shows what it has"
        )
    if number in {errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM}:
        return OperationError(f"{said}: the kernel has no room for a change of this size; free memory")
    return OperationError(f"{said}: the kernel refuses it")


def explanation(answer: Message) -> tuple[str, int]:
    """Return the kernel's text and the offset in the request that it points at, "" and 0 without."""
    if not answer.flags & EXTENDED_ACK or not answer.flags & CAPPED:
        return "", 0
    text, offset = "", 0
    for kind, value in attributes(answer.body[ERROR_NUMBER.size + HEADER.size :]):
        if kind == _ERROR_TEXT:
            text = value.rstrip(b"\0").decode(errors="backslashreplace")
        elif kind == _ERROR_OFFSET and len(value) == 4:
            offset = int.from_bytes(value, sys.byteorder)
    return text, offset


def element_at(sent: bytes, offset: int) -> str:
    """Return the key of the element that an error is about, "" where it is about no element."""
    kind = struct.unpack_from("=H", sent, 4)[0] & 0xFF if len(sent) > HEADER.size else 0
    if not offset or kind not in {numbers.NEW_ELEMENT, numbers.DELETE_ELEMENT}:
        return ""
    try:
        (size,) = struct.unpack_from("=H", sent, offset)
        key = Fields(sent[offset + 4 : offset + size]).value(numbers.ELEMENT_KEY)
    except (struct.error, UnknownShapeError):
        return ""
    return f": key {key.hex()}"
