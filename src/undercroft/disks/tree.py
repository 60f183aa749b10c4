"""A machine's files as the guest sees them: one tree over several filesystems.

Guarantees: names and paths are bytes, and none leads out of the guest (`namespace`). What is mounted
on a directory stands in place of what it covers. A walk ends, within `WalkLimits`.

    >>> tree = GuestTree(root_filesystem)
    >>> tree.mount(b"/var", var_filesystem)
    >>> tree.read(b"/var/lib/dpkg/status", limit=32 << 20)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.disks.filesystem import FileKind, FileStat, FileSystem
from undercroft.disks.namespace import MountNamespace, Place, trail_path
from undercroft.disks.text import text
from undercroft.errors import InputError, NotFoundError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory; `kind` may be UNKNOWN where the filesystem's directories do not say."""

    name: bytes
    kind: FileKind
    place: Place


@dataclass(frozen=True, slots=True)
class WalkLimits:
    """Where a walk gives up.

    Attributes:
        entries: names in all directories together.
        depth: directories below the start.
    """

    entries: int = 200_000
    depth: int = 256


class GuestTree:
    """The root filesystem with all that is mounted on it.

    All methods that take a path raise `NotFoundError` where it does not lead to a file (a missing name,
    a file in place of a directory, too many links) and `InputError` where the filesystem's own metadata
    is malformed.
    """

    def __init__(self, root: FileSystem) -> None:
        self._namespace = MountNamespace(root)

    def mount(self, path: bytes, filesystem: FileSystem) -> None:
        """Mount `filesystem` at `path`, whose parent must exist; a missing last directory is made up.

        Raises:
            NotFoundError: the parent does not exist.
            InputError: `path` is the root, or `MAX_MOUNTS` is passed.
        """
        self._namespace.attach(path, filesystem, filesystem.root)

    def bind(self, path: bytes, source: bytes) -> None:
        """Make the directory `source` appear at `path` too, without what is mounted below it.

        Raises:
            NotFoundError: `source` or the parent of `path` does not exist.
            InputError: `path` is the root, `source` is no directory, or `MAX_MOUNTS` is passed.
        """
        filesystem, node = self.directory(source)
        self._namespace.attach(path, filesystem, node)

    def directory(self, path: bytes) -> tuple[FileSystem, int]:
        """Return the filesystem that the directory at `path` lies in, and its node there.

        Raises:
            NotFoundError: `path` does not exist.
            InputError: it is no directory.
        """
        place = self._place(path)
        if self._namespace.stat(place).kind is not FileKind.DIRECTORY:
            raise InputError(f"{text(path)} is not a directory and cannot be mounted")
        return self._namespace.filesystem(place), place.node

    def file(self, path: bytes) -> tuple[FileSystem, int]:
        """Return the filesystem that the file of any kind at `path` lies in, and its node there."""
        place = self._place(path)
        return self._namespace.filesystem(place), place.node

    def exists(self, path: bytes) -> bool:
        """Return whether `path` leads to a file, links followed. Raises InputError as all methods do."""
        try:
            self._namespace.resolve(path)
        except NotFoundError:
            return False
        return True

    def realpath(self, path: bytes) -> bytes:
        """Return the absolute path of the same file without links and dots."""
        return trail_path(self._namespace.resolve(path))

    def stat(self, path: bytes, follow: bool = True) -> FileStat:
        """Return the metadata of the file at `path`, or of the link itself unless `follow`."""
        return self._namespace.stat(self._place(path, follow))

    def stat_entry(self, entry: Entry) -> FileStat:
        """Return the metadata of what `entry` names, links not followed."""
        return self._namespace.stat(entry.place)

    def readlink(self, path: bytes) -> bytes:
        """Return the target of the symlink at `path`. Raises InputError where it is none."""
        place = self._place(path, follow=False)
        if self._namespace.stat(place).kind is not FileKind.SYMLINK:
            raise InputError(f"{text(path)} is not a symlink")
        return self._namespace.filesystem(place).readlink(place.node)

    def read(self, path: bytes, limit: int) -> bytes:
        """Return the content of the regular file at `path`.

        Raises:
            InputError: it is no regular file, larger than `limit` bytes, or malformed.
        """
        place = self._regular(path)
        try:
            return self._namespace.filesystem(place).read(place.node, limit)
        except InputError as error:
            raise type(error)(f"{text(path)}: {error}") from error

    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Return the content of the regular file that `entry` names. Raises as `read` does."""
        if entry.kind not in (FileKind.REGULAR, FileKind.UNKNOWN) or not self._is_regular(entry.place):
            raise InputError(f"{text(entry.name)} is not a regular file")
        return self._namespace.filesystem(entry.place).read(entry.place.node, limit)

    def chunks(self, path: bytes, start: int = 0) -> Iterator[bytes]:
        """Yield the content of the regular file at `path` from byte `start` on, in pieces up to 1 MiB.

        Raises:
            InputError: it is no regular file, or malformed; also midway.
        """
        place = self._regular(path)
        return self._chunks(place, path, start)

    def _chunks(self, place: Place, path: bytes, start: int) -> Iterator[bytes]:
        try:
            yield from self._namespace.filesystem(place).chunks(place.node, start)
        except UnsupportedError as error:
            raise _told_of(path, error) from error

    def entries(self, path: bytes) -> Iterator[Entry]:
        """Yield the names in the directory at `path`, mounts in place of what they cover, in disk order.

        Raises:
            NotFoundError: there is no such directory.
            InputError: its blocks are malformed; also midway.
        """
        place = self._place(path)
        if self._namespace.stat(place).kind is not FileKind.DIRECTORY:
            raise NotFoundError(f"{text(path)} is not a directory")
        return self._entries(place, path)

    def walk(self, path: bytes, limits: WalkLimits | None = None) -> Iterator[tuple[bytes, Entry]]:
        """Yield (path, entry) of everything below the directory at `path`, depth first.

        Links are not followed; mounts are crossed; a directory that is reached twice (a loop on a
        malformed disk) is entered once.

        Raises:
            NotFoundError: there is no such directory.
            InputError: a limit is passed, or a directory is malformed; also midway.
        """
        limits = limits or WalkLimits()
        start = path.rstrip(b"/")
        pending = [(start, self.entries(path), 0)]
        seen = {self._place(path)}
        count = 0
        while pending:
            base, names, depth = pending[-1]
            entry = next(names, None)
            if entry is None:
                pending.pop()
                continue
            count += 1
            if count > limits.entries:
                raise InputError(f"{text(path)}: more than {limits.entries} files, the walk's limit")
            entry_path = base + b"/" + entry.name
            yield entry_path, entry
            if not self._is_directory(entry) or entry.place in seen:
                continue
            if depth + 1 >= limits.depth:
                raise InputError(f"{text(entry_path)}: deeper than {limits.depth}, the walk's limit")
            seen.add(entry.place)
            pending.append((entry_path, self._entries(entry.place, entry_path), depth + 1))

    def _entries(self, place: Place, path: bytes) -> Iterator[Entry]:
        mounts = self._namespace.mounts_in(place)
        try:
            for name, node, kind in self._namespace.filesystem(place).entries(place.node):
                if name in mounts:
                    yield Entry(name, FileKind.DIRECTORY, mounts.pop(name))
                else:
                    yield Entry(name, kind, Place(place.mount, node))
        except UnsupportedError as error:
            raise _told_of(path, error) from error
        for name, mounted in mounts.items():
            yield Entry(name, FileKind.DIRECTORY, mounted)

    def _is_directory(self, entry: Entry) -> bool:
        if entry.kind is FileKind.UNKNOWN:
            return self._namespace.stat(entry.place).kind is FileKind.DIRECTORY
        return entry.kind is FileKind.DIRECTORY

    def _is_regular(self, place: Place) -> bool:
        return self._namespace.stat(place).kind is FileKind.REGULAR

    def _regular(self, path: bytes) -> Place:
        place = self._place(path)
        if not self._is_regular(place):
            raise InputError(f"{text(path)} is not a regular file")
        return place

    def _place(self, path: bytes, follow: bool = True) -> Place:
        try:
            return self._namespace.resolve(path, follow)[-1][1]
        except UnsupportedError as error:
            raise _told_of(path, error) from error


def _told_of(path: bytes, error: UnsupportedError) -> UnsupportedError:
    """Return the error with the path: what a guest encrypted is known by that, and not by a number."""
    return UnsupportedError(f"{text(path)}: {error}")
