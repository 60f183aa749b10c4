"""FAT12, FAT16 and FAT32 with long names, read by an own reader.

Guarantees: sizes, chains and names are bounded, no folder is followed in a circle, and where the FAT has a
copy the two must agree on every cluster that is followed. A long name must be whole and bear the checksum of
the short one: a kernel would show the short one instead, and what is looked for by its name would be missing
without a word. Follows Microsoft's "FAT32 File System Specification", version 1.03.
"""

from undercroft.disks.fat.filesystem import Fat
from undercroft.disks.source import BlockSource

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> Fat:
    """Return a reader of the FAT in `source`. Raises InputError where it is malformed."""
    return Fat(source)
