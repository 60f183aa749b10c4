"""NTFS through pytsk3 (The Sleuth Kit): the one reader that is not our own.

It is C code over bytes that a guest wrote. It runs where every reader runs, in a child of the sandbox that
can open nothing and dies alone, and what it gives is bounded here: sizes, entries, lengths of names.
Directories are listed by an own reader of their index (`ntfsindex`). No log is replayed: an NTFS whose log
is not clean is read as it stands, and says so in `problems`.

FAT, exFAT and UFS have readers of their own. The library cuts names of FAT that are longer than 195
characters, gives of an exFAT's file that was not written to its end what lay in its clusters before, and
checks no checksum of these.

pytsk3 is not installed with Undercroft: without it these volumes are unread, with the cure as their reason.
"""

from undercroft.disks.filesystem import FileSystem
from undercroft.disks.source import BlockSource
from undercroft.disks.tsk.filesystem import open_volume

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> FileSystem:
    """Return a reader of the NTFS in `source`.

    Raises:
        UnsupportedError: pytsk3 is not installed.
        InputError: it is none, or malformed.
    """
    return open_volume(source)
