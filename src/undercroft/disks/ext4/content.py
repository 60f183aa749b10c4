"""A file's content: runs of blocks, and the bytes in them."""

from collections.abc import Iterable, Iterator

from undercroft.disks.ext4 import inline, layout
from undercroft.disks.ext4.blockmap import BlockMap
from undercroft.disks.ext4.changes import Changes, Run
from undercroft.disks.ext4.extents import ExtentTree
from undercroft.disks.ext4.inode import Inode
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.pieces import in_pieces, mapped_content
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


class Content:
    """Reads the content of the files and directories of one filesystem."""

    def __init__(self, source: BlockSource, superblock: Superblock, changes: Changes) -> None:
        self._source = source
        self._changed_runs = changes.runs
        self._block_bytes = superblock.block_bytes
        self._extents = ExtentTree(source, superblock)
        self._block_map = BlockMap(source, superblock)

    def runs(self, inode: Inode, first_block: int = 0) -> Iterable[Run]:
        """Return the runs of an inode that is not inline, in ascending order."""
        if inode.stat.node in self._changed_runs:
            runs = self._changed_runs[inode.stat.node]
            return (run for run in runs if run[0] + run[1] > first_block)
        if inode.flags & layout.FLAG_EXTENTS:
            return self._extents.runs(inode, first_block)
        return self._block_map.runs(inode, first_block)

    def chunks(self, inode: Inode, start: int = 0) -> Iterator[bytes]:
        """Yield the content from byte `start` on in pieces of at most 1 MiB, holes as zeros.

        Raises:
            UnsupportedError: the content is encrypted.
            InputError: the map is malformed, or the bytes cannot be had.
        """
        inode.check_readable()
        size = inode.stat.size_bytes
        if inode.is_inline:
            data = inline.content(inode)[start:]
            if data:
                yield data
            return
        block_bytes = self._block_bytes
        runs = self.runs(inode, start // block_bytes)
        read = self._source.read
        yield from mapped_content(runs, size, start, block_bytes, read, layout.MAX_CHUNK_BYTES)

    def mapped(self, inode: Inode) -> Iterator[bytes]:
        """Yield the content of a directory in whole blocks. Raises InputError at a hole."""
        expected = 0
        blocks = inode.stat.size_bytes // self._block_bytes
        for logical, length, physical in self.runs(inode):
            if expected >= blocks:
                return
            if logical != expected or not physical:
                break
            count = min(length, blocks - logical)
            place, size = physical * self._block_bytes, count * self._block_bytes
            yield from in_pieces(self._source.read, place, size, layout.MAX_CHUNK_BYTES)
            expected = logical + count
        if expected < blocks:
            raise InputError(f"ext inode {inode.stat.node}: the directory has a hole at block {expected}")
