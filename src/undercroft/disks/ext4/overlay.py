"""A volume with the journal's newer blocks laid over it."""

from bisect import bisect_left

from undercroft.disks.ext4.journal_layout import MAGIC_BYTES
from undercroft.disks.source import BlockSource


class OverlaySource:
    """Reads a volume as it will be after the journal's replay; nothing is written.

    Args:
        source: the volume.
        block_bytes: size of a block.
        replayed: block of the filesystem to the byte offset in `source` of its newest copy.
        escaped: those of them that begin with the journal's magic, which the journal blanks out.
    """

    def __init__(
        self, source: BlockSource, block_bytes: int, replayed: dict[int, int], escaped: set[int]
    ) -> None:
        self._source = source
        self._block_bytes = block_bytes
        self._replayed = replayed
        self._blocks = sorted(replayed)
        self._escaped = escaped
        self.size_bytes = source.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError as the volume does."""
        size = self._block_bytes
        blocks = self._blocks
        index = bisect_left(blocks, offset // size)
        plain = self._source.read(offset, length)
        if index == len(blocks) or blocks[index] * size >= offset + length:
            return plain
        data = bytearray(plain)
        while index < len(blocks) and blocks[index] * size < offset + length:
            begin = blocks[index] * size
            start, end = max(offset, begin), min(offset + length, begin + size)
            data[start - offset : end - offset] = self._block(blocks[index])[start - begin : end - begin]
            index += 1
        return bytes(data)

    def _block(self, block: int) -> bytes:
        copy = self._source.read(self._replayed[block], self._block_bytes)
        return MAGIC_BYTES + copy[4:] if block in self._escaped else copy
