"""What partition tables have in common: one value per partition, clamped to the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition; it lies within the disk whatever its table says.

    Attributes:
        number: as the guest's kernel counts it; logical partitions of an MBR start at 5.
        start_bytes: where it starts.
        size_bytes: its length, cut at the disk's end.
        type_id: GPT type in lower case with hyphens, or the MBR's type byte as two hexadecimal digits.
        name: of a GPT entry, "" for none. Untrusted text.
        part_uuid: UUID of a GPT entry, or "DISKSIG-NN" of an MBR, lower case.
        bootable: marked for booting by BIOS.
        problem: why it cannot be read as its table has it, "" when it can. Such a partition is unread.
        alias: what FreeBSD calls a partition of a BSD label, behind the disk's name ("s1a"), else "".
    """

    number: int
    start_bytes: int
    size_bytes: int
    type_id: str
    name: str
    part_uuid: str
    bootable: bool = False
    problem: str = ""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """The partitions of a disk.

    Attributes:
        kind: "none" when there is no table, or one without any partition: then the disk as a whole may
            hold a filesystem.
        partitions: by number. The extended partition of an MBR is no partition of its own here.
        notes: what was odd about the table and did no harm (backup used, hybrid, overlaps).
        sector_bytes: the unit in which the table counts.
    """

    kind: Literal["gpt", "mbr", "bsd", "none"]
    partitions: tuple[Partition, ...] = ()
    notes: tuple[str, ...] = ()
    sector_bytes: int = 512


def clamped(
    number: int,
    start_bytes: int,
    size_bytes: int,
    disk_bytes: int,
    *,
    type_id: str,
    part_uuid: str,
    name: str = "",
    bootable: bool = False,
    alias: str = "",
) -> Partition:
    """Return a partition that lies within the disk, with a problem where the table has it elsewhere.

    Args:
        number: as the guest's kernel counts it.
        start_bytes: untrusted.
        size_bytes: untrusted, may be negative.
        disk_bytes: the disk's length.
        type_id: as in Partition.
        part_uuid: as in Partition.
        name: as in Partition.
        bootable: as in Partition.
        alias: as in Partition.
    """
    end_bytes = start_bytes + size_bytes
    problem = ""
    if size_bytes <= 0:
        problem = "its table gives it no sectors or an end before its start"
    elif start_bytes >= disk_bytes:
        problem = f"it starts at byte {start_bytes}, beyond the disk's end at {disk_bytes}"
    elif end_bytes > disk_bytes:
        problem = f"it ends at byte {end_bytes}, beyond the disk's end at {disk_bytes}: the disk was cut"
    start = min(start_bytes, disk_bytes)
    size = max(0, min(end_bytes, disk_bytes) - start)
    return Partition(number, start, size, type_id, name, part_uuid, bootable, problem, alias)


def overlap_notes(partitions: Sequence[Partition]) -> tuple[str, ...]:
    """Return a note where partitions share bytes; they can still be read one by one."""
    furthest: Partition | None = None
    pairs: list[tuple[int, int]] = []
    for partition in sorted(partitions, key=lambda each: (each.start_bytes, each.number)):
        if not partition.size_bytes:
            continue
        if furthest and partition.start_bytes < furthest.start_bytes + furthest.size_bytes:
            pairs.append((furthest.number, partition.number))
        if not furthest or _end(partition) > _end(furthest):
            furthest = partition
    if not pairs:
        return ()
    first, second = pairs[0]
    more = f", and {len(pairs) - 1} more" if len(pairs) > 1 else ""
    return (f"partitions {first} and {second} overlap{more}",)


def _end(partition: Partition) -> int:
    return partition.start_bytes + partition.size_bytes
