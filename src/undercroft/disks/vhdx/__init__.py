"""Hyper-V's VHDX images, read-only: fixed, dynamic and differencing, the log replayed in memory.

`inspect` tells what an image says of itself, `open_image` gives its virtual disk. Headers, region tables and
the log have checksums (CRC-32C), which are checked; the table of blocks has none.
"""

from undercroft.disks.vhdx.image import inspect, open_image

__all__ = ["inspect", "open_image"]
