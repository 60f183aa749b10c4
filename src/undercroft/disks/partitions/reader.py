"""Which partition table a disk has, decided as Linux decides it."""

from undercroft.disks.partitions.gpt import has_header, read_gpt
from undercroft.disks.partitions.mbr import PROTECTIVE_TYPE, SECTOR_BYTES, read_mbr, read_slots
from undercroft.disks.partitions.table import PartitionTable
from undercroft.disks.source import BlockSource


def read_table(source: BlockSource) -> PartitionTable:
    """Return the partitions of a disk; of kind "none" when it has no table or an empty one.

    A GPT counts only where the MBR announces it, as in Linux: else it may be a leftover, and what the
    guest sees is the MBR or the whole disk.

    Args:
        source: the disk, untrusted.

    Raises:
        InputError: the MBR announces a GPT, and neither of its copies is sound.
    """
    if source.size_bytes < SECTOR_BYTES:
        return PartitionTable("none")
    record = source.read(0, SECTOR_BYTES)
    slots = read_slots(record)
    if any(slot.type == PROTECTIVE_TYPE for slot in slots):
        table = read_gpt(source)
        if any(slot.sectors and slot.type != PROTECTIVE_TYPE for slot in slots):
            return _noted(
                table, "the MBR beside the GPT has partitions of its own (hybrid), which were ignored"
            )
        return table
    table = read_mbr(source, record)
    if has_header(source):
        return _noted(table, "a GPT that the MBR does not announce was ignored, as Linux ignores it")
    return table


def _noted(table: PartitionTable, note: str) -> PartitionTable:
    return PartitionTable(table.kind, table.partitions, (*table.notes, note), table.sector_bytes)
