"""A btrfs filesystem, read without mounting it: one subvolume of it, with what hangs below.

>>> filesystem = open_filesystem(source)
>>> filesystem.subvolume(b"@").read(node, limit=4096)

Nodes: an inode's own number in the subvolume that is looked at; for one in another subvolume below, that
subvolume's id above bit 64.
"""

from collections.abc import Iterator, Sequence
from uuid import UUID

from undercroft.disks.btrfs import attributes, layout
from undercroft.disks.btrfs import directory as directories
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.inode import Inode, decode
from undercroft.disks.btrfs.roots import Link, Root
from undercroft.disks.btrfs.volume import Volume, open_volume
from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat, Subvolume, check_size, wrong_kind
from undercroft.disks.source import BlockSource
from undercroft.disks.text import text
from undercroft.errors import InputError, NotFoundError

_CACHED_INODES = 1024
_SUBVOLUME_SHIFT = 64
_INODE_MASK = (1 << _SUBVOLUME_SHIFT) - 1
_EMPTY = 1 << 128
"""Marks, beside its parent's node, the empty directory that stands where a subvolume hangs elsewhere."""
_EMPTY_MODE = 0o040755

Entry = tuple[bytes, int, FileKind]


def open_filesystem(source: BlockSource, others: Sequence[BlockSource] = ()) -> "Btrfs":
    """Open the filesystem of which `source` is a device, at its default subvolume.

    `others` are volumes that may hold further devices of it; what else they hold is passed over.

    Raises:
        UnsupportedError: a feature or profile that this version cannot read.
        InputError: it is malformed, or what it needs lies on a device that is missing.
    """
    volume = open_volume(source, others)
    return Btrfs(volume, volume.roots.default())


