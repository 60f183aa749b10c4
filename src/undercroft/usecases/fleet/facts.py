"""What the record holds of every subject, gathered as the facts that a policy judges.

Many subjects share one software and one floor: what follows from the two is worked out once for all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from undercroft.advisories.releases import known_release
from undercroft.errors import NotFoundError
from undercroft.lineage.floor import returning, unproven
from undercroft.model.comeback import Returning
from undercroft.model.domain import Domain, Interface, Power
from undercroft.model.finding import Assessment, FixState
from undercroft.model.fleet import Floor, FloorEntry, Hold, MachineRecord, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.records import Record
from undercroft.steady.facts import Facts, FixesSeen
from undercroft.steady.policy import Target

_ACTIVE = frozenset({Power.RUNNING, Power.PAUSED})


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the record gave for a whole round of judgements.

    Attributes:
        machines: by UUID.
        scans: by subject key.
        holds: by machine.
        floors: by machine.
        assessments: by software digest; objects are shared among subjects.
        mark: of the advisories that were asked.
    """

    machines: Mapping[str, MachineRecord]
    scans: Mapping[str, Scan]
    holds: Mapping[str, Hold]
    floors: Mapping[str, Floor]
    assessments: Mapping[str, Assessment]
    mark: str
    _below: dict[tuple[str, tuple[FloorEntry, ...]], tuple[tuple[str, ...], tuple[str, ...]]] = field(
        default_factory=dict
    )
    _fixes: dict[str, FixesSeen] = field(default_factory=dict)


def known(record: Record, assessments: Mapping[str, Assessment], mark: str) -> Known:
    """Return everything on record that judgements rest on."""
    return Known(
        machines={machine.domain.uuid: machine for machine in record.machines()},
        scans=record.scans(),
        holds={hold.machine: hold for hold in record.holds()},
        floors=record.floors(),
        assessments=assessments,
        mark=mark,
    )


def facts_of(record: Record, now_known: Known, subject: Subject, now: datetime) -> Facts:
    """Return what is known of one subject.

    Args:
        record: a transaction that may write: fixes that are seen for the first time are noted in it.
        now_known: the round's view.
        subject: whose facts.
        now: with a time zone.
    """
    scan = now_known.scans.get(subject.key)
    assessment = now_known.assessments.get(scan.software) if scan and scan.software else None
    machine = now_known.machines.get(subject.machine)
    seen: FixesSeen = {}
    below: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    floor = now_known.floors.get(subject.machine, Floor(subject.machine))
    if scan and assessment:
        seen = _fixes_seen(record, now_known, scan.software, assessment, now)
        below, unlisted = _against_floor(record, now_known, scan.software, assessment, floor)
    facts = Facts(
        subject=subject,
        target=target_of(subject, machine),
        scan=scan,
        assessment=assessment,
        advisories=now_known.mark,
        fixes_seen=seen,
        has_floor=bool(floor.entries),
        below_floor=below,
        floor_unproven=unlisted,
    )
    return facts if machine is None else of_domain(facts, machine.domain, now_known.holds)


def of_domain(facts: Facts, domain: Domain, holds: Mapping[str, Hold]) -> Facts:
    """Return facts completed by what the hypervisor says of the machine."""
    ownership = domain.ownership
    hold = holds.get(domain.uuid)
    is_current = facts.subject.kind is not SubjectKind.SNAPSHOT
    return replace(
        facts,
        ownership_problem=ownership.problem,
        expires_on=ownership.expires_on,
        template=ownership.template,
        genid=domain.genid,
        has_memory_snapshots=facts.has_memory_snapshots
        or any(snapshot.memory != "no" for snapshot in domain.snapshots),
        unholdable=unholdable(domain.interfaces),
        in_quarantine=is_current and hold is not None and not hold.pending,
        running=is_current and domain.power in _ACTIVE,
    )


def target_of(subject: Subject, machine: MachineRecord | None) -> Target:
    """Return what rules are matched with: the machine's own names, or an image's path."""
    if machine is None:
        return Target(subject.name, host=subject.host)
    return domain_target(machine.domain, machine.host)


def domain_target(domain: Domain, host: str) -> Target:
    """Return what rules are matched with for a machine."""
    names = {name for item in domain.interfaces for name in (item.source, item.bridge) if name}
    return Target(
        name=domain.name,
        labels=domain.ownership.labels,
        owner=domain.ownership.owner,
        networks=tuple(sorted(names)),
        host=host,
    )


def unholdable(interfaces: Iterable[Interface]) -> tuple[str, ...]:
    """Return the interfaces whose traffic the host cannot hold back, in words."""
    return tuple(f"{item.kind} {item.mac}".rstrip() for item in interfaces if not item.holdable)


def _against_floor(
    record: Record, now_known: Known, software: str, assessment: Assessment, floor: Floor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not floor.entries:
        return (), ()
    place = software, floor.entries
    if place not in now_known._below:  # noqa: SLF001 - this module's own
        try:
            inventory = record.software(software)
        except NotFoundError:
            return (), ()
        below = returning(floor, inventory, assessment)
        sentences = tuple(below_words(item) for item in below)
        now_known._below[place] = sentences, unproven(floor, inventory, assessment)  # noqa: SLF001
    return now_known._below[place]  # noqa: SLF001


def below_words(item: Returning) -> str:
    """Return what is below the floor: "CVE-2024-1 in openssl", or the release that goes back."""
    if not item.source:
        return f"release {item.installed_version}, which was {item.floor_version}"
    return f"{item.vulnerability} in {item.source}"


def _fixes_seen(
    record: Record, now_known: Known, software: str, assessment: Assessment, now: datetime
) -> FixesSeen:
    if software not in now_known._fixes:  # noqa: SLF001
        now_known._fixes[software] = fixes_seen(record, record.software(software), assessment, now)  # noqa: SLF001
    return now_known._fixes[software]  # noqa: SLF001


def fixes_seen(record: Record, inventory: Inventory, assessment: Assessment, now: datetime) -> FixesSeen:
    """Return since when the fixes that nobody dates have been there, by (source, vulnerability)."""
    release = known_release(inventory)
    wanted = [
        (release, finding.source, finding.vulnerability)
        for finding in assessment.findings
        if finding.fix is FixState.FIXABLE and finding.fixed_on is None
    ]
    if not wanted:
        return {}
    seen = record.seen_fixes(wanted, now)
    return {(source, vulnerability): at for (_, source, vulnerability), at in seen.items()}
