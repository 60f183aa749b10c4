"""btrfs, read-only: all subvolumes, with its log replayed in memory.

Guarantees: every checksum is verified, of metadata and of data (crc32c, xxhash64, sha256, blake2b); where one
is wrong the other copies are tried (DUP, RAID1, RAID1C3, RAID1C4, RAID10). Tree blocks have to be what their
parents say of them, so that no walk loops; every number is checked before it is used; memory is bounded by
fixed caches and the log's limits. What cannot be read raises `InputError`, an unknown or encrypted thing
`UnsupportedError`; a log that cannot be replayed is told in `problems`.

    >>> from undercroft.disks import btrfs
    >>> filesystem = btrfs.open_filesystem(source)
    >>> filesystem.subvolume(b"@home")
"""

from undercroft.disks.btrfs.filesystem import Btrfs, open_filesystem
from undercroft.disks.btrfs.superblock import has_magic as is_btrfs

__all__ = ["Btrfs", "is_btrfs", "open_filesystem"]
