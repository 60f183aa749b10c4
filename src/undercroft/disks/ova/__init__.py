"""OVA archives and OVF folders, read in place: which disks a virtual appliance has, and where they lie.

`inspect` lists the disks of the one machine that the envelope describes; each is a part of the archive, or a
file whose name is a value. Nothing is unpacked. A manifest's digests are checked up to a limit.
"""

from undercroft.disks.ova.image import inspect

__all__ = ["inspect"]
