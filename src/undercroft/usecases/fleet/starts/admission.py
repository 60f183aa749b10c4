"""What a start meets: the disks are read, judged, and the answer is on record before it is given.

In steps, whose numbers the code repeats. None of them asks libvirt, which waits for the hook that asks here:

1. An event that was answered before gets the same answer.
2. The machine is taken from the event's XML; its images are read, the cheapest way that proves the answer.
3. A revert that an administrator has ordered is judged by the snapshot that it goes to. Any other start is
   judged by the disks as they are.
4. The policy judges; an order that overrides it counts instead, for this one start.
   A version that no index lists counts for less than nothing in a rollback, as the lineage tells it.
5. A start that could be a revert that nobody announced is held: its taps stay closed until libvirt's event
   says how it began (`starting`). Only where all its interfaces can be held, unless the policy insists. One
   whose guest has to confirm fresh randomness (`reseed`) is held in any case, in quarantine as well.
6. Event, execution, scan, judgement and decision go on record together.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from undercroft.adapters.hookfiles import DecidedImage, LastDecision, read_decision, write_decision
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Fingerprint, HookEvent, Origin
from undercroft.model.fleet import Intent, MachineRecord, Scan
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Decision, Judgement, Subject, SubjectKind
from undercroft.ports.records import Record, Records
from undercroft.steady.facts import Facts
from undercroft.steady.judge import Judge, may_leave_open
from undercroft.steady.policy import ConfirmStart, Need, Settings, Unenforceable
from undercroft.usecases.fleet.history import hooks as history
from undercroft.usecases.fleet.history.facts import Looked, moment
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.scanning import Scanned, Scanner, has_memory_snapshots, put_scanned
from undercroft.usecases.fleet.starts.hookdomain import VolumePaths, hooked_domain
from undercroft.usecases.fleet.starts.network import NO_FILTER, Filter
from undercroft.usecases.fleet.starts.reseed import is_fresh, is_required, may_be_required
from undercroft.usecases.fleet.subjects import machine_key, snapshot_subject
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.facts import goes_on
from undercroft.usecases.fleet.verdicts.judging import Basis, Judging, machine_record

REVERT = "revert"
AGENT = "agent"


@dataclass(frozen=True, slots=True)
class HostView:
    """What the last survey said of the host, as far as a start needs it.

    Attributes:
        files: which files may lie below an image.
        volumes: where storage volumes lie.
    """

    files: HostFiles
    volumes: VolumePaths


@dataclass(frozen=True, slots=True)
class Means:
    """What admission works with; see the classes themselves.

    `basis` gives the policy and the advisories' mark of the moment, `view` the host's last survey; both are
    replaced by the agent while it runs. `filter` is the host's packet filter.
    """

    records: Records
    scanner: Scanner
    judging: Judging
    advisor: Advisor
    basis: Callable[[], Basis]
    view: Callable[[], HostView]
    clock: Callable[[], datetime]
    host: str
    state: Path
    filter: Filter = NO_FILTER


@dataclass(frozen=True, slots=True)
class _Start:
    """One start, as far as it is known before it is decided."""

    event: HookEvent
    machine: MachineRecord
    scanned: Scanned
    basis: Basis
    intent: Intent | None


def decide(means: Means, event: HookEvent) -> Decision:
    """Return the decision on a `prepare begin`, which is on record then.

    Raises:
        InputError: the event's XML is malformed.
        OperationError: record, sandbox or disk failed; the hook then decides alone.
    """
    with means.records.reading() as record:
        if known := record.decision(event.ident):  # 1
            return known
        before = _machine(record, event.uuid, means.host)
        intent = record.intent(event.uuid, REVERT, means.clock())
    view, basis = means.view(), means.basis()
    domain = hooked_domain(event, before.domain if before else None, view.volumes)  # 2
    machine = machine_record(before, domain, means.host, means.clock())
    subject = _subject(means.host, domain, intent)
    scanned = means.scanner.scan(view.files.target_for(domain), subject)
    start = _Start(event, machine, scanned, basis, intent)
    software = _software(means, scanned)
    if software:
        with means.advisor.advice(means.clock()) as advised:
            basis = replace(basis, mark=advised.mark)
            means.judging.assess(advised, software)
        start = replace(start, basis=basis)
    with means.records.transaction() as record:  # 6
        return _decided(means, record, start)


def follow_judgement(means: Means, judgement: Judgement, valid: timedelta) -> None:
    """Bring what is kept for when the agent is away in line with what a start would meet by now.

    What counts is the file, not what was meant to be in it: one that is missing, is not the agent's, says
    something else, or has less than half of `valid` left, is written anew. Nothing where no start of the
    machine is on record, or an administrator's order was the last word; what is kept then runs out. Raises
    as `keep_decision`.
    """
    uuid, now = judgement.subject.removeprefix("machine:"), means.clock()
    holds = _holds_while_away(means, uuid)
    if _is_kept(means.state, uuid, judgement, now, valid, holds=holds):
        return
    with means.records.reading() as record:
        last = next(iter(record.decisions(uuid, 1)), None)
    if last is None or last.by not in {AGENT, "hook"}:
        return
    same = last.action is judgement.action
    reason = judgement.why or (last.reason if same else "nothing stands against it any more")
    hold = last.hold or holds
    follows = replace(last, action=judgement.action, hold=hold, reason=reason, at=now, by=AGENT)
    if judgement.action is Action.QUARANTINE:  # the policy may have another word on it since
        follows = replace(follows, leaves_open=may_leave_open(judgement))
    keep_decision(means, follows, valid)


def _holds_while_away(means: Means, uuid: str) -> bool:
    """Tell whether a start has to be held because nobody is there to see its guest confirm anything."""
    policy = means.basis().policy
    if not may_be_required(policy):
        return False  # as a rule: the record is asked for no machine
    with means.records.reading() as record:
        machine = _machine(record, uuid, means.host)
    return machine is not None and is_required(policy, machine.domain, means.host)


def _is_kept(
    state: Path, uuid: str, judgement: Judgement, now: datetime, valid: timedelta, *, holds: bool
) -> bool:
    """Tell whether the file says what the judgement says, and for long enough, but not too long."""
    try:
        kept = read_decision(state, uuid)
    except UndercroftError:
        return False  # the cure of each is to write it, which tells why it cannot be
    if kept.action is Action.QUARANTINE and kept.leaves_open is not may_leave_open(judgement):
        return False
    if holds and not kept.hold:
        return False
    left = kept.until - now
    return kept.action is judgement.action and left <= valid and (left >= valid / 2 or not valid)


def keep_decision(means: Means, decision: Decision, valid: timedelta) -> None:
    """Leave a decision for the time when the agent is away, as far as it rests on the policy alone.

    Raises OperationError, and InputError for a machine whose UUID is none.
    """
    if decision.by != AGENT:
        return
    with means.records.reading() as record:
        scan = record.scan(machine_key(decision.machine))
    files = scan.files if scan else ()
    write_decision(
        means.state,
        LastDecision(
            machine=decision.machine,
            name=decision.name,
            action=decision.action,
            hold=decision.hold,
            reason=decision.reason,
            until=decision.at + valid,
            images=tuple(DecidedImage(file.path, file.device, file.inode) for file in files),
            leaves_open=decision.leaves_open,
        ),
    )


def _subject(host: str, domain: Domain, intent: Intent | None) -> Subject:
    """Return what is judged (3)."""
    if intent is not None:
        return snapshot_subject(host, domain, intent.state)
    return Subject(machine_key(domain.uuid), SubjectKind.MACHINE, domain.name, host, domain.uuid, CURRENT)


def _software(means: Means, scanned: Scanned) -> str:
    """Return the software digest of what was read, "" where there is none; a new inventory is put on record.

    An answer that is on record already costs no transaction of its own.
    """
    if scanned.reading is None:
        return ""
    if scanned.reading.inventory is None:
        with means.records.reading() as record:
            return record.software_of(scanned.reading.inventory_digest)
    with means.records.transaction() as record:
        return record.put_inventory(scanned.reading.inventory, scanned.reading.reads)[1]


def _decided(means: Means, record: Record, start: _Start) -> Decision:
    now = means.clock()
    scan = put_scanned(record, start.scanned)
    facts = means.judging.facts(record, start.scanned.subject, start.machine, scan, start.basis)
    looked = looked_at(start.scanned, scan)
    begins = history.begins(record, start.event, means.host, looked)
    facts = replace(
        facts,
        has_memory_snapshots=facts.has_memory_snapshots or has_memory_snapshots(start.scanned),
        goes_on=goes_on(facts.subject, begins.origin),
    )
    judge = Judge(start.basis.policy, now)
    judgement = judge.judge(facts, record.judgement(start.scanned.subject.key))
    decision = _answer(means, record, start, facts, (judge, judgement), begins)
    event = replace(start.event, decided=decision.action.value, reason=decision.reason)
    history.hook_event(record, event, means.host, looked)
    put_announced(record, means.host, start.machine.domain, moment(start.event.at_ns))
    record.put_judgements([judgement])
    record.put_decision(decision)
    return decision


def put_announced(record: Record, host: str, domain: Domain, at: datetime) -> None:
    """Put a machine on record as a hook told of it at that time, unless it was seen since.

    When it was last seen stays as it is: by that the next survey tells what began since, and of what kind.
    """
    known = (machine for machine in record.find_machines(domain.uuid) if machine.host == host)
    before = next(known, None)
    if before is None:
        record.put_domain(host, domain.uuid, domain, at)
    elif before.last_seen <= at:
        record.put_domain(host, domain.uuid, replace(domain, power=before.domain.power), before.last_seen)


def _answer(
    means: Means,
    record: Record,
    start: _Start,
    facts: Facts,
    judged: tuple[Judge, Judgement],
    begins: Execution,
) -> Decision:
    judge, judgement = judged
    action, reason = judgement.action, judge.reason(facts, judgement)
    if start.intent is not None and start.intent.overrides:  # 4
        action, reason = Action.ALLOW, f"ordered by {start.intent.by}: {start.intent.reason}"
    elif begins.origin is Origin.MIGRATE:
        action, reason = _migrated(record, start, action, reason)
    settings = judge.settings(facts.target)
    hold = action is not Action.REFUSE and (  # 5
        _holds(start, settings.confirm_start.value, facts) or _must_be_fresh(record, start, settings, begins)
    )
    leaves_open = settings.unenforceable.value is Unenforceable.ALLOW
    if leaves_open and facts.unholdable and (hold or action is Action.QUARANTINE):
        reason = "; ".join(filter(None, (reason, f"the policy leaves open: {', '.join(facts.unholdable)}")))
    return Decision(
        ident=start.event.ident,
        machine=start.event.uuid,
        name=start.event.name,
        eid=start.event.eid,
        action=action,
        hold=hold,
        reason=reason or "nothing stands against it",
        at=means.clock(),
        by=start.intent.by if start.intent is not None and start.intent.overrides else AGENT,
        leaves_open=leaves_open,
    )


def _migrated(record: Record, start: _Start, action: Action, reason: str) -> tuple[Action, str]:
    """Return what an incoming migration meets: its images are being written elsewhere.

    What was last said of the machine counts, where its images can't be read in peace.
    """
    if start.scanned.reading is not None and not start.scanned.problems:
        return action, reason
    last = record.judgement(machine_key(start.event.uuid))
    if last is None:
        return action, reason
    return last.action, last.why if last.action is not Action.ALLOW else ""


def _holds(start: _Start, confirm: ConfirmStart, facts: Facts) -> bool:
    interfaces = start.machine.domain.interfaces
    match confirm:
        case ConfirmStart.ALWAYS:
            return bool(interfaces)
        case ConfirmStart.AUTO:
            # An order is for a revert: that this start is one, libvirt has yet to say.
            doubtful = facts.has_memory_snapshots or start.intent is not None
            return doubtful and bool(interfaces) and not facts.unholdable
        case ConfirmStart.NEVER:
            return False


def _must_be_fresh(record: Record, start: _Start, settings: Settings, begins: Execution) -> bool:
    """Tell whether taps stay closed until the guest has confirmed: no order from before counts for it."""
    required = settings.reseed.value is Need.REQUIRED and bool(start.machine.domain.interfaces)
    return required and not is_fresh(record, begins)


def _machine(record: Record, uuid: str, host: str) -> MachineRecord | None:
    """Return the machine on record: of this host, else where it was seen last."""
    found = record.find_machines(uuid)
    return next((machine for machine in found if machine.host == host), next(iter(found), None))


def looked_at(scanned: Scanned, scan: Scan) -> Looked:
    """Return what the history has to know of disks that were just read."""
    tops = len(scanned.reading.snapshots) if scanned.reading else 0
    mark = Fingerprint(scan.fingerprint, scan.lineage) if scan.fingerprint else None
    return Looked(mark, scan.files[:tops], tuple(file.path for file in scan.files[tops:]))
