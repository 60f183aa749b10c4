"""From a request to an opened machine: the reader started, libvirt asked where a domain was named."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import DomainDisk
from undercroft.ports.hypervisor import PointInTime
from undercroft.ports.reader import Reader
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.target import DiskTarget, LiveExport, MachineTarget, NamedFile, from_images


@dataclass(frozen=True, slots=True)
class Request:
    """Which machine is meant, and how it may be read.

    Attributes:
        images: its disks as image files or block devices; empty where a domain is named.
        domain: a libvirt domain's name, ID or UUID; "" for none.
        connect: libvirt URI, "" for libvirt's default.
        image_format: format of the images; None to tell it from their bytes.
        backing_files: the only files that may be opened as backing files.
        data_files: the only files that may be opened as external data files.
    """

    images: tuple[str, ...] = ()
    domain: str = ""
    connect: str = ""
    image_format: DiskFormat | None = None
    backing_files: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()


def start_reader(*, sandbox: bool = True) -> Reader:
    """Start a reader; it becomes ready while the caller goes on.

    Raises:
        DeniedError: there is no sandbox to be had here; the message says how to get one.
    """
    if sandbox:
        from undercroft.sandbox.launcher import start  # noqa: PLC0415 - either one, never both

        return start()
    from undercroft.sandbox.inprocess import InProcessReader  # noqa: PLC0415

    return InProcessReader()


@contextmanager
def open_machine(request: Request, reader: Reader) -> Iterator[OpenMachine]:
    """Open the requested machine; a running domain is held at one point in time until the end.

    Raises what `OpenMachine` and the libvirt adapter raise.
    """
    with ExitStack() as stack:
        target = _domain_target(request, stack) if request.domain else _image_target(request)
        yield stack.enter_context(OpenMachine(target, reader))


def _image_target(request: Request) -> MachineTarget:
    return from_images(
        request.images,
        image_format=request.image_format,
        backing_files=request.backing_files,
        data_files=request.data_files,
    )


def _domain_target(request: Request, stack: ExitStack) -> MachineTarget:
    """Ask libvirt for a domain's disks; hold a running one still until `stack` closes."""
    from undercroft.adapters.libvirt import LibvirtHypervisor  # noqa: PLC0415 - only for -d

    hypervisor = stack.enter_context(LibvirtHypervisor(request.connect))
    machine = hypervisor.find(request.domain)
    still = stack.enter_context(hypervisor.point_in_time(machine)) if machine.running else None
    disks = tuple(_domain_disk(disk, still) for disk in machine.disks if not disk.removable)
    backing_files = tuple(NamedFile(path) for path in request.backing_files)
    data_files = tuple(NamedFile(path, DiskFormat.RAW) for path in request.data_files)
    return MachineTarget(machine.name, disks, backing_files, data_files)


def _domain_disk(disk: DomainDisk, still: PointInTime | None) -> DiskTarget:
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
