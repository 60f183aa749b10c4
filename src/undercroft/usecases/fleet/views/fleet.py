"""The fleet's table from a record: every machine in every state, worst first.

A thing without a judgement stands there as unknown; nothing that is on record is left out.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from undercroft.lineage.alarms import alarms
from undercroft.model.domain import Domain, Ownership, Survey
from undercroft.model.execution import Execution
from undercroft.model.fleet import Hold, MachineRecord, Scan
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Judgement, Outcome, Subject, SubjectKind, Verdict
from undercroft.ports.records import Record
from undercroft.steady.rules import FLOOR
from undercroft.usecases.fleet.subjects import domain_subjects
from undercroft.usecases.fleet.views.values import FleetRow, FleetView, Network

_BADNESS = (Verdict.QUARANTINED, Verdict.UNKNOWN, Verdict.DRIFTING, Verdict.STEADY)
_KINDS = (SubjectKind.MACHINE, SubjectKind.TEMPLATE, SubjectKind.IMAGE, SubjectKind.SNAPSHOT)
_LOOKED_BACK = 5
"""Pages of the log that are searched for the agent's last word."""
_PAGE = 1000
_STOPPED = '"agent":"stopped"'
"""In the canonical body of the agent's last entry before it ends."""
_DIGITS = re.compile(r"(\d+)")

Identities = frozenset[tuple[str, str]]
"""The findings of one software digest: vulnerability and source package."""


class Facts:
    """What a record says, asked once for many rows.

    Args:
        record: an open transaction; it has to stay open.
        machines: all that are there, on the hosts that are wanted.
        machine: UUID of the only machine that is wanted, "" for all.
    """

    def __init__(self, record: Record, machines: Sequence[MachineRecord], machine: str = "") -> None:
        self._record = record
        self.judgements: Mapping[str, Judgement] = record.judgements()
        self.scans: Mapping[str, Scan] = record.scans(machine)
        self.holds: Mapping[str, Hold] = {hold.machine: hold for hold in record.holds()}
        self.alarms = _alarms(record.live_executions(), machines)
        self._findings: dict[str, Identities | None] = {}

    def brought_back(self, snapshot: Subject, current: str) -> int | None:
        """Return how many findings going back to a snapshot would bring back, None where nobody knows.

        Those below the machine's patch floor; where there are none, those that its current state lacks.
        """
        judgement = self.judgements.get(snapshot.key)
        for result in judgement.results if judgement else ():
            if result.rule == FLOOR and result.outcome is Outcome.UNKNOWN:
                return None
            if result.rule == FLOOR and result.items:
                return len(result.items)
        return self._lacking(snapshot.key, current)

    def _lacking(self, snapshot: str, current: str) -> int | None:
        old, new = (self._software(key) for key in (snapshot, current))
        if old and old == new:
            return 0
        before, after = self._identities(old), self._identities(new)
        return None if before is None or after is None else len(before - after)

    def _software(self, subject: str) -> str:
        scan = self.scans.get(subject)
        return scan.software if scan else ""

    def _identities(self, software: str) -> Identities | None:
        if software not in self._findings:
            assessment = self._record.assessment(software) if software else None
            self._findings[software] = (
                frozenset((finding.vulnerability, finding.source) for finding in assessment.findings)
                if assessment
                else None
            )
        return self._findings[software]


def fleet_view(record: Record, now: datetime) -> FleetView:
    """Return the fleet as it is on record. Raises OperationError.

    Args:
        record: an open transaction.
        now: with a time zone.
    """
    machines = record.machines()
    facts = Facts(record, machines)
    snapshots, images = _by_machine(record.subjects())
    groups = [machine_rows(facts, machine, snapshots[machine.domain.uuid]) for machine in machines]
    groups += [(_row(facts, subject),) for subject in images]
    groups.sort(key=lambda rows: _urgency(rows[0]))
    surveyed = _surveyed(machines)
    heard_at, stopped = _last_word(record)
    return FleetView(
        taken_at=now,
        as_of=min(surveyed.values(), default=None),
        agent_heard_at=heard_at,
        agent_stopped=stopped,
        hosts=tuple(sorted({subject.host for subject in images} | surveyed.keys())),
        rows=tuple(row for rows in groups for row in rows),
    )


def machine_rows(facts: Facts, machine: MachineRecord, recorded: Iterable[Subject]) -> tuple[FleetRow, ...]:
    """Return a machine's row and those of its snapshots, as libvirt lists them, then those it does not know.

    Args:
        facts: of this machine at least.
        machine: the machine.
        recorded: its snapshots among the record's subjects.
    """
    domain = machine.domain
    current, *snapshots = domain_subjects(machine.host, domain)
    known = {subject.key for subject in snapshots}
    snapshots += [subject for subject in recorded if subject.key not in known]
    return (
        _row(facts, current, domain),
        *(_row(facts, subject, domain, current=current.key) for subject in snapshots),
    )


