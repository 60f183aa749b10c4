"""Extent trees: a file's logical blocks to runs of blocks on disk.

Runs come in ascending order and never overlap, within the filesystem, or InputError is raised; a file's
tree therefore ends. Follows ext4's "Extent Tree" and the checks of fs/ext4/extents.c.
"""

from collections.abc import Iterable, Iterator

from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.changes import Run
from undercroft.disks.ext4.checksum import crc32c, stored
from undercroft.disks.ext4.inode import Inode
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


class ExtentTree:
    """Reads the extent trees of one filesystem."""

    def __init__(self, source: BlockSource, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock

    def runs(self, inode: Inode, first_block: int) -> Iterable[Run]:
        """Return the runs of `inode`, without those that end before logical block `first_block`.

        Unwritten extents come as runs on block 0, holes not at all. Raises InputError where the tree is
        malformed.
        """
        return _Walk(self._source, self._superblock, inode, first_block).root()


class _Walk:
    """One pass over one tree, which counts the nodes that it read."""

    __slots__ = ("_first_block", "_inode", "_next_block", "_nodes", "_source", "_superblock")

    def __init__(self, source: BlockSource, superblock: Superblock, inode: Inode, first_block: int) -> None:
        self._source = source
        self._superblock = superblock
        self._inode = inode
        self._first_block = first_block
        self._next_block = 0
        self._nodes = 0

    def root(self) -> Iterable[Run]:
        node = self._inode.block
        depth = node[6] | node[7] << 8
        if depth > layout.MAX_EXTENT_DEPTH:
            raise self._malformed(f"a depth of {depth}, the limit is {layout.MAX_EXTENT_DEPTH}")
        return self._node(node, depth)

    def _node(self, node: bytes, depth: int) -> Iterable[Run]:
        magic, entries, maximum, found_depth, _ = layout.EXTENT_HEADER.unpack_from(node)
        room = (len(node) - layout.EXTENT_HEADER_BYTES) // layout.EXTENT_BYTES
        if magic != layout.EXTENT_MAGIC or found_depth != depth:
            raise self._malformed(f"magic {magic:#06x} and depth {found_depth} where depth {depth} is due")
        if not entries <= maximum <= room or (depth and not entries):
            raise self._malformed(f"{entries} entries in a node for {maximum}, with room for {room}")
        return self._index(node, entries, depth) if depth else self._leaf(node, entries)

    def _leaf(self, node: bytes, entries: int) -> list[Run]:
        # A list, not a generator: most files have one extent, and starting a generator costs more than it.
        blocks, first_data_block = self._superblock.blocks, self._superblock.first_data_block
        next_block, first_block = self._next_block, self._first_block
        unpack = layout.EXTENT.unpack_from
        runs = []
        for offset in range(layout.EXTENT_HEADER_BYTES, 12 + entries * 12, layout.EXTENT_BYTES):
            logical, length, high, low = unpack(node, offset)
            physical = high << 32 | low
            is_unwritten = length > layout.EXTENT_INITIALIZED_MAX
            if is_unwritten:
                length -= layout.EXTENT_INITIALIZED_MAX
            if logical < next_block or not length:
                raise self._malformed(f"{length} blocks at logical block {logical} are out of order")
            if not first_data_block < physical <= blocks - length:
                raise self._malformed(f"{length} blocks at {physical} lie outside the filesystem")
            next_block = logical + length
            if next_block > first_block:
                runs.append((logical, length, 0 if is_unwritten else physical))
        self._next_block = next_block
        return runs

    def _index(self, node: bytes, entries: int, depth: int) -> Iterator[Run]:
        firsts: list[int] = []
        children: list[int] = []
        for offset in range(layout.EXTENT_HEADER_BYTES, 12 + entries * 12, layout.EXTENT_BYTES):
            first, low, high = layout.EXTENT_INDEX.unpack_from(node, offset)
            if firsts and first <= firsts[-1]:
                raise self._malformed(f"index entries {firsts[-1]} and {first} are out of order")
            firsts.append(first)
            children.append(high << 32 | low)
        for number, child in enumerate(children):
            # A child holds blocks up to the next entry's first: skip those before the asked range.
            if number + 1 < entries and firsts[number + 1] <= self._first_block:
                continue
            if firsts[number] < self._next_block:
                raise self._malformed(f"index entry {firsts[number]} overlaps what came before")
            self._next_block = firsts[number]
            yield from self._node(self._read(child), depth - 1)

    def _read(self, block: int) -> bytes:
        superblock = self._superblock
        self._nodes += 1
        if self._nodes > layout.MAX_EXTENT_NODES:
            raise self._malformed(f"more than {layout.MAX_EXTENT_NODES} nodes")
        if not superblock.first_data_block < block < superblock.blocks:
            raise self._malformed(f"a node at block {block} lies outside the filesystem")
        node = self._source.read(block * superblock.block_bytes, superblock.block_bytes)
        if self._inode.seed is not None:
            self._verify(node, block, self._inode.seed)
        return node

    def _verify(self, node: bytes, block: int, seed: int) -> None:
        maximum = node[4] | node[5] << 8
        end = layout.EXTENT_HEADER_BYTES + maximum * layout.EXTENT_BYTES
        found = int.from_bytes(node[end : end + 4], "little")
        computed = stored(crc32c(node[:end], seed))
        if end + 4 > len(node) or found != computed:
            raise self._malformed(
                f"the checksum of block {block} is {found:#x}, its bytes give {computed:#x}"
            )

    def _malformed(self, what: str) -> InputError:
        return InputError(f"ext inode {self._inode.stat.node}: extent tree: {what}")
