"""A file's content: its blocks, direct and indirect, and the bytes in them; holes as zeros."""

from array import array
from collections.abc import Iterator

from undercroft.disks.cache import BoundedCache
from undercroft.disks.pieces import mapped_content
from undercroft.disks.source import BlockSource
from undercroft.disks.ufs.inode import DIRECT, Inode
from undercroft.disks.ufs.superblock import Superblock
from undercroft.errors import InputError, UnsupportedError

MAX_CHUNK_BYTES = 1 << 20
MAX_RUN = 1 << 16
"""Fragments in one run: what is mapped to nothing by many blocks full of zeros comes piece by piece."""
CACHED_BLOCKS = 64
"""Of block numbers, each at most 64 KiB."""

Run = tuple[int, int, int]
"""First fragment in the file, number of fragments, first fragment on the volume (0: a hole)."""


class Content:
    """Reads the content of the files of one filesystem."""

    def __init__(self, source: BlockSource, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self._blocks: BoundedCache[int, array[int]] = BoundedCache(CACHED_BLOCKS)
        self._code = "i" if superblock.version == 1 else "q"

    def chunks(self, inode: Inode, start: int = 0) -> Iterator[bytes]:
        """Yield the content from byte `start` on in pieces of at most 1 MiB. Raises InputError."""
        if inode.is_snapshot:
            raise UnsupportedError(f"ufs inode {inode.stat.node}: a snapshot of the filesystem is not read")
        fragment = self._superblock.fragment_bytes
        runs = self._runs(inode, start // self._superblock.block_bytes)
        read, size = self._source.read, inode.stat.size_bytes
        yield from mapped_content(runs, size, start, fragment, read, MAX_CHUNK_BYTES)

    def whole(self, inode: Inode) -> Iterator[bytes]:
        """Yield the content of a directory. Raises InputError at a hole."""
        node = inode.stat.node
        wanted = -(-inode.stat.size_bytes // self._superblock.fragment_bytes)
        if sum(count for _, count, place in self._runs(inode, 0) if place) != wanted:
            raise InputError(f"ufs inode {node}: the directory has a hole")
        yield from self.chunks(inode)

    def _runs(self, inode: Inode, first_block: int) -> Iterator[Run]:
        """Yield the runs from a block on, neighbours as one."""
        per_block = self._superblock.block_bytes // self._superblock.fragment_bytes
        end = -(-inode.stat.size_bytes // self._superblock.fragment_bytes)
        begin, count, place = first_block * per_block, 0, 0
        for block, blocks, pointer in self._mapped(inode, first_block):
            at = block * per_block
            length = min(blocks * per_block, end - at)
            if pointer:
                self._check(inode, pointer, length)
            follows = pointer == place + count if place else not pointer
            if count and follows and count < MAX_RUN:
                count += length
                continue
            if count:
                yield begin, count, place
            begin, count, place = at, length, pointer
        if count:
            yield begin, count, place

    def _check(self, inode: Inode, pointer: int, length: int) -> None:
        last = self._superblock.size_bytes // self._superblock.fragment_bytes
        if not 0 < pointer <= last - length:
            raise InputError(f"ufs inode {inode.stat.node}: {length} fragments at {pointer} of {last}")

    def _mapped(self, inode: Inode, block: int) -> Iterator[Run]:
        """Yield (block, number of blocks, pointer): one block each, or a hole of a whole indirect block."""
        end = -(-inode.stat.size_bytes // self._superblock.block_bytes)
        while block < end:
            if block < DIRECT:
                yield block, 1, inode.pointers[block]
                block += 1
                continue
            numbers, first, span = self._window(inode, block)
            if numbers is None:
                count = min(first + span, end) - block
                yield block, count, 0
                block += count
                continue
            for block in range(block, min(first + span, end)):  # noqa: B020 - goes on behind it
                yield block, 1, numbers[block - first]
            block += 1

    def _window(self, inode: Inode, block: int) -> tuple["array[int] | None", int, int]:
        """Return (block numbers, or None for a hole; first block that they map; how many).

        `block` lies behind the direct ones.
        """
        per_block = self._superblock.pointers_per_block
        first, span = DIRECT, per_block
        depth = 0
        while block >= first + span:  # at most twice: a file's size was checked against three depths
            first, span, depth = first + span, span * per_block, depth + 1
        pointer = inode.pointers[DIRECT + depth]
        while True:
            if not pointer:
                return None, first, span
            numbers = self._numbers(inode, pointer)
            if span == per_block:
                return numbers, first, span
            span //= per_block
            index = (block - first) // span
            first, pointer = first + index * span, numbers[index]

    def _numbers(self, inode: Inode, pointer: int) -> "array[int]":
        found = self._blocks.get(pointer)
        if found is None:
            superblock = self._superblock
            self._check(inode, pointer, superblock.block_bytes // superblock.fragment_bytes)
            found = array(self._code)
            found.frombytes(self._source.read(pointer * superblock.fragment_bytes, superblock.block_bytes))
            self._blocks.put(pointer, found)
        return found
