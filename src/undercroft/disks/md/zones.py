"""RAID 0 over members of different lengths: zones, each striped over the members that reach into it.

Follows Linux's drivers/md/raid0.c: zones are cut where a member ends; since Linux 3.14 the members of a
later zone are counted from its own start ("alternate"), before that from the array's ("original").
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.disks.source import BlockSource, check_range
from undercroft.disks.striping import StripedSource, check_chunk
from undercroft.errors import InputError, UnsupportedError

ORIGINAL, ALTERNATE = 1, 2


@dataclass(frozen=True, slots=True)
class _Zone:
    """Where it starts in the array, where in its members, and these."""

    start: int
    part_start: int
    parts: tuple[BlockSource, ...]


class ZonedSource:
    """RAID 0 of several zones.

    Args:
        zones: in order.
        chunk_bytes: at least 512.
        layout: `ORIGINAL` or `ALTERNATE`.
        size_bytes: of the array.
        name: for error messages.
    """

    __slots__ = ("_chunk", "_layout", "_starts", "_zones", "name", "size_bytes")

    def __init__(
        self, zones: Sequence[_Zone], chunk_bytes: int, layout: int, size_bytes: int, name: str
    ) -> None:
        self._zones = tuple(zones)
        self._starts = [zone.start for zone in zones]
        self._chunk = chunk_bytes
        self._layout = layout
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            zone = self._zones[bisect_right(self._starts, offset) - 1]
            number, within = divmod(offset - zone.start, self._chunk)
            size = min(length, self._chunk - within)
            counted = offset // self._chunk if self._layout == ORIGINAL else number
            part = zone.parts[counted % len(zone.parts)]
            place = zone.part_start + number // len(zone.parts) * self._chunk + within
            found.append(part.read(place, size))
            offset, length = offset + size, length - size
        return b"".join(found)


def zoned(parts: Sequence[BlockSource], chunk_bytes: int, layout: int, name: str) -> BlockSource:
    """Return RAID 0 over `parts` in the order of their roles.

    Raises:
        InputError: the chunk is malformed.
        UnsupportedError: there are several zones, and the layout was not recorded.
    """
    check_chunk(chunk_bytes, name)
    sizes = [part.size_bytes // chunk_bytes * chunk_bytes for part in parts]
    if not min(sizes):
        raise InputError(f"{name}: a member holds no chunk")
    if len(set(sizes)) == 1:
        return StripedSource(parts, chunk_bytes, name)
    if layout not in (ORIGINAL, ALTERNATE):
        raise UnsupportedError(
            f"{name}: RAID 0 of different lengths without a recorded layout is read in one of two ways; Linux"
            " refuses it too"
        )
    zones: list[_Zone] = []
    start = part_start = 0
    for end in sorted(set(sizes)):
        reaching = tuple(part for part, size in zip(parts, sizes, strict=True) if size > part_start)
        zones.append(_Zone(start, part_start, reaching))
        start += (end - part_start) * len(reaching)
        part_start = end
    return ZonedSource(zones, chunk_bytes, layout, start, name)