class Btrfs:
    """Implements `disks.filesystem.FileSystem` for one subvolume.

    Attributes:
        number: the subvolume's id.
        problems: why what is read here may not be what the guest would see; empty means none.
    """

    content = "btrfs"
    root = layout.FIRST_FREE

    def __init__(
        self, volume: Volume, number: int, notes: Sequence[str] = (), problems: Sequence[str] = ()
    ) -> None:
        superblock = volume.superblock
        self.label = superblock.label.decode("utf-8", "surrogateescape")
        self.uuid = str(UUID(bytes=superblock.fsid))
        self.number = number
        self.notes = (*volume.notes, *notes)
        self.problems = (*volume.problems, *problems)
        self._volume = volume
        self._tree = volume.tree(number)
        self._inodes: BoundedCache[int, Inode] = BoundedCache(_CACHED_INODES)
        self._directory(self.root)

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`. Raises InputError."""
        inode = self._inodes.get(node)
        return (self._inode(node) if inode is None else inode).stat

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there. Raises InputError."""
        self._directory(directory)
        if directory >= _EMPTY:
            return None
        tree, number = self._place(directory)
        found = directories.find(tree, number, name)
        return None if found is None else self._node(directory, found)

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield (name, node, kind) in the order in which they were made. Raises InputError."""
        self._directory(directory)
        if directory >= _EMPTY:
            return iter(())
        return self._entries(directory)

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink, 1 to 4,095 bytes. Raises InputError."""
        inode = self._typed(node, FileKind.SYMLINK)
        size = inode.stat.size_bytes
        if not 0 < size <= layout.MAX_SYMLINK_BYTES:
            raise InputError(f"btrfs inode {node & _INODE_MASK}: a symlink of {size} bytes")
        target = b"".join(self._content(node, inode))
        if b"\0" in target:
            raise InputError(f"btrfs inode {node & _INODE_MASK}: a symlink with a NUL in its target")
        return target

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB. Raises InputError."""
        return self._content(node, self._typed(node, FileKind.REGULAR), start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's content. Raises InputError when it is larger than `limit` bytes."""
        inode = self._typed(node, FileKind.REGULAR)
        check_size(inode.stat, limit, f"btrfs inode {node & _INODE_MASK}")
        return b"".join(self._content(node, inode))

    @property
    def default(self) -> int:
        """The id of the subvolume that is mounted where nothing names one. Raises InputError."""
        return self._volume.roots.default()

    def subvolume(
        self, which: bytes | int, *, notes: Sequence[str] = (), problems: Sequence[str] = ()
    ) -> "Btrfs":
        """Return another subvolume of the same filesystem.

        Args:
            which: its path from the top of the filesystem, or its id.
            notes: to be told with it.
            problems: likewise.

        Raises:
            NotFoundError: there is none.
            InputError: the way to it, or its root, is malformed.
        """
        number = self._number_at(which) if isinstance(which, bytes) else which
        root = self._volume.roots.root(number)
        if root is None or root.is_deleted:
            raise NotFoundError(f"btrfs subvolume {number} is not there")
        return Btrfs(self._volume, number, notes, problems)

    def subvolumes(self) -> list[Subvolume]:
        """Return all subvolumes by their ids, the top first; those that hang nowhere are left out.

        Raises InputError where the root tree, or a directory on the way to one, is malformed.
        """
        found = {
            root.number: (root, link) for root, link in self._volume.roots.subvolumes() if not root.is_deleted
        }
        listed = []
        for number in found:
            path = self._path(number, found)
            if path is not None:
                listed.append(_listed(found[number][0], path))
        return listed

    def snapshots(self) -> list[Subvolume]:
        """Return the subvolumes that are snapshots of others, as `subvolumes` does."""
        return [each for each in self.subvolumes() if each.parent_uuid]

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return an attribute, None where there is none. Raises InputError."""
        if node >= _EMPTY:
            return None
        return attributes.value(*self._place(node), name)

    def device(self, node: int) -> int:
        """Return the number of a device file, 0 for 0:0. Raises InputError."""
        if self._inode(node).stat.kind not in (FileKind.CHARACTER, FileKind.BLOCK):
            raise InputError(f"btrfs inode {node & _INODE_MASK}: it is no device")
        tree, number = self._place(node)
        fields = layout.INODE.unpack(tree.get((number, layout.INODE_ITEM, 0)) or bytes(layout.INODE.size))
        return int(fields[6])

    def _number_at(self, path: bytes) -> int:
        top = self if self.number == layout.FS_TREE else Btrfs(self._volume, layout.FS_TREE)
        node = top.root
        for name in path.split(b"/"):
            if name in (b"", b"."):
                continue
            found = top.lookup(node, name) if top.stat(node).kind is FileKind.DIRECTORY else None
            if found is None:
                raise NotFoundError(f"btrfs subvolume {text(path)} is not there: {text(name)} is missing")
            node = found
        if node >= _EMPTY or node & _INODE_MASK != layout.FIRST_FREE:
            raise NotFoundError(f"btrfs path {text(path)} is not a subvolume")
        return node >> _SUBVOLUME_SHIFT or layout.FS_TREE

    def _path(self, number: int, found: dict[int, tuple[Root, Link | None]]) -> bytes | None:
        """Return a subvolume's path from the top, None where its links do not lead there."""
        names: list[bytes] = []
        for _ in range(layout.MAX_SUBVOLUME_DEPTH):
            if number == layout.FS_TREE:
                return b"/".join(reversed(names))
            link = found[number][1] if number in found else None
            if link is None:
                return None
            names.append(link.name)
            inode = link.directory
            tree = self._volume.tree(link.parent)
            for _ in range(layout.MAX_SUBVOLUME_DEPTH):
                if inode == layout.FIRST_FREE:
                    break
                parent = next(
                    tree.items((inode, layout.INODE_REF, 0), (inode, layout.INODE_REF, layout.LAST)), None
                )
                if parent is None:
                    return None
                inode = parent[0][2]
                names.append(parent[1][layout.REF.size :])
            number = link.parent
        return None

    def _entries(self, directory: int) -> Iterator[Entry]:
        tree, number = self._place(directory)
        above = directory & ~_INODE_MASK
        for name, kind, location, target in directories.names(tree, number):
            if location == layout.INODE_ITEM:
                yield name, above | target, kind
            else:
                entry = directories.Name(name, kind, location, target)
                yield name, self._node(directory, entry), FileKind.DIRECTORY

    def _node(self, directory: int, entry: directories.Name) -> int:
        """Return the node that a name in `directory` leads to."""
        if entry.location == layout.INODE_ITEM:
            return directory & ~_INODE_MASK | entry.target
        link = Link(directory >> _SUBVOLUME_SHIFT or self.number, directory & _INODE_MASK, entry.name)
        if not self._volume.roots.is_linked(link, entry.target):
            return _EMPTY | directory
        above = 0 if entry.target == self.number else entry.target << _SUBVOLUME_SHIFT
        return above | layout.FIRST_FREE

    def _place(self, node: int) -> tuple[FsTree, int]:
        """Return the tree that holds `node`, and its number there."""
        if node <= _INODE_MASK:
            return self._tree, node
        return self._volume.tree(node >> _SUBVOLUME_SHIFT), node & _INODE_MASK

    def _content(self, node: int, inode: Inode, start: int = 0) -> Iterator[bytes]:
        tree, number = self._place(node)
        return self._volume.content.chunks(tree, number, inode, start)

    def _inode(self, node: int) -> Inode:
        inode = self._inodes.get(node)
        if inode is None:
            if node >= _EMPTY:
                return self._empty(node)
            tree, number = self._place(node)
            item = tree.get((number, layout.INODE_ITEM, 0))
            if item is None:
                raise InputError(f"btrfs inode {number}: it is not there, yet something names it")
            inode = self._inodes.put(node, decode(node, number, item))
        return inode

    def _empty(self, node: int) -> Inode:
        """Return what the kernel shows where a subvolume's name is left in a snapshot."""
        parent = self._inode(node - _EMPTY).stat
        stat = FileStat(
            node, FileKind.DIRECTORY, _EMPTY_MODE, 0, parent.uid, parent.gid, 1, parent.modified_at_s
        )
        return Inode(stat, 0)

    def _directory(self, node: int) -> Inode:
        return self._typed(node, FileKind.DIRECTORY)

    def _typed(self, node: int, kind: FileKind) -> Inode:
        inode = self._inode(node)
        if inode.stat.kind is not kind:
            raise wrong_kind(inode.stat, kind, f"btrfs inode {node & _INODE_MASK}")
        return inode


def _listed(root: Root, path: bytes) -> Subvolume:
    uuid = str(UUID(bytes=root.uuid)) if any(root.uuid) else ""
    parent = str(UUID(bytes=root.parent_uuid)) if any(root.parent_uuid) else ""
    return Subvolume(root.number, path, root.generation, root.created_at_s, root.is_read_only, uuid, parent)
