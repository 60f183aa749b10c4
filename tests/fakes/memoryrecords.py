"""A record of the fleet in memory that implements `ports.records.Records`, for fast tests.

    records = MemoryRecords()
    with records.transaction() as record:
        record.put_subject(subject)

It passes the same tests as the databases do (tests/unit/store/fleet). Nothing in it is durable.
"""

import copy
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import TypeVar

from undercroft.assurance.auditlog import NO_DIGEST, make_entry
from undercroft.errors import NotFoundError, OperationError
from undercroft.model.audit import AuditEntry
from undercroft.model.channel import GuestChannel, Quiesced, Reseed
from undercroft.model.credentials import Credentials
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.execution import Execution, HookEvent, Origin, RecordedState
from undercroft.model.filter import (
    FLOWS_KEPT,
    AppliedPolicy,
    FilterState,
    LiveOrigin,
    MovedFlows,
    NetworkedMachine,
    claims_of,
    things_of,
)
from undercroft.model.finding import Assessment
from undercroft.model.fleet import FileIdentity, Floor, Hold, Intent, MachineRecord, ReadSet, Scan
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json
from undercroft.model.vaulthome import VaultHome
from undercroft.model.verdict import Decision, Judgement, Subject, Verdict
from undercroft.store.fleet import logged
from undercroft.store.fleet.digests import software_digest, text_digest, to_text

WAIT_S = 30.0
Fix = tuple[str, str, str]
Value = TypeVar("Value")


@dataclass
class _State:
    machines: dict[tuple[str, str], MachineRecord] = field(default_factory=dict)
    claims: dict[tuple[str, str], dict[str, datetime]] = field(default_factory=dict)
    volumes: dict[str, tuple[PoolVolume, ...]] = field(default_factory=dict)
    subjects: dict[str, Subject] = field(default_factory=dict)
    inventories: dict[str, Inventory] = field(default_factory=dict)
    software: dict[str, str] = field(default_factory=dict)
    reads: dict[str, tuple[str, ReadSet]] = field(default_factory=dict)
    credentials: dict[str, Credentials] = field(default_factory=dict)
    scans: dict[str, Scan] = field(default_factory=dict)
    answers: dict[tuple[int, ...], dict[str, datetime]] = field(default_factory=dict)
    assessments: dict[str, tuple[str, Assessment]] = field(default_factory=dict)
    judgements: dict[str, Judgement] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    floors: dict[str, Floor] = field(default_factory=dict)
    intents: list[Intent] = field(default_factory=list)
    fixes: dict[Fix, datetime] = field(default_factory=dict)
    events: dict[str, HookEvent] = field(default_factory=dict)
    executions: dict[str, Execution] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    states: dict[str, RecordedState] = field(default_factory=dict)
    policies: list[AppliedPolicy] = field(default_factory=list)
    filters: dict[str, FilterState] = field(default_factory=dict)
    flows: dict[str, MovedFlows] = field(default_factory=dict)
    reseeds: dict[str, Reseed] = field(default_factory=dict)
    channels: dict[str, GuestChannel] = field(default_factory=dict)
    quiesced: dict[str, Quiesced] = field(default_factory=dict)
    homes: dict[str, VaultHome] = field(default_factory=dict)
    log: list[AuditEntry] = field(default_factory=list)

    def copied(self) -> "_State":
        return _State(**{item.name: copy.copy(getattr(self, item.name)) for item in fields(self)})


