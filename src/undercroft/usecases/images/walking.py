"""The files in named folders, each once: what may be an image, and what is left out and why.

Guarantees: nothing outside the named folders is listed, whatever links lie in them; a file that has several
names is listed by the first one; nothing is opened.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError
from undercroft.model.images import LeftOut

MAX_ENTRIES = 200_000
"""Of all folders of one call, of whatever kind; each takes some hundred bytes of memory."""

NOT_FILES = (
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a character device"),
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that may be an image.

    Attributes:
        path: absolute, below what was named.
        device, inode: what it was when it was listed.
        used_bytes: what it takes on its disk.
        named: it was named itself, not only its folder.
    """

    path: str
    device: int
    inode: int
    used_bytes: int
    named: bool = False


@dataclass(slots=True)
class Found:
    """What lies in the named folders.

    Attributes:
        files: by path.
        aliases: further names of files, which headers may use: path -> the file's path in `files`.
        left_out: what is not among the files.
    """

    files: list[FoundFile] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def walk(named: Sequence[str]) -> Found:
    """Return what lies in folders, and the files that were named themselves.

    Raises:
        NotFoundError: a named path does not exist.
        DeniedError: a named folder may not be listed.
        InputError: there are more than `MAX_ENTRIES`.
        OperationError: the host cannot list a named folder.
    """
    walker = _Walker(tuple(os.path.realpath(path) for path in named))
    for path in named:
        walker.take(os.path.abspath(path))
    walker.found.files.sort(key=lambda file: file.path)
    return walker.found


class _Walker:
    """One walk; folders are kept on a list, so that their depth costs nothing."""

    def __init__(self, roots: Sequence[str]) -> None:
        self.found = Found()
        self._roots = roots
        self._entries = 0
        self._seen: dict[tuple[int, int], str] = {}

    def take(self, path: str) -> None:
        """Take one named path. Raises as `walk` does."""
        try:
            status = os.stat(path)
        except OSError as error:
            raise _refusal(path, error) from error
        if not stat.S_ISDIR(status.st_mode):
            self._file(path, status, named=True)
            return
        try:
            os.scandir(path).close()
        except OSError as error:
            raise _refusal(path, error) from error
        folders = [path]
        while folders:
            folders.extend(self._folder(folders.pop()))

    def _folder(self, folder: str) -> Iterator[str]:
        """Take what lies in a folder; yield the folders in it."""
        try:
            with os.scandir(folder) as entries:
                listed = sorted(map(self._counted, entries), key=lambda entry: entry.name)
        except OSError as error:
            self._leave(folder, f"a folder that cannot be listed: {error.strerror}", unread=True)
            return
        for entry in listed:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it is gone
            if stat.S_ISLNK(status.st_mode):
                self._link(entry.path)
            elif not stat.S_ISDIR(status.st_mode):
                self._file(entry.path, status)
            elif (status.st_dev, status.st_ino) not in self._seen:
                self._seen[status.st_dev, status.st_ino] = entry.path
                yield entry.path

    def _counted(self, entry: "os.DirEntry[str]") -> "os.DirEntry[str]":
        """Return an entry. Raises InputError for one too many: what is not listed would not be told."""
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise InputError(
                f"more than {MAX_ENTRIES:,} files, links and folders; name fewer folders at once"
            )
        return entry

    def _file(self, path: str, status: os.stat_result, *, named: bool = False) -> None:
        kind = next((name for test, name in NOT_FILES if test(status.st_mode)), "")
        if kind:
            self._leave(path, kind)
            return
        if stat.S_ISBLK(status.st_mode) and not named:
            self._leave(path, "a block device; name it itself to have it read", unread=True)
            return
        key = (status.st_dev, status.st_ino) if not stat.S_ISBLK(status.st_mode) else (-1, status.st_rdev)
        if key in self._seen:
            self.found.aliases[path] = self._seen[key]
            return
        self._seen[key] = path
        used = status.st_blocks * 512
        self.found.files.append(FoundFile(path, status.st_dev, status.st_ino, used, named))

    def _link(self, path: str) -> None:
        """Take a symbolic link: never followed; what it leads to is read where it lies, if it was named."""
        real = os.path.realpath(path)
        if any(real == root or real.startswith(root.rstrip("/") + "/") for root in self._roots):
            self.found.aliases[path] = real
            return
        with suppress(OSError):
            os.lstat(real)
            self._leave(path, f"a link to {real}, outside what was named; name that too", unread=True)
            return
        self._leave(path, "a link that leads nowhere")

    def _leave(self, path: str, why: str, *, unread: bool = False) -> None:
        self.found.left_out.append(LeftOut(path, why, unread))


def _refusal(path: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFoundError(f"{path}: no such file")
    if isinstance(error, PermissionError):
        return DeniedError(f"{path}: no permission to list it; run as a user who may, or as root")
    return OperationError(f"{path}: {error.strerror}")
