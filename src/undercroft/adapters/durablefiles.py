"""The files of one folder, with the calls that make them durable; one process at a time holds the folder.

Every call that changes the disk is one method here, so that a test can let it fail at each of them.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

from undercroft.errors import DeniedError, OperationError

_ZEROS = 1 << 20


class Files(Protocol):
    """Files by name, in one folder. All methods raise OSError as `os` does."""

    def names(self) -> list[str]:
        """Return the names of all files."""
        ...

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        ...

    def open(self, name: str, *, create: bool = False) -> int:
        """Open a file for writing; with `create` a new and empty one, in the place of one of that name."""
        ...

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write at an offset; how many bytes were written, which may be fewer."""
        ...

    def allocate(self, handle: int, size_bytes: int) -> None:
        """Let the file have at least this size, with room on the disk for all of it; new bytes are zero."""
        ...

    def sync(self, handle: int) -> None:
        """Return when what was written and the size are durable."""
        ...

    def close(self, handle: int) -> None:
        """Close a file."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in the place of what has that name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file."""
        ...

    def sync_names(self) -> None:
        """Return when all files that were made, renamed and removed are durable as such."""
        ...


class FolderFiles:
    """A real folder, made where it is missing, that others cannot read (mode 0700, files 0600)."""

    def __init__(self, folder: Path) -> None:
        """Take the folder for this process.

        Raises:
            DeniedError: it cannot be opened.
            OperationError: another process holds it.
        """
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DeniedError(f"{folder} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise OperationError(f"{folder} is held by another process: stop it first") from error

    def names(self) -> list[str]:
        """Return the names of all files."""
        return sorted(os.listdir(self._handle))

    def read(self, name: str) -> bytes:
        """Return all bytes of a file."""
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._handle)
        with os.fdopen(handle, "rb") as file:
            return file.read()

    def open(self, name: str, *, create: bool = False) -> int:
        """Open a file for writing; with `create` a new and empty one."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT | os.O_TRUNC if create else 0)
        return os.open(name, flags, 0o600, dir_fd=self._handle)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        """Write at an offset; how many bytes were written."""
        return os.pwrite(handle, data, offset)

    def allocate(self, handle: int, size_bytes: int) -> None:
        """Let the file have at least this size, with room on the disk.

        The new bytes are written as zeros: a later write into them changes no metadata, so that its fdatasync
        need not wait for the file system's journal too.
        """
        size = os.fstat(handle).st_size
        try:
            os.posix_fallocate(handle, 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        while size < size_bytes:
            size += os.pwrite(handle, bytes(min(_ZEROS, size_bytes - size)), size)

    def sync(self, handle: int) -> None:
        """Return when what was written and the size are durable."""
        os.fdatasync(handle)

    def close(self, handle: int) -> None:
        """Close a file."""
        os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        os.rename(old, new, src_dir_fd=self._handle, dst_dir_fd=self._handle)

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self._handle)

    def sync_names(self) -> None:
        """Return when names are durable."""
        os.fsync(self._handle)

    def release(self) -> None:
        """Let the folder go. Twice is no error."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
