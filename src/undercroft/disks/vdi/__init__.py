"""VirtualBox's VDI images, read-only: dynamic, fixed and differencing, the parent told by its UUIDs.

`inspect` tells what an image says of itself, `open_image` gives its virtual disk. The format has no
checksums.
"""

from undercroft.disks.vdi.image import inspect, open_image

__all__ = ["inspect", "open_image"]
