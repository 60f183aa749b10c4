"""Which partition table a disk has, decided as Linux decides it."""

from dataclasses import replace

from undercroft.disks.partitions.bsd import GPT_SLICE_TYPE, SLICE_TYPE, Slice, read_label
from undercroft.disks.partitions.gpt import has_header, read_gpt
from undercroft.disks.partitions.mbr import FIRST_LOGICAL, PROTECTIVE_TYPE, SECTOR_BYTES, read_mbr, read_slots
from undercroft.disks.partitions.table import Partition, PartitionTable, overlap_notes
from undercroft.disks.source import BlockSource

_SLICE_TYPES = frozenset({f"{SLICE_TYPE:02x}", GPT_SLICE_TYPE})


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
        table = _with_labels(source, read_gpt(source))
        if any(slot.sectors and slot.type != PROTECTIVE_TYPE for slot in slots):
            return _noted(
                table, "the MBR beside the GPT has partitions of its own (hybrid), which were ignored"
            )
        return table
    table = _with_labels(source, read_mbr(source, record))
    if table.kind == "none" and (labelled := read_label(source, Slice(0, source.size_bytes), 1)):
        table = PartitionTable("bsd", tuple(labelled), overlap_notes(labelled))
    if has_header(source):
        return _noted(table, "a GPT that the MBR does not announce was ignored, as Linux ignores it")
    return table


def _with_labels(source: BlockSource, table: PartitionTable) -> PartitionTable:
    """Return a table with the partitions of the BSD labels in its slices in place of these.

    They are counted on behind all others, as in Linux. A slice that begins where the disk does is the whole
    disk ("dangerously dedicated"): its length in such a boot record means nothing.
    """
    slices = [part for part in table.partitions if part.type_id in _SLICE_TYPES]
    if not slices:
        return table
    kept = [part for part in table.partitions if part not in slices]
    first = FIRST_LOGICAL if table.kind == "mbr" else 1
    number = max(first, *(part.number + 1 for part in table.partitions))
    for part in slices:
        whole, name = part, f"{'p' if table.kind == 'gpt' else 's'}{part.number}"
        if not part.start_bytes:  # FreeBSD takes the label for the disk's own
            whole, name = replace(part, size_bytes=source.size_bytes, problem=""), ""
        inside = read_label(source, Slice(whole.start_bytes, _end(whole), name), number)
        kept += inside or [whole]
        number += len(inside)
    notes = dict.fromkeys((*table.notes, *overlap_notes(kept)))
    return replace(table, partitions=tuple(kept), notes=tuple(notes))


def _end(part: Partition) -> int:
    return part.start_bytes + part.size_bytes


def _noted(table: PartitionTable, note: str) -> PartitionTable:
    return PartitionTable(table.kind, table.partitions, (*table.notes, note), table.sector_bytes)
