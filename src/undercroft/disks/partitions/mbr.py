"""Master boot records with primary and logical partitions, in sectors of 512 bytes.

Reads and numbers them as Linux does (block/partitions/msdos.c), so that "vda5" means here what it means
in the guest: slots without sectors are unused whatever their type; logical partitions count from 5. The
chain of logical partitions is followed at most `MAX_CHAIN` steps and never twice to the same sector;
where it breaks off, an entry with a problem stands for what could not be read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from undercroft.disks.partitions.table import Partition, PartitionTable, clamped, overlap_notes
from undercroft.disks.source import BlockSource

SECTOR_BYTES: Final = 512
SIGNATURE: Final = b"\x55\xaa"
SIGNATURE_OFFSET: Final = 510
DISK_ID: Final = Struct("<I")
DISK_ID_OFFSET: Final = 440

SLOT: Final = Struct("<B3xB3xII")
"""Boot indicator, type, first sector, number of sectors; the old cylinder addresses are not used."""

SLOTS_OFFSET: Final = 446
SLOTS: Final = 4

PROTECTIVE_TYPE: Final = 0xEE
EXTENDED_TYPES: Final = (0x05, 0x0F, 0x85)
BOOT_INDICATORS: Final = (0x00, 0x80)

FIRST_LOGICAL: Final = 5
MAX_CHAIN: Final = 256
"""Linux numbers at most 255 partitions of a disk."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the four slots of a boot record, untrusted; sectors are relative to some table's start."""

    boot: int
    type: int
    start: int
    sectors: int

    @property
    def is_extended(self) -> bool:
        """Whether it holds logical partitions, or leads to the next one."""
        return self.type in EXTENDED_TYPES


def read_slots(record: bytes) -> tuple[Slot, ...]:
    """Return the four slots of a boot record of 512 bytes; none when it lacks the signature."""
    if not record.startswith(SIGNATURE, SIGNATURE_OFFSET):
        return ()
    return tuple(Slot(*SLOT.unpack_from(record, SLOTS_OFFSET + index * SLOT.size)) for index in range(SLOTS))


def read_mbr(source: BlockSource, record: bytes) -> PartitionTable:
    """Read the partitions that a boot record describes; of kind "none" when it describes none.

    Boot sectors of filesystems bear the same signature: as in Linux, a boot indicator other than 0 or
    0x80 shows that what lies there is no table.
    """
    slots = read_slots(record)
    if any(slot.boot not in BOOT_INDICATORS for slot in slots) or not any(slot.sectors for slot in slots):
        return PartitionTable("none")
    (disk_id,) = DISK_ID.unpack_from(record, DISK_ID_OFFSET)
    partitions: list[Partition] = []
    logical: list[Partition] = []
    for number, slot in enumerate(slots, start=1):
        if not slot.sectors:
            continue
        if slot.is_extended:
            logical += _read_logical(source, slot, disk_id, FIRST_LOGICAL + len(logical))
        else:
            partitions.append(_partition(source, number, slot.start, slot, disk_id))
    partitions += logical
    return PartitionTable("mbr", tuple(partitions), overlap_notes(partitions))


def _read_logical(source: BlockSource, extended: Slot, disk_id: int, number: int) -> Iterator[Partition]:
    """Yield the logical partitions of an extended one, numbered from `number` on.

    Each has a boot record of its own: its slots are relative to that record, except the one that leads to
    the next record, which is relative to the extended partition.
    """
    place, span = extended.start, extended.sectors
    seen: set[int] = set()
    while True:
        problem = _chain_problem(source, place, seen)
        if problem:
            yield Partition(number, 0, 0, f"{extended.type:02x}", "", "", problem=problem)
            return
        seen.add(place)
        record = source.read(place * SECTOR_BYTES, SECTOR_BYTES)
        slots = read_slots(record)
        if not slots and len(seen) == 1 and not any(record):
            return  # an extended partition in which no logical one was ever made
        if not slots:
            problem = f"the record of logical partition {number} at sector {place} has no signature"
            yield Partition(number, 0, 0, f"{extended.type:02x}", "", "", problem=problem)
            return
        for index, slot in enumerate(slots):
            if _holds_data(index, slot, place, span, extended):
                yield _partition(source, number, place + slot.start, slot, disk_id)
                number += 1
        link = next((slot for slot in slots if slot.sectors and slot.is_extended), None)
        if link is None:
            return
        place, span = extended.start + link.start, link.sectors


def _chain_problem(source: BlockSource, place: int, seen: set[int]) -> str:
    if place in seen:
        return f"the chain of logical partitions returns to sector {place}"
    if len(seen) >= MAX_CHAIN:
        return f"the chain of logical partitions is over the limit of {MAX_CHAIN}"
    if (place + 1) * SECTOR_BYTES > source.size_bytes:
        return f"the chain of logical partitions leads to sector {place}, beyond the disk's end"
    return ""


def _holds_data(index: int, slot: Slot, place: int, span: int, extended: Slot) -> bool:
    """Whether a slot of a logical partition's record is a partition; the last two often hold garbage."""
    if not slot.sectors or slot.is_extended:
        return False
    start, end = place + slot.start, place + slot.start + slot.sectors
    inside = extended.start <= start and end <= extended.start + extended.sectors
    return index < 2 or (slot.start + slot.sectors <= span and inside)


def _partition(source: BlockSource, number: int, start: int, slot: Slot, disk_id: int) -> Partition:
    return clamped(
        number,
        start * SECTOR_BYTES,
        slot.sectors * SECTOR_BYTES,
        source.size_bytes,
        type_id=f"{slot.type:02x}",
        part_uuid=f"{disk_id:08x}-{number:02x}",
        bootable=slot.boot != 0,
    )
