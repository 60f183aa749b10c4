"""LVM2: volume groups of the physical volumes that were given, as the guest's kernel would map them.

`assemble` takes physical volumes and gives a device for each logical volume: linear, striped, mirrored, RAID
0, 1, 5 and 10, thin, snapshots of both kinds. Labels, areas, texts and the tables of thin pools have
checksums, each of which is checked. Nothing is activated and nothing is written.
"""

from undercroft.disks.lvm.groups import assemble

__all__ = ["assemble"]
