"""Files that fail: at the n-th call that changes the disk, with an error, with a short write, or for good."""

import errno
import os

from undercroft.adapters.durablefiles import Files


class Killed(Exception):  # noqa: N818 - no error that code may handle
    """The process is no more; no code of the log may catch this."""


class MemoryFiles:
    """Files of a folder in memory; `image` is what another process finds there."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = {name: bytearray(data) for name, data in (files or {}).items()}
        self._open: dict[int, bytearray] = {}

    def image(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self.files.items()}

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return bytes(self.files[name])

    def open(self, name: str, *, create: bool = False) -> int:
        if create:
            self.files[name] = bytearray()
        handle = len(self._open)
        self._open[handle] = self.files[name]
        return handle

    def write(self, handle: int, data: bytes, offset: int) -> int:
        file = self._open[handle]
        if len(file) < offset:
            file.extend(bytes(offset - len(file)))
        file[offset : offset + len(data)] = data
        return len(data)

    def allocate(self, handle: int, size_bytes: int) -> None:
        file = self._open[handle]
        file.extend(bytes(max(0, size_bytes - len(file))))

    def sync(self, handle: int) -> None: ...

    def close(self, handle: int) -> None: ...

    def rename(self, old: str, new: str) -> None:
        self.files[new] = self.files.pop(old)

    def remove(self, name: str) -> None:
        del self.files[name]

    def sync_names(self) -> None: ...


class FaultyFiles:
    """Files that count the calls that change the disk, and fail at one.

    `at` is the call (from 1; 0 for none) and `how` what happens there: "kill" before it, "torn" half of a
    write and then the end, "EIO" or "ENOSPC" as an error, "short" half of a write with no error. After a kill
    nothing works any more.
    """

    def __init__(self, files: Files, at: int = 0, how: str = "kill") -> None:
        self._files = files
        self.at, self.how = at, how
        self.calls: list[str] = []

    def names(self) -> list[str]:
        return self._files.names()

    def read(self, name: str) -> bytes:
        return self._files.read(name)

    def open(self, name: str, *, create: bool = False) -> int:
        if create:
            self._reach("create")
        return self._files.open(name, create=create)

    def write(self, handle: int, data: bytes, offset: int) -> int:
        if self._reach("write", len(data) > 1):
            written = self._files.write(handle, data[: len(data) // 2], offset)
            if self.how == "torn":
                self.at = -1
                raise Killed
            return written
        return self._files.write(handle, data, offset)

    def allocate(self, handle: int, size_bytes: int) -> None:
        self._reach("allocate")
        self._files.allocate(handle, size_bytes)

    def sync(self, handle: int) -> None:
        self._reach("sync")
        self._files.sync(handle)

    def close(self, handle: int) -> None:
        self._files.close(handle)

    def rename(self, old: str, new: str) -> None:
        self._reach("rename")
        self._files.rename(old, new)

    def remove(self, name: str) -> None:
        self._reach("remove")
        self._files.remove(name)

    def sync_names(self) -> None:
        self._reach("sync_names")
        self._files.sync_names()

    def _reach(self, what: str, halvable: bool = False) -> bool:
        """Count a call; whether half of it is to be done."""
        if self.at < 0:
            raise Killed
        self.calls.append(what)
        if len(self.calls) != self.at:
            return False
        if self.how in ("EIO", "ENOSPC"):
            number = errno.EIO if self.how == "EIO" else errno.ENOSPC
            raise OSError(number, os.strerror(number))
        if self.how in ("torn", "short") and halvable:
            return True
        if self.how == "short":
            return False
        self.at = -1
        raise Killed
