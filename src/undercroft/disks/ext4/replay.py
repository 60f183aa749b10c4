"""From a filesystem that was not unmounted to the volume as its journal would leave it."""

from dataclasses import dataclass, field

from undercroft.disks.ext4 import journal, layout
from undercroft.disks.ext4.changes import Changes
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.fast_commit import Operation, whole_commits
from undercroft.disks.ext4.groups import GroupTable
from undercroft.disks.ext4.inode import InodeTable
from undercroft.disks.ext4.journal_log import Log
from undercroft.disks.ext4.overlay import OverlaySource
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


@dataclass(slots=True)
class Replay:
    """How to read a filesystem as the guest would see it after mounting it.

    Attributes:
        source: the volume, with the log's blocks laid over it where there are any.
        operations: what fast commits change on top of that.
        notes: what was done.
        problems: what could not be done.
    """

    source: BlockSource
    operations: tuple[Operation, ...] = ()
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def replay(source: BlockSource, superblock: Superblock) -> Replay:
    """Return how to read the filesystem in `source`; it never raises InputError.

    A backup superblock does not say whether the journal needs a replay; then the journal itself decides.
    """
    result = Replay(source)
    needs_recovery = bool(superblock.incompatible & layout.INCOMPAT_RECOVER)
    if not superblock.journal_inode and needs_recovery:
        device = superblock.journal_device.hex()
        result.problems.append(f"journal not replayed: it lies on another device, with the UUID {device}")
    elif needs_recovery or (superblock.copy_group and superblock.journal_inode):
        try:
            _replay(superblock, result)
        except InputError as error:
            result.problems.append(f"journal not replayed: {error}")
    return result


def _replay(superblock: Superblock, result: Replay) -> None:
    log = _open_log(result.source, superblock)
    if log.superblock.start == 0:
        return
    recovery = journal.recover(log, superblock.blocks)
    result.problems += recovery.problems
    result.notes.append(
        f"journal replayed: {len(recovery.replayed)} blocks of {recovery.transactions} transactions"
    )
    result.source = OverlaySource(result.source, superblock.block_bytes, recovery.replayed, recovery.escaped)
    if log.superblock.has_fast_commits and not recovery.problems:
        result.operations = whole_commits(log, recovery.next_sequence)


def _open_log(source: BlockSource, superblock: Superblock) -> Log:
    changes = Changes()
    groups = GroupTable(source, superblock)
    inode = InodeTable(source, superblock, groups, changes).get(superblock.journal_inode)
    if inode.stat.kind is not FileKind.REGULAR or inode.is_inline:
        raise InputError(f"ext inode {inode.stat.node}: not a journal (mode {inode.stat.mode:#o})")
    runs = Content(source, superblock, changes).runs(inode)
    return Log(source, superblock.block_bytes, runs, inode.stat.size_bytes // superblock.block_bytes)
