"""The warm process inside bubblewrap: imports everything once, then forks one child per job.

It never reads a byte of an untrusted object; it takes requests from the host alone, hands descriptors on
to children, and tells the host how each child ended. It is process 1 of its own process namespace:
when it ends, for whatever reason, the kernel kills every child.
"""

import codecs
import gc
import importlib
import os
import select
import signal
import socket
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

from undercroft.sandbox import child, seccomp, wire
from undercroft.sandbox.context import JobModule
from undercroft.sandbox.syscalls import Architecture

CODECS = ("ascii", "latin-1", "utf-8", "utf-16-le", "utf-16-be", "cp437")
"""Loaded on first use by the interpreter, which a filtered child can no longer do."""


MAX_FILTERS = 64


@dataclass(frozen=True, slots=True)
class _Child:
    """A running job: its process, a descriptor that tells when it ends, and the host's status socket."""

    pid: int
    pidfd: int
    status: socket.socket


def main(control_descriptor: int, jobs_module: str) -> NoReturn:
    """Serve jobs from the control socket until the host closes it. Never returns."""
    control = socket.socket(fileno=control_descriptor)
    os.closerange(3, control_descriptor)
    os.closerange(control_descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    _settle_signals()
    jobs = _load(jobs_module)
    control.send(wire.READY)
    _Server(control, jobs, seccomp.native_architecture()).serve()
    os._exit(0)


def _settle_signals() -> None:
    """Default actions for the limits' signals, none blocked: they must end a child, which inherits this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGALRM, signal.SIGXCPU, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _load(jobs_module: str) -> JobModule:
    """Import what jobs need, now: after the filter nothing can be imported."""
    module = importlib.import_module(jobs_module)
    for name in CODECS:
        codecs.lookup(name)
    gc.collect()
    gc.freeze()  # children then leave the pages of all these objects shared
    gc.disable()
    return cast("JobModule", module)


class _Server:
    """The loop over the control socket, the ends of children, and hosts that gave a job up."""

    def __init__(self, control: socket.socket, jobs: JobModule, architecture: Architecture) -> None:
        self._control = control
        self._jobs = jobs
        self._architecture = architecture
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._by_pidfd: dict[int, _Child] = {}
        self._by_status: dict[int, _Child] = {}
        self._filters: dict[tuple[int, ...], bytes] = {}

    def serve(self) -> None:
        """Return when the host has closed the control socket."""
        requested = False
        while True:
            # A new job comes last: its descriptors may have the numbers of those just closed.
            if requested and not self._start_next():
                return
            requested = False
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control.fileno():
                    requested = True
                elif descriptor in self._by_pidfd:
                    self._bury(self._by_pidfd[descriptor])
                elif descriptor in self._by_status:
                    self._kill(self._by_status[descriptor])

    def _start_next(self) -> bool:
        """Fork a child for the next request; False when the host is gone."""
        received = wire.receive_request(self._control)
        if received is None:
            return False
        request, (answer, status, *descriptors) = received
        self._jobs.prepare(request.arguments)
        call_filter = self._filter(answer, _sockets(descriptors))
        pid = os.fork()
        if pid == 0:
            child.run(request, answer, descriptors, self._jobs, call_filter)
        for descriptor in (answer, *descriptors):
            os.close(descriptor)
        started = _Child(pid, os.pidfd_open(pid), socket.socket(fileno=status))
        self._by_pidfd[started.pidfd] = started
        self._by_status[status] = started
        self._poll.register(started.pidfd, select.POLLIN)
        self._poll.register(status, 0)  # POLLHUP alone: the host has closed its end
        return True

    def _filter(self, answer: int, sockets: tuple[int, ...]) -> bytes:
        """Return the filter for these descriptors; most jobs get the same numbers, and each child is new."""
        place = (answer, *sockets)
        if place not in self._filters:
            if len(self._filters) >= MAX_FILTERS:
                self._filters.clear()
            self._filters[place] = seccomp.build(self._architecture, answer, sockets)
        return self._filters[place]

    def _kill(self, given_up: _Child) -> None:
        """End a child that the host waits for no longer; it is buried when its pidfd says so."""
        os.kill(given_up.pid, signal.SIGKILL)
        self._poll.unregister(given_up.status)

    def _bury(self, ended: _Child) -> None:
        """Reap a child, tell the host how it ended, and forget it."""
        _, wait_status = os.waitpid(ended.pid, 0)
        del self._by_pidfd[ended.pidfd], self._by_status[ended.status.fileno()]
        self._poll.unregister(ended.pidfd)
        os.close(ended.pidfd)
        try:
            self._poll.unregister(ended.status)
            ended.status.send(wire.STATUS.pack(os.waitstatus_to_exitcode(wait_status)))
        except (KeyError, OSError):
            pass  # the host has its answer, or gave the job up
        ended.status.close()


def _sockets(descriptors: Sequence[int]) -> tuple[int, ...]:
    return tuple(number for number in descriptors if stat.S_ISSOCK(os.fstat(number).st_mode))
