"""System calls that the confined process never makes again: programs, namespaces, others' memory, the kernel.

A list of what is refused, and not of what is allowed: the process is an interpreter with the TPM's libraries,
whose calls nobody knows whole. Beside its user, its namespaces and its empty capabilities this takes away
what attacks on the kernel begin with. A call of another architecture's table ends the process.

Specification: Linux Documentation/userspace-api/seccomp_filter.rst; numbers of asm/unistd_64.h and
asm-generic/unistd.h.
"""

import errno
import struct

from undercroft.sandbox import seccomp, syscalls

_FOR_ALL = {
    "io_uring_setup": 425, "open_tree": 428, "move_mount": 429, "fsopen": 430, "mount_setattr": 442,
}  # fmt: skip
_REFUSED = {
    0xC000003E: {
        "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311,
        "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308,
        "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "add_key": 248, "request_key": 249,
        "keyctl": 250, "init_module": 175, "finit_module": 313, "kexec_load": 246,
        "open_by_handle_at": 304, "personality": 135,
    },
    0xC00000B7: {
        "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268,
        "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "add_key": 217, "request_key": 218,
        "keyctl": 219, "init_module": 105, "finit_module": 273, "kexec_load": 104,
        "open_by_handle_at": 265, "personality": 92,
    },
}  # fmt: skip
"""By architecture (AUDIT_ARCH_*): refused with EPERM, whatever the arguments."""

_SOCKET = {0xC000003E: 41, 0xC00000B7: 198}
_X32_BIT = 0x40000000
_AF_UNIX = 1
_JUMP_AT_LEAST = 0x35
_INSTRUCTION = struct.Struct("=HBBI")


def refuse() -> None:
    """Refuse those calls to this process, for good; to be called while it has one thread.

    Raises:
        DeniedError: the architecture is not known.
        OSError: the kernel refuses.
    """
    seccomp.install(program(seccomp.native_architecture().audit))


def program(audit: int) -> bytes:
    """Return the filter's instructions for an architecture (AUDIT_ARCH_*)."""
    allow = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_ALLOW)
    kill = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_KILL_PROCESS)
    deny = (syscalls.BPF_RETURN, 0, 0, syscalls.RET_ERRNO | errno.EPERM)
    lines = [
        (syscalls.BPF_LOAD, 0, 0, syscalls.DATA_ARCHITECTURE),
        (syscalls.BPF_JUMP_EQUAL, 1, 0, audit),
        kill,
        (syscalls.BPF_LOAD, 0, 0, syscalls.DATA_NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32_BIT),
        kill,
    ]
    for number in (*_REFUSED[audit].values(), *_FOR_ALL.values()):
        lines += [(syscalls.BPF_JUMP_EQUAL, 0, 1, number), deny]
    lines += [
        (syscalls.BPF_JUMP_EQUAL, 0, 3, _SOCKET[audit]),
        (syscalls.BPF_LOAD, 0, 0, syscalls.DATA_ARGUMENTS),
        (syscalls.BPF_JUMP_EQUAL, 1, 0, _AF_UNIX),
        deny,
        allow,
    ]
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)
