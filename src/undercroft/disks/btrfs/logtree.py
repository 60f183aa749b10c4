"""The log tree: what guests synced after the last commit, replayed in memory as the kernel replays it.

A log has, for each subvolume, the items of the inodes that were synced. The kernel walks it three times:
inodes with the names that they lost, names in directories, then references and extents; at the end it counts
each touched inode's names anew. Source: fs/btrfs/tree-log.c, `btrfs_recover_log_trees`.
"""

from dataclasses import dataclass, field

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.logextents import replay_extent, truncate
from undercroft.disks.btrfs.lognames import Names
from undercroft.disks.btrfs.roots import Roots, parse_root
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import Key, NodeReader, Tree
from undercroft.errors import InputError

_LOST = "btrfs log not replayed, what was synced last is missing"
MAX_FAILED_LOGS = 64
"""As many subvolumes whose logs cannot be replayed are told; what a log may cost was spent on each."""

_SIZE = slice(16, 24)
_TYPE_BITS, _DIRECTORY, _REGULAR = 0o170000, 0o040000, 0o100000


@dataclass(slots=True)
class Replayed:
    """What became of the log.

    Attributes:
        trees: the subvolumes that have one, by id, their logs replayed.
        notes, problems: what was done, and what could not be.
    """

    trees: dict[int, FsTree] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def replay(
    roots: Roots,
    superblock: Superblock,
    reader: NodeReader,
    checksums: DataChecksums,
    room: int = layout.MAX_LOG_CHANGES,
) -> Replayed:
    """Replay the logs of all subvolumes; one whose log cannot be replayed stays as it was committed.

    `room` is how many items all of them together may change.
    """
    replayed = Replayed()
    log_roots = Tree(reader, superblock.log_root, superblock.generation + 1, "log root tree")
    try:
        first = (layout.LOG_OBJECTS, layout.ROOT_ITEM, 0)
        last = (layout.LOG_OBJECTS, layout.ROOT_ITEM, layout.LAST)
        logs = [parse_root(key[2], item) for key, item in log_roots.items(first, last)]
    except InputError as error:
        replayed.problems.append(f"{_LOST}: {error}")
        return replayed
    count = 0
    for root in reversed(logs):
        try:
            base = roots.root(root.number)
            if base is None or base.is_deleted:
                continue  # the log of a subvolume that was deleted since
            tree = FsTree(roots.tree(base), room)
            log = Tree(reader, root.place, root.generation, f"log of subvolume {root.number}")
            one = Replay(tree, log, superblock)
            one.run()
            checksums.log(one.checksums)
        except InputError as error:
            replayed.problems.append(f"{_LOST} in subvolume {root.number}: {error}")
            if len(replayed.problems) >= MAX_FAILED_LOGS:
                replayed.problems.append(f"{_LOST}: what other subvolumes synced was not looked at any more")
                break
        else:
            count, room = count + len(one.items), tree.room
            replayed.trees[root.number] = tree
    if count:
        replayed.notes.append(f"log replayed: {count} items")
    return replayed


