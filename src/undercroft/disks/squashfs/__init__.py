"""squashfs 4.0, read-only as it is: appliances' roots and the systems of live images.

Guarantees: what it reads is bounded by named limits and checked against the tables' places; any bytes give
answers or `InputError` that begins with "squashfs". The format has no checksums of its own (streams of zlib
and xz carry one, zstd's as a rule do not): damage to metadata may go unnoticed.
"""

from undercroft.disks.squashfs.filesystem import Squashfs, open_filesystem

__all__ = ["Squashfs", "open_filesystem"]
