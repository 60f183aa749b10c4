"""Extents: a file's logical blocks to runs of blocks on disk, from an inode's fork or a B+tree below it.

Runs come in ascending order and never overlap, within the filesystem, or InputError is raised; a file's
tree therefore ends. Blocks that several files share (reflink) are runs like any others.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise

from undercroft.disks.xfs import layout
from undercroft.disks.xfs.blocks import Blocks
from undercroft.disks.xfs.inode import Inode
from undercroft.errors import InputError, UnsupportedError

Run = tuple[int, int, int]
"""First logical block, number of blocks, first block from the volume's start (0: reads as zeros)."""

_unpack_all = layout.EXTENT.iter_unpack
_COUNT_MASK = (1 << 21) - 1
_FIRST_MASK = (1 << 54) - 1


class Extents:
    """Reads the extents of one filesystem's files."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def runs(self, inode: Inode, first_block: int = 0) -> Iterable[Run]:
        """Return the runs of `inode`, without those that end before logical block `first_block`.

        Unwritten extents come as runs on block 0, holes not at all.

        Raises:
            UnsupportedError: the content lies on a realtime device.
            InputError: the extents are malformed.
        """
        if inode.is_realtime:
            raise UnsupportedError(
                f"xfs inode {inode.stat.node}: its content lies on a realtime device, which is not read"
            )
        walk = _Walk(self._blocks, inode, first_block)
        if inode.format == layout.FORMAT_EXTENTS:
            return walk.fork()
        if inode.format == layout.FORMAT_BTREE:
            return walk.tree()
        raise InputError(
            f"xfs inode {inode.stat.node}: a {inode.stat.kind.name.lower()} of format {inode.format}"
        )


class _Walk:
    """One pass over one file's extents, which counts what it read."""

    __slots__ = ("_blocks", "_count", "_first_block", "_header_bytes", "_inode", "_next_block", "_nodes")

    def __init__(self, blocks: Blocks, inode: Inode, first_block: int) -> None:
        self._blocks = blocks
        self._inode = inode
        self._first_block = first_block
        self._next_block = 0
        self._nodes = 0
        self._count = 0
        is_v5 = blocks.superblock.is_v5
        self._header_bytes = layout.BTREE_HEADER_V5_BYTES if is_v5 else layout.BTREE_HEADER_BYTES

    def fork(self) -> list[Run]:
        """Return the runs of an inode that holds its extents itself."""
        length = self._inode.extents * layout.EXTENT_BYTES
        if length > len(self._inode.fork):
            raise self._malformed(f"{self._inode.extents} in a fork of {len(self._inode.fork)} bytes")
        return self._records(self._inode.fork[:length])

    def tree(self) -> Iterator[Run]:
        """Yield the runs of a tree."""
        fork = self._inode.fork
        if len(fork) < layout.BTREE_ROOT_BYTES:
            raise self._malformed(f"a root of {len(fork)} bytes")
        level, count = layout.BTREE_ROOT.unpack_from(fork)
        if not 0 < level < layout.MAX_TREE_LEVEL:
            raise self._malformed(f"a root of level {level}, 1 to {layout.MAX_TREE_LEVEL - 1} are read")
        yield from self._index(fork, layout.BTREE_ROOT_BYTES, count, level)
        if not self._first_block and self._count != self._inode.extents:
            raise self._malformed(f"{self._count} in its tree, the inode says {self._inode.extents}")

    def _records(self, records: bytes) -> list[Run]:
        # A list, not a generator: most files have one extent, and starting a generator costs more than it.
        linear = self._blocks.linear
        next_block, first_block = self._next_block, self._first_block
        runs = []
        for high, low in _unpack_all(records):
            logical = high >> 9 & _FIRST_MASK
            count = low & _COUNT_MASK
            if logical < next_block or not count:
                raise self._malformed(f"{count} blocks at logical block {logical} are out of order")
            place = linear((high & 0x1FF) << 43 | low >> 21, count)
            if place <= 0:
                number = (high & 0x1FF) << 43 | low >> 21
                raise self._malformed(f"{count} blocks at {number} lie outside the filesystem")
            next_block = logical + count
            if next_block > first_block:
                runs.append((logical, count, 0 if high >> 63 else place))
        self._next_block = next_block
        return runs

    def _index(self, node: bytes, start: int, count: int, level: int) -> Iterator[Run]:
        """Yield the runs below a node whose keys begin at `start`."""
        room = (len(node) - start) // 16
        if not 0 < count <= room:
            raise self._malformed(f"{count} entries in a node with room for {room}")
        keys = [int.from_bytes(node[at : at + 8], "big") for at in range(start, start + count * 8, 8)]
        if any(key >= following for key, following in pairwise(keys)):
            raise self._malformed(f"the keys of a node of level {level} are out of order")
        for number, key in enumerate(keys):
            # A child holds blocks up to the next entry's key: skip those before the asked range.
            if number + 1 < count and keys[number + 1] <= self._first_block:
                continue
            if key < self._next_block:
                raise self._malformed(f"index entry {key} overlaps what came before")
            self._next_block = key
            at = start + (room + number) * 8
            child, records = self._child(int.from_bytes(node[at : at + 8], "big"), level - 1)
            if level > 1:
                yield from self._index(child, self._header_bytes, records, level - 1)
                continue
            end = self._header_bytes + records * layout.EXTENT_BYTES
            if not records or end > len(child):
                raise self._malformed(f"{records} entries in a leaf")
            self._count += records
            yield from self._records(child[self._header_bytes : end])

    def _child(self, block: int, level: int) -> tuple[bytes, int]:
        """Return a checked block of the tree and how many entries it says that it has."""
        superblock = self._blocks.superblock
        self._nodes += 1
        if self._nodes > layout.MAX_TREE_NODES:
            raise self._malformed(f"more than {layout.MAX_TREE_NODES} nodes")
        place = self._blocks.linear(block, 1)
        if place <= 0:
            raise self._malformed(f"a node at block {block} lies outside the filesystem")
        offset = place << superblock.block_log
        data = self._blocks.read(offset, superblock.block_bytes)
        magic, found, records = layout.BTREE_BLOCK.unpack_from(data)
        expected = layout.BTREE_MAGIC_V5 if superblock.is_v5 else layout.BTREE_MAGIC
        if magic != expected or found != level:
            raise self._malformed(f"magic {magic!r} and level {found} where level {level} is due")
        name = f"xfs inode {self._inode.stat.node}: extents: block {block}"
        is_changed = self._blocks.is_changed(offset, len(data))
        self._blocks.check(data, layout.BTREE_HEADER, offset, self._inode.stat.node, name, is_changed)
        return data, records

    def _malformed(self, what: str) -> InputError:
        return InputError(f"xfs inode {self._inode.stat.node}: extents: {what}")
