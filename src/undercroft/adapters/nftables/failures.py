"""What an errno of nftables means for the thing that it is about, and what to do."""

import errno
import os

from undercroft.adapters.nftables import numbers
from undercroft.errors import DeniedError, NotFoundError, OperationError, StateError, UndercroftError

_STALE = 85
"""ERESTART, which Python has no name for on all systems: the batch was made for another generation."""


class StaleError(StateError):
    """A batch was made for a generation that is over."""

    def __init__(self) -> None:
        super().__init__("nftables: somebody changed the tables meanwhile; read them again")


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
        return StateError(f"{said}: the set is full; give it a larger size")
    if number in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTO}:
        return OperationError(
            f"{said}: it names what is not there, or what this kernel lacks; "
            "`undercroft doctor` shows what it has"
        )
    if number in {errno.EMSGSIZE, errno.ENOBUFS, errno.ENOMEM}:
        return OperationError(f"{said}: the kernel has no room for a change of this size; free memory")
    return OperationError(f"{said}: the kernel refuses it")
