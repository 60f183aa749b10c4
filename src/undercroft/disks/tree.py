"""A machine's files as the guest sees them: one tree over several filesystems.

Guarantees: a path never leaves the guest. Symlinks are followed as the guest's kernel would follow them
from its own root (path_resolution(7)): absolute targets start at the guest's root, ".." at the root
stays there, at most `MAX_SYMLINKS` links are followed for one path. Mounts are crossed in both
directions. Names and paths are bytes. Nothing is cached but directories that lead to a file, and those
within `MAX_CACHED_DIRECTORIES`.

    >>> tree = GuestTree(root_filesystem)
    >>> tree.mount(b"/var", var_filesystem)
    >>> tree.read(b"/var/lib/dpkg/status", limit=32 << 20)
"""

from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.disks.filesystem import FileKind, FileStat, FileSystem
from undercroft.disks.text import text
from undercroft.errors import InputError, NotFoundError

MAX_SYMLINKS = 40
"""Links in one path, as in Linux (MAXSYMLINKS)."""

MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux; a target that a link names may make the whole longer, within MAX_SYMLINKS."""

MAX_MOUNTS = 256
MAX_CACHED_DIRECTORIES = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: the index of its mount and its node there."""

    mount: int
    node: int


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


@dataclass(frozen=True, slots=True)
class _Mount:
    filesystem: FileSystem
    root: int


_Trail = tuple[tuple[bytes, Place], ...]
"""A resolved path: (name, place) of each directory from the root to the file."""


