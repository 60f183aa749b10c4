"""Numbers and layouts of Linux system calls that the filter needs, by architecture.

Sources: linux/seccomp.h, linux/filter.h, linux/audit.h, asm/unistd_64.h (x86_64) and
asm-generic/unistd.h (aarch64). Values only; what they are used for stands in `seccomp`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Architecture:
    """One architecture's calling convention.

    Attributes:
        audit: AUDIT_ARCH_*, what seccomp_data.arch holds for a native call.
        numbers: system call numbers by name; a name is missing where the kernel has no such call.
    """

    audit: int
    numbers: Mapping[str, int]


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "x86_64": Architecture(
            audit=0xC000003E,
            numbers=MappingProxyType(
                {
                    "read": 0,
                    "write": 1,
                    "open": 2,
                    "close": 3,
                    "stat": 4,
                    "fstat": 5,
                    "lstat": 6,
                    "lseek": 8,
                    "mmap": 9,
                    "mprotect": 10,
                    "munmap": 11,
                    "brk": 12,
                    "ioctl": 16,
                    "pread64": 17,
                    "access": 21,
                    "sched_yield": 24,
                    "mremap": 25,
                    "madvise": 28,
                    "getpid": 39,
                    "sendto": 44,
                    "recvfrom": 45,
                    "getsockname": 51,
                    "getsockopt": 55,
                    "exit": 60,
                    "getcwd": 79,
                    "readlink": 89,
                    "gettimeofday": 96,
                    "futex": 202,
                    "getdents64": 217,
                    "clock_gettime": 228,
                    "clock_getres": 229,
                    "exit_group": 231,
                    "openat": 257,
                    "newfstatat": 262,
                    "readlinkat": 267,
                    "faccessat": 269,
                    "preadv": 295,
                    "getrandom": 318,
                    "statx": 332,
                }
            ),
        ),
        "aarch64": Architecture(
            audit=0xC00000B7,
            numbers=MappingProxyType(
                {
                    "getcwd": 17,
                    "ioctl": 29,
                    "faccessat": 48,
                    "openat": 56,
                    "close": 57,
                    "getdents64": 61,
                    "lseek": 62,
                    "read": 63,
                    "write": 64,
                    "pread64": 67,
                    "preadv": 69,
                    "readlinkat": 78,
                    "newfstatat": 79,
                    "fstat": 80,
                    "exit": 93,
                    "exit_group": 94,
                    "futex": 98,
                    "clock_gettime": 113,
                    "clock_getres": 114,
                    "sched_yield": 124,
                    "gettimeofday": 169,
                    "getpid": 172,
                    "getsockname": 204,
                    "sendto": 206,
                    "recvfrom": 207,
                    "getsockopt": 209,
                    "brk": 214,
                    "munmap": 215,
                    "mremap": 216,
                    "mmap": 222,
                    "mprotect": 226,
                    "madvise": 233,
                    "getrandom": 278,
                    "statx": 291,
                }
            ),
        ),
    }
)

# struct seccomp_data: offsets of the system call's number, the architecture, and the 64-bit arguments.
DATA_NUMBER = 0
DATA_ARCHITECTURE = 4
DATA_ARGUMENTS = 16

# linux/filter.h: load a word of seccomp_data, compare it, return an action.
BPF_LOAD = 0x20
BPF_JUMP_EQUAL = 0x15
BPF_JUMP_ANY_BIT = 0x45
BPF_RETURN = 0x06

# linux/seccomp.h and linux/prctl.h.
RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_ALLOW = 0x7FFF0000
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

PROT_EXEC = 0x4
MAP_ANONYMOUS = 0x20
