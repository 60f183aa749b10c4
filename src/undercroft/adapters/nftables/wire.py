"""Sockets of nfnetlink: questions, dumps and batches, and the kernel's errors with what to do about them.

The kernel does all work of a message within the system call that sends it, so an answer is there when `send`
returns: nothing here waits, and a process that is killed has sent a whole batch or none of it.
Source: net/netfilter/nfnetlink.c, net/netlink/af_netlink.c of Linux 6.18.
"""

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.adapters.netlinkcodec import (
    ACK,
    DONE,
    DUMP,
    DUMP_INTERRUPTED,
    ECHO,
    ERROR,
    OVERRUN,
    REQUEST,
    Message,
    attribute,
    message,
    messages,
)
from undercroft.adapters.nftables import numbers
from undercroft.adapters.nftables.failures import ERROR_NUMBER, element_at, explanation, failure
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.errors import InputError, OperationError, UndercroftError

MAX_BATCH_BYTES = 256 << 20
RECEIVE_BYTES = 8 << 20
DATAGRAM_BYTES = 1 << 16
"""The kernel puts at most 32 KiB into one datagram of a dump."""
MAX_DUMP_MESSAGES = 1 << 20

_NETFILTER = 12
_SOL_NETLINK, _CAP_ACK, _EXT_ACK = 270, 10, 11
_SEND_FORCE, _RECEIVE_FORCE = 32, 33
_FAMILY = struct.Struct(">BBH")
_TRUNCATED = socket.MSG_TRUNC


@dataclass(frozen=True, slots=True)
class Request:
    """One message about nftables.

    Attributes:
        kind: NEW_TABLE and the like.
        flags: of netlink, besides the ones that every request has.
        body: attributes.
        what: what it is about, for messages: "chain 'forward' of table 'undercroft'".
        family: of the table.
    """

    kind: int
    flags: int
    body: bytes
    what: str
    family: int = numbers.BRIDGE


_WHOLE_BATCH = Request(-1, 0, b"", "a change of the tables")


class InterruptedDumpError(OperationError):
    """What was read is of two generations: read it again."""


