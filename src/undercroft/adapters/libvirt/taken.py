"""What was taken of a machine and libvirt keeps: its snapshots and checkpoints, each asked for by itself.

One that goes while the list is read is none; one that cannot be read is the machine's problem.
"""

from dataclasses import dataclass, replace

from undercroft.adapters.libvirt import machine_xml
from undercroft.adapters.libvirt.bindings import Checkpoint, Connection, Libvirt, code, message
from undercroft.adapters.libvirt.bindings import Domain as Handle
from undercroft.adapters.libvirt.connections import raise_when_dead
from undercroft.errors import InputError
from undercroft.model.domain import ChainEntry, Domain, DomainCheckpoint, DomainSnapshot

MAX_SNAPSHOTS = 10_000
"""Of one machine; each snapshot's XML holds the machine's own."""
MAX_CHECKPOINTS = 10_000


def with_snapshots(libvirt: Libvirt, connection: Connection, handle: Handle, found: Domain) -> Domain:
    """Return a machine with its snapshots. Raises libvirtError where they cannot be listed."""
    told = snapshots_of(libvirt, connection, handle, found.problem)
    return replace(found, snapshots=told.snapshots, problem=told.problem)


@dataclass(frozen=True, slots=True)
class Taken:
    """A machine's snapshots, parents first, and the first problem with them, "" for none.

    `images` are those that it wrote to when they were taken, where they were asked for.
    """

    snapshots: tuple[DomainSnapshot, ...]
    images: tuple[ChainEntry, ...] = ()
    problem: str = ""


def snapshots_of(
    libvirt: Libvirt, connection: Connection, handle: Handle, problem: str = "", *, with_images: bool = False
) -> Taken:
    """Return a machine's snapshots; `problem` is one that it has already.

    Raises libvirtError where they cannot be listed.
    """
    images: dict[str, ChainEntry] = {}
    listed = handle.listAllSnapshots()
    current = _current_snapshot(libvirt, handle) if listed else ""
    snapshots: list[DomainSnapshot] = []
    if len(listed) > MAX_SNAPSHOTS:
        problem = f"{len(listed)} snapshots, {MAX_SNAPSHOTS} are read"
    for snapshot in listed[:MAX_SNAPSHOTS]:
        try:
            is_current = snapshot.getName() == current
            untrusted_xml = snapshot.getXMLDesc()
            snapshots.append(machine_xml.parse_snapshot(untrusted_xml, current=is_current))
            if with_images:
                images |= {image.path: image for image in machine_xml.parse_snapshot_images(untrusted_xml)}
        except (libvirt.libvirtError, InputError, UnicodeDecodeError) as error:
            if code(error) == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
                continue
            raise_when_dead(libvirt, connection, error)
            problem = problem or f"snapshot {snapshot.getName()!r}: unread, {message(error)}"
    return Taken(machine_xml.parents_first(snapshots), tuple(images.values()), problem)


def _current_snapshot(libvirt: Libvirt, handle: Handle) -> str:
    try:
        return handle.snapshotCurrent().getName()
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_DOMAIN_SNAPSHOT:
            return ""
        raise


def with_checkpoints(libvirt: Libvirt, connection: Connection, handle: Handle, found: Domain) -> Domain:
    """Return a machine with its checkpoints. Raises libvirtError where they cannot be listed."""
    listed = _listed_checkpoints(libvirt, handle)
    checkpoints: list[DomainCheckpoint] = []
    problem = found.problem
    if len(listed) > MAX_CHECKPOINTS:
        problem = problem or f"{len(listed)} checkpoints, {MAX_CHECKPOINTS} are read"
    for checkpoint in listed[:MAX_CHECKPOINTS]:
        try:
            xml = checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN)
            checkpoints.append(machine_xml.parse_checkpoint(xml))
        except (libvirt.libvirtError, InputError, UnicodeDecodeError) as error:
            if code(error) == libvirt.VIR_ERR_NO_DOMAIN_CHECKPOINT:
                continue
            raise_when_dead(libvirt, connection, error)
            problem = problem or f"checkpoint {checkpoint.getName()!r}: unread, {message(error)}"
    return replace(found, checkpoints=machine_xml.parents_first(checkpoints), problem=problem)


def _listed_checkpoints(libvirt: Libvirt, handle: Handle) -> list[Checkpoint]:
    try:
        return handle.listAllCheckpoints()
    except libvirt.libvirtError as error:
        if code(error) == libvirt.VIR_ERR_NO_SUPPORT:
            return []
        raise
