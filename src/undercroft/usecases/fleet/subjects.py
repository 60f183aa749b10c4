"""What is judged: one subject for each machine, template, snapshot and image of no machine.

Their keys stand in `model.verdict.Subject`. Snapshots come from libvirt and from the images' own tables: one
that `qemu-img snapshot` took is known to no libvirt, and starts all the same.
"""

from collections.abc import Iterable, Mapping

from undercroft.model.disk import Snapshot
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.records import Record

IMAGE_FORMATS = frozenset({"qcow2", "raw", ""})
"""Formats of volumes that may hold a machine; "" is a file that the pool does not know."""

_NO_IMAGE = (".iso", ".img.sha256", ".save", ".xml", ".json", ".log", ".sock", ".lock", ".sig", ".txt")


def machine_key(uuid: str, *, template: bool = False) -> str:
    """Return the key of a machine's current state."""
    return f"{'template' if template else 'machine'}:{uuid}"


def snapshot_key(uuid: str, name: str) -> str:
    """Return the key of one of a machine's snapshots."""
    return f"snapshot:{uuid}:{name}"


def image_key(host: str, path: str) -> str:
    """Return the key of an image that no machine uses."""
    return f"image:{host}:{path}"


def state_key(uuid: str, state: str) -> str:
    """Return the key of a machine's state by the name that users give it: "current" or a snapshot's."""
    return machine_key(uuid) if state == CURRENT else snapshot_key(uuid, state)


def domain_subjects(host: str, domain: Domain) -> tuple[Subject, ...]:
    """Return a machine's current state and its snapshots, as libvirt lists them."""
    template = domain.ownership.template
    kind = SubjectKind.TEMPLATE if template else SubjectKind.MACHINE
    key = machine_key(domain.uuid, template=template)
    current = Subject(key, kind, domain.name, host, domain.uuid, CURRENT)
    return (current, *(snapshot_subject(host, domain, snapshot.name) for snapshot in domain.snapshots))


def snapshot_subject(host: str, domain: Domain, name: str) -> Subject:
    """Return one snapshot as a subject."""
    key = snapshot_key(domain.uuid, name)
    return Subject(key, SubjectKind.SNAPSHOT, f"{domain.name}@{name}", host, domain.uuid, name)


def own_snapshots(host: str, domain: Domain, untrusted_table: Iterable[Snapshot]) -> tuple[Subject, ...]:
    """Return the snapshots that only the images' own tables name."""
    known = {snapshot.name for snapshot in domain.snapshots} | {CURRENT}
    names = dict.fromkeys(snapshot.name for snapshot in untrusted_table if snapshot.name not in known)
    return tuple(snapshot_subject(host, domain, name) for name in names if name)


def image_subject(host: str, volume: PoolVolume) -> Subject:
    """Return an image of no machine as a subject."""
    return Subject(image_key(host, volume.path), SubjectKind.IMAGE, volume.path, host)


def survey_subjects(survey: Survey) -> Mapping[str, Subject]:
    """Return all subjects that a survey names, by key."""
    found = [subject for domain in survey.domains for subject in domain_subjects(survey.host, domain)]
    found += [image_subject(survey.host, volume) for volume in unused_images(survey)]
    return {subject.key: subject for subject in found}


def put_subjects(record: Record, survey: Survey) -> None:
    """Add what is new in a survey; drop snapshots, images and machines of its host that are no more."""
    wanted = survey_subjects(survey)
    known = {subject.key: subject for subject in record.subjects() if subject.host == survey.host}
    for key, subject in wanted.items():
        if known.get(key) != subject:
            record.put_subject(subject)
    uuids = {domain.uuid for domain in survey.domains}
    # Snapshots that only the images know are listed by no survey: a scan drops them when they are gone.
    gone = [
        key
        for key, subject in known.items()
        if key not in wanted and not (subject.kind == "snapshot" and subject.machine in uuids)
    ]
    if gone:
        record.drop_subjects(gone)


def unused_images(survey: Survey) -> tuple[PoolVolume, ...]:
    """Return the volumes that no machine uses and that may hold one."""
    return tuple(
        volume
        for volume in survey.unused_volumes()
        if volume.format in IMAGE_FORMATS and not volume.path.lower().endswith(_NO_IMAGE)
    )
