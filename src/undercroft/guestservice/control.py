"""The agent's connections: packets in and out, whom the kernel says that they are of.

The socket is SOCK_SEQPACKET: one packet is one JSON object. Nobody but root and the service's own user is
answered; their connection is closed.
"""

import array
import contextlib
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from undercroft.errors import (
    DeniedError,
    InputError,
    NotFoundError,
    OperationError,
    StateError,
    UndercroftError,
)
from undercroft.guestservice.loop import LOST, READ, WRITE, Loop

MAX_PACKET_BYTES = 64 * 1024
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""What may wait for a connection that does not read: then it is closed, and whoever it is asks anew."""

MAX_CONNECTIONS = 64
_MAX_DESCRIPTORS = 4
_CREDENTIALS = struct.Struct("3i")
_KINDS: tuple[tuple[type[UndercroftError], str], ...] = (
    (InputError, "input"),
    (NotFoundError, "unknown"),
    (DeniedError, "denied"),
    (StateError, "state"),
    (OperationError, "operation"),
)

Order = Mapping[str, Any]
Run = Callable[["Connection", Order, list[int]], dict[str, object] | None]


class Control:
    """The listening socket and its connections."""

    def __init__(
        self, listener: socket.socket, loop: Loop, run: Run, owner: int, report: Callable[[str], None]
    ) -> None:
        """Take the socket and begin to listen.

        Args:
            listener: bound and listening.
            loop: the turns.
            run: answers an order, or raises an error of ours; None where `Connection.reply` follows later.
                Takes descriptors that came with it out of the list.
            owner: the user beside root who is answered.
            report: takes lines for the log.
        """
        self._listener, self._loop, self._run, self._owner = listener, loop, run, owner
        self.report = report
        self.connections: set[Connection] = set()
        listener.setblocking(False)
        loop.watch(listener.fileno(), READ, self._accept)

    def run(self, connection: "Connection", order: Order, descriptors: list[int]) -> dict[str, object] | None:
        """Answer an order, None where the answer follows."""
        return self._run(connection, order, descriptors)

    def close(self) -> None:
        """Let all connections go, and the listening socket too."""
        for connection in list(self.connections):
            connection.close()
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _accept(self, _mask: int) -> None:
        try:
            line, _ = self._listener.accept()
        except OSError:  # it went away meanwhile
            return
        _, user, _ = _CREDENTIALS.unpack(
            line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user not in (0, self._owner) or len(self.connections) >= MAX_CONNECTIONS:
            line.close()
            return
        line.setblocking(False)
        self.connections.add(Connection(line, self, self._loop))


class Connection:
    """One of them. `closing` are called when it goes."""

    def __init__(self, line: socket.socket, control: Control, loop: Loop) -> None:
        """Take a connected socket."""
        self._line, self._control, self._loop = line, control, loop
        self._out: deque[bytes] = deque()
        self._waiting = 0
        self.closing: list[Callable[[], None]] = []
        loop.watch(line.fileno(), READ, self._ready)

    def send(self, body: Mapping[str, object]) -> None:
        """Send a packet, now or when there is room. Who lets too much wait loses the connection."""
        data = json.dumps(body, separators=(",", ":")).encode()
        if self._line.fileno() < 0:
            return
        self._out.append(data)
        self._waiting += len(data)
        self._flush()
        if self._waiting > MAX_WAITING_BYTES:
            self.close()

    def reply(self, order: Order, answer: Mapping[str, object]) -> None:
        """Send the answer to an order whose answer was to follow; it has `ok`, or is a `refusal`."""
        self.send({"id": order["id"], **answer})

    def close(self) -> None:
        """Let it go. Twice is no error."""
        if self._line.fileno() < 0:
            return
        self._loop.unwatch(self._line.fileno())
        self._line.close()
        self._control.connections.discard(self)
        for call in self.closing:
            call()

    def _ready(self, mask: int) -> None:
        if mask & READ:
            self._receive()
        elif mask & LOST:
            self.close()
        if mask & WRITE and self._line.fileno() >= 0:
            self._flush()

    def _flush(self) -> None:
        out = self._out
        while out:
            try:
                self._line.send(out[0])
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            self._waiting -= len(out.popleft())
        self._loop.change(self._line.fileno(), READ | WRITE if out else READ)

    def _receive(self) -> None:
        try:
            data, descriptors, cut = self._packet()
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, cut = b"", [], False
        try:
            if not data:
                self.close()
                return
            self._answer(data, descriptors, cut=cut)
        finally:
            for each in descriptors:  # what nobody took
                with contextlib.suppress(OSError):
                    os.close(each)

    def _packet(self) -> tuple[bytes, list[int], bool]:
        """Return a packet, the descriptors that came with it, and whether either was cut off."""
        room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
        data, extra, flags, _ = self._line.recvmsg(MAX_PACKET_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        descriptors = array.array("i")
        for level, kind, body in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(body[: len(body) - len(body) % descriptors.itemsize])
        return data, list(descriptors), bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))

    def _answer(self, data: bytes, descriptors: list[int], *, cut: bool) -> None:
        number: object = None
        try:
            if cut:
                raise InputError(f"an order has at most {MAX_PACKET_BYTES} bytes and one descriptor")
            order = _order(data)
            number = order["id"]
            answer = self._control.run(self, order, descriptors)
            if answer is not None:
                self.send({"id": number, "ok": answer})
        except UndercroftError as error:
            self.send({"id": number} | refusal(error))
        except Exception as error:  # noqa: BLE001 - the edge: logged whole, answered with nothing specific
            self._control.report(f"an order failed in an unexpected way: {error!r}")
            wrong = OperationError("the guest service failed in an unexpected way: its log says how")
            self.send({"id": number} | refusal(wrong))


def refusal(error: UndercroftError) -> dict[str, object]:
    """Return how an error is answered: its text, which has the cure, and its kind in a word."""
    kind = next((word for of, word in _KINDS if isinstance(error, of)), "operation")
    return {"error": str(error), "kind": kind}


def _order(data: bytes) -> Order:
    """Return an order: an object with an `id` that is a number, and an `order` that is a word."""
    try:
        order = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("an order is one object of JSON") from None
    if not isinstance(order, dict) or type(order.get("id")) is not int:
        raise InputError("an order is an object of JSON with a number `id`")
    if not isinstance(order.get("order"), str):
        raise InputError("an order says in `order` what it is")
    return order