class GuestTree:
    """The root filesystem with all that is mounted on it.

    All methods that take a path raise `NotFoundError` where it does not lead to a file (a missing name,
    a file in place of a directory, too many links) and `InputError` where the filesystem's own metadata
    is malformed.
    """

    def __init__(self, root: FileSystem) -> None:
        self._mounts = [_Mount(root, root.root)]
        self._mounted: dict[tuple[Place, bytes], int] = {}
        self._directories: dict[bytes, _Trail] = {}

    def mount(self, path: bytes, filesystem: FileSystem) -> None:
        """Mount `filesystem` at `path`, whose parent must exist; a missing last directory is made up.

        Raises:
            NotFoundError: the parent does not exist.
            InputError: `path` is the root, or `MAX_MOUNTS` is passed.
        """
        self._attach(path, _Mount(filesystem, filesystem.root))

    def bind(self, path: bytes, source: bytes) -> None:
        """Make the directory `source` appear at `path` too, without what is mounted below it.

        Raises:
            NotFoundError: `source` or the parent of `path` does not exist.
            InputError: `path` is the root, `source` is no directory, or `MAX_MOUNTS` is passed.
        """
        place = self._resolve(source)[-1][1]
        if self._stat(place).kind is not FileKind.DIRECTORY:
            raise InputError(f"{text(source)} is not a directory and cannot be mounted")
        self._attach(path, _Mount(self._mounts[place.mount].filesystem, place.node))

    def filesystem_at(self, path: bytes) -> FileSystem:
        """Return the filesystem that holds `path`."""
        return self._mounts[self._resolve(path)[-1][1].mount].filesystem

    def exists(self, path: bytes) -> bool:
        """Return whether `path` leads to a file, links followed. Raises InputError as all methods do."""
        try:
            self._resolve(path)
        except NotFoundError:
            return False
        return True

    def realpath(self, path: bytes) -> bytes:
        """Return the absolute path of the same file without links and dots."""
        return b"/" + b"/".join(name for name, _ in self._resolve(path)[1:])

    def stat(self, path: bytes, follow: bool = True) -> FileStat:
        """Return the metadata of the file at `path`, or of the link itself unless `follow`."""
        return self._stat(self._resolve(path, follow)[-1][1])

    def stat_entry(self, entry: Entry) -> FileStat:
        """Return the metadata of what `entry` names, links not followed."""
        return self._stat(entry.place)

    def readlink(self, path: bytes) -> bytes:
        """Return the target of the symlink at `path`. Raises InputError where it is none."""
        place = self._resolve(path, follow=False)[-1][1]
        if self._stat(place).kind is not FileKind.SYMLINK:
            raise InputError(f"{text(path)} is not a symlink")
        return self._mounts[place.mount].filesystem.readlink(place.node)

    def read(self, path: bytes, limit: int) -> bytes:
        """Return the content of the regular file at `path`.

        Raises:
            InputError: it is no regular file, larger than `limit` bytes, or malformed.
        """
        place = self._regular(path)
        try:
            return self._mounts[place.mount].filesystem.read(place.node, limit)
        except InputError as error:
            raise type(error)(f"{text(path)}: {error}") from error

    def read_entry(self, entry: Entry, limit: int) -> bytes:
        """Return the content of the regular file that `entry` names. Raises as `read` does."""
        if entry.kind not in (FileKind.REGULAR, FileKind.UNKNOWN) or not self._is_regular(entry.place):
            raise InputError(f"{text(entry.name)} is not a regular file")
        return self._mounts[entry.place.mount].filesystem.read(entry.place.node, limit)

    def chunks(self, path: bytes, start: int = 0) -> Iterator[bytes]:
        """Yield the content of the regular file at `path` from byte `start` on, in pieces up to 1 MiB.

        Raises:
            InputError: it is no regular file, or malformed; also midway.
        """
        place = self._regular(path)
        return self._mounts[place.mount].filesystem.chunks(place.node, start)

    def entries(self, path: bytes) -> Iterator[Entry]:
        """Yield the names in the directory at `path`, mounts in place of what they cover, in disk order.

        Raises:
            NotFoundError: there is no such directory.
            InputError: its blocks are malformed; also midway.
        """
        place = self._resolve(path)[-1][1]
        if self._stat(place).kind is not FileKind.DIRECTORY:
            raise NotFoundError(f"{text(path)} is not a directory")
        return self._entries(place)

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
        seen = {self._resolve(path)[-1][1]}
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
            pending.append((entry_path, self._entries(entry.place), depth + 1))

    def _attach(self, path: bytes, mount: _Mount) -> None:
        if len(self._mounts) >= MAX_MOUNTS:
            raise InputError(f"{text(path)}: more than {MAX_MOUNTS} mounts")
        # The guest's kernel follows links to the mount point; the last name may not exist yet.
        parent, name = _split(self.realpath(path) if self.exists(path) else path)
        if not name:
            raise InputError("a second filesystem cannot be mounted over the root")
        trail = self._resolve(parent)
        self._mounts.append(mount)
        self._mounted[trail[-1][1], name] = len(self._mounts) - 1
        self._directories.clear()

    def _entries(self, place: Place) -> Iterator[Entry]:
        covered = {name: index for (parent, name), index in self._mounted.items() if parent == place}
        for name, node, kind in self._mounts[place.mount].filesystem.entries(place.node):
            if name in covered:
                yield self._mount_entry(name, covered.pop(name))
            else:
                yield Entry(name, kind, Place(place.mount, node))
        for name, index in covered.items():
            yield self._mount_entry(name, index)

    def _mount_entry(self, name: bytes, index: int) -> Entry:
        return Entry(name, FileKind.DIRECTORY, Place(index, self._mounts[index].root))

    def _stat(self, place: Place) -> FileStat:
        return self._mounts[place.mount].filesystem.stat(place.node)

    def _is_directory(self, entry: Entry) -> bool:
        if entry.kind is FileKind.UNKNOWN:
            return self._stat(entry.place).kind is FileKind.DIRECTORY
        return entry.kind is FileKind.DIRECTORY

    def _is_regular(self, place: Place) -> bool:
        return self._stat(place).kind is FileKind.REGULAR

    def _regular(self, path: bytes) -> Place:
        place = self._resolve(path)[-1][1]
        if not self._is_regular(place):
            raise InputError(f"{text(path)} is not a regular file")
        return place

    def _child(self, directory: Place, name: bytes) -> Place | None:
        mounted = self._mounted.get((directory, name))
        if mounted is not None:
            return Place(mounted, self._mounts[mounted].root)
        node = self._mounts[directory.mount].filesystem.lookup(directory.node, name)
        return None if node is None else Place(directory.mount, node)

    def _resolve(self, path: bytes, follow: bool = True) -> _Trail:
        """Return the trail to `path`; the parent directory's trail comes from the cache where it can."""
        if len(path) > MAX_PATH_BYTES:
            raise NotFoundError(f"{text(path[:64])}...: a path of {len(path)} bytes")
        parent, name = _split(path)
        if name in (b"", b".", b".."):
            return self._follow(path, follow)
        trail = self._directories.get(parent)
        if trail is None:
            trail = self._follow(parent, follow=True)
            if self._stat(trail[-1][1]).kind is not FileKind.DIRECTORY:
                raise NotFoundError(f"{text(path)}: {text(parent)} is not a directory")
            if len(self._directories) < MAX_CACHED_DIRECTORIES:
                self._directories[parent] = trail
        return self._follow(path, follow, trail, [name])

    def _follow(
        self, path: bytes, follow: bool, start: _Trail | None = None, names: list[bytes] | None = None
    ) -> _Trail:
        """Walk `names` (default: all of `path`) from `start` (default: the guest's root)."""
        root: _Trail = ((b"", Place(0, self._mounts[0].root)),)
        trail = list(start or root)
        pending = path.split(b"/")[::-1] if names is None else names
        links = 0
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del trail[max(1, len(trail) - 1) :]
                continue
            place = self._step(trail, name, path)
            stat = self._stat(place)
            if stat.kind is FileKind.SYMLINK and (follow or any(part for part in pending)):
                links += 1
                if links > MAX_SYMLINKS:
                    raise NotFoundError(f"{text(path)}: more than {MAX_SYMLINKS} links on the way")
                target = self._mounts[place.mount].filesystem.readlink(place.node)
                if target.startswith(b"/"):
                    del trail[1:]
                pending.extend(reversed(target.split(b"/")))
                continue
            if stat.kind is not FileKind.DIRECTORY and pending:
                raise NotFoundError(f"{text(path)}: {text(name)} is not a directory")
            trail.append((name, place))
        return tuple(trail)

    def _step(self, trail: list[tuple[bytes, Place]], name: bytes, path: bytes) -> Place:
        place = self._child(trail[-1][1], name)
        if place is None:
            raise NotFoundError(f"{text(path)}: no such file, {text(name)} is missing")
        return place


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return (directory, last name) of a path; trailing slashes do not count."""
    directory, _, name = path.rstrip(b"/").rpartition(b"/")
    return directory or b"/", name
