"""The decrypted data of a LUKS volume as a block source."""

from undercroft.disks.luks.header import Segment
from undercroft.disks.luks.layout import SECTOR_BYTES
from undercroft.disks.luks.sectors import SectorCipher
from undercroft.disks.source import MAX_READ_BYTES, BlockSource, check_range


class LuksSource:
    """The segment of a volume that was unlocked; made by `luks.open_volume`.

    Args:
        inner: the volume.
        segment: within its bounds.
        size_bytes: of the data, a multiple of the segment's sector.
        cipher: with the volume's key.
        name: for messages.
    """

    __slots__ = ("_cipher", "_inner", "_segment", "name", "size_bytes")

    def __init__(
        self, inner: BlockSource, segment: Segment, size_bytes: int, cipher: SectorCipher, name: str
    ) -> None:
        self._inner = inner
        self._segment = segment
        self._cipher = cipher
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` decrypted bytes at `offset`. Raises InputError beyond the end."""
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        if not length:
            return b""
        sector_bytes = self._segment.sector_bytes
        start = offset // sector_bytes * sector_bytes
        end = -(-(offset + length) // sector_bytes) * sector_bytes
        number = start // SECTOR_BYTES + self._segment.iv_tweak
        if end - start > MAX_READ_BYTES:  # a largest read that begins and ends within sectors
            middle = end - sector_bytes
            return self.read(offset, middle - offset) + self.read(middle, offset + length - middle)
        data = self._cipher.decrypt(number, self._inner.read(self._segment.offset + start, end - start))
        return data if len(data) == length else data[offset - start : offset - start + length]
