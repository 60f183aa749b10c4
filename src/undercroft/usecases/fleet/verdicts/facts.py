"""What the record holds of every subject, gathered as the facts that a policy judges.

Many subjects share one software and one floor: what follows from the two is worked out once for all of them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from undercroft.errors import NotFoundError
from undercroft.lineage.floor import returning, unproven
from undercroft.model.comeback import Returning
from undercroft.model.domain import Domain, Interface
from undercroft.model.execution import Origin
from undercroft.model.finding import Assessment
from undercroft.model.fleet import Floor, FloorEntry, Hold, MachineRecord, Scan
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.records import Record
from undercroft.steady.facts import Facts, FixesSeen
from undercroft.steady.policy import Target

GOES_ON = frozenset({Origin.FIRST, Origin.START, Origin.RESTORE, Origin.MIGRATE})
"""Origins that are no rollback."""


def goes_on(subject: Subject, origin: Origin | None) -> bool:
    """Tell whether a state that was just read goes on from where its machine was.

    Args:
        subject: what was read; a snapshot never does.
        origin: of the start that it is read for, or of the execution that lives; None where none is known.
    """
    return subject.kind is SubjectKind.MACHINE and origin in GOES_ON


@dataclass(frozen=True, slots=True)
class Known:
    """What one look at the record gave for a whole round of judgements.

    Attributes:
        machines: by UUID.
        scans: by subject key.
        holds: by machine.
        floors: by machine.
        assessments: by software digest; objects are shared among subjects.
        fixes: by software digest, since when the fixes that nobody dates have been there.
        mark: of the advisories that were asked.
    """

    machines: Mapping[str, MachineRecord]
    scans: Mapping[str, Scan]
    holds: Mapping[str, Hold]
    floors: Mapping[str, Floor]
    assessments: Mapping[str, Assessment]
    fixes: Mapping[str, FixesSeen]
    mark: str
    _against_floor: dict[tuple[str, tuple[FloorEntry, ...]], tuple[tuple[str, ...], tuple[str, ...]]] = field(
        default_factory=dict
    )

    def against_floor(
        self, record: Record, software: str, assessment: Assessment, floor: Floor
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what a software lacks of a floor, in words, and the sources whose versions prove nothing."""
        if not floor.entries:
            return (), ()
        place = software, floor.entries
        if place not in self._against_floor:
            try:
                inventory = record.software(software)
            except NotFoundError:
                return (), ("all of it: the inventory is not on record",)
            below = tuple(below_words(item) for item in returning(floor, inventory, assessment))
            self._against_floor[place] = below, unproven(floor, inventory, assessment)
        return self._against_floor[place]


def facts_of(record: Record, known: Known, subject: Subject) -> Facts:
    """Return what is known of one subject; `known` is the round's view of the record.

    A machine's present state counts as going on from where it was; whoever decides about a start or a release
    asks the lineage (`goes_on`).
    """
    scan = known.scans.get(subject.key)
    software = scan.software if scan else ""
    assessment = known.assessments.get(software)
    machine = known.machines.get(subject.machine)
    floor = known.floors.get(subject.machine, Floor(subject.machine))
    below: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    if assessment:
        below, unlisted = known.against_floor(record, software, assessment, floor)
    facts = Facts(
        subject=subject,
        target=target_of(subject, machine),
        scan=scan,
        assessment=assessment,
        advisories=known.mark,
        fixes_seen=known.fixes.get(software, {}),
        has_floor=bool(floor.entries),
        below_floor=below,
        floor_unproven=unlisted,
        goes_on=subject.kind is SubjectKind.MACHINE,
    )
    return facts if machine is None else of_domain(facts, machine.domain, known.holds)


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
        beside=domain.beside,
        has_memory_snapshots=facts.has_memory_snapshots
        or any(snapshot.memory != "no" for snapshot in domain.snapshots),
        unholdable=unholdable(domain.interfaces),
        in_quarantine=is_current and hold is not None and not hold.pending,
        running=is_current and domain.power.has_process,
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


def below_words(item: Returning) -> str:
    """Return what is below the floor: "CVE-2024-1 in openssl", or the release that goes back."""
    if not item.source:
        return f"release {item.installed_version}, which was {item.floor_version}"
    return f"{item.vulnerability} in {item.source}"
