"""A file's content, a directory's blocks and a symlink's target, from the runs of their extents."""

from collections.abc import Iterator
from typing import NamedTuple

from undercroft.disks.pieces import mapped_content
from undercroft.disks.xfs import layout
from undercroft.disks.xfs.blocks import Blocks
from undercroft.disks.xfs.extents import Extents
from undercroft.disks.xfs.inode import Inode
from undercroft.errors import InputError


class DirectoryBlock(NamedTuple):
    """A block of a directory: where in it, its bytes, where they begin in the volume, changed by the log."""

    begin: int
    data: bytes
    offset: int
    is_changed: bool


class Content:
    """Reads the content of one filesystem's files."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._extents = Extents(blocks)
        self._block_log = blocks.superblock.block_log
        self._directory_bytes = blocks.superblock.directory_block_bytes

    def chunks(self, inode: Inode, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from byte `start` on, holes as zeros.

        Raises:
            UnsupportedError: the content lies on a realtime device.
            InputError: the extents are malformed, or the bytes cannot be had.
        """
        bits = self._block_log
        runs = self._extents.runs(inode, start >> bits)
        size = inode.stat.size_bytes
        return mapped_content(runs, size, start, 1 << bits, self._blocks.read, layout.MAX_CHUNK_BYTES)

    def directory_blocks(self, inode: Inode) -> Iterator[DirectoryBlock]:
        """Yield the blocks that hold entries.

        A block may lie in several pieces; there may be holes between blocks, not in them. The directory's
        index, which lies far above its entries, is left out. Raises InputError.
        """
        size = self._directory_bytes
        pieces: list[bytes] = []
        begin = offset = 0
        is_changed = False
        for position, start, length in self._directory_pieces(inode):
            if not pieces:
                begin, offset, is_changed = position, start, False
            pieces.append(self._blocks.read(start, length))
            is_changed |= self._blocks.is_changed(start, length)
            if (position + length) % size == 0:
                yield DirectoryBlock(begin, b"".join(pieces), offset, is_changed)
                pieces = []

    def _directory_pieces(self, inode: Inode) -> Iterator[tuple[int, int, int]]:
        """Yield (offset in the directory, offset in the volume, length) of the pieces of whole blocks."""
        bits, size, limit = self._block_log, self._directory_bytes, inode.stat.size_bytes
        name = f"xfs inode {inode.stat.node}: a directory of {limit} bytes"
        end = 0
        for logical, count, place in self._extents.runs(inode):
            position = logical << bits
            if position >= layout.DIRECTORY_DATA_BYTES:
                break
            if limit > layout.MAX_DIRECTORY_READ_BYTES:
                raise InputError(f"{name}, the limit is {layout.MAX_DIRECTORY_READ_BYTES}")
            if not place or (position != end and (position % size or end % size)):
                raise InputError(f"{name} with a hole at byte {end}")
            start, end = (place << bits) - position, position + (count << bits)
            if end > limit:
                raise InputError(f"{name} with a block at byte {position}")
            while position < end:
                length = min(size - position % size, end - position)
                yield position, start + position, length
                position += length
        if end % size or end != limit or not end:
            # Where a block goes, the size follows: what ends early has lost names (version 4: no checksum).
            raise InputError(f"{name}: its last block ends at byte {end}")

    def target(self, inode: Inode) -> bytes:
        """Return a symlink's target, 1 to 1,024 bytes. Raises InputError."""
        size, node = inode.stat.size_bytes, inode.stat.node
        if not 0 < size <= layout.MAX_SYMLINK_BYTES:
            raise InputError(f"xfs inode {node}: a symlink of {size} bytes")
        if inode.format == layout.FORMAT_LOCAL:
            target = inode.fork[:size]
        else:
            target = b"".join(self._target_parts(inode))
        if len(target) != size or b"\0" in target:
            raise InputError(f"xfs inode {node}: a symlink of {size} bytes with a target of {len(target)}")
        return target

    def _target_parts(self, inode: Inode) -> Iterator[bytes]:
        """Yield the parts of a target that lies in blocks, one for each extent."""
        left, done, node = inode.stat.size_bytes, 0, inode.stat.node
        is_v5 = self._blocks.superblock.is_v5
        for _, count, place in self._extents.runs(inode):
            if not left:
                return
            length = count << self._block_log
            if not place or length > 8 * layout.MAX_SYMLINK_BYTES + self._blocks.superblock.block_bytes:
                raise InputError(f"xfs inode {node}: a symlink's target in {count} blocks")
            data = self._blocks.read(place << self._block_log, length)
            if is_v5:
                data = self._checked_part(data, place << self._block_log, inode, done, left)
            part = data[:left]
            yield part
            done += len(part)
            left -= len(part)

    def _checked_part(self, data: bytes, offset: int, inode: Inode, done: int, left: int) -> bytes:
        name = f"xfs inode {inode.stat.node}: symlink"
        magic, place, length = layout.SYMLINK_BLOCK.unpack_from(data)
        if magic != layout.SYMLINK_MAGIC:
            raise InputError(f"{name}: magic {magic!r}, not {layout.SYMLINK_MAGIC!r}")
        is_changed = self._blocks.is_changed(offset, len(data))
        self._blocks.check(data, layout.SYMLINK_HEADER, offset, inode.stat.node, name, is_changed)
        expected = min(left, len(data) - layout.SYMLINK_HEADER_BYTES)
        if (place, length) != (done, expected):
            raise InputError(f"{name}: {length} bytes from {place} on where {expected} from {done} are due")
        return data[layout.SYMLINK_HEADER_BYTES :]
