"""Where the log's newest record ends and its oldest one begins, and whether it was closed by an unmount.

Follows xlog_find_head and xlog_find_tail of the kernel's fs/xfs/xfs_log_recover.c, whose steps are numbered:

1. The first block of the older round, by bisection: the head is there or a little before.
2. Blocks of the older round before that place: writes that were under way when the machine stopped.
3. A record that is not there whole ends the log where it begins.
4. The last record says where the tail is. Is it the record of an unmount, nothing is to be replayed.
5. Of the records that may have been under way together, the first whose checksum is wrong ends the log.

The kernel takes what it finds then. Here one more look goes behind the head: a record of the same round that
was written to its end there is not one that was cut off. Either writes came out of their order, or it is
damaged, and nobody can tell which.
"""

from typing import NamedTuple

from undercroft.disks.xfs import log_layout as layout
from undercroft.disks.xfs.log import Log, Record, next_cycle
from undercroft.errors import InputError

_MAGIC = layout.RECORD_MAGIC.to_bytes(4, "big")
_IN_FLIGHT_BLOCKS = layout.MAX_RECORDS_IN_FLIGHT * layout.MAX_RECORD_BYTES // layout.BLOCK_BYTES


class Ends(NamedTuple):
    """The part of the log to be replayed.

    Attributes:
        head: position after the last record.
        tail: position of the first one; equal to `head` where nothing is to be replayed.
        torn: how many blocks of records that were cut off lie behind the head.
        lost: position of a record behind the head that was written to its end, -1 for none.
    """

    head: int
    tail: int
    torn: int
    lost: int


def find_ends(log: Log) -> Ends:
    """Return where the log is to be replayed. Raises InputError where the kernel would not mount either."""
    written = _bisected(log)
    head = _find_head(log, written)
    records = _records_before(log, head, 1)
    if not records:
        if head == 0 and not log.cycle(0):
            raise InputError("xfs log: it is empty, which not even mkfs leaves it")
        raise InputError(f"xfs log: no record ends at its head, block {head}")
    last = log.record_at(records[0])
    if _is_unmount(log, last, head):
        return Ends(head, head, (written - head) % log.blocks, _record_behind(log, head, last))
    verified, last = _without_torn_records(log, head, last)
    tail = verified if _is_unmount(log, last, verified) else last.tail
    return Ends(verified, tail, (written - verified) % log.blocks, _record_behind(log, verified, last))


def _find_head(log: Log, written: int) -> int:
    """Return the head, from where the older round begins."""
    first, last = log.cycle(0), log.cycle(log.blocks - 1)
    if not first:
        return 0
    if not last:  # never written to its end
        start = max(0, written - _IN_FLIGHT_BLOCKS)
        cycles = log.cycles(start, written - start)
        head = start + cycles.index(0) if 0 in cycles else written
    else:
        head = _without_holes(log, written, last - (first == last))
    return _before_cut_record(log, head) % log.blocks


def _bisected(log: Log) -> int:
    """Step 1: return the first block that has the last block's cycle, the log's length where all have it."""
    cycle = log.cycle(log.blocks - 1)
    if log.cycle(0) == cycle:
        return log.blocks
    low, high = 0, log.blocks - 1
    while high - low > 1:
        middle = (low + high) // 2
        if log.cycle(middle) == cycle:
            high = middle
        else:
            low = middle
    return high


def _without_holes(log: Log, head: int, stop: int) -> int:
    """Step 2: return where the first block of cycle `stop` is among those that may have been under way."""
    count = min(log.blocks, _IN_FLIGHT_BLOCKS)
    if head < count:
        # Some of them lie at the log's end, one round earlier.
        start = log.blocks - (count - head)
        cycles = log.cycles(start, count - head)
        if stop - 1 in cycles:
            return start + cycles.index(stop - 1)
        count = head
    cycles = log.cycles(head - count, count) if count else []
    return head - count + cycles.index(stop) if stop in cycles else head


def _before_cut_record(log: Log, head: int) -> int:
    """Step 3: return where the record before `head` begins, if it does not end at `head`."""
    records = _records_before(log, head, 1)
    if not records:
        raise InputError(f"xfs log: no record ends at its head, block {head}")
    record = log.record_at(records[0])
    if (head - record.position) % log.blocks != record.blocks % log.blocks:
        return record.position
    return head


def _records_before(log: Log, head: int, count: int) -> list[int]:
    """Return the positions of the last `count` records before `head`, latest first."""
    length = min(log.blocks, count * layout.MAX_RECORD_BLOCKS)
    data = log.read(head - length, length)
    found: list[int] = []
    end = len(data)
    while len(found) < count:
        at = data.rfind(_MAGIC, 0, end)
        if at < 0:
            break
        if at % layout.BLOCK_BYTES == 0:
            found.append((head - length + at // layout.BLOCK_BYTES) % log.blocks)
        end = at + 3
    return found


def _is_unmount(log: Log, record: Record, head: int) -> bool:
    """Step 4. Raises InputError where the record of an unmount is damaged."""
    if (record.position + record.blocks) % log.blocks != head % log.blocks or not _says_unmount(log, record):
        return False
    log.body(record, may_lack_checksum=True)  # mkfs writes such a record without one
    return True


def _says_unmount(log: Log, record: Record) -> bool:
    _, _, _, flags = layout.OPERATION.unpack_from(log.read(record.position + record.header_blocks, 1))
    return record.operations == 1 and bool(flags & layout.UNMOUNT)


def _without_torn_records(log: Log, head: int, last: Record) -> tuple[int, Record]:
    """Step 5: return the head and the last record that is whole."""
    distance = (head - last.tail) % log.blocks or log.blocks
    positions = _records_before(log, head, layout.MAX_RECORDS_IN_FLIGHT + 1)
    positions = [each for each in reversed(positions) if (head - each) % log.blocks <= distance]
    whole: Record | None = None
    if len(positions) > layout.MAX_RECORDS_IN_FLIGHT:
        whole = log.record_at(positions.pop(0))  # what the log would end with; the replay looks at it
    for position in positions:
        try:
            record = log.record_at(position)
            log.body(record)
        except InputError:
            if whole is None:
                raise
            return position, whole
        whole = record
    return head, whole or last


def _record_behind(log: Log, head: int, last: Record) -> int:
    """Return the position of a record of the round of `last` behind the head, -1 for none.

    One of an unmount changes nothing, and xfs_db leaves one there where it empties a log.
    """
    data = log.read(head, min(log.blocks, _IN_FLIGHT_BLOCKS))
    at = data.find(_MAGIC)
    while at >= 0:
        position = (head + at // layout.BLOCK_BYTES) % log.blocks
        cycle = last.cycle if position > last.position else next_cycle(last.cycle)
        if at % layout.BLOCK_BYTES == 0 and _is_written(log, position, cycle):
            return position
        at = data.find(_MAGIC, at + 1)
    return -1


def _is_written(log: Log, position: int, cycle: int) -> bool:
    try:
        record = log.record_at(position)
    except InputError:
        return False
    is_of_round = record.place == cycle << 32 | position and record.cycle == cycle
    return is_of_round and log.is_written(record) and not _says_unmount(log, record)
