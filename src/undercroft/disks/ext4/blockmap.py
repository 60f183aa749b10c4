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
        for block, pointer in self._blocks(inode, range(first_block, blocks)):
            if length and block == logical + length and pointer == physical + length:
                length += 1
                continue
            if length:
                yield logical, length, physical
            logical, length, physical = block, 1, pointer
        if length:
            yield logical, length, physical

    def _blocks(self, inode: Inode, wanted: range) -> Iterator[tuple[int, int]]:
        """Yield (logical block, block on disk) for those that are wanted, without holes."""
        pointers = _ROOT.unpack(inode.block)
        for logical in range(min(wanted.start, _DIRECT), min(wanted.stop, _DIRECT)):
            if pointers[logical]:
                yield logical, self._checked(inode, pointers[logical])
        logical = _DIRECT
        for depth in (1, 2, 3):
            span = self._fanout**depth
            if pointers[_DIRECT + depth - 1] and wanted.start < logical + span and logical < wanted.stop:
                yield from self._indirect(inode, pointers[_DIRECT + depth - 1], depth, logical, wanted)
            logical += span

    def _indirect(
        self, inode: Inode, block: int, depth: int, logical: int, wanted: range
    ) -> Iterator[tuple[int, int]]:
        size = self._superblock.block_bytes
        pointers = self._pointers(self._source.read(self._checked(inode, block) * size, size))
        span = self._fanout ** (depth - 1)
        start = max(0, (wanted.start - logical) // span)
        stop = min(self._fanout, -(-(wanted.stop - logical) // span))
        for index in range(start, stop):
            pointer = pointers[index]
            if not pointer:
                continue
            if depth == 1:
                yield logical + index, self._checked(inode, pointer)
            else:
                yield from self._indirect(inode, pointer, depth - 1, logical + index * span, wanted)

    def _checked(self, inode: Inode, block: int) -> int:
        if not self._superblock.first_data_block < block < self._superblock.blocks:
            raise InputError(
                f"ext inode {inode.stat.node}: block map: block {block} lies outside the filesystem"
            )
        return block
