"""ext2, ext3 and ext4, whole and read-only, with the journal replayed in memory.

Guarantees: every metadata checksum that the filesystem has is verified (superblock, group descriptors,
inodes, extent and directory blocks, journal, fast commits); every number is checked against the
filesystem's geometry before it is used; memory is bounded by fixed caches and by the journal's limits,
whatever the filesystem's size. What cannot be read raises `InputError`, an unknown or encrypted thing
`UnsupportedError`; a journal that cannot be replayed whole is told in `problems`.

    >>> from undercroft.disks import ext4
    >>> filesystem = ext4.open_filesystem(source)
"""

from undercroft.disks.ext4.filesystem import Ext4, is_ext, open_filesystem

__all__ = ["Ext4", "is_ext", "open_filesystem"]
