"""Calls of prctl(2) by which a process gives something up, or ties its life to its parent's."""

import ctypes
import os
import signal

from undercroft.errors import OperationError

_SET_PDEATHSIG, _SET_DUMPABLE, _READ_CAPBSET, _DROP_CAPBSET, _SET_NO_NEW_PRIVS = 1, 4, 23, 24, 38
_CAPABILITIES = 64
_LIBC = ctypes.CDLL(None, use_errno=True)


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Get a signal when the thread that made this process ends. To be called after a change of user.

    Raises OperationError, also where it has ended already.
    """
    parent = os.getppid()
    _prctl(_SET_PDEATHSIG, number)
    if parent in (0, 1) or os.getppid() != parent:
        raise OperationError("who started this process has ended")


def be_private() -> None:
    """Leave no core, and be read and traced by nobody of the same user. Raises OperationError."""
    _prctl(_SET_DUMPABLE, 0)


def gain_nothing() -> None:
    """Gain no right by executing a program, for good. Raises OperationError."""
    _prctl(_SET_NO_NEW_PRIVS, 1)


def drop_bounding_set() -> None:
    """Let no program that is executed from now on have any capability. Raises OperationError."""
    for capability in range(_CAPABILITIES):
        if _LIBC.prctl(_READ_CAPBSET, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) != 1:
            continue  # there is no such one, or it is dropped already
        _prctl(_DROP_CAPBSET, capability)


def _prctl(option: int, value: int) -> None:
    arguments = [ctypes.c_ulong(each) for each in (value, 0, 0, 0)]
    if _LIBC.prctl(ctypes.c_int(option), *arguments) != 0:
        number = ctypes.get_errno()
        raise OperationError(f"prctl({option}) is refused: {os.strerror(number)}")
