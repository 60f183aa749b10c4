"""VMware's VMDK images, read-only: one file or split, sparse, flat and stream-optimized, with parents.

`inspect` tells what an image says of itself, the names of its extents and its parent among it; these are
values that nobody opens here. `open_image` gives the virtual disk of an image whose extents the caller has
opened. Only compressed grains have a checksum; grain tables have a copy, which is compared.
"""

from undercroft.disks.vmdk.image import inspect, open_image

__all__ = ["inspect", "open_image"]
