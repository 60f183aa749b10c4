"""XFS, versions 4 and 5, whole and read-only, with its log replayed in memory.

Guarantees: every block of metadata that is read is verified where the format can (checksum, UUID, owner,
its own address: superblock, inodes, extent trees, directories, symlinks, log); every number is checked
against the filesystem's geometry before it is used; memory is bounded by fixed caches and by the log's
limits, whatever the filesystem's size. What cannot be read raises `InputError`, an unknown feature or
content on a realtime device `UnsupportedError`; a log that cannot be replayed whole is told in `problems`.

    >>> from undercroft.disks import xfs
    >>> filesystem = xfs.open_filesystem(source)
"""

from undercroft.disks.xfs.filesystem import Xfs, open_filesystem

__all__ = ["Xfs", "open_filesystem"]
