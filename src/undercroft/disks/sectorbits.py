"""Bitmaps that say for each sector of a block whether it lies in an image or in its parent."""

from typing import Final, Literal

MAX_KEPT_SECTORS: Final = 8 << 20
"""Of all bitmaps together; each takes a byte a sector."""


class SectorBits:
    """The last bitmaps of an image, as texts of "0" and "1", in which the end of a run is found fast.

    Args:
        sector_bytes: what a bit stands for.
    """

    __slots__ = ("_kept", "_sector_bytes", "_sectors")

    def __init__(self, sector_bytes: int) -> None:
        self._sector_bytes = sector_bytes
        self._kept: dict[int, str] = {}
        self._sectors = 0

    def get(self, block: int) -> str | None:
        """Return the bits of a block, None where they are not kept."""
        return self._kept.get(block)

    def keep(self, block: int, bitmap: bytes, first_bit: Literal["big", "little"]) -> str:
        """Return a bitmap as text and keep it.

        Args:
            block: whose it is.
            bitmap: bounded by the caller.
            first_bit: whether a byte's first sector is its highest bit ("big") or its lowest.
        """
        bits = f"{int.from_bytes(bitmap, first_bit):0{len(bitmap) * 8}b}"
        if first_bit == "little":
            bits = bits[::-1]
        self._kept[block] = bits
        self._sectors += len(bits)
        while self._sectors > MAX_KEPT_SECTORS and len(self._kept) > 1:
            self._sectors -= len(self._kept.pop(next(iter(self._kept))))
        return bits

    def run(self, bits: str, within: int, limit: int) -> tuple[bool, int]:
        """Return whether the byte `within` a block is marked, and how many bytes from there on are alike."""
        size = self._sector_bytes
        sector = within // size
        mark = bits[sector]
        end = bits.find("0" if mark == "1" else "1", sector)
        length = limit if end < 0 else min(limit, end * size - within)
        return mark == "1", length
