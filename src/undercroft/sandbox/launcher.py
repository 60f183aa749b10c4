"""Starts the sandbox and talks with it: `ports.reader.Reader` over a confined process.

    >>> with launcher.start() as reader:            # returns at once; go on importing
    ...     answer = reader.call("inspect", {"format": "qcow2"}, [descriptor])

Guarantees: what a child does ends with its job; a job that passes a limit, dies or answers outside the
protocol raises `InputError` and takes no other job with it; jobs may run in parallel from several
threads; when the host dies, however it dies, the sandbox dies with it. Descriptors of files that could
be written to are refused before they leave the host.
"""

import fcntl
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from undercroft.errors import DeniedError, InputError, OperationError
from undercroft.model.schema import Json
from undercroft.sandbox import bubblewrap, seccomp, wire
from undercroft.sandbox.conversation import Conversation, ServerGoneError
from undercroft.sandbox.limits import Limits

PRODUCT_JOBS = "undercroft.sandbox.jobs"
START_TIMEOUT_S = 20.0
"""How long the warm process may take to come up, on a loaded host with cold caches."""

END_TIMEOUT_S = 2.0
MAX_STDERR_BYTES = 64 << 10


def start(*, limits: Limits | None = None, jobs_module: str = PRODUCT_JOBS) -> "SandboxedReader":
    """Start a sandbox and return before it is up; its first job waits for it.

    Start it from a thread that outlives it: the kernel ends it with the thread that started it.

    Args:
        limits: of each job; `Limits()` by default.
        jobs_module: importable module with JOBS and STREAMS.

    Raises:
        DeniedError: bubblewrap is missing, or the architecture has no filter; the text says the cure.
            Where the kernel forbids it, the first job raises the same.
    """
    architecture = seccomp.native_architecture()
    control, servers_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stderr = os.memfd_create("undercroft-sandbox-stderr")
    try:
        process = subprocess.Popen(
            bubblewrap.command(architecture, servers_end.fileno(), jobs_module),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=[servers_end.fileno()],
            process_group=0,  # the terminal's Ctrl-C is the host's to handle
        )
    except FileNotFoundError as error:
        control.close()
        os.close(stderr)
        raise bubblewrap.not_installed() from error
    finally:
        servers_end.close()
    return SandboxedReader(process, control, stderr, limits or Limits())


class SandboxedReader:
    """A `Reader` whose jobs run confined. Made by `start`; close it, or use it as a context."""

    sandboxed = True

    def __init__(
        self, process: "subprocess.Popen[bytes]", control: socket.socket, stderr: int, limits: Limits
    ) -> None:
        self._process = process
        self._control = control
        self._stderr = stderr
        self._limits = limits
        self._ready = False
        self._closed = False
        self._starting = threading.Lock()

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
            try:
                _, body = conversation.frame()
            except ServerGoneError as error:
                raise self._server_gone() from error
        return wire.decode_answer(body)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        """Run `job` and yield what it sends, in pieces of at most 1 MiB. Raises as `call` does.

        The job starts with the first piece that is asked for and ends with the iterator.
        """
        with self._conversation(job, arguments, descriptors, streaming=True) as conversation:
            while True:
                try:
                    kind, body = conversation.frame()
                except ServerGoneError as error:
                    raise self._server_gone() from error
                if kind == wire.END:
                    return
                yield body

    def close(self) -> None:
        """End the sandbox and everything in it. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self._control.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._stderr)

    def _conversation(
        self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int], *, streaming: bool
    ) -> Conversation:
        for descriptor in descriptors:
            _check_descriptor(descriptor)
        self._await_ready()
        try:
            return Conversation(self._control, job, arguments, descriptors, self._limits, streaming=streaming)
        except ServerGoneError as error:
            raise self._server_gone() from error

    def _await_ready(self) -> None:
        """Wait for the server's first word. Raises DeniedError or OperationError when none comes."""
        with self._starting:
            if self._closed:
                raise OperationError("the sandbox is closed")
            if self._ready:
                return
            self._control.settimeout(START_TIMEOUT_S)
            try:
                greeting = self._control.recv(len(wire.READY))
            except TimeoutError as error:
                raise OperationError(f"the sandbox was not up after {START_TIMEOUT_S:g} s") from error
            except ConnectionError:
                greeting = b""
            if greeting != wire.READY:
                raise bubblewrap.not_started(self._last_words())
            self._control.settimeout(None)
            self._ready = True

    def _server_gone(self) -> OperationError:
        words = self._last_words().strip()
        return OperationError(
            f"the sandbox's reader is gone: {words.splitlines()[-1] if words else 'killed'}"
        )

    def _last_words(self) -> str:
        """Return what bubblewrap and the server wrote to standard error, once they have ended."""
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return os.pread(self._stderr, MAX_STDERR_BYTES, 0).decode("utf-8", "replace")


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
