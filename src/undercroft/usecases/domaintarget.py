"""A domain's disks, as libvirt has them, as disks that may be opened."""

from collections.abc import Callable, Sequence

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import ChainEntry, DomainDisk, DomainSnapshot
from undercroft.ports.hypervisor import PointInTime
from undercroft.usecases.target import DiskTarget, ExternalSnapshot, LiveExport, MachineTarget, NamedFile


def domain_target(
    name: str,
    disks: Sequence[DomainDisk],
    still: PointInTime | None = None,
    *,
    backing_files: Sequence[NamedFile] = (),
    data_files: Sequence[NamedFile] = (),
    find_backing: Callable[[str, str], NamedFile] | None = None,
    find_data: Callable[[str, str], NamedFile] | None = None,
    snapshots: Sequence[DomainSnapshot] = (),
    problem: str = "",
) -> MachineTarget:
    """Return a domain as a machine that can be opened; drives for removable media are left out.

    Args:
        name: of the domain.
        disks: in the order of the definition.
        still: the point in time at which a running domain is held; None for one that is off.
        backing_files: as in `MachineTarget`, for chains that libvirt does not name.
        data_files: the same for external data files.
        find_backing: as in `MachineTarget`.
        find_data: as in `MachineTarget`.
        snapshots: what libvirt has of it; external ones become states of the files below.
        problem: which snapshot libvirt could not tell, "" for none.
    """
    targets = tuple(_disk_target(disk, still) for disk in disks if not disk.removable)
    return MachineTarget(
        name,
        targets,
        backing_files=tuple(backing_files),
        data_files=tuple(data_files),
        find_backing=find_backing,
        find_data=find_data,
        external=tuple(filter(None, map(_external, snapshots))),
        problem=problem,
    )


def known_images(images: Sequence[ChainEntry]) -> tuple[NamedFile, ...]:
    """Return images that libvirt names beside the present chain as files that may lie below."""
    known = {kind.value for kind in DiskFormat}
    return tuple(NamedFile(image.path, DiskFormat(image.format)) for image in images if image.format in known)


def _external(snapshot: DomainSnapshot) -> ExternalSnapshot | None:
    """Return a snapshot as the images that it put on top, None for one that put none there."""
    overlays = {disk.target: disk.path for disk in snapshot.disks if disk.kind == "external" and disk.path}
    return ExternalSnapshot(snapshot.name, snapshot.created_at_s, overlays) if overlays else None


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
