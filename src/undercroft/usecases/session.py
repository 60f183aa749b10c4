"""From a request to an opened machine: the reader started, libvirt asked where a domain was named."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from undercroft.model.disk import DiskFormat
from undercroft.ports.reader import Reader
from undercroft.usecases.domaintarget import domain_target, known_images
from undercroft.usecases.keys import KeyRing
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.target import MachineTarget, NamedFile, from_images


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
        keys: for encrypted volumes; they stay the caller's.
    """

    images: tuple[str, ...] = ()
    domain: str = ""
    connect: str = ""
    image_format: DiskFormat | None = None
    backing_files: tuple[str, ...] = ()
    data_files: tuple[str, ...] = ()
    keys: KeyRing | None = None


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
        yield stack.enter_context(OpenMachine(target, reader, keys=request.keys))


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
    return domain_target(
        machine.name,
        machine.disks,
        still,
        backing_files=(*(NamedFile(path) for path in request.backing_files), *known_images(machine.images)),
        data_files=tuple(NamedFile(path, DiskFormat.RAW) for path in request.data_files),
        snapshots=machine.snapshots,
        problem=machine.problem,
    )
