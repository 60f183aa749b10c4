"""From a filesystem that was not unmounted to the volume as its log would leave it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from undercroft.disks.source import BlockSource
from undercroft.disks.xfs import layout
from undercroft.disks.xfs import log_layout as logs
from undercroft.disks.xfs import superblock as superblocks
from undercroft.disks.xfs.log import Log
from undercroft.disks.xfs.log_ends import Ends, find_ends
from undercroft.disks.xfs.log_items import Cancelled, Replayer
from undercroft.disks.xfs.log_transactions import Transaction, Transactions
from undercroft.disks.xfs.overlay import Overlay
from undercroft.disks.xfs.superblock import Superblock
from undercroft.errors import InputError


@dataclass(slots=True)
class Replay:
    """How to read a filesystem as the guest would see it after mounting it.

    Attributes:
        source: the volume, with the log's changes laid over it where there are any.
        superblock: as it is then.
        reowned: inodes whose blocks bear another owner.
        notes: what was done.
        problems: what could not be done.
    """

    source: BlockSource
    superblock: Superblock
    reowned: set[int] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def replay(source: BlockSource, superblock: Superblock) -> Replay:
    """Return how to read the filesystem in `source`; it never raises InputError."""
    result = Replay(source, superblock)
    try:
        log = _open_log(source, superblock)
        ends = find_ends(log)
        if ends.lost >= 0:
            result.problems.append(
                f"log: a record at block {ends.lost}, written to its end, lies behind the log's end at block "
                f"{ends.head}: writes were cut off out of their order, or it is damaged; it is left out"
            )
        if ends.head != ends.tail:
            _replay(log, ends, result)
    except InputError as error:
        result.problems.append(f"log not replayed: {error}")
    return result


def _open_log(source: BlockSource, superblock: Superblock) -> Log:
    if not superblock.log_start:
        raise InputError("xfs log: it lies on another device, so whether it is empty is not known")
    unknown = superblock.log_incompatible & ~layout.LOG_INCOMPAT_SUPPORTED
    if unknown:
        raise InputError(f"xfs log: unknown features {unknown:#x} are in use in it")
    group, block = divmod(superblock.log_start, 1 << superblock.group_log)
    place, length = group * superblock.group_blocks + block, superblock.log_blocks
    if block + length > superblock.group_blocks or place + length > superblock.blocks or not length:
        raise InputError(f"xfs log: {length} blocks at {superblock.log_start} lie outside the filesystem")
    blocks = length * superblock.block_bytes // logs.BLOCK_BYTES
    if blocks < 2 * logs.MAX_RECORD_BLOCKS:
        raise InputError(f"xfs log: it has {blocks} blocks of 512 bytes")
    offset = place * superblock.block_bytes
    return Log(source, offset, blocks, superblock.uuid, has_checksums=superblock.is_v5)


def _replay(log: Log, ends: Ends, result: Replay) -> None:
    superblock = result.superblock
    cancelled = Cancelled()
    first, whole = _Pass(log, ends), 0
    for transaction in first.run():
        cancelled.note(transaction)
        whole += 1
    overlay = Overlay(result.source, superblock.blocks * superblock.block_bytes)
    replayer = Replayer(overlay, superblock, cancelled)
    second = _Pass(log, ends)
    for transaction in second.run():
        replayer.replay(transaction)
    result.problems += first.problems + replayer.problems
    if replayer.refused > 1:
        result.problems.append(f"log: {replayer.refused} items in all were not replayed")
    result.notes.append(f"log replayed: {len(overlay)} sectors of {whole} transactions")
    if ends.torn:
        result.notes.append(f"the log's last {ends.torn} blocks were cut off while they were written")
    _tell_undone(replayer, result)
    result.source, result.reowned = overlay, replayer.reowned
    if overlay.is_changed(0, superblock.sector_bytes):
        result.superblock = superblocks.parse(overlay.read(0, superblock.sector_bytes), is_trusted=True)


def _tell_undone(replayer: Replayer, result: Replay) -> None:
    """Tell what was begun and not ended: the guest ends it when it mounts the filesystem.

    Most of it concerns only what space is free and who uses it. Where blocks of a file were to be exchanged,
    the file is read as it was before.
    """
    counts = Counter(kind for kind, _ in replayer.undone)
    changing = sum(counts[kind] for kind in logs.INTENTS_THAT_CHANGE_FILES)
    if changing:
        result.problems.append(
            f"log: {changing} changes of where files lie were begun and not ended: "
            "their files are read as they were before"
        )
    kinds = sorted(logs.INTENTS[kind] for kind in counts if kind not in logs.INTENTS_THAT_CHANGE_FILES)
    if kinds:
        result.notes.append(
            f"changes that do not concern reading were not ended: {', '.join(dict.fromkeys(kinds))}"
        )


class _Pass:
    """One pass over the log, from tail to head.

    Attributes:
        problems: why it ended early, as the kernel's would with an error.
    """

    def __init__(self, log: Log, ends: Ends) -> None:
        self.problems: list[str] = []
        self._log = log
        self._ends = ends

    def run(self) -> Iterator[Transaction]:
        """Yield the committed transactions. Damage ends it: what was committed before is consistent."""
        log, transactions = self._log, Transactions()
        distance = (self._ends.head - self._ends.tail) % log.blocks
        done = 0
        try:
            while done < distance:
                record = log.record_at(self._ends.tail + done)
                done += record.blocks
                if done > distance:
                    raise InputError(f"xfs log: the record at block {record.position} passes the log's head")
                yield from transactions.add(record, log.body(record))
        except InputError as error:
            self.problems.append(f"log not replayed whole: {error}; that and what follows is left out")
