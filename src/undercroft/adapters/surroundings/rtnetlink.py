"""Dumps over rtnetlink(7): every object of one kind in the network namespace of the thread that asks.

Source: include/uapi/linux/rtnetlink.h; net/core/rtnetlink.c of Linux 6.18.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from undercroft.adapters.netlinkcodec import (
    ACK,
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ERROR,
    REQUEST,
    Message,
    message,
    messages,
)
from undercroft.errors import DeniedError, NotFoundError, OperationError

ATTEMPTS = 5
MAX_OBJECTS = 1 << 17
DATAGRAM_BYTES = 1 << 16
RECEIVE_BYTES = 4 << 20
TIMEOUT_S = 5.0

_STRICT = 12
_SOL_NETLINK = 270
_ERRNO = struct.Struct("=i")
_DENIED, _MISSING = {1, 13}, {2, 19}
"""EPERM and EACCES; ENOENT and ENODEV."""


class InterruptedDumpError(OperationError):
    """What was read changed meanwhile."""


class Routing:
    """A socket to rtnetlink. For one thread at a time."""

    def __init__(self, kernel: socket.socket) -> None:
        self._socket = kernel
        self._sequence = 0

    def dump(
        self, kind: int, body: bytes, what: str, wanted: Callable[[bytes], bool] = lambda _: True
    ) -> list[bytes]:
        """Return what follows the header of each answer that is wanted, all of one moment.

        Raises:
            NotFoundError: there is no such device.
            DeniedError: no right to.
            OperationError: the kernel refuses, sends more than `MAX_OBJECTS`, or it changes all the time.
        """
        for _ in range(ATTEMPTS):
            try:
                return self._dumped(kind, body, what, wanted)
            except InterruptedDumpError as error:
                interrupted = error
        raise interrupted

    def ask(self, kind: int, body: bytes, what: str) -> bytes:
        """Return what follows the header of the one answer. Raises as `dump` does."""
        self._send(kind, REQUEST, body)
        for answer in self._answers(what):
            _raise_for(answer, what)
            return answer.body
        raise OperationError(f"netlink: {what}: no answer")

    def change(self, kind: int, body: bytes, what: str, flags: int = 0) -> None:
        """Ask for a change, and see that it was taken. Raises as `dump` does."""
        self._send(kind, REQUEST | ACK | flags, body)
        for answer in self._answers(what):
            _raise_for(answer, what)
            return

    def _dumped(self, kind: int, body: bytes, what: str, wanted: Callable[[bytes], bool]) -> list[bytes]:
        self._send(kind, REQUEST | DUMP, body)
        found: list[bytes] = []
        interrupted = False
        for answer in self._answers(what):
            interrupted |= bool(answer.flags & DUMP_INTERRUPTED)
            if answer.kind in {ERROR, DONE}:
                _raise_for(answer, what)
                if interrupted:
                    raise InterruptedDumpError(f"netlink: {what} changed while it was read; try again")
                break
            if len(found) >= MAX_OBJECTS:
                raise OperationError(f"netlink: {what}: more than {MAX_OBJECTS:,} answers")
            if wanted(answer.body):
                found.append(answer.body)
        return found

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(message(kind, flags, self._sequence, body))

    def _answers(self, what: str) -> Iterator[Message]:
        """Yield what answers to the last question, for ever."""
        while True:
            data, _, flags, _ = self._socket.recvmsg(DATAGRAM_BYTES)
            if flags & socket.MSG_TRUNC:
                raise OperationError(f"netlink: {what}: more than {DATAGRAM_BYTES} bytes at once")
            yield from (answer for answer in messages(data) if answer.sequence == self._sequence)


@contextmanager
def connected() -> Iterator[Routing]:
    """Open a socket while the block runs. Raises OperationError, also for what fails in the block."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as kernel:
            kernel.settimeout(TIMEOUT_S)
            kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            # With it the kernel heeds what a dump asks for, as the filters of one device.
            kernel.setsockopt(_SOL_NETLINK, _STRICT, 1)
            kernel.bind((0, 0))
            yield Routing(kernel)
    except OSError as error:
        raise OperationError(f"netlink: {error.strerror or error}") from error


def _raise_for(answer: Message, what: str) -> None:
    if answer.kind not in {ERROR, DONE} or len(answer.body) < _ERRNO.size:
        return
    number = -_ERRNO.unpack_from(answer.body)[0]
    if not number:
        return
    text = f"{what}: {os.strerror(number)}"
    if number in _DENIED:
        raise DeniedError(f"{text}: this needs CAP_NET_ADMIN; run it as root")
    if number in _MISSING:
        raise NotFoundError(f"{text}: it is not there, or no more")
    raise OperationError(text)
