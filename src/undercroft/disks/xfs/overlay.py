"""A volume with what its log changes laid over it, in sectors of 512 bytes; nothing is written."""

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

SECTOR_BYTES = 512
MAX_CHANGED_SECTORS = 1 << 18
"""128 MiB of metadata. A log is of 64 MiB as a rule, and changes the same blocks again and again."""


class Overlay:
    """Reads a volume as it will be after the log's replay.

    Args:
        source: the volume.
        size_bytes: of the filesystem; nothing behind it is changed.
    """

    def __init__(self, source: BlockSource, size_bytes: int) -> None:
        self._source = source
        self._limit_bytes = min(size_bytes, source.size_bytes)
        self._sectors: dict[int, bytearray] = {}
        self.size_bytes = source.size_bytes

    def __len__(self) -> int:
        """Return how many sectors were changed."""
        return len(self._sectors)

    def is_changed(self, offset: int, length: int) -> bool:
        """Return whether any sector of a range was changed."""
        return not self._sectors.keys().isdisjoint(_touched(offset, length))

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Lay `data` over byte `offset`. Raises InputError beyond the filesystem, or at the limit."""
        if offset < 0 or offset + len(data) > self._limit_bytes:
            raise InputError(f"{len(data)} bytes at {offset} lie outside the filesystem")
        done = 0
        while done < len(data):
            sector, start = divmod(offset + done, SECTOR_BYTES)
            part = data[done : done + SECTOR_BYTES - start]
            self._sector(sector, len(part) == SECTOR_BYTES)[start : start + len(part)] = part
            done += len(part)

    def _sector(self, sector: int, is_whole: bool) -> bytearray:
        found = self._sectors.get(sector)
        if found is None:
            if len(self._sectors) >= MAX_CHANGED_SECTORS:
                raise InputError(f"more than {MAX_CHANGED_SECTORS} sectors are changed, the limit")
            base = bytes(SECTOR_BYTES) if is_whole else self._source.read(sector * SECTOR_BYTES, SECTOR_BYTES)
            found = self._sectors[sector] = bytearray(base)
        return found

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError as the volume does."""
        plain = self._source.read(offset, length)
        touched = _touched(offset, length)
        if self._sectors.keys().isdisjoint(touched):
            return plain
        data = bytearray(plain)
        for sector in touched:
            if changed := self._sectors.get(sector):
                begin = sector * SECTOR_BYTES
                start, stop = max(offset, begin), min(offset + length, begin + SECTOR_BYTES)
                data[start - offset : stop - offset] = changed[start - begin : stop - begin]
        return bytes(data)


def _touched(offset: int, length: int) -> range:
    return range(offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES))
