"""What a raw file begins with: whether it is a disk at all, before anybody opens it as one.

Guarantees: reads a few blocks at fixed places and the partition table, and raises `InputError` only for what
cannot be read. What is recognized here need not be readable; what is not may still be a disk (one that is
encrypted as a whole has no magic), so nobody may call such a file empty.
"""

from undercroft.disks import partitions
from undercroft.disks.detect import BLANK, UNKNOWN, detect
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

BROKEN_TABLE = "broken table"


def content_of(source: BlockSource) -> str:
    """Return "gpt", "mbr", what a filesystem's magic says, or "" where nothing is recognized.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        table = partitions.read_table(source)
    except InputError:
        return BROKEN_TABLE  # a disk all the same; whoever opens it says what is wrong
    kind = detect(source).kind
    if kind == "iso9660":
        return kind  # a hybrid one has a table of partitions, too
    if table.partitions:
        return table.kind
    return "" if kind in {UNKNOWN, BLANK} else kind
