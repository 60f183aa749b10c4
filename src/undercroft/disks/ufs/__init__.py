"""UFS1 and UFS2 as FreeBSD writes them (FFS), read by an own reader.

Guarantees: an inode or a superblock that bears a check hash (FreeBSD 13 and later) is believed only where it
matches; sizes, blocks, names and links are bounded; no cycle of blocks is followed. Nothing is replayed: a
volume that was not unmounted says so in `problems`, with its soft-updates journal where it has one. Follows
FreeBSD's sys/ufs/ffs/fs.h, sys/ufs/ufs/dinode.h and dir.h; little-endian only.
"""

from undercroft.disks.source import BlockSource
from undercroft.disks.ufs.filesystem import Ufs

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> Ufs:
    """Return a reader of the UFS in `source`.

    Raises:
        InputError: its superblock or root directory is malformed.
        UnsupportedError: it is of a big-endian machine, or from before 4.4BSD.
    """
    return Ufs(source)
