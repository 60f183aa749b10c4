"""Which file a path of the guest names: one namespace over several filesystems.

Guarantees: a path never leaves the guest. Symlinks are followed as the guest's kernel would follow them
from its own root (path_resolution(7)): absolute targets start at the guest's root, ".." at the root
stays there, at most `MAX_SYMLINKS` links are followed for one path. Mounts are crossed in both
directions. Nothing is cached but directories that lead to a file, and those within
`MAX_CACHED_DIRECTORIES`.
"""

from contextlib import suppress
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
class _Mount:
    filesystem: FileSystem
    root: int


Trail = tuple[tuple[bytes, Place], ...]
"""A resolved path: (name, place) of each directory from the root to the file."""


class MountNamespace:
    """The root filesystem, what is mounted on it, and the way to a file.

    All methods that take a path raise `NotFoundError` where it does not lead to a file (a missing name,
    a file in place of a directory, too many links) and `InputError` where the filesystem's own metadata
    is malformed.
    """

    def __init__(self, root: FileSystem) -> None:
        self._mounts = [_Mount(root, root.root)]
        self._mounted: dict[tuple[Place, bytes], int] = {}
        self._directories: dict[bytes, Trail] = {}

    def attach(self, path: bytes, filesystem: FileSystem, root: int) -> None:
        """Mount the directory `root` of `filesystem` at `path`, whose parent must exist.

        Raises:
            NotFoundError: the parent does not exist.
            InputError: `path` is the root, or `MAX_MOUNTS` is passed.
        """
        if len(self._mounts) >= MAX_MOUNTS:
            raise InputError(f"{text(path)}: more than {MAX_MOUNTS} mounts")
        # The guest's kernel follows links to the mount point; the last name may not exist yet.
        with suppress(NotFoundError):
            path = trail_path(self.resolve(path))
        parent, name = _split(path)
        if not name:
            raise InputError("a second filesystem cannot be mounted over the root")
        trail = self.resolve(parent)
        self._mounts.append(_Mount(filesystem, root))
        self._mounted[trail[-1][1], name] = len(self._mounts) - 1
        self._directories.clear()

    def filesystem(self, place: Place) -> FileSystem:
        """Return the filesystem that holds the file at `place`."""
        return self._mounts[place.mount].filesystem

    def mounts_in(self, directory: Place) -> dict[bytes, Place]:
        """Return what is mounted in a directory: the root of each mount by its name there."""
        return {
            name: Place(index, self._mounts[index].root)
            for (parent, name), index in self._mounted.items()
            if parent == directory
        }

    def stat(self, place: Place) -> FileStat:
        """Return the metadata of the file at `place`."""
        return self._mounts[place.mount].filesystem.stat(place.node)

    def resolve(self, path: bytes, follow: bool = True) -> Trail:
        """Return the trail to `path`; a link as its last name is followed where `follow` says so."""
        if len(path) > MAX_PATH_BYTES:
            raise NotFoundError(f"{text(path[:64])}...: a path of {len(path)} bytes")
        parent, name = _split(path)
        if name in (b"", b".", b".."):
            return self._follow(path, follow)
        trail = self._directories.get(parent)
        if trail is None:
            trail = self._follow(parent, follow=True)
            if self.stat(trail[-1][1]).kind is not FileKind.DIRECTORY:
                raise NotFoundError(f"{text(path)}: {text(parent)} is not a directory")
            if len(self._directories) < MAX_CACHED_DIRECTORIES:
                self._directories[parent] = trail
        return self._follow(path, follow, trail, [name])

    def _follow(
        self, path: bytes, follow: bool, start: Trail | None = None, names: list[bytes] | None = None
    ) -> Trail:
        """Walk `names` (default: all of `path`) from `start` (default: the guest's root)."""
        root: Trail = ((b"", Place(0, self._mounts[0].root)),)
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
            stat = self.stat(place)
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

    def _child(self, directory: Place, name: bytes) -> Place | None:
        mounted = self._mounted.get((directory, name))
        if mounted is not None:
            return Place(mounted, self._mounts[mounted].root)
        node = self._mounts[directory.mount].filesystem.lookup(directory.node, name)
        return None if node is None else Place(directory.mount, node)


def trail_path(trail: Trail) -> bytes:
    """Return the absolute path that a trail stands for, without links and dots."""
    return b"/" + b"/".join(name for name, _ in trail[1:])


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return (directory, last name) of a path; trailing slashes do not count."""
    directory, _, name = path.rstrip(b"/").rpartition(b"/")
    return directory or b"/", name
