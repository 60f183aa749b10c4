"""From a filesystem that was not unmounted to the volume as its journal would leave it."""

from undercroft.disks.ext4 import journal, layout
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.groups import GroupTable
from undercroft.disks.ext4.inode import InodeTable
from undercroft.disks.ext4.journal_log import Log
from undercroft.disks.ext4.overlay import OverlaySource
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


def replay(source: BlockSource, superblock: Superblock, notes: list[str], problems: list[str]) -> BlockSource:
    """Return `source` itself when nothing needs replaying, else an overlay.

    What was done is added to `notes`, what could not be done to `problems`. A backup superblock does not
    say whether the journal needs a replay; then the journal itself decides.
    """
    if not superblock.incompatible & layout.INCOMPAT_RECOVER and not superblock.copy_group:
        return source
    if not superblock.journal_inode:
        if superblock.incompatible & layout.INCOMPAT_RECOVER:
            device = superblock.journal_device.hex()
            problems.append(
                f"journal not replayed: it lies on another device ({device}); give it a disk scan"
            )
        return source
    try:
        log = _open_log(source, superblock)
        if log.superblock.start == 0:
            return source
        recovery = journal.recover(log, superblock.blocks)
    except InputError as error:
        problems.append(f"journal not replayed: {error}")
        return source
    problems.extend(recovery.problems)
    notes.append(f"journal replayed: {len(recovery.replayed)} blocks of {recovery.transactions} transactions")
    return OverlaySource(source, superblock.block_bytes, recovery.replayed, recovery.escaped)


def _open_log(source: BlockSource, superblock: Superblock) -> Log:
    inode = InodeTable(source, superblock, GroupTable(source, superblock)).get(superblock.journal_inode)
    if inode.stat.kind is not FileKind.REGULAR or inode.is_inline:
        raise InputError(f"ext inode {inode.stat.node}: not a journal (mode {inode.stat.mode:#o})")
    runs = Content(source, superblock).runs(inode)
    return Log(source, superblock.block_bytes, runs, inode.stat.size_bytes // superblock.block_bytes)
