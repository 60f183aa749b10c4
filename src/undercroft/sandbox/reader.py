"""`ports.reader.Reader` over a confined process.

Guarantees: what a child does ends with its job; a job that passes a limit, dies or answers outside the
protocol raises `InputError` and takes no other job with it; jobs may run in parallel from several
threads; when the host dies, however it dies, the sandbox dies with it. Descriptors of files that could
be written to are refused before they leave the host.
"""

import fcntl
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from undercroft.errors import DeniedError, InputError, OperationError
from undercroft.model.schema import Json
from undercroft.sandbox import bubblewrap, wire
from undercroft.sandbox.conversation import Conversation, ServerGoneError
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.process import SandboxProcess

START_TIMEOUT_S = 20.0
"""How long the warm process may take to come up, on a loaded host with cold caches."""


class SandboxedReader:
    """A `Reader` whose jobs run confined. Made by `launcher.start`; close it, or use it as a context."""

    sandboxed = True

    def __init__(self, process: SandboxProcess, limits: Limits | None = None) -> None:
        self._process = process
        self._limits = limits or Limits()
        self._ready = False
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        """Run `job` in a child of its own and return its answer, JSON of any shape.

        Raises:
            InputError: as `ports.reader.Reader`; also for what the child may not do.
            NotFoundError: as `ports.reader.Reader`.
            DeniedError: the sandbox could not be had, or a descriptor may not enter it.
            OperationError: the sandbox failed.
        """
        with self._conversation(job, arguments, descriptors, streaming=False) as conversation:
            _, body = self._frame(conversation)
        return wire.decode_answer(body)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        """Run `job` and yield what it sends, in pieces of at most 1 MiB. Raises as `call` does.

        The job starts with the first piece that is asked for and ends with the iterator.
        """
        with self._conversation(job, arguments, descriptors, streaming=True) as conversation:
            while (frame := self._frame(conversation))[0] != wire.END:
                yield frame[1]

    def close(self) -> None:
        """End the sandbox and everything in it. May be called twice."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._process.close()

    def _conversation(
        self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int], *, streaming: bool
    ) -> Conversation:
        for descriptor in descriptors:
            _check_descriptor(descriptor)
        self._await_ready()
        control = self._process.control
        try:
            limits = self._limits.of(job)
            return Conversation(control, job, arguments, descriptors, limits, streaming=streaming)
        except ServerGoneError as error:
            raise self._server_gone() from error

    def _frame(self, conversation: Conversation) -> tuple[bytes, bytes]:
        try:
            return conversation.frame()
        except ServerGoneError as error:
            raise self._server_gone() from error

    def _await_ready(self) -> None:
        """Wait for the server's first word. Raises DeniedError or OperationError when none comes."""
        with self._lock:
            if self._closed:
                raise OperationError("the sandbox is closed")
            if self._ready:
                return
            control = self._process.control
            control.settimeout(START_TIMEOUT_S)
            try:
                greeting = control.recv(len(wire.READY))
            except TimeoutError as error:
                raise OperationError(f"the sandbox was not up after {START_TIMEOUT_S:g} s") from error
            except ConnectionError:
                greeting = b""
            if greeting != wire.READY:
                raise bubblewrap.not_started(self._process.last_words())
            control.settimeout(None)
            self._ready = True

    def _server_gone(self) -> OperationError:
        with self._lock:
            if self._closed:
                return OperationError("the sandbox was closed while a job ran")
            said = self._process.last_words()
        return OperationError(f"the sandbox's reader is gone: {said.splitlines()[-1] if said else 'killed'}")


def _check_descriptor(descriptor: int) -> None:
    """Raise unless a child may have it: a file or block device open for reading only, or a socket."""
    try:
        mode = os.fstat(descriptor).st_mode
        access = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    except OSError as error:
        raise InputError(f"descriptor {descriptor} is not open") from error
    if stat.S_ISSOCK(mode):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise DeniedError(f"descriptor {descriptor}: only files, block devices and sockets enter the sandbox")
    if access & os.O_ACCMODE != os.O_RDONLY or access & os.O_PATH:
        raise DeniedError(
            f"descriptor {descriptor} is not open for reading only, and may not enter the sandbox"
        )
