"""Scans of whole machines and of images: read first, with no transaction open, then put on record together.

scans = scan_stopped(scanner, view.files, host, domain)
with records.transaction() as record:
keys = put_scans(record, scans)
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from undercroft.adapters.hookfiles import save_sample
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.domain import Domain, DomainSnapshot, PoolVolume
from undercroft.model.execution import Fingerprint, SaveImage
from undercroft.model.fleet import FileIdentity, Scan
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.hypervisor import PointInTime
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history import states as historystates
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.scanning import Scanned, Scanner, put_scanned
from undercroft.usecases.fleet.reading.snapshotdisks import whereabouts
from undercroft.usecases.fleet.subjects import domain_subjects, image_subject, own_snapshots

MAX_OWN_SNAPSHOTS = 128
"""Of those that only the images know: whoever hands in an image writes its table, and each costs a reader."""

_EXTERNAL = "external"


@dataclass(frozen=True, slots=True)
class MachineScans:
    """What was read of one machine, or of one image.

    Attributes:
        domain: the machine as it was when its images were opened, None for an image.
        scanned: its states.
        running: its current state was read while it ran.
        save: its managed save image, None for none.
    """

    domain: Domain | None
    scanned: tuple[Scanned, ...]
    running: bool = False
    save: SaveImage | None = None


def scan_stopped(
    scanner: Scanner, files: HostFiles, host: str, domain: Domain, *, credentials: bool = False
) -> MachineScans:
    """Read the current state and all snapshots of a machine that is off."""
    current, *snapshots = domain_subjects(host, domain)
    internal, external = _apart(domain, snapshots)
    target = files.target_for(domain)
    scanned = scanner.scan_states(target, (current, *internal), credentials=credentials)
    more = own_snapshots(host, domain, scanned[0].snapshots)
    if more:
        scanned += scanner.scan_states(target, more[:MAX_OWN_SNAPSHOTS], credentials=credentials)
    for subject in more[MAX_OWN_SNAPSHOTS : MAX_OWN_SNAPSHOTS + 1]:
        told = f"its images hold {len(more)} snapshots that libvirt does not know: from this one on unread"
        scanned += (scanner.failed(subject, InputError(f"{domain.name}: {told}")),)
    scanned += _external(scanner, files, domain, external, credentials=credentials)
    return MachineScans(domain, scanned, save=_managed_save(domain))


def scan_running(
    scanner: Scanner,
    files: HostFiles,
    host: str,
    domain: Domain,
    still: PointInTime,
    *,
    credentials: bool = False,
) -> MachineScans:
    """Read the current state of a running machine that is held at one point in time."""
    subject = domain_subjects(host, domain)[0]
    scanned = scanner.scan_states(files.target_for(domain, still), (subject,), credentials=credentials)
    return MachineScans(domain, scanned, running=True)


def scan_snapshots(
    scanner: Scanner, files: HostFiles, host: str, domain: Domain, *, credentials: bool = False
) -> MachineScans:
    """Read the snapshots of a machine, which may run: their clusters stay as they are."""
    internal, external = _apart(domain, domain_subjects(host, domain)[1:])
    scanned = scanner.scan_states(files.target_for(domain), internal, credentials=credentials)
    scanned += _external(scanner, files, domain, external, credentials=credentials)
    return MachineScans(domain, scanned)


def scan_image(scanner: Scanner, files: HostFiles, host: str, volume: PoolVolume) -> MachineScans:
    """Read an image that no machine uses."""
    return MachineScans(None, (scanner.scan(files.target_for_image(volume), image_subject(host, volume)),))


def put_scans(record: Record, scans: MachineScans) -> tuple[str, ...]:
    """Put scans on record, and the states that they show into the history.

    Returns:
        The keys of the subjects, which are to be judged.
    """
    domain = scans.domain
    for one in scans.scanned:
        scan = put_scanned(record, one)
        _state_seen(record, scans, one, scan)
    if domain is not None and scans.save is not None:
        historystates.save_seen(record, domain.uuid, scans.save)
    if domain is not None:
        _drop_gone(record, domain, scans.scanned)
    return tuple(one.subject.key for one in scans.scanned)


def _drop_gone(record: Record, domain: Domain, scanned: Sequence[Scanned]) -> None:
    """Forget the subjects of snapshots that neither libvirt nor the images' tables name any more."""
    if not any(one.reading for one in scanned):
        return  # the tables are unread: nothing is known to be gone
    host = scanned[0].subject.host
    there = {subject.key for subject in domain_subjects(host, domain)}
    there |= {subject.key for one in scanned for subject in own_snapshots(host, domain, one.snapshots)}
    gone = [subject.key for subject in record.subjects(domain.uuid) if subject.key not in there]
    if gone:
        record.drop_subjects(gone)


