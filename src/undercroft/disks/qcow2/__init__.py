"""QEMU's qcow2 images, versions 2 and 3, read-only and without trust in the image.

`inspect` tells what an image says of itself; `open_image` gives the virtual disk of its current state or
of an internal snapshot as a block source. Both take the image file as a block source, read within fixed
limits (a few MiB of memory per image, whatever its size) and raise `InputError` for what is malformed.

    info = qcow2.inspect(source)
    disk = qcow2.open_image(source, snapshot=info.snapshots[0].ident)
    first_sector = disk.read(0, 512)
"""

from undercroft.disks.qcow2.image import Qcow2Source, inspect, open_image

__all__ = ["Qcow2Source", "inspect", "open_image"]