class MemoryRecords:
    """The database. `now` is the clock of changes that carry no time of their own."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC), log: str = "ab" * 16) -> None:
        self._state = _State()
        self._writing = threading.Lock()
        self._now = now
        self._log = log

    @contextmanager
    def transaction(self) -> Iterator["MemoryRecord"]:
        if not self._writing.acquire(timeout=WAIT_S):
            raise OperationError(f"the record is busy: another transaction has not ended for {WAIT_S:.0f} s")
        try:
            draft = self._state.copied()
            yield MemoryRecord(draft, self._now, self._log, writable=True)
            self._state = draft
        finally:
            self._writing.release()

    @contextmanager
    def reading(self) -> Iterator["MemoryRecord"]:
        yield MemoryRecord(self._state.copied(), self._now, self._log, writable=False)

    def close(self) -> None:
        pass


class MemoryRecord:
    """One transaction over a draft of the state."""

    def __init__(self, state: _State, now: Callable[[], datetime], log_name: str, *, writable: bool) -> None:
        self._draft = state
        self._now = now
        self._log_name = log_name
        self._writable = writable

    @property
    def _written(self) -> _State:
        if not self._writable:
            raise OperationError("this transaction only reads")
        return self._draft

    def put_survey(self, survey: Survey) -> None:
        state = self._written
        present = {domain.uuid for domain in survey.domains}
        now = self._now()
        for domain in survey.domains:
            key = survey.host, domain.uuid
            known = state.machines.get(key)
            first = survey.taken_at if known is None else known.first_seen
            self._claim(survey.host, domain, now)
            state.machines[key] = MachineRecord(survey.host, domain, first, survey.taken_at)
        for key, known in state.machines.items():
            if key[0] == survey.host and key[1] not in present and known.gone_at is None:
                state.machines[key] = replace(known, gone_at=survey.taken_at)
        state.volumes[survey.host] = survey.volumes

    def put_domain(self, host: str, uuid: str, domain: Domain | None, at: datetime) -> None:
        machines = self._written.machines
        known = machines.get((host, uuid))
        if domain is not None:
            first = at if known is None else known.first_seen
            self._claim(host, domain, self._now())
            machines[host, uuid] = MachineRecord(host, domain, first, at)
        elif known is not None and known.gone_at is None:
            machines[host, uuid] = replace(known, gone_at=at)

    def _claim(self, host: str, domain: Domain, at: datetime) -> None:
        """Note since when a machine has what it has, before its record changes; what is new since `at`."""
        state, key = self._written, (host, domain.uuid)
        known = state.machines.get(key)
        before: dict[str, datetime] = {}
        if known is not None and known.gone_at is None:
            before = state.claims[key]
        if any(_came(one, host, domain.uuid) for one in state.executions.values()):
            had = self._had_elsewhere(host, domain.uuid)
            if had and before and had[domain.uuid] < before[domain.uuid]:
                had = {}
            before = {
                claim: min(since, had.get(claim, since)) for claim, since in (*had.items(), *before.items())
            }
        state.claims[key] = {claim: before.get(claim, at) for claim in claims_of(domain)}

    def _had_elsewhere(self, host: str, uuid: str) -> dict[str, datetime]:
        """Return what a machine has on the host that it leaves: where it lives, and was defined last."""
        state = self._written
        live = {(one.machine, one.host) for one in state.executions.values() if one.live}
        found = [
            ((uuid, place) in live, state.claims[place, uuid][uuid], state.claims[place, uuid])
            for (place, other), machine in state.machines.items()
            if place != host and other == uuid and machine.gone_at is None
        ]
        last = max((one[:2] for one in found), default=None)
        had: dict[str, datetime] = {}
        for is_live, age, claims in found:
            if (is_live, age) == last:
                had |= {claim: min(since, had.get(claim, since)) for claim, since in claims.items()}
        return had

    def machines(self, host: str = "", *, gone: bool = False) -> tuple[MachineRecord, ...]:
        found = [
            known
            for known in self._draft.machines.values()
            if host in {"", known.host} and (gone or known.gone_at is None)
        ]
        return tuple(sorted(found, key=lambda known: (known.domain.name, known.host)))

    def find_machines(self, name: str) -> tuple[MachineRecord, ...]:
        found = [
            known for known in self._draft.machines.values() if name in {known.domain.uuid, known.domain.name}
        ]
        found.sort(key=lambda known: (known.last_seen, known.first_seen), reverse=True)
        return tuple(sorted(found, key=lambda known: known.gone_at is not None))

    def volumes(self, host: str) -> tuple[PoolVolume, ...]:
        return tuple(sorted(self._draft.volumes.get(host, ()), key=lambda volume: volume.path))

    def put_subject(self, subject: Subject) -> None:
        self._written.subjects[subject.key] = subject

    def drop_subjects(self, keys: Iterable[str]) -> None:
        state = self._written
        for key in keys:
            for table in (state.subjects, state.scans, state.judgements):
                table.pop(key, None)  # type: ignore[attr-defined]

    def subject(self, key: str) -> Subject | None:
        return self._draft.subjects.get(key)

    def subjects(self, machine: str = "") -> tuple[Subject, ...]:
        found = [known for known in self._draft.subjects.values() if machine in {"", known.machine}]
        return tuple(sorted(found, key=lambda known: (known.kind, known.name, known.key)))

    def put_inventory(self, inventory: Inventory, reads: ReadSet | None) -> tuple[str, str]:
        state = self._written
        digest, software = text_digest(to_text(inventory)), software_digest(inventory)
        state.inventories[digest] = inventory
        state.software[software] = digest
        if reads is not None:
            key = digest + text_digest(to_text(reads))
            state.reads.pop(key, None)
            state.reads[key] = digest, reads
        return digest, software

    def inventory(self, digest: str) -> Inventory:
        return _found(self._draft.inventories, digest, "inventory")

    def reads(self, inventory: str) -> ReadSet | None:
        found = [reads for owner, reads in self._draft.reads.values() if owner == inventory]
        return found[-1] if found else None

    def software_of(self, inventory: str) -> str:
        return software_digest(self.inventory(inventory))

    def software(self, digest: str) -> Inventory:
        return self.inventory(_found(self._draft.software, digest, "inventory of software"))

    def put_credentials(self, credentials: Credentials) -> str:
        digest = text_digest(to_text(credentials))
        self._written.credentials[digest] = credentials
        return digest

    def credentials(self, digest: str) -> Credentials:
        return _found(self._draft.credentials, digest, "credentials")

    def put_scan(self, scan: Scan) -> None:
        state = self._written
        state.scans[scan.subject] = scan
        for file in scan.files:
            answers = dict(state.answers.get(_identity(file), {}))
            if scan.inventory:
                answers.pop(scan.inventory, None)
                answers[scan.inventory] = scan.scanned_at
                state.answers[_identity(file)] = answers

    def scans(self, machine: str = "") -> Mapping[str, Scan]:
        if not machine:
            return dict(self._draft.scans)
        keys = {known.key for known in self.subjects(machine)}
        return {key: scan for key, scan in self._draft.scans.items() if key in keys}

    def scan(self, subject: str) -> Scan | None:
        return self._draft.scans.get(subject)

    def subjects_of_lineage(self, lineage: str) -> tuple[Subject, ...]:
        alike = {key for key, scan in self._draft.scans.items() if scan.lineage == lineage}
        return tuple(known for known in self.subjects() if known.key in alike)

    def candidates(self, base: FileIdentity, limit: int) -> tuple[tuple[str, ReadSet], ...]:
        answers = self._draft.answers.get(_identity(base), {})
        found: list[tuple[str, ReadSet]] = []
        for digest in sorted(sorted(answers), key=answers.__getitem__, reverse=True):
            sets = [reads for owner, reads in self._draft.reads.values() if owner == digest]
            found += [(digest, reads) for reads in reversed(sets)]
        return tuple(found[:limit])

    def put_assessment(self, software: str, advisories: str, assessment: Assessment) -> None:
        self._written.assessments[software] = advisories, assessment

    def assessments(self, advisories: str) -> Mapping[str, Assessment]:
        return {
            software: assessment
            for software, (mark, assessment) in self._draft.assessments.items()
            if mark == advisories
        }

    def assessment(self, software: str, advisories: str = "") -> Assessment | None:
        mark, assessment = self._draft.assessments.get(software, ("", None))
        return assessment if advisories in {"", mark} else None

    def put_judgements(
        self, judgements: Sequence[Judgement], replacing: Mapping[str, Judgement] | None = None
    ) -> frozenset[str]:
        state = self._written
        overtaken: set[str] = set()
        for judgement in {judgement.subject: judgement for judgement in judgements}.values():
            known = state.judgements.get(judgement.subject)
            if judgement.subject not in state.subjects:
                continue
            if replacing is not None and known != replacing.get(judgement.subject):
                overtaken.add(judgement.subject)
                continue
            before = None if known is None else (known.verdict.value, known.action.value)
            line = logged.judgement_line(before, judgement)
            state.judgements[judgement.subject] = judgement
            if line is not None:
                self.log(*line)
        return frozenset(overtaken)

    def judgements(self) -> Mapping[str, Judgement]:
        return dict(self._draft.judgements)

    def judgement(self, subject: str) -> Judgement | None:
        return self._draft.judgements.get(subject)

    def put_decision(self, decision: Decision) -> bool:
        if decision.ident in self._written.decisions:
            return False
        self._written.decisions[decision.ident] = decision
        self.log(*logged.decision_line(decision))
        return True

    def decision(self, ident: str) -> Decision | None:
        return self._draft.decisions.get(ident)

    def decisions(self, machine: str = "", limit: int = 100) -> tuple[Decision, ...]:
        found = [known for known in self._draft.decisions.values() if machine in {"", known.machine}]
        found.reverse()  # those of one time: latest put first
        found.sort(key=lambda known: known.at, reverse=True)
        return tuple(found[:limit])

    def put_hold(self, hold: Hold) -> None:
        if self._written.holds.get(hold.machine) != hold:
            self._written.holds[hold.machine] = hold
            self.log(*logged.hold_line(hold))

    def drop_hold(self, machine: str, reason: str, at: datetime) -> None:
        hold = self._written.holds.pop(machine, None)
        if hold is not None:
            self.log(*logged.open_line(hold, reason, at))

    def holds(self, machines: Collection[str] | None = None) -> tuple[Hold, ...]:
        holds = self._draft.holds
        return tuple(holds[one] for one in sorted(holds) if machines is None or one in machines)

    def put_floor(self, floor: Floor) -> None:
        self._written.floors[floor.machine] = floor

    def floor(self, machine: str) -> Floor:
        return self._draft.floors.get(machine, Floor(machine))

    def floors(self) -> Mapping[str, Floor]:
        return dict(self._draft.floors)

    def put_intent(self, intent: Intent) -> None:
        self._written.intents.append(intent)
        self.log(*logged.intent_line(intent))

    def intent(self, machine: str, kind: str, at: datetime) -> Intent | None:
        found = [
            known
            for known in self._draft.intents
            if (known.machine, known.kind) == (machine, kind) and known.at <= at <= known.until
        ]
        return max(reversed(found), key=lambda known: known.at, default=None)

    def end_intent(self, machine: str, kind: str, at: datetime) -> None:
        del at
        state = self._written
        state.intents = [known for known in state.intents if (known.machine, known.kind) != (machine, kind)]

    def seen_fixes(self, fixes: Iterable[Fix], at: datetime) -> Mapping[Fix, datetime]:
        seen = {fix: self._draft.fixes.get(fix, at) for fix in fixes}
        if self._writable:
            self._written.fixes.update(seen)
        return seen

    def take_event(self, event: HookEvent) -> bool:
        if event.ident in self._written.events:
            return False
        self._written.events[event.ident] = event
        return True

    def put_execution(self, execution: Execution) -> None:
        before = self._written.executions.get(execution.eid)
        self._written.executions[execution.eid] = execution
        if before is None:
            self._written.numbers[execution.eid] = len(self._written.log) + 1
        key = execution.host, execution.machine
        known = self._written.machines.get(key)
        comes = _came(execution, *key) and not (before is not None and _came(before, *key))
        if comes and known is not None and known.gone_at is None:
            had = self._had_elsewhere(*key)
            claims = self._written.claims[key]
            self._written.claims[key] = {
                claim: min(since, had.get(claim, since)) for claim, since in claims.items()
            }
        for line in logged.execution_lines(before, execution, self._now()):
            self.log(*line)

    def execution(self, eid: str) -> Execution | None:
        return self._draft.executions.get(eid)

    def executions(self, machine: str = "") -> tuple[Execution, ...]:
        known = self._draft.executions
        if not machine:
            return _in_order(known.values())
        own = {eid for eid, execution in known.items() if execution.machine == machine}
        found, above = set(own), set(own)
        while above:
            above = {known[eid].parent for eid in above if known[eid].parent in known} - found
            found |= above
        below = set(own)
        while below:
            below = {eid for eid, execution in known.items() if execution.parent in below} - found
            found |= below
        return _in_order(known[eid] for eid in found)

    def own_executions(self, machine: str, limit: int = 0) -> tuple[Execution, ...]:
        known = self._draft.executions.values()
        return _in_order(execution for execution in known if execution.machine == machine)[-limit:]

    def executions_as_told(self, machine: str) -> tuple[Execution, ...]:
        numbers = self._draft.numbers
        mine = (known for known in self._draft.executions.values() if known.machine == machine)
        return tuple(sorted(mine, key=lambda known: numbers[known.eid]))

    def live_executions(self) -> tuple[Execution, ...]:
        return _in_order(known for known in self._draft.executions.values() if known.live)

    def put_state(self, state: RecordedState) -> None:
        self._written.states[state.key] = state

    def state(self, key: str) -> RecordedState | None:
        return self._draft.states.get(key)

    def states(self, machine: str = "") -> tuple[RecordedState, ...]:
        found = [known for known in self._draft.states.values() if machine in {"", known.machine}]
        return tuple(sorted(found, key=lambda known: (known.taken_at, known.key)))

    def states_like(self, *, fingerprint: str = "", sample: str = "") -> tuple[RecordedState, ...]:
        return tuple(
            known
            for known in reversed(self.states())
            if (fingerprint and known.fingerprint == fingerprint) or (sample and known.sample == sample)
        )

    def put_reseed(self, reseed: Reseed) -> None:
        if self._written.reseeds.get(reseed.eid) != reseed:
            self._written.reseeds[reseed.eid] = reseed
            self.log(*logged.reseed_line(reseed))

    def reseed(self, eid: str) -> Reseed | None:
        return self._draft.reseeds.get(eid)

    def reseeds(self, eids: Collection[str]) -> Mapping[str, Reseed]:
        return {eid: self._draft.reseeds[eid] for eid in eids if eid in self._draft.reseeds}

    def put_channels(self, channels: Sequence[GuestChannel]) -> None:
        self._written.channels |= {one.machine: one for one in channels}

    def channels(self, machines: Collection[str] | None = None) -> Mapping[str, GuestChannel]:
        known = self._draft.channels
        return {one: known[one] for one in known if machines is None or one in machines}

    def put_quiesced(self, quiesced: Quiesced) -> None:
        if self._written.quiesced.get(quiesced.key) != quiesced:
            self._written.quiesced[quiesced.key] = quiesced
            self.log(*logged.quiesced_line(quiesced))

    def quiesced(self, machine: str = "") -> Mapping[str, Quiesced]:
        return {key: one for key, one in self._draft.quiesced.items() if machine in {"", one.machine}}

    def put_vault_home(self, home: VaultHome, by: str, reason: str) -> None:
        line = logged.home_line(self._draft.homes.get(home.machine), home, by, reason)
        self._written.homes[home.machine] = home
        if line is not None:
            self.log(*line)

    def vault_home(self, machine: str) -> VaultHome | None:
        return self._draft.homes.get(machine)

    def vault_homes(self) -> Mapping[str, VaultHome]:
        return dict(self._draft.homes)

    def put_applied_policy(self, body: str, digest: str, by: str, reason: str, at: datetime) -> AppliedPolicy:
        policies = self._written.policies
        policies.append(AppliedPolicy(len(policies) + 1, digest, body, by, reason, at))
        self.log(*logged.firewall_line(policies[-1]))
        return policies[-1]

    def applied_policy(self) -> AppliedPolicy | None:
        return self._draft.policies[-1] if self._draft.policies else None

    def put_filter_state(self, state: FilterState) -> None:
        filters, state = self._written.filters, state.bounded()
        line = logged.filter_line(filters.get(state.host), state)
        filters[state.host] = state
        if line is not None:
            self.log(*line)

    def filter_states(self) -> tuple[FilterState, ...]:
        return tuple(self._draft.filters[host] for host in sorted(self._draft.filters))

    def filter_state(self, host: str) -> FilterState | None:
        return self._draft.filters.get(host)

    def drop_filter_state(self, host: str) -> None:
        self._written.filters.pop(host, None)

    def networked_machines(self, machines: Collection[str] | None = None) -> tuple[NetworkedMachine, ...]:
        return tuple(
            NetworkedMachine(
                known.host,
                known.domain.uuid,
                known.domain.name,
                known.domain.power,
                known.domain.interfaces,
                known.domain.ownership,
                known.last_seen,
                self._draft.claims[known.host, known.domain.uuid],
            )
            for known in self.machines()
            if machines is None or known.domain.uuid in machines
        )

    def machines_with(
        self, things: Collection[str], names: Collection[str] = ()
    ) -> tuple[NetworkedMachine, ...]:
        every = self.machines(gone=True)
        found = {one.domain.uuid for one in every if things_of(one.host, one.domain) & set(things)}
        return self.networked_machines(found | {one.domain.uuid for one in every if one.domain.name in names})

    def live_origins(self, machines: Collection[str] | None = None) -> tuple[LiveOrigin, ...]:
        numbers = self._draft.numbers
        return tuple(
            LiveOrigin(known.machine, known.host, known.origin, known.started_at, numbers[known.eid])
            for known in self.live_executions()
            if machines is None or known.machine in machines
        )

    def verdicts(self, subjects: Collection[str] | None = None) -> Mapping[str, Verdict]:
        return {
            key: known.verdict
            for key, known in self._draft.judgements.items()
            if key.startswith(("machine:", "template:")) and (subjects is None or key in subjects)
        }

    def put_moved_flows(self, flows: MovedFlows) -> None:
        before = self._now() - FLOWS_KEPT
        kept = {machine: one for machine, one in self._written.flows.items() if one.at >= before}
        self._written.flows = kept | {flows.machine: flows}

    def moved_flows(self, machine: str) -> MovedFlows | None:
        return self._draft.flows.get(machine)

    def drop_moved_flows(self, machine: str) -> None:
        self._written.flows.pop(machine, None)

    def log(self, kind: str, subject: str, body: Mapping[str, Json], at: datetime) -> AuditEntry:
        log = self._written.log
        previous = log[-1].digest if log else NO_DIGEST
        log.append(make_entry(len(log) + 1, previous, kind, subject, body, at))
        return log[-1]

    def log_entries(
        self, after: int = 0, limit: int = 1000, subject: str = "", *, last: bool = False
    ) -> tuple[AuditEntry, ...]:
        found = [entry for entry in self._draft.log[after:] if subject in {"", entry.subject}]
        return tuple(found[-limit:] if last else found[:limit])

    def log_head(self) -> tuple[str, int, str]:
        log = self._draft.log
        return self._log_name, len(log), log[-1].digest if log else NO_DIGEST


def _identity(file: FileIdentity) -> tuple[int, ...]:
    return file.device, file.inode, file.size_bytes, file.modified_ns, file.changed_ns


def _came(execution: Execution, host: str, uuid: str) -> bool:
    """Tell whether a machine lives on a host to which it was migrated."""
    is_its = (execution.host, execution.machine) == (host, uuid)
    return is_its and execution.live and execution.origin is Origin.MIGRATE


def _in_order(executions: Iterable[Execution]) -> tuple[Execution, ...]:
    return tuple(sorted(executions, key=lambda known: (known.started_at, known.eid)))


def _found(table: Mapping[str, Value], digest: str, what: str) -> Value:
    if digest not in table:
        raise NotFoundError(f"the record holds no {what} {digest}")
    return table[digest]
