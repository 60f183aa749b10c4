"""From an exception in the child to the error that the host raises."""

import signal

import pytest

from undercroft.errors import InputError, NotFoundError, OperationError, StateError, UnsupportedError
from undercroft.sandbox import failure
from undercroft.sandbox.limits import MIB, Limits

LIMITS = Limits(memory_bytes=64 * MIB, cpu_s=3, wall_s=4.5)


class OwnError(UnsupportedError):
    """A capability's own subclass, which the host need not know."""


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (InputError("bad magic"), "InputError", "bad magic"),
        (OwnError("format 7"), "UnsupportedError", "format 7"),
        (NotFoundError("no /etc"), "NotFoundError", "no /etc"),
        (OperationError("NBD hung up"), "OperationError", "NBD hung up"),
        (StateError("not a reader's"), "OperationError", "not a reader's"),
        (MemoryError(), "InputError", "needs more than 64 MB of memory"),
        (RecursionError(), "InputError", "structures are nested too deeply to be read"),
        (PermissionError(1, "no"), "InputError", "the reader tried what the sandbox forbids"),
        (OSError(5, "Input/output error"), "InputError", "cannot be read: Input/output error"),
        (KeyError("x"), "InputError", "the reader failed: KeyError; please report this"),
        (SystemExit(), "InputError", "the reader failed: SystemExit; please report this"),
    ],
)  # fmt: skip
def test_an_exception_is_told_by_a_name_that_may_cross(error: BaseException, name: str, text: str) -> None:
    assert failure.describe(error, LIMITS) == (name, text)
    reported = failure.reported(name, text)
    assert type(reported) is failure.REPORTABLE[name]
    assert str(reported) == text


@pytest.mark.parametrize("name", ["SystemExit", "DeniedError", "UndercroftError", "__class__", ""])
def test_no_other_name_crosses(name: str) -> None:
    reported = failure.reported(name, "text")
    assert type(reported) is InputError
    assert "unknown kind" in str(reported)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (failure.EXIT_OUT_OF_MEMORY, "needs more than 64 MB of memory"),
        (-signal.SIGXCPU, "needs more than 3 s of processor time"),
        (-signal.SIGALRM, "needs more than 4.5 s"),
        (-signal.SIGSYS, "the reader tried a system call that the sandbox forbids, and was killed"),
        (-signal.SIGKILL, "the reader was killed; the host may be short of memory"),
        (-signal.SIGSEGV, "the reader died by SIGSEGV"),
        (-40, "the reader died by signal 40"),
        (0, "the reader died with exit code 0"),
        (9, "the reader died with exit code 9"),
    ],
)
def test_a_death_names_the_limit_that_was_hit(status: int, text: str) -> None:
    assert str(failure.death(status, LIMITS)) == text
