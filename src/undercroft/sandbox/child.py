"""One job in a forked child: confined first, then run, then gone.

Order matters. Everything that needs a system call outside the filter (closing descriptors, limits,
timers) happens before `seccomp.install`; the first untrusted byte is read after it. A child that cannot
be confined answers with OperationError and reads nothing.
"""

import gc
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from undercroft.errors import InputError, OperationError
from undercroft.sandbox import failure, seccomp, wire
from undercroft.sandbox.context import JobContext, JobModule
from undercroft.sandbox.limits import Limits
from undercroft.sandbox.wire import Request


def run(
    request: Request, answer: int, descriptors: Sequence[int], jobs: JobModule, call_filter: bytes
) -> NoReturn:
    """Confine this process, run the job, answer on the descriptor `answer`, and exit.

    The exit code is 0 when a whole answer or failure was sent, and EXIT_OUT_OF_MEMORY when there was no
    memory left even for that.
    """
    exit_code = failure.EXIT_OUT_OF_MEMORY
    out_of_memory = wire.encode_failure("InputError", failure.out_of_memory(request.limits))
    try:
        try:
            _confine(request, answer, descriptors, call_filter)
            _answer(request, answer, JobContext(request.arguments, tuple(descriptors)), jobs)
        except MemoryError:
            wire.send_frame(answer, wire.FAILURE, out_of_memory)  # made while there was memory
        except BaseException as error:  # noqa: BLE001 - whatever a hostile image causes is told in one form
            told = failure.describe(error, request.limits)
            wire.send_frame(answer, wire.FAILURE, wire.encode_failure(*told))
        exit_code = 0
    except OSError:
        exit_code = 1  # the host has hung up
    finally:
        os._exit(exit_code)


def _answer(request: Request, answer: int, context: JobContext, jobs: JobModule) -> None:
    table = jobs.STREAMS if request.streaming else jobs.JOBS
    if request.job not in table:
        raise OperationError(f"the sandbox has no job named {request.job}")
    if not request.streaming:
        body = wire.encode_answer(jobs.JOBS[request.job](context))
        if len(body) > request.limits.answer_bytes:
            raise InputError(f"gives an answer of {len(body)} bytes, over {request.limits.answer_bytes}")
        wire.send_frame(answer, wire.ANSWER, body)
        return
    for chunk in jobs.STREAMS[request.job](context):
        for start in range(0, len(chunk), wire.MAX_DATA_BYTES):
            wire.send_frame(answer, wire.DATA, chunk[start : start + wire.MAX_DATA_BYTES])
    wire.send_frame(answer, wire.END)


def _confine(request: Request, answer: int, descriptors: Sequence[int], call_filter: bytes) -> None:
    """Give up all but the job's descriptors, then limit, then filter. Raises OperationError.

    What signals do was settled before the fork.
    """
    try:
        gc.enable()
        _close_all_but({answer, *descriptors})
        _limit(request.limits, highest_descriptor=max(answer, *descriptors, 0), timed=not request.streaming)
        seccomp.install(call_filter)
    except (OSError, ValueError) as error:
        raise OperationError(f"the reader could not be confined: {error}") from error


def _close_all_but(kept: set[int]) -> None:
    """Close every other descriptor: other jobs' sockets, the server's, and standard input to error."""
    sys.stdin = sys.stdout = sys.stderr = None
    start = 0
    for number in sorted(kept):
        os.closerange(start, number)
        start = number + 1
    os.closerange(start, os.sysconf("SC_OPEN_MAX"))


def _limit(limits: Limits, *, highest_descriptor: int, timed: bool) -> None:
    """Set the kernel's limits; a stream's time is counted by the host, which knows when it waits."""
    files = highest_descriptor + 1
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1),
        (resource.RLIMIT_NOFILE, files, files),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        resource.setrlimit(kind, (soft, hard))
    if timed:
        signal.setitimer(signal.ITIMER_REAL, limits.wall_s)
