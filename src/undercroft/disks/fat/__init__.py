"""FAT12, FAT16 and FAT32 with long names, read by an own reader.

Guarantees: sizes, chains and names are bounded, no folder is followed in a circle, and where the FAT has a
copy the two must agree on every cluster that is followed. Long names count where their parts are in order and
bear the checksum of the short one, as in a kernel; else the short one is the name. Follows Microsoft's "FAT32
File System Specification", version 1.03, and Linux' fs/fat where that leaves a choice.
"""

from undercroft.disks.fat.filesystem import Fat
from undercroft.disks.source import BlockSource

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> Fat:
    """Return a reader of the FAT in `source`. Raises InputError where it is malformed."""
    return Fat(source)
