"""The system call filter of one child: an allow-list, built by hand and installed with prctl.

What it guarantees, once `install` has returned and for the rest of the process's life:
1. Only native calls: another architecture (int 0x80) ends the process, and so does the x32 table,
   whose numbers carry a bit that no allowed number has.
2. Writing (`write`, `sendto` without an address) reaches the answer's descriptor and the sockets that
   the host passed on purpose, nothing else.
3. Memory is anonymous and never executable: no file is mapped, no page gains PROT_EXEC.
4. Calls that the interpreter makes in passing (looking for a module, asking whether a file is a
   terminal) fail with EPERM; every call that is not named here ends the process with SIGSYS. There is
   no way to open, connect, fork, start, signal, trace, or to change limits, timers or signal masks.

Specification: Linux Documentation/userspace-api/seccomp_filter.rst; classic BPF (linux/filter.h).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Sequence

from undercroft.errors import DeniedError
from undercroft.sandbox import syscalls
from undercroft.sandbox.syscalls import ARCHITECTURES, Architecture

ALLOWED = (
    "pread64", "read", "preadv", "lseek", "close",
    "brk", "munmap", "mremap", "madvise",
    "futex", "sched_yield", "getrandom", "getpid", "clock_gettime", "clock_getres", "gettimeofday",
    "exit", "exit_group",
)  # fmt: skip
"""Allowed whatever the arguments: none of them names anything that the child was not given."""

WITH_SOCKETS = ("recvfrom", "getsockname", "getsockopt")
"""Allowed too where the host passed a socket (an NBD export)."""

REFUSED_SOFTLY = (
    "open", "openat", "fstat", "stat", "lstat", "newfstatat", "statx", "access", "faccessat",
    "readlink", "readlinkat", "getdents64", "getcwd", "ioctl",
)  # fmt: skip
"""Answered with EPERM: the interpreter tries them on its own, and lives without."""

Instruction = tuple[int, int, int, int]
_INSTRUCTION = struct.Struct("=HBBI")
_ALLOW: Instruction = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_ALLOW)
_KILL: Instruction = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_KILL_PROCESS)
_REFUSE: Instruction = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_ERRNO | errno.EPERM)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def native_architecture() -> Architecture:
    """Return this machine's architecture. Raises DeniedError where there is no filter for it."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        raise DeniedError(f"no system call filter for the architecture {machine}")
    return ARCHITECTURES[machine]


def build(architecture: Architecture, answer: int, sockets: Sequence[int] = ()) -> bytes:
    """Return the filter's instructions.

    Args:
        architecture: of the calling process.
        answer: descriptor that answers go to.
        sockets: further descriptors that may be written to, at most 50.
    """
    numbers = architecture.numbers
    writable = (answer, *sockets)
    program = _native_only(architecture)
    for name in ALLOWED + (WITH_SOCKETS if sockets else ()):
        program += _on(numbers.get(name), [_ALLOW])
    program += _on(numbers["write"], _descriptor_among(writable))
    program += _on(numbers["sendto"], [*_no_address(), *_descriptor_among(writable)])
    program += _on(numbers["mmap"], [*_not_executable(), *_anonymous(), _ALLOW])
    program += _on(numbers["mprotect"], [*_not_executable(), _ALLOW])
    for name in REFUSED_SOFTLY:
        program += _on(numbers.get(name), [_REFUSE])
    program.append(_KILL)
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def install(instructions: bytes) -> None:
    """Confine the calling thread for good. Raises OSError when the kernel refuses."""
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)
    _prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1, 0)
    _prctl(syscalls.PR_SET_SECCOMP, syscalls.SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _prctl(option: int, value: int, address: int) -> None:
    prctl = _LIBC.prctl
    arguments = (ctypes.c_ulong(value), ctypes.c_ulong(address), ctypes.c_ulong(0), ctypes.c_ulong(0))
    if prctl(ctypes.c_int(option), *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_LIBC = ctypes.CDLL(None, use_errno=True)


def _load(offset: int) -> Instruction:
    return (syscalls.BPF_LOAD, 0, 0, offset)


def _argument(index: int, *, upper_half: bool = False) -> Instruction:
    return _load(syscalls.DATA_ARGUMENTS + 8 * index + (4 if upper_half else 0))


def _native_only(architecture: Architecture) -> list[Instruction]:
    """Kill foreign calls and leave the call's number in the accumulator."""
    return [
        _load(syscalls.DATA_ARCHITECTURE),
        (syscalls.BPF_JUMP_EQUAL, 1, 0, architecture.audit),
        _KILL,
        _load(syscalls.DATA_NUMBER),
    ]


def _on(number: int | None, body: Iterable[Instruction]) -> list[Instruction]:
    """Run `body`, which must end in a return, for one call; nothing where it does not exist."""
    if number is None:
        return []
    instructions = list(body)
    return [(syscalls.BPF_JUMP_EQUAL, 0, len(instructions), number), *instructions]


def _descriptor_among(descriptors: Sequence[int]) -> list[Instruction]:
    """Allow the call if its first argument is one of them. The kernel takes its lower half only."""
    program = [_argument(0)]
    for descriptor in descriptors:
        program += [(syscalls.BPF_JUMP_EQUAL, 0, 1, descriptor), _ALLOW]
    return [*program, _KILL]


def _no_address() -> list[Instruction]:
    """Go on only if sendto's destination is NULL: a datagram socket could reach anybody else."""
    checks = []
    for upper_half in (False, True):
        checks += [_argument(4, upper_half=upper_half), (syscalls.BPF_JUMP_EQUAL, 1, 0, 0), _KILL]
    return checks


def _not_executable() -> list[Instruction]:
    """Go on only if the protection, third argument of mmap and mprotect, lacks PROT_EXEC."""
    return [_argument(2), (syscalls.BPF_JUMP_ANY_BIT, 0, 1, syscalls.PROT_EXEC), _KILL]


def _anonymous() -> list[Instruction]:
    """Go on only if mmap's flags ask for memory of no file."""
    return [_argument(3), (syscalls.BPF_JUMP_ANY_BIT, 1, 0, syscalls.MAP_ANONYMOUS), _KILL]
