"""The journal (jbd2): which blocks of the filesystem have a newer copy in the log.

Follows the kernel's fs/jbd2/recovery.c, whose passes are numbered here:

1. Scan: find where the log ends. A transaction counts when its commit block is there and good.
2. Revoke: collect the blocks that a transaction and those before it no longer own.
3. Replay: for each block, the newest copy that is not revoked.

Nothing is written; the answer is a map from blocks to places in the log.
"""

from dataclasses import dataclass, field

from undercroft.disks.ext4 import journal_layout as layout
from undercroft.disks.ext4.checksum import MASK, crc32_msb, crc32c, mirrored_stored, stored
from undercroft.disks.ext4.journal_log import Log, Tag, revoked_blocks, tags
from undercroft.errors import InputError


@dataclass(slots=True)
class Recovery:
    """What replaying the log gives.

    Attributes:
        replayed: block of the filesystem to the byte offset in the volume of its newest copy.
        escaped: those of them whose first four bytes are the journal's magic.
        transactions: how many were whole.
        next_sequence: of the transaction after the last whole one.
        refused: how many copies of blocks in whole transactions could not be used; `problems` names one.
        problems: what of the log could not be replayed.
    """

    replayed: dict[int, int] = field(default_factory=dict)
    escaped: set[int] = field(default_factory=set)
    transactions: int = 0
    next_sequence: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    def refuse(self, position: int, block: int, why: str) -> None:
        """Count a copy of `block` at journal block `position` as unusable."""
        self.refused += 1
        if self.refused == 1:
            self.problems.append(f"journal block {position}, a copy of block {block}: {why}; not replayed")


@dataclass(frozen=True, slots=True)
class _Control:
    """A descriptor or revoke block of a transaction; `ordinal` counts transactions from 0."""

    position: int
    kind: int
    ordinal: int


def recover(log: Log, blocks: int) -> Recovery:
    """Return the recovery of `log` for a filesystem of `blocks` blocks.

    Raises InputError when the log is damaged before its end, so that the kernel would not mount it
    either, or passes a limit.
    """
    recovery = Recovery()
    controls = _Scan(log, recovery).run()
    recovery.next_sequence = (log.superblock.sequence + recovery.transactions) & MASK
    revoked = _revoked(log, controls)
    for control in controls:
        if control.kind == layout.DESCRIPTOR:
            _replay(log, control, revoked, blocks, recovery)
    if recovery.refused > 1:
        recovery.problems.append(f"journal: {recovery.refused} copies of blocks in all were not replayed")
    return recovery


