"""NTFS and FAT through pytsk3 (The Sleuth Kit): the readers that are not our own.

It is C code over bytes that a guest wrote. It runs where every reader runs, in a child of the sandbox that
can open nothing and dies alone, and what it gives is bounded here: sizes, entries, lengths of names.
Directories of NTFS are listed by an own reader of their index (`ntfsindex`). No log is replayed: an NTFS
whose log is not clean is read as it stands, and says so in `problems`.

exFAT is not read: of a file that was not written to its end the library gives what lay in its clusters
before, where a kernel gives zeros.

pytsk3 is not installed with Undercroft: without it these volumes are unread, with the cure as their reason.
"""

from undercroft.disks.filesystem import FileSystem
from undercroft.disks.source import BlockSource
from undercroft.disks.tsk.filesystem import open_volume

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> FileSystem:
    """Return a reader of the NTFS or FAT in `source`.

    Raises:
        UnsupportedError: pytsk3 is not installed, or it is an exFAT.
        InputError: it is neither, or malformed.
    """
    return open_volume(source)
