"""A domain's disks, as libvirt has them, as disks that may be opened."""

from collections.abc import Callable, Sequence

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import DomainDisk
from undercroft.ports.hypervisor import PointInTime
from undercroft.usecases.target import DiskTarget, LiveExport, MachineTarget, NamedFile


def domain_target(
    name: str,
    disks: Sequence[DomainDisk],
    still: PointInTime | None = None,
    *,
    backing_files: Sequence[NamedFile] = (),
    data_files: Sequence[NamedFile] = (),
    find_backing: Callable[[str, str], NamedFile] | None = None,
) -> MachineTarget:
    """Return a domain as a machine that can be opened; drives for removable media are left out.

    Args:
        name: of the domain.
        disks: in the order of the definition.
        still: the point in time at which a running domain is held; None for one that is off.
        backing_files: as in `MachineTarget`, for chains that libvirt does not name.
        data_files: the same for external data files.
        find_backing: as in `MachineTarget`.
    """
    targets = tuple(_disk_target(disk, still) for disk in disks if not disk.removable)
    return MachineTarget(name, targets, tuple(backing_files), tuple(data_files), find_backing)


def _disk_target(disk: DomainDisk, still: PointInTime | None) -> DiskTarget:
    """Return a domain's disk as a target: libvirt's files, and the live export where there is one."""
    live = None
    if still is not None and disk.target in still.targets:
        target = disk.target
        live = LiveExport(target, lambda: still.connect(target), still.check)
    unread = disk.problem
    if still is not None and live is None:
        unread = unread or still.unavailable.get(disk.target, "not part of the point in time")
    try:
        image = NamedFile(disk.path, DiskFormat(disk.format)) if disk.path and not unread else None
        chain = tuple(
            NamedFile(entry.path, DiskFormat(entry.format) if entry.format else None)
            for entry in disk.chain or ()
        )
    except ValueError:
        image, chain, unread = None, (), f"format {disk.format!r} or one of its chain is unsupported"
    return DiskTarget(
        name=disk.target,
        image=image,
        chain=None if disk.chain is None else chain,
        data_file=NamedFile(disk.data_file, DiskFormat.RAW) if disk.data_file else None,
        format_source="libvirt",
        live=live,
        unread=unread,
    )
