"""The root tree: subvolumes, where they lie, what is a snapshot of what, and which one is the default."""

from collections.abc import Iterator
from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.disks.btrfs.directory import parse_names
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import NodeReader, Tree
from undercroft.errors import InputError

_DEFAULT = b"default"


class Root(NamedTuple):
    """The root of a tree.

    Attributes:
        number: the tree's id; a subvolume's is 5 or 256 and up.
        generation: of its last change.
        directory: the inode of a subvolume's root directory.
        place: (logical address, level).
        is_read_only: for a subvolume.
        is_deleted: a subvolume that is being taken away.
        uuid, parent_uuid: of a subvolume and of what it is a snapshot of; zeros for none.
        created_at_s: 0 where the format does not say.
    """

    number: int
    generation: int
    directory: int
    place: tuple[int, int]
    is_read_only: bool = False
    is_deleted: bool = False
    uuid: bytes = bytes(16)
    parent_uuid: bytes = bytes(16)
    created_at_s: int = 0


class Link(NamedTuple):
    """Where a subvolume hangs: in which directory of which other one, and its name there."""

    parent: int
    directory: int
    name: bytes


def is_subvolume(number: int) -> bool:
    """Return whether a tree's id is that of a subvolume."""
    return number == layout.FS_TREE or layout.FIRST_FREE <= number <= layout.LAST_FREE


def parse_root(number: int, untrusted: bytes) -> Root:
    """Return the root of a ROOT_ITEM. Raises InputError where it is malformed."""
    if len(untrusted) < layout.ROOT.size:
        raise InputError(f"btrfs root {number}: an item of {len(untrusted)} bytes")
    generation, directory, address, _, _, _, flags, references, _, level = layout.ROOT.unpack_from(untrusted)
    if level > layout.MAX_LEVEL:
        raise InputError(f"btrfs root {number}: its level is {level}")
    root = Root(
        number,
        generation,
        directory,
        (address, level),
        bool(flags & layout.ROOT_READ_ONLY),
        not references or bool(flags & layout.ROOT_DEAD),
    )
    if len(untrusted) < layout.ROOT.size + layout.ROOT_UUIDS.size:
        return root
    again, uuid, parent, _, _, _, created, _ = layout.ROOT_UUIDS.unpack_from(untrusted, layout.ROOT.size)
    if again != generation:
        return root  # written by a kernel that knew nothing of the fields behind
    return root._replace(uuid=uuid, parent_uuid=parent, created_at_s=created)


class Roots:
    """The root tree of one filesystem."""

    def __init__(self, reader: NodeReader, superblock: Superblock) -> None:
        self._reader = reader
        self._tree = Tree(reader, superblock.root, superblock.generation, "root tree")

    def root(self, number: int) -> Root | None:
        """Return the root of tree `number`, None where there is none. Raises InputError."""
        item = self._tree.last_before((number, layout.ROOT_ITEM, layout.LAST))
        if item is None or item[0][:2] != (number, layout.ROOT_ITEM):
            return None
        return parse_root(number, item[1])

    def tree(self, root: Root) -> Tree:
        """Return the tree of a root."""
        return Tree(self._reader, root.place, root.generation, f"tree {root.number}")

    def default(self) -> int:
        """Return the id of the subvolume that is mounted where nothing names one. Raises InputError."""
        item = self._tree.get((layout.ROOT_DIRECTORY, layout.DIR_ITEM, name_hash(_DEFAULT)))
        if item is None:
            return layout.FS_TREE
        for entry in parse_names(item, layout.ROOT_DIRECTORY):
            if entry.name == _DEFAULT and entry.location == layout.ROOT_ITEM:
                return entry.target if is_subvolume(entry.target) else layout.FS_TREE
        return layout.FS_TREE

    def is_linked(self, link: Link, child: int) -> bool:
        """Return whether subvolume `child` hangs at `link`. Raises InputError.

        A snapshot still has the names of subvolumes that hang in its origin: there the kernel shows an
        empty directory.
        """
        item = self._tree.get((link.parent, layout.ROOT_REF, child))
        if item is None or _link(link.parent, item) != link:
            return False
        root = self.root(child)
        return root is not None and not root.is_deleted

    def subvolumes(self) -> Iterator[tuple[Root, Link | None]]:
        """Yield all subvolumes by their ids, and where each hangs: nowhere for the top.

        Raises InputError; also where there are more than `MAX_SUBVOLUMES`.
        """
        root: Root | None = None
        link: Link | None = None
        count = 0
        for (number, kind, offset), item in self._tree.items(
            (layout.FS_TREE, 0, 0), (layout.LAST_FREE, 255, layout.LAST)
        ):
            if root is not None and number != root.number:
                yield root, link
                root = link = None
            if kind == layout.ROOT_ITEM and is_subvolume(number):
                count += 1
                if count > layout.MAX_SUBVOLUMES:
                    raise InputError(f"btrfs filesystem: more than {layout.MAX_SUBVOLUMES} subvolumes")
                root = parse_root(number, item)
            elif kind == layout.ROOT_BACKREF:
                link = _link(offset, item)
        if root is not None:
            yield root, link


def _link(parent: int, untrusted: bytes) -> Link:
    if len(untrusted) < layout.ROOT_LINK.size:
        raise InputError(f"btrfs root {parent}: a reference of {len(untrusted)} bytes")
    directory, _, size = layout.ROOT_LINK.unpack_from(untrusted)
    name = untrusted[layout.ROOT_LINK.size :]
    if len(name) != size or b"/" in name or b"\0" in name or not name:
        raise InputError(f"btrfs root {parent}: a reference with a malformed name")
    return Link(parent, directory, name)
