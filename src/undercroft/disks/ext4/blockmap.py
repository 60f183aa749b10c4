"""Block maps of ext2 and ext3: twelve direct blocks, then single, double and triple indirection.

Neighbouring blocks are merged into runs. Whole subtrees before the asked range, or that are holes, are
skipped without reading them. Follows ext4's "Direct/Indirect Block Addressing".
"""

from collections.abc import Iterator
from struct import Struct

from undercroft.disks.ext4.changes import Run
from undercroft.disks.ext4.inode import Inode
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

_DIRECT = 12
_ROOT = Struct("<15I")


class BlockMap:
    """Reads the block maps of one filesystem."""

    def __init__(self, source: BlockSource, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self._fanout = superblock.block_bytes // 4
        self._pointers = Struct(f"<{self._fanout}I").unpack

    def runs(self, inode: Inode, first_block: int) -> Iterator[Run]:
        """Yield the runs of `inode` from logical block `first_block` to its end, holes left out.

        Raises InputError where a pointer leaves the filesystem.
        """
        blocks = -(-inode.stat.size_bytes // self._superblock.block_bytes)
        logical = length = physical = 0
        for begin, count, pointer in self._pieces(inode, range(first_block, blocks)):
            if length and begin == logical + length and pointer == physical + length:
                length += count
                continue
            if length:
                yield logical, length, physical
            logical, length, physical = begin, count, pointer
        if length:
            yield logical, length, physical

    def _pieces(self, inode: Inode, wanted: range) -> Iterator[Run]:
        """Yield the wanted runs, cut where a block of pointers ends."""
        pointers = _ROOT.unpack(inode.block)
        yield from self._leaf(inode, pointers, 0, range(wanted.start, min(wanted.stop, _DIRECT)))
        logical = _DIRECT
        for depth in (1, 2, 3):
            span = self._fanout**depth
            if pointers[_DIRECT + depth - 1] and wanted.start < logical + span and logical < wanted.stop:
                yield from self._indirect(inode, pointers[_DIRECT + depth - 1], depth, logical, wanted)
            logical += span

    def _indirect(self, inode: Inode, block: int, depth: int, logical: int, wanted: range) -> Iterator[Run]:
        """Yield the wanted runs below an indirect block whose first logical block is `logical`."""
        size = self._superblock.block_bytes
        self._check(inode, block, 1)
        pointers = self._pointers(self._source.read(block * size, size))
        span = self._fanout ** (depth - 1)
        start = max(0, (wanted.start - logical) // span)
        stop = min(self._fanout, -(-(wanted.stop - logical) // span))
        if depth == 1:
            yield from self._leaf(inode, pointers, logical, range(start, stop))
            return
        for index in range(start, stop):
            if pointers[index]:
                yield from self._indirect(inode, pointers[index], depth - 1, logical + index * span, wanted)

    def _leaf(self, inode: Inode, pointers: tuple[int, ...], logical: int, indices: range) -> Iterator[Run]:
        """Yield the runs that the pointers at `indices` form; the first pointer is of block `logical`."""
        index, stop = indices.start, indices.stop
        while index < stop:
            first = pointers[index]
            length = 1
            if first:
                while index + length < stop and pointers[index + length] == first + length:
                    length += 1
                self._check(inode, first, length)
                yield logical + index, length, first
            index += length

    def _check(self, inode: Inode, block: int, length: int) -> None:
        if not self._superblock.first_data_block < block <= self._superblock.blocks - length:
            place = f"ext inode {inode.stat.node}: block map"
            raise InputError(f"{place}: {length} blocks at {block} lie outside the filesystem")
