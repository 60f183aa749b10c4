"""exFAT, read by an own reader.

Guarantees: the boot region, the table of upper case and every set of entries are believed only where their
checksums match; sizes, chains and names are bounded; no chain is followed in a circle. What lies behind the
end of what was written to a file ("valid data length") reads as zeros, as in a kernel, and not as what its
clusters held before. Follows Microsoft's "exFAT file system specification", revision 1.00.
"""

from undercroft.disks.exfat.filesystem import ExFat
from undercroft.disks.source import BlockSource

__all__ = ["open_filesystem"]


def open_filesystem(source: BlockSource) -> ExFat:
    """Return a reader of the exFAT in `source`. Raises InputError where it is malformed."""
    return ExFat(source)
