"""The host's side of one job: its sockets, its frames checked, its end told apart from its death."""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from undercroft.errors import InputError, OperationError, UndercroftError
from undercroft.model.schema import Json
from undercroft.sandbox import failure, wire
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.wire import Request

BELT_S = 2.0
"""How much longer than the child's own timer the host waits, in case the timer fails."""

MIN_STREAM_BYTES_PER_S = 1 << 20
"""How fast a stream must be, in the long run, so that it is not taken for one that hangs."""

STATUS_WAIT_S = 5.0
"""How long the server may take to tell how a child ended."""


class ServerGoneError(OperationError):
    """The warm process ended; whoever owns it knows what it wrote last."""


class Conversation:
    """One job in one child. Leaving the context ends the child, whatever it is doing.

    Args:
        control: socket to the server.
        job: the job's name.
        arguments: for the job.
        descriptors: checked by the caller.
        limits: of the child, and of what it may send.
        streaming: whether DATA frames or one ANSWER are to come.

    Raises:
        InputError: the arguments are too large.
        ServerGoneError: the server has ended.
    """

    def __init__(
        self,
        control: socket.socket,
        job: str,
        arguments: Mapping[str, Json],
        descriptors: Sequence[int],
        limits: Limits,
        *,
        streaming: bool,
    ) -> None:
        self._limits = limits = replace(limits, cpu_s=limits.stream_cpu_s) if streaming else limits
        self._body_limits = wire.body_limits(limits, streaming=streaming)
        self._patience_s = limits.wall_s + (0 if streaming else BELT_S)
        self._answer, childs_end = socket.socketpair()
        self._status, servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = Request(job, streaming, dict(arguments), limits)
        try:
            wire.send_request(control, request, [childs_end.fileno(), servers_end.fileno(), *descriptors])
        except OSError as error:
            self.close()
            raise ServerGoneError(f"the sandbox's reader is gone: {error.strerror}") from error
        except BaseException:
            self.close()
            raise
        finally:
            childs_end.close()
            servers_end.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the job up; the server kills a child that still runs."""
        self._answer.close()
        self._status.close()

    def frame(self) -> tuple[bytes, bytes]:
        """Return the next frame's kind (ANSWER, DATA or END) and body.

        Raises:
            InputError: the child reported a failure, died, passed a limit or broke the protocol.
            NotFoundError: the child reported that what the job names does not exist.
            OperationError: the child or the server failed.
        """
        kind, length = wire.HEADER.unpack(self._receive(wire.HEADER.size))
        limit = self._body_limits.get(kind)
        if limit is None:
            raise InputError("the reader answered outside its protocol, and was stopped")
        if length > limit:
            raise InputError(f"the reader's answer has {length} bytes, the limit is {limit}")
        body = self._receive(length)
        if kind == wire.FAILURE:
            raise _reported(body)
        if kind == wire.DATA:
            self._patience_s += len(body) / MIN_STREAM_BYTES_PER_S
        return kind, body

    def _receive(self, length: int) -> bytes:
        """Return exactly `length` bytes within what is left of the host's patience."""
        data = bytearray(length)
        view = memoryview(data)
        while view:
            started_at = time.monotonic()
            self._answer.settimeout(max(self._patience_s, 0.001))
            try:
                received = self._answer.recv_into(view)
            except TimeoutError as error:
                raise InputError(failure.out_of_time(self._limits)) from error
            except ConnectionError:
                received = 0
            self._patience_s -= time.monotonic() - started_at
            if not received:
                raise self._cause_of_death()
            view = view[received:]
        return bytes(data)

    def _cause_of_death(self) -> InputError | ServerGoneError:
        """Return the error for a child that hung up, from the status that the server gives."""
        self._status.settimeout(STATUS_WAIT_S)
        try:
            status = self._status.recv(wire.STATUS.size)
        except TimeoutError:
            return InputError("the reader hung up in the middle of its answer")
        except ConnectionError:
            status = b""
        if len(status) != wire.STATUS.size:
            return ServerGoneError("the sandbox's reader is gone")
        return failure.death(wire.STATUS.unpack(status)[0], self._limits)


def _reported(untrusted_body: bytes) -> UndercroftError:
    """Return the error of a FAILURE frame."""
    try:
        name, message = wire.decode_failure(untrusted_body)
    except ValueError:
        return InputError("the reader's error message is malformed")
    return failure.reported(name, message)