class _Scan:
    """Pass 1."""

    def __init__(self, log: Log, recovery: Recovery) -> None:
        self._log = log
        self._recovery = recovery
        self._whole: list[_Control] = []
        self._pending: list[_Control] = []
        self._is_suspicious = False
        self._last_commit_at_s = 0
        self._crc32 = 0
        self._ordinal = 0

    def run(self) -> list[_Control]:
        """Return the control blocks of all whole transactions, in the order of the log."""
        log = self._log
        position = log.superblock.start
        visited = 0
        while visited <= log.superblock.log_blocks:
            block = log.read(position)
            magic, kind, sequence = layout.HEADER.unpack_from(block)
            expected = (log.superblock.sequence + self._ordinal) & MASK
            if magic != layout.MAGIC or sequence != expected:
                return self._end(expected)
            steps = 1
            if kind == layout.DESCRIPTOR:
                steps += self._descriptor(block, position)
            elif kind == layout.REVOKE:
                self._is_suspicious |= not log.has_good_tail(block)
                self._pending.append(_Control(position, kind, self._ordinal))
            elif kind != layout.COMMIT or not self._commit(block, sequence):
                return self._whole
            visited += steps
            position = log.advance(position, steps)
        raise InputError(f"ext journal: the log of {log.superblock.log_blocks} blocks has no end")

    def _end(self, sequence: int) -> list[_Control]:
        """Return what is whole at the end of the log.

        A transaction that was being written is left out without a word. The kernel also leaves out one
        whose descriptor is damaged, so that its commit block is looked for in the wrong place: a problem.
        """
        if self._is_suspicious:
            self._recovery.problems.append(
                f"journal: transaction {sequence} has a block with a wrong checksum and no commit block; "
                "it and later ones were not replayed"
            )
        return self._whole

    def _descriptor(self, block: bytes, position: int) -> int:
        """Note a descriptor block; return how many data blocks follow it."""
        log = self._log
        self._is_suspicious |= not log.has_good_tail(block)
        self._pending.append(_Control(position, layout.DESCRIPTOR, self._ordinal))
        count = len(tags(block, log.superblock))
        if log.superblock.has_commit_crc32:
            self._crc32 = crc32_msb(block, self._crc32)
            for step in range(1, count + 1):
                self._crc32 = crc32_msb(log.read(log.advance(position, step)), self._crc32)
        return count

    def _commit(self, block: bytes, sequence: int) -> bool:
        """Take the pending transaction as whole; return False where the log ends instead."""
        start = layout.COMMIT_SECONDS_OFFSET
        committed_at_s = int.from_bytes(block[start : start + 8], "big")
        # A bad checksum in what an older round of the log left behind is its end, not damage.
        is_stale = committed_at_s < self._last_commit_at_s
        if self._is_suspicious:
            if not is_stale:
                raise InputError(f"ext journal: transaction {sequence}: a checksum in it is wrong")
            return False
        if self._ordinal > self._recovery.transactions or not self._is_good_commit(block):
            return self._end_at_damage(sequence, is_stale)
        self._last_commit_at_s = committed_at_s
        self._crc32 = 0
        self._whole += self._pending
        self._pending = []
        self._ordinal += 1
        self._recovery.transactions += 1
        return True

    def _end_at_damage(self, sequence: int, is_stale: bool) -> bool:
        """Take a transaction whose commit block is bad as the end; return True to look one further.

        An asynchronous commit may reach the disk before its transaction, so that a bad one at the end is
        an interrupted write. It is damage when another commit follows.
        """
        is_first = self._ordinal == self._recovery.transactions
        if is_first and self._log.superblock.has_async_commits:
            self._ordinal += 1
            return True
        if not is_stale:
            self._recovery.problems.append(
                f"journal: transaction {sequence - (not is_first)} is damaged; "
                "it and later ones were not replayed"
            )
        return False

    def _is_good_commit(self, block: bytes) -> bool:
        superblock = self._log.superblock
        kind, size, found = layout.COMMIT_CHECKSUM.unpack_from(block, layout.COMMIT_CHECKSUM_OFFSET)
        if superblock.has_commit_crc32:
            expected = (layout.COMMIT_CRC32_TYPE, layout.COMMIT_CRC32_BYTES, mirrored_stored(self._crc32))
            return (kind, size, found) in (expected, (0, 0, 0))
        if superblock.seed is None:
            return True
        word = layout.COMMIT_CHECKSUM_WORD_OFFSET
        blanked = block[:word] + b"\0\0\0\0" + block[word + 4 :]
        # Some kernels left bytes of older blocks after the header and summed zeros in their place.
        bare = blanked[: layout.COMMIT_HEADER_BYTES].ljust(len(block), b"\0")
        return found in (stored(crc32c(blanked, superblock.seed)), stored(crc32c(bare, superblock.seed)))


def _revoked(log: Log, controls: list[_Control]) -> dict[int, int]:
    """Pass 2: return each revoked block with the ordinal of the last transaction that revoked it."""
    revoked: dict[int, int] = {}
    for control in controls:
        if control.kind == layout.REVOKE:
            for block in revoked_blocks(log.read(control.position), log.superblock):
                revoked[block] = control.ordinal
            if len(revoked) > layout.MAX_REVOKED_BLOCKS:
                raise InputError(f"ext journal: more than {layout.MAX_REVOKED_BLOCKS} revoked blocks")
    return revoked


def _replay(log: Log, control: _Control, revoked: dict[int, int], blocks: int, recovery: Recovery) -> None:
    """Pass 3 for one descriptor block."""
    descriptor = log.read(control.position)
    sequence = descriptor[8:12]
    for step, tag in enumerate(tags(descriptor, log.superblock), start=1):
        if revoked.get(tag.block, -1) >= control.ordinal:
            continue
        position = log.advance(control.position, step)
        if tag.block >= blocks:
            recovery.refuse(position, tag.block, f"the filesystem has {blocks} blocks")
        elif not _has_good_checksum(log, tag, sequence, position):
            recovery.refuse(position, tag.block, "its checksum is wrong")
        else:
            recovery.replayed[tag.block] = log.offset(position)
            (recovery.escaped.add if tag.is_escaped else recovery.escaped.discard)(tag.block)
        if len(recovery.replayed) > layout.MAX_REPLAYED_BLOCKS:
            raise InputError(f"ext journal: more than {layout.MAX_REPLAYED_BLOCKS} blocks to replay")


def _has_good_checksum(log: Log, tag: Tag, sequence: bytes, position: int) -> bool:
    superblock = log.superblock
    if superblock.seed is None:
        return True
    computed = stored(crc32c(log.read(position), crc32c(sequence, superblock.seed)))
    return tag.checksum == (computed if superblock.has_tags_v3 else computed & 0xFFFF)