def _apart(
    domain: Domain, snapshots: Sequence[Subject]
) -> tuple[tuple[Subject, ...], tuple[tuple[Subject, DomainSnapshot], ...]]:
    """Return the snapshots that the images hold, and those with files or a name that need a closer look."""
    listed = {snapshot.name: snapshot for snapshot in domain.snapshots}
    external = [
        (subject, listed[subject.state])
        for subject in snapshots
        if subject.state == CURRENT or any(disk.kind == _EXTERNAL for disk in listed[subject.state].disks)
    ]
    apart = {subject.key for subject, _ in external}
    return tuple(subject for subject in snapshots if subject.key not in apart), tuple(external)


def _external(
    scanner: Scanner,
    files: HostFiles,
    domain: Domain,
    snapshots: Iterable[tuple[Subject, DomainSnapshot]],
    *,
    credentials: bool,
) -> tuple[Scanned, ...]:
    """Read external snapshots: what lies below the images that they put on top."""
    found = []
    for subject, snapshot in snapshots:
        try:
            place = whereabouts(domain, snapshot)
        except UnsupportedError as error:
            found.append(scanner.failed(subject, error))
            continue
        asked = replace(subject, state=place.state)
        scanned = scanner.scan(files.target_for(place.domain), asked, credentials=credentials)
        found.append(replace(scanned, subject=subject))
    return tuple(found)


def _state_seen(record: Record, scans: MachineScans, one: Scanned, scan: Scan) -> None:
    mark = Fingerprint(scan.fingerprint, scan.lineage) if scan.fingerprint else None
    subject, domain = one.subject, scans.domain
    match subject.kind:
        case SubjectKind.SNAPSHOT if domain is not None:
            historystates.snapshot_seen(record, domain.uuid, _snapshot(domain, one), mark)
        case SubjectKind.MACHINE if domain is not None and not scans.running:
            historystates.end_seen(record, domain.uuid, mark, _tops(one), one.at)
        case SubjectKind.TEMPLATE if domain is not None:
            for disk in domain.disks[:1]:
                historystates.image_seen(record, subject.host, disk.path, mark, one.at)
        case SubjectKind.IMAGE:
            historystates.image_seen(record, subject.host, subject.name, mark, one.at)


def _snapshot(domain: Domain, one: Scanned) -> DomainSnapshot:
    """Return the snapshot as libvirt lists it, or as the image's own table does."""
    name = one.subject.state
    for snapshot in domain.snapshots:
        if snapshot.name == name:
            return snapshot
    listed = next((entry for entry in one.snapshots if entry.name == name), None)
    created_at_s = listed.created_at_s if listed else 0
    memory = "internal" if listed and listed.vm_state_bytes else "no"
    return DomainSnapshot(name, "", created_at_s, "running" if memory == "internal" else "shutoff", memory)


def _tops(one: Scanned) -> tuple[FileIdentity, ...]:
    count = len(one.reading.snapshots) if one.reading else 0
    return one.files[:count]


def _managed_save(domain: Domain) -> SaveImage | None:
    """Return the managed save image of a machine, None where there is none that can be read."""
    if not domain.managed_save:
        return None
    with suppress(OSError), open(domain.managed_save, "rb") as file:
        found = os.fstat(file.fileno())
        return SaveImage(
            path=domain.managed_save,
            device=found.st_dev,
            inode=found.st_ino,
            size_bytes=found.st_size,
            modified_ns=found.st_mtime_ns,
            sample=save_sample(file.fileno()),
        )
    return None