def snapshots_of(subjects: Iterable[Subject]) -> tuple[Subject, ...]:
    """Return the snapshots among subjects."""
    return tuple(subject for subject in subjects if subject.kind is SubjectKind.SNAPSHOT)


def _by_machine(subjects: Iterable[Subject]) -> tuple[Mapping[str, list[Subject]], list[Subject]]:
    """Return the snapshots by their machine, and what belongs to no machine."""
    snapshots: dict[str, list[Subject]] = defaultdict(list)
    images = []
    for subject in subjects:
        if subject.kind is SubjectKind.SNAPSHOT:
            snapshots[subject.machine].append(subject)
        elif not subject.machine:
            images.append(subject)
    return snapshots, images


def _row(facts: Facts, subject: Subject, domain: Domain | None = None, *, current: str = "") -> FleetRow:
    judgement, scan = facts.judgements.get(subject.key), facts.scans.get(subject.key)
    ownership = domain.ownership if domain else Ownership()
    itself = domain if subject.state == CURRENT and not current else None
    hold = facts.holds.get(itself.uuid) if itself else None
    why = judgement.why if judgement else _not_judged(scan, domain)
    return FleetRow(
        subject=subject.key,
        kind=subject.kind,
        name=subject.name,
        host=subject.host,
        machine=subject.machine,
        state=subject.state,
        verdict=judgement.verdict if judgement else Verdict.UNKNOWN,
        why=why or (hold.reason if hold is not None and hold.reseed else ""),
        since=judgement.since if judgement else None,
        action=judgement.action if judgement else None,
        owner=ownership.owner,
        labels=ownership.labels,
        expires_on=ownership.expires_on,
        power=itself.power if itself else None,
        network=network_of(itself, hold) if itself else Network.NONE,
        scanned_at=scan.scanned_at if scan else None,
        complete=scan is not None and not scan.problems,
        brought_back=facts.brought_back(subject, current) if current else None,
        alarms=tuple(facts.alarms[itself.uuid]) if itself else (),
    )


def network_of(domain: Domain, hold: Hold | None) -> Network:
    """Return whether a machine's packets pass."""
    if hold is not None:
        return Network.PENDING if hold.pending else Network.CLOSED
    return Network.OPEN if domain.power.has_process and domain.interfaces else Network.NONE


def _not_judged(scan: Scan | None, domain: Domain | None) -> str:
    if scan is not None:
        return "read, but not judged yet"
    return f"not read yet: {domain.problem}" if domain and domain.problem else "not read yet"


def _alarms(live: Sequence[Execution], machines: Sequence[MachineRecord]) -> Mapping[str, Sequence[str]]:
    """Return what must not be so, by the machines that it is about."""
    found: dict[str, list[str]] = defaultdict(list)
    by_host: dict[str, list[MachineRecord]] = defaultdict(list)
    for machine in machines:
        by_host[machine.host].append(machine)
    surveys = [
        Survey(host, "", there[0].last_seen, tuple(machine.domain for machine in there))
        for host, there in by_host.items()
    ]
    raised = {alarm for survey in surveys for alarm in alarms(live, survey)}
    for alarm in sorted(raised, key=lambda alarm: (alarm.kind, alarm.reason)):
        for uuid in alarm.machines:
            found[uuid].append(alarm.reason)
    return found


def _urgency(row: FleetRow) -> tuple[object, ...]:
    return (
        _KINDS.index(row.kind),
        not row.alarms,
        _BADNESS.index(row.verdict),
        row.power is None or not row.power.has_process,
        [(int(part) if part.isdecimal() and part.isascii() else 0, part) for part in _DIGITS.split(row.name)],
        row.host,
    )


def _surveyed(machines: Iterable[MachineRecord]) -> Mapping[str, datetime]:
    """Return when each host was surveyed last: its machines were all seen then."""
    latest: dict[str, datetime] = {}
    for machine in machines:
        latest[machine.host] = max(machine.last_seen, latest.get(machine.host, machine.last_seen))
    return latest


def _last_word(record: Record) -> tuple[datetime | None, bool]:
    """Return when the agent last wrote into the log, and if it stopped then; only the last pages are read."""
    end = record.log_head()[1]
    for page in range(1, _LOOKED_BACK + 1):
        start = max(end - page * _PAGE, 0)
        heard = [entry for entry in record.log_entries(start, _PAGE) if entry.kind == "agent"]
        if heard:
            return heard[-1].at, _STOPPED in heard[-1].body
        if not start:
            break
    return None, False
