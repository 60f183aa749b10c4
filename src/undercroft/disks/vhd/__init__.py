"""Microsoft's VHD images (QEMU's "vpc"), read-only: fixed, dynamic and differencing.

`inspect` tells what an image says of itself, `open_image` gives its virtual disk. The footer and the dynamic
header have checksums, which are checked; the table of blocks has none.
"""

from undercroft.disks.vhd.image import inspect, open_image

__all__ = ["inspect", "open_image"]
