"""Files to descriptors: opened once, read-only, with everything that can be wrong said in one line."""

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from dataclasses import dataclass, replace

from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError
from undercroft.usecases.target import NamedFile

# QEMU's image locking, block/file-posix.c: one byte per permission that a process holds on the image.
_QEMU_LOCK_BASE = 100
_QEMU_PERMISSION_WRITE = 1
_FLOCK = struct.Struct("hhqqi4x")


@dataclass(frozen=True, slots=True)
class OpenFile:
    """An open image file.

    Attributes:
        path: as the caller named it.
        descriptor: read-only.
        size_bytes: at the time of opening.
        signature: changes when the file's content does; compared before and after a read.
        in_use: a QEMU process has it open for writing.
    """

    path: str
    descriptor: int
    size_bytes: int
    signature: tuple[int, ...]
    in_use: bool

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode: the same for two names of one file."""
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino

    def refreshed(self) -> "OpenFile":
        """Return the file with its present size and signature."""
        size_bytes = os.lseek(self.descriptor, 0, os.SEEK_END)
        return replace(self, size_bytes=size_bytes, signature=_signature(self.descriptor))

    def changed(self) -> bool:
        """Tell whether the file was written, grew or shrank since it was opened."""
        return _signature(self.descriptor) != self.signature


def open_file(file: NamedFile) -> OpenFile:
    """Open an image file or block device for reading.

    Raises:
        NotFoundError: it does not exist.
        DeniedError: the caller may not read it.
        InputError: it is a directory, a pipe, a socket, a character device, or empty.
        OperationError: the host cannot read it.
    """
    try:
        descriptor = _opened(file)
    except OSError as error:
        raise _refusal(file.path, error) from error
    try:
        return _checked(file.path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _opened(file: NamedFile) -> int:
    """Open what lies at a path, once it is known to be no device that starts something when it is opened.

    A link in an image's place may lead to a watchdog or a tape. What was looked at is what is opened.

    Raises:
        InputError: it is neither a file nor a block device.
        OSError: it cannot be opened.
    """
    place = os.open(file.path, os.O_PATH | os.O_CLOEXEC | (os.O_NOFOLLOW if file.no_link else 0))
    try:
        _check_kind(file.path, os.fstat(place).st_mode)
        # Non-blocking so that a lease on the file does not hold the scan.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{place}", flags)
    finally:
        os.close(place)


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: a directory; name a disk image in it")
    if stat.S_ISLNK(mode):
        raise InputError(f"{path}: a symbolic link where none may be")
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise InputError(f"{path}: neither a file nor a block device; name a disk image")


def _checked(path: str, descriptor: int) -> OpenFile:
    size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
    if size_bytes == 0:
        raise InputError(f"{path}: 0 bytes long; an image was never written there, or its copy failed")
    return OpenFile(path, descriptor, size_bytes, _signature(descriptor), _open_for_writing(descriptor))


def _refusal(path: str, error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(f"{path}: no such file")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DeniedError(f"{path}: no permission to read it; run as a user who may, or as root")
    if error.errno == errno.ENXIO:
        return InputError(f"{path}: a socket or an absent device; name a disk image")
    if error.errno == errno.ELOOP:
        return InputError(f"{path}: symbolic links that form a loop")
    return OperationError(f"{path}: cannot be opened: {error.strerror}")


def _signature(descriptor: int) -> tuple[int, ...]:
    """Size and times of a file; sectors written so far of a block device, whose times stand still."""
    status = os.fstat(descriptor)
    if not stat.S_ISBLK(status.st_mode):
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns
    size_bytes = os.lseek(descriptor, 0, os.SEEK_END)
    device = status.st_rdev
    with suppress(OSError, IndexError, ValueError):
        path = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"
        with open(path, encoding="ascii") as counters:
            return size_bytes, int(counters.read().split()[6])
    return (size_bytes,)


def _open_for_writing(descriptor: int) -> bool:
    """Ask for QEMU's write-permission byte with OFD locks; another holder means a live writer."""
    probe = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _QEMU_LOCK_BASE + _QEMU_PERMISSION_WRITE, 1, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, probe)
    except OSError:
        return False
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
