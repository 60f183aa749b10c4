"""A process's own view of the host: namespaces of its own, and a root of which only what is named is in.

    confine(shown=("/usr", ...), written=("/var/lib/x",), devices=("/dev/null",))

Afterwards there is no network but a loopback that is down, and no path but those, at their own places; all
but `written` is read-only, and nothing has setuid bits or devices but `devices`. Needs root (CAP_SYS_ADMIN),
in a process of one thread, before it gives that up. Source: mount_namespaces(7), pivot_root(2) and its notes.
"""

import ctypes
import os
import platform
import stat
from collections.abc import Iterable
from pathlib import Path

from undercroft.errors import DeniedError

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWNET = 0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT = 1, 2, 4, 8, 32
_BIND, _REC, _SLAVE = 4096, 16384, 1 << 19
_DETACH = 2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_BASE = "/tmp"  # noqa: S108 - covered in a namespace of its own, then gone
_LIBC = ctypes.CDLL(None, use_errno=True)


def confine(shown: Iterable[str], written: Iterable[str], devices: Iterable[str]) -> None:
    """Enter namespaces with a root that has nothing but what is named.

    Args:
        shown: paths that can be read; a link is shown as the link that it is, what is not there not at all.
        written: folders that can be written, too.
        devices: character devices.

    Raises DeniedError: the kernel refuses, or the architecture is not known.
    """
    _check("namespaces", _LIBC.unshare(_NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWCGROUP))
    _mount("", "/", "", _SLAVE | _REC)
    _mount("tmpfs", _BASE, "tmpfs", _NOSUID | _NODEV, "mode=755")
    for name in ("new", "old"):
        os.mkdir(f"{_BASE}/{name}")
    _pivot(_BASE, f"{_BASE}/old")
    os.chdir("/")
    _mount("tmpfs", "/new", "tmpfs", _NOSUID | _NODEV, "mode=755")
    for path in dict.fromkeys(shown):
        _show(path, _RDONLY | _NOSUID | _NODEV)
    for path in dict.fromkeys(written):
        _show(path, _NOSUID | _NODEV | _NOEXEC)
    for path in dict.fromkeys(devices):
        _show(path, _NOSUID | _NOEXEC)
    _mount("", "/new", "", _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    os.chdir("/new")
    _check("the old root", _LIBC.umount2(b"/old", _DETACH))
    _pivot(".", ".")
    _check("the old root", _LIBC.umount2(b".", _DETACH))
    os.chdir("/")


def _show(path: str, flags: int) -> None:
    """Bind a path of the old root to the same place below the new one."""
    old, new = f"/old{path}", f"/new{path}"
    if os.path.lexists(new):
        return  # within what is shown already
    try:
        found = os.lstat(old)
    except OSError:
        return
    os.makedirs(os.path.dirname(new), exist_ok=True)
    if stat.S_ISLNK(found.st_mode):
        os.symlink(Path(old).readlink(), new)
        return
    if stat.S_ISDIR(found.st_mode):
        os.mkdir(new)
    else:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _mount(old, new, "", _BIND)
    _mount("", new, "", _REMOUNT | _BIND | flags)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    words = [os.fsencode(each) or None for each in (source, target, kind)]
    result = _LIBC.mount(*words, ctypes.c_ulong(flags), os.fsencode(options) or None)
    _check(f"a mount at {target}", result)


def _pivot(new: str, old: str) -> None:
    number = _PIVOT_ROOT.get(platform.machine())
    if number is None:
        raise DeniedError(f"the guest service is not confined on {platform.machine()}: run it under systemd")
    _check("another root", _LIBC.syscall(ctypes.c_long(number), os.fsencode(new), os.fsencode(old)))


def _check(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise DeniedError(f"{what}: the kernel refuses ({os.strerror(number)})")
