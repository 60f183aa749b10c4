"""How a job's failure is told: from the exception in the child to the error that the host raises.

Only the names in `REPORTABLE` cross the border. Whatever else goes wrong in a reader is an `InputError`
of the object that it read: a fault of the reader that an image brought about must not end the scan.
"""

import errno
import os
import signal
from collections.abc import Mapping
from types import MappingProxyType

from undercroft.errors import InputError, NotFoundError, OperationError, UndercroftError, UnsupportedError
from undercroft.sandbox.limits import MIB, Limits

REPORTABLE: Mapping[str, type[UndercroftError]] = MappingProxyType(
    {cls.__name__: cls for cls in (InputError, UnsupportedError, NotFoundError, OperationError)}
)

EXIT_OUT_OF_MEMORY = 3
"""Exit code of a child that had no memory left to say so."""


def describe(error: BaseException, limits: Limits) -> tuple[str, str]:
    """Return the name out of REPORTABLE and the text that stand for an exception of a job."""
    if isinstance(error, UndercroftError):
        names = (cls.__name__ for cls in type(error).__mro__)
        return next((name for name in names if name in REPORTABLE), "OperationError"), str(error)
    if isinstance(error, MemoryError):
        return "InputError", out_of_memory(limits)
    if isinstance(error, RecursionError):
        return "InputError", "structures are nested too deeply to be read"
    if isinstance(error, PermissionError) and error.errno == errno.EPERM:
        return "InputError", f"the reader tried what the sandbox forbids{_place(error)}"
    if isinstance(error, OSError):
        return "InputError", f"cannot be read: {error.strerror or error}"
    return "InputError", f"the reader failed: {type(error).__name__}{_place(error)}; please report this"


def reported(name: str, untrusted_message: str) -> UndercroftError:
    """Return the error that a child reported; an InputError for a name that is not in REPORTABLE."""
    if name not in REPORTABLE:
        return InputError("the reader reported an error of an unknown kind")
    return REPORTABLE[name](untrusted_message)


def death(status: int, limits: Limits) -> InputError:
    """Return the error for a child that ended without an answer.

    Args:
        status: exit code, or the negative number of the signal that ended it.
        limits: those that it ran under.
    """
    if status == EXIT_OUT_OF_MEMORY:
        return InputError(out_of_memory(limits))
    known = {
        -signal.SIGXCPU: f"needs more than {limits.cpu_s} s of processor time",
        -signal.SIGALRM: out_of_time(limits),
        -signal.SIGSYS: "the reader tried a system call that the sandbox forbids, and was killed",
        -signal.SIGKILL: "the reader was killed; the host may be short of memory",
    }
    if status in known:
        return InputError(known[status])
    names = {-number: number.name for number in signal.Signals}
    how = f"by {names.get(status, f'signal {-status}')}" if status < 0 else f"with exit code {status}"
    return InputError(f"the reader died {how}")


def out_of_memory(limits: Limits) -> str:
    """Return the text for a job that passed its memory limit."""
    return f"needs more than {limits.memory_bytes // MIB} MB of memory"


def out_of_time(limits: Limits) -> str:
    """Return the text for a job that passed its time limit."""
    return f"needs more than {limits.wall_s:g} s"


def _place(error: BaseException) -> str:
    """Return " at FILE:LINE" of the innermost frame, so that a report can be acted on."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