class Channel:
    """A socket to nftables in the network namespace of the thread that makes it. For one thread at a time."""

    def __init__(self, groups: int = 0, receive_bytes: int = RECEIVE_BYTES) -> None:
        """Open it, for events of these groups too. Raises DeniedError, OperationError."""
        self._sequence = 0
        self._send_bytes = 0
        self._unread = False
        self.forgiving = False
        """Take dumps of several generations; who asks knows by other means what they are worth."""
        try:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        except OSError as error:
            raise OperationError(f"nftables: this kernel has no nfnetlink: {error.strerror}") from error
        try:
            self.socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self.socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self._set_buffer(_RECEIVE_FORCE, socket.SO_RCVBUF, receive_bytes)
            self.socket.bind((0, groups))
        except OSError as error:
            self.socket.close()
            raise failure(error.errno or 0, "events of nftables") from error

    @property
    def port(self) -> int:
        """The number by which the kernel knows the socket."""
        return int(self.socket.getsockname()[0])

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def ask(self, request: Request) -> bytes:
        """Return the attributes that answer a question. Raises NotFoundError, DeniedError, OperationError."""
        self._send(self._encoded(request, REQUEST))
        for answer in self._answers(self._sequence):
            if answer.kind == ERROR:
                self._raise_for(answer, request, b"")
            self._unread = False
            return answer.body[_FAMILY.size :]
        raise OperationError(f"nftables: {request.what}: the kernel answered with nothing")

    def dump(self, request: Request) -> list[bytes]:
        """Return the attributes of everything that a question is about.

        Raises:
            InterruptedDumpError: it changed meanwhile.
            NotFoundError, DeniedError, OperationError: see `failures`.
        """
        return [answer.body[_FAMILY.size :] for answer in self._dump(request)]

    def dump_families(self, request: Request) -> list[tuple[int, bytes]]:
        """Return the family and the attributes of everything. Raises the same as `dump`."""
        return [(answer.body[0], answer.body[_FAMILY.size :]) for answer in self._dump(request)]

    def _dump(self, request: Request) -> list[Message]:
        self._send(self._encoded(request, REQUEST | DUMP))
        found: list[Message] = []
        for answer in self._answers(self._sequence):
            if answer.kind == ERROR:
                self._raise_for(answer, request, b"")
            if len(found) >= MAX_DUMP_MESSAGES:
                raise OperationError(f"nftables: {request.what}: more than {MAX_DUMP_MESSAGES} answers")
            found.append(answer)
            if answer.kind == DONE:
                self._unread = False
                self._raise_for(answer, request, b"")
                if not self.forgiving and any(part.flags & DUMP_INTERRUPTED for part in found):
                    raise InterruptedDumpError(f"nftables: {request.what} changed while it was read")
                return found[:-1]
        raise OperationError(f"nftables: {request.what}: the kernel's answer has no end")

    def commit(self, requests: Sequence[Request], generation: int = 0) -> int:
        """Do all of the requests, or none.

        Args:
            requests: at least one; together at most MAX_BATCH_BYTES. The kernel tells the generation because
                of the first one, and repeats to us all that it changes: let that be little.
            generation: for which they were made, 0 for any.

        Returns:
            The generation that this made, 0 where nothing had to be changed.

        Raises:
            StaleError: it is another generation.
            InputError, NotFoundError, StateError, DeniedError, OperationError: the kernel refused a request;
                nothing was done. OperationError too where the answer was lost: then it may be done.
        """
        first = self._sequence + 1
        parts = [self._boundary(numbers.BATCH_BEGIN, 0, generation)]
        for number, request in enumerate(requests, start=1):
            flags = (ECHO if number == 1 else 0) | (ACK if number == len(requests) else 0)
            parts.append(self._encoded(request, REQUEST | flags))
        last = self._sequence
        parts.append(self._boundary(numbers.BATCH_END, 0, 0))
        self._send(b"".join(parts))
        made = 0
        for answer in self._answers(first, last):
            if answer.kind == numbers.SUBSYSTEM | numbers.NEW_GENERATION:
                made = generation_of(answer.body[_FAMILY.size :])
            elif answer.kind == ERROR:
                index = answer.sequence - first
                what = requests[index - 1] if index else _WHOLE_BATCH
                self._raise_for(answer, what, parts[index])
                if answer.sequence == last:
                    self._unread = False
                    return made
        raise OperationError(
            "nftables: the kernel did not say whether it took the change; read the table again"
        )

    def settle(self) -> None:
        """Wait until every change that can be seen has been told of too.

        A batch with nothing in it waits for whoever is changing something, and changes nothing.
        Raises DeniedError, OperationError.
        """
        self._send(self._boundary(numbers.BATCH_BEGIN, 0, 0) + self._boundary(numbers.BATCH_END, 0, 0))

    def rehearse(self, requests: Sequence[Request]) -> dict[int, UndercroftError]:
        """Return why the kernel would refuse requests, by their index, and do none of them.

        They go in a batch that ends with a request which fails, so the kernel undoes the rest. Raises
        DeniedError or OperationError where the kernel does not look at them at all.
        """
        first = self._sequence + 1
        failing = Request(numbers.DELETE_TABLE, 0, attribute(numbers.TABLE_NAME, b"\0"), "no table")
        parts = [self._boundary(numbers.BATCH_BEGIN, 0, 0)]
        parts += [self._encoded(request, REQUEST) for request in (*requests, failing)]
        last = self._sequence
        parts.append(self._boundary(numbers.BATCH_END, 0, 0))
        self._send(b"".join(parts))
        refused: dict[int, UndercroftError] = {}
        for answer in self._answers(first, last):
            if answer.sequence == last:
                self._unread = False
                return refused
            index = answer.sequence - first
            try:
                self._raise_for(answer, requests[index - 1] if index else _WHOLE_BATCH, b"")
            except UndercroftError as error:
                if not index:
                    raise
                refused[index - 1] = error
        raise OperationError("nftables: the kernel did not say what it would do")

    def _encoded(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        body = _FAMILY.pack(request.family, 0, 0) + request.body
        return message(numbers.SUBSYSTEM | request.kind, flags | request.flags, self._sequence, body)

    def _boundary(self, kind: int, flags: int, generation: int) -> bytes:
        self._sequence += 1
        body = _FAMILY.pack(0, 0, numbers.SUBSYSTEM >> 8)
        if generation:
            body += attribute(numbers.BATCH_GENERATION, struct.pack(">I", generation))
        return message(kind, REQUEST | flags, self._sequence, body)

    def _send(self, data: bytes) -> None:
        if len(data) > MAX_BATCH_BYTES:
            raise InputError(
                f"nftables: a change of {len(data)} bytes; {MAX_BATCH_BYTES} can be sent: use fewer machines"
            )
        if self._unread:
            self._forget_answers()
        self._unread = True
        try:
            if len(data) > self._send_bytes:
                self._set_buffer(_SEND_FORCE, socket.SO_SNDBUF, 2 * len(data))
                self._send_bytes = len(data)
            self.socket.send(data)
        except OSError as error:
            raise failure(error.errno or 0, "a change of nftables") from error

    def _set_buffer(self, forced: int, plain: int, size: int) -> None:
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, plain, size)

    def _answers(self, first: int, last: int = 0) -> Iterator[Message]:
        """Yield what the kernel has answered to the messages from `first` to `last`, nothing older."""
        while True:
            try:
                data, _, flags, sender = self.socket.recvmsg(DATAGRAM_BYTES, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if (
                    error.errno == errno.ENOBUFS
                ):  # More errors than there is room for; the first ones are there.
                    continue
                raise failure(error.errno or 0, "an answer of nftables") from error
            if sender[0] != 0:
                continue
            if flags & _TRUNCATED:
                raise OperationError(f"nftables: the kernel sent more than {DATAGRAM_BYTES} bytes at once")
            for answer in messages(data):
                if answer.kind == OVERRUN:
                    raise OperationError("nftables: the kernel's answers were lost; ask again")
                if first <= answer.sequence <= max(first, last):
                    if len(answer.body) < _FAMILY.size:
                        raise OperationError(f"nftables: an answer of {len(answer.body)} bytes")
                    yield answer

    def _forget_answers(self) -> None:
        """Make room: what is left of the answers to a question that ended in an error."""
        for _ in self._answers(0):
            pass

    def _raise_for(self, answer: Message, request: Request, sent: bytes) -> None:
        """Raise what an error says, nothing where it is the acknowledgement."""
        number = -ERROR_NUMBER.unpack_from(answer.body)[0]
        if number:
            text, offset = explanation(answer)
            what = request.what + element_at(sent, offset)
            raise failure(number, what, request.kind, text)


def generation_of(data: bytes) -> int:
    """Return the number in attributes of a generation. Raises OperationError for malformed ones."""
    try:
        return Fields(data).number(numbers.GENERATION_ID)
    except UnknownShapeError as error:
        raise OperationError(f"nftables: a generation that cannot be read: {error}") from error
