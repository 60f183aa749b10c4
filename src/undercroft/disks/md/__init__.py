"""Linux md RAID: arrays of the members that were given, as the guest's kernel would start them.

`assemble` takes members with superblocks 0.90, 1.0, 1.1 and 1.2 and gives a device for each array: linear,
RAID 0, 1, 4, 5, 6 and 10. Superblocks have checksums, each of which is checked; members that fell behind are
refused. Nothing is started and nothing is written.
"""

from undercroft.disks.md.arrays import assemble

__all__ = ["assemble"]