class Replay:
    """The replay of one subvolume's log.

    Attributes:
        items: the log's, by their keys, ascending.
        checksums: what it says of data: first address -> checksums of the sectors from there on.
    """

    def __init__(self, tree: FsTree, log: Tree, superblock: Superblock) -> None:
        self._tree = tree
        self.checksums: dict[int, bytes] = {}
        self._sector = superblock.sector_bytes
        self._has_no_holes = bool(superblock.features & layout.HAS_NO_HOLES)
        self.items = _read(log)
        self._names = Names(tree, self.items)
        self._ignored: set[int] = set()

    def run(self) -> None:
        """Replay it all. Raises InputError where the log is malformed or needs what is missing."""
        for key, item in self.items.items():
            if key[1] == layout.INODE_ITEM:
                self._inode(key, item)
                if key[0] not in self._ignored:
                    self._drop_attributes(key[0])
        for key, item in self.items.items():
            if key[1] == layout.DIR_INDEX and key[0] not in self._ignored:
                self._names.add_name(key, item)
        for key, item in self.items.items():
            if key[1] == layout.EXTENT_CSUM and key[0] == layout.CHECKSUM_OBJECTS:
                self.checksums[key[2]] = item
            elif key[0] in self._ignored:
                continue
            elif key[1] in (layout.INODE_REF, layout.INODE_EXTREF):
                self._names.add_references(key, item)
            elif key[1] == layout.XATTR_ITEM:
                self._tree.put(key, item)
            elif key[1] == layout.EXTENT_DATA:
                if self._tree.get((key[0], layout.INODE_ITEM, 0)) is None:
                    raise InputError(f"btrfs log: it has content of inode {key[0]}, which is not there")
                replay_extent(self._tree, key, item, self._sector, has_no_holes=self._has_no_holes)
        self._names.count_links()

    def _drop_attributes(self, number: int) -> None:
        """Take away what attributes an inode has and its log has not, as `replay_xattr_deletes` does."""
        first, last = (number, layout.XATTR_ITEM, 0), (number, layout.XATTR_ITEM, layout.LAST)
        for key, _ in list(self._tree.items(first, last)):
            if key not in self.items:
                self._tree.put(key, None)

    def _inode(self, key: Key, item: bytes) -> None:
        number = key[0]
        _, size, links, _, _, mode, *_ = _fields(number, item)
        if not links:
            self._ignored.add(number)  # a file without a name that was synced: the kernel skips it
            return
        is_directory = mode & _TYPE_BITS == _DIRECTORY
        if is_directory:
            self._names.drop_names(number)
        self._overwrite(key, item, size, mode)
        if mode & _TYPE_BITS == _REGULAR:
            now = self._tree.get(key)
            if now is not None:
                length = _fields(number, now)[1]
                truncate(self._tree, number, length + -length % self._sector, self._sector)
        self._names.touched.add(number)

    def _overwrite(self, key: Key, item: bytes, size: int, mode: int) -> None:
        """Put the log's inode in place of the committed one, as `overwrite_item` does.

        An inode of generation 0 was logged only to say that it exists. A directory's size is what its
        names make it.
        """
        kind = mode & _TYPE_BITS
        old = self._tree.get(key)
        if old is None:
            if kind == _DIRECTORY:
                item = with_size(item, 0)
            self._tree.put(key, item)
            return
        generation, old_size, _, _, _, old_mode, *_ = _fields(key[0], old)
        generation = _fields(key[0], item)[0]
        is_same_kind = kind == old_mode & _TYPE_BITS
        if not generation:
            if kind == _REGULAR and is_same_kind and size:
                self._tree.put(key, with_size(old, size))
            return
        if kind == _DIRECTORY and is_same_kind:
            item = with_size(item, old_size)
        self._tree.put(key, item)


def with_size(inode: bytes, size: int) -> bytes:
    """Return an inode's item with another size."""
    return inode[: _SIZE.start] + (size & layout.LAST).to_bytes(8, "little") + inode[_SIZE.stop :]


def _fields(number: int, item: bytes) -> tuple[int, ...]:
    if len(item) != layout.INODE.size:
        raise InputError(f"btrfs inode {number}: an item of {len(item)} bytes")
    return layout.INODE.unpack(item)


def _read(log: Tree) -> dict[Key, bytes]:
    items: dict[Key, bytes] = {}
    for leaf in log.leaves(layout.MAX_LOG_NODES):
        for objectid, kind, offset, place, size in leaf.items:
            items[objectid, kind, offset] = leaf.data[place : place + size]
        if len(items) > layout.MAX_LOG_CHANGES:
            raise InputError(f"btrfs log: more than {layout.MAX_LOG_CHANGES} items")
    return items
