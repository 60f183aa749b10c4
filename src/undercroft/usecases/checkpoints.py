"""Checkpoints of other hypervisors: the images below those that a machine has written to since.

VMware, Hyper-V and VirtualBox take a snapshot of a disk as libvirt takes an external one: they leave its
image alone, and put a difference on top. Which snapshot it was only files beside the images tell, which are
not read; its state is there all the same, and is called after the file on top ("before web01-000001.vmdk").
"""

import os
from collections.abc import Sequence
from itertools import accumulate

from undercroft.model.disk import DiskFormat
from undercroft.usecases.disklayers import Layer, OpenDisk
from undercroft.usecases.target import ExternalSnapshot

DIFFERENCES = frozenset({DiskFormat.VMDK, DiskFormat.VHD, DiskFormat.VHDX, DiskFormat.VDI})
"""Formats whose differences are what a snapshot leaves. qcow2's lie on templates as well; of these libvirt
says which are snapshots."""


def checkpoints(disks: Sequence[OpenDisk]) -> tuple[ExternalSnapshot, ...]:
    """Return the states below the differences of a machine's disks, the oldest first.

    Of several disks those belong together that have the same number of images below them: a snapshot is
    one of the whole machine. A disk that has fewer images was left out of it. One that was made later is
    never said to be older, whatever the files' times are.

    Args:
        disks: as they were opened.
    """
    by_depth: dict[int, dict[str, tuple[Layer, Layer]]] = {}
    for disk in disks:
        for place, (top, below) in enumerate(zip(disk.layers, disk.layers[1:], strict=False)):
            if top.info.format in DIFFERENCES and top.part is None:
                by_depth.setdefault(len(disk.layers) - place, {})[disk.target.name] = top, below
    pairs = [by_depth[depth] for depth in sorted(by_depth)]
    tops = [next(iter(pair.values()))[0].file.path for pair in pairs]
    names = [os.path.basename(path) for path in tops]
    written = (max(_written_at_s(below) for _, below in pair.values()) for pair in pairs)
    return tuple(
        ExternalSnapshot(
            f"before {name if names.count(name) == 1 else path}",
            at_s,
            {disk: top.file.path for disk, (top, _) in pair.items()},
        )
        for pair, path, name, at_s in zip(pairs, tops, names, accumulate(written, max), strict=True)
    )


def _written_at_s(layer: Layer) -> int:
    """Return when an image was last written: what lies on top was made then, or its files copied since."""
    return max(int(os.fstat(file.descriptor).st_mtime) for file in layer.files)
