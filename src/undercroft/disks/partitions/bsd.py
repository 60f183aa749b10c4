"""BSD disklabels: up to 20 partitions inside an MBR's slice of FreeBSD, a GPT's, or a whole disk.

Places are counted from the start of partition `c`, the whole of what the label describes, as FreeBSD does
(sys/geom/part/g_part_bsd.c). A label is believed where both magics and its checksum match.
"""

from dataclasses import dataclass
from struct import Struct, unpack_from
from typing import Final

from undercroft.disks.partitions.table import Partition, clamped
from undercroft.disks.source import BlockSource

SECTOR_BYTES: Final = 512
LABEL_OFFSET: Final = 512
SLICE_TYPE: Final = 0xA5
GPT_SLICE_TYPE: Final = "516e7cb4-6ecf-11d6-8ff8-00022d09712b"
TYPE_PREFIX: Final = "bsd:"
"""Before the two hexadecimal digits of a partition's type in its label: "bsd:07" is UFS, "bsd:01" swap."""

_MAGIC: Final = 0x82564557
_COUNT_OFFSET: Final = 138
_SECTOR_OFFSET: Final = 40
_ENTRIES_OFFSET: Final = 148
_ENTRY: Final = Struct("<III B3x")
"""Sectors, first sector, fragment's length, type."""
MAX_PARTITIONS: Final = 20
_RAW: Final = 2
LABEL_BYTES: Final = _ENTRIES_OFFSET + MAX_PARTITIONS * _ENTRY.size


@dataclass(frozen=True, slots=True)
class Slice:
    """What a label describes.

    Attributes:
        start_bytes: where it begins on the disk.
        end_bytes: where it ends.
        name: what FreeBSD calls it behind the disk's name ("s1", "p3"), "" for the whole disk.
    """

    start_bytes: int
    end_bytes: int
    name: str = ""


def read_label(source: BlockSource, place: Slice, number: int) -> list[Partition]:
    """Return the partitions of the label in `place`, numbered from `number` on; none without a label.

    Args:
        source: the disk, untrusted.
        place: where it may lie.
        number: as Linux counts on behind the disk's other partitions.
    """
    start = place.start_bytes + LABEL_OFFSET
    if start + LABEL_BYTES > min(place.end_bytes, source.size_bytes):
        return []
    label = source.read(start, LABEL_BYTES)
    (count,) = unpack_from("<H", label, _COUNT_OFFSET)
    (sector_bytes,) = unpack_from("<I", label, _SECTOR_OFFSET)
    end = _ENTRIES_OFFSET + count * _ENTRY.size
    if unpack_from("<I", label)[0] != _MAGIC or unpack_from("<I", label, 132)[0] != _MAGIC:
        return []
    if not _RAW < count <= MAX_PARTITIONS or sector_bytes != SECTOR_BYTES or _checksum(label[:end]):
        return []
    entries = [_ENTRY.unpack_from(label, at) for at in range(_ENTRIES_OFFSET, end, _ENTRY.size)]
    base = entries[_RAW][1]
    found: list[Partition] = []
    for index, (sectors, first, _, kind) in enumerate(entries):
        if index == _RAW or not sectors:
            continue
        found.append(
            clamped(
                number + len(found),
                place.start_bytes + (first - base) * SECTOR_BYTES if first >= base else source.size_bytes,
                sectors * SECTOR_BYTES,
                place.end_bytes,
                type_id=f"{TYPE_PREFIX}{kind:02x}",
                part_uuid="",
                alias=f"{place.name}{chr(ord('a') + index)}",
            )
        )
    return found


def _checksum(label: bytes) -> int:
    """Return what all words of a label give together, 0 where its checksum is right."""
    total = 0
    for word in unpack_from(f"<{len(label) // 2}H", label):
        total ^= word
    return total
