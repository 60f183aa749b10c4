"""After a start: what libvirt says of how it began, and whether the network may open.

The hook has closed the taps of a machine whose way of starting was open. Here they are opened, or the machine
is quarantined or stopped. Every step is repeated after a crash of the agent: a hold that is `pending` on
record is one that nobody has confirmed yet.

1. A start from the disks as they were judged at `prepare` needs no second look.
2. A revert is judged by the snapshot, whose bytes are read. Who ordered it by command, and what the command
   found, counts.
3. A start of which nobody can say how it began is judged by what now runs, read at one point in time.
4. Whatever would open it, its taps stay closed until its guest has confirmed fresh randomness, where the
   policy wants that (`gate`). What went back without a hook that held it is closed first.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from undercroft.lineage.origin import MAY_BE_REVERT
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import Hold, Intent
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action, Decision, Judgement
from undercroft.ports.fleet import Happening
from undercroft.ports.records import Record
from undercroft.ports.taps import Taps
from undercroft.steady.judge import Judge
from undercroft.usecases.fleet.history.events import has_heard
from undercroft.usecases.fleet.reading.scanning import Scanned, put_scanned
from undercroft.usecases.fleet.starts.admission import AGENT, REVERT, Means
from undercroft.usecases.fleet.starts.gate import (
    HOOK,
    RECENT,
    ROLLBACKS,
    decision_ident,
    is_confirmed,
    is_due,
    let_out,
    live_execution,
    process_of,
    reseeded,
    shut,
    wait,
    waits,
)
from undercroft.usecases.fleet.starts.network import NO_FILTER, close
from undercroft.usecases.fleet.starts.noted import hold_of, note_of, put_noted
from undercroft.usecases.fleet.starts.reseed import RELEASE
from undercroft.usecases.fleet.subjects import domain_subjects, snapshot_subject
from undercroft.usecases.fleet.verdicts.facts import goes_on
from undercroft.usecases.fleet.verdicts.judging import machine_record


class Next(StrEnum):
    """What the caller does after the record and the taps are in order."""

    NOTHING = "nothing"
    LOOK = "look"
    """Read the running machine, then call `settle` with what was read (3)."""
    DESTROY = "destroy"
    """Stop it: the policy refuses what it runs."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What was made of a start: what comes next, and why."""

    then: Next
    reason: str = ""


def confirm(means: Means, taps: Taps, domain: Domain, execution: Execution) -> Confirmed:
    """Open, close or refuse a machine that has begun to run.

    Args:
        means: no transaction of the calling thread may be open.
        taps: the host's devices.
        domain: the machine as libvirt has it now.
        execution: as the history has it after libvirt's event.

    Raises:
        OperationError: a tap could not be opened or closed; the hold stays on record.
    """
    if not _take_note(means, domain, execution):
        return Confirmed(Next.NOTHING, "it is over")
    shut(means, taps, domain, execution)  # 4
    with means.records.reading() as record:
        # What was loaded inside a process has the taps of that process.
        of = "" if execution.origin is Origin.LOAD else execution.eid
        hold = hold_of(record, domain.uuid, of)
        other = hold_of(record, domain.uuid)
        intent = record.intent(domain.uuid, REVERT, means.clock())
        told_before = is_confirmed(record, execution)
    if hold is not None and hold.reseed:
        reseeded(means, taps, domain)
        if told_before or (hold.pending and execution.origin not in ROLLBACKS):
            return Confirmed(Next.NOTHING)  # all else was known; what went back since is judged anew
    if execution.origin in ROLLBACKS and told_before:
        return Confirmed(Next.NOTHING)  # a revert has two events, and an order counts for the first one only
    decides = execution.origin in ROLLBACKS or (hold is not None and hold.pending)
    if decides and execution.origin is not Origin.LOAD and not has_heard(execution, Happening.STARTED):
        # What its disks told before it began is what they held before a revert.
        return Confirmed(Next.LOOK, "libvirt has not said how it began")
    if execution.origin in ROLLBACKS:
        return _reverted(means, taps, domain, execution, hold)
    if hold is None and other is not None and other.pending:
        return Confirmed(Next.LOOK, "its network was closed in a start that is on record as another")
    if hold is None or not (hold.pending or (hold.taps and means.filter.quarantines)):
        return Confirmed(Next.NOTHING)
    return _begun(means, taps, domain, execution, hold, intent)


def _begun(
    means: Means, taps: Taps, domain: Domain, execution: Execution, hold: Hold, intent: Intent | None
) -> Confirmed:
    """Open what is held of a start that is none but the one that was judged (1)."""
    if doubt := _doubt(domain, execution, intent):
        return Confirmed(Next.LOOK, doubt)
    if not hold.pending:  # its labels close it from now on, where the hook had to by itself
        return _enforce(means, taps, domain, (Action.QUARANTINE, hold.reason), execution.eid)
    _open(means, taps, domain, hold, "it began as it was judged")
    return Confirmed(Next.NOTHING)


def _doubt(domain: Domain, execution: Execution, intent: Intent | None) -> str:
    """Return why it is not known that a start was what it was judged as, "" when it is."""
    if domain.loaded:
        return f"its process was started from snapshot {domain.loaded}, and libvirt calls that no revert"
    if MAY_BE_REVERT in execution.evidence:
        return "nobody saw how it began"
    return "a revert was ordered, and this start is none" if intent is not None else ""


def _take_note(means: Means, domain: Domain, execution: Execution) -> bool:
    """Record what the hook has closed where libvirt's event was quicker; False: the execution is over."""
    note = note_of(means, domain.uuid, execution.eid)
    if note is None or not note.closed:
        return True
    with means.records.transaction() as record:
        known = record.execution(execution.eid)
        if known is None or not known.live:
            return False
        put_noted(means, record, note)
    return True


def settle(means: Means, taps: Taps, domain: Domain, scanned: Scanned) -> Confirmed:
    """Judge a running machine by what was just read of it, and open or close its network (3).

    A machine in quarantine whose state is in order again leaves it here. One that an administrator has
    released all the same stays out. What was read before the machine was started anew, or before its network
    was closed for another reason, says nothing of what runs now.
    """
    with means.records.reading() as record:
        hold = hold_of(record, domain.uuid)
        execution = live_execution(means, record, domain.uuid)
        released = record.intent(domain.uuid, RELEASE, means.clock())
    begun = [execution.started_at] if execution else []
    if any(scanned.at < since for since in (*begun, *([hold.since] if hold else ()))):
        return Confirmed(Next.LOOK, "it was started anew while it was read")
    judgement, reason = _judged(means, domain, scanned)
    if hold is None and released is not None and released.overrides:
        return Confirmed(Next.NOTHING)
    if judgement.action is not Action.ALLOW:
        return _enforce(means, taps, domain, (judgement.action, reason), hold.eid if hold else "")
    why = "a new scan has nothing against it"
    if execution is not None:
        _allow(means, taps, domain, execution, hold, why)
    elif hold is not None:
        _open(means, taps, domain, hold, why)
    return Confirmed(Next.NOTHING)


def unconfirmed(record: Record, domain: Domain, execution: Execution) -> bool:
    """Tell whether a running machine waits for `confirm`: its start was a rollback, or a hook let it by.

    For whoever cannot know what was confirmed before: the agent may have been killed in between.

    Args:
        record: a transaction.
        domain: a machine that runs.
        execution: the one that lives.
    """
    if is_confirmed(record, execution):
        return False
    answers = (one for one in record.decisions(domain.uuid, RECENT) if one.eid == execution.eid)
    return execution.origin in ROLLBACKS or any(one.by == HOOK for one in answers)


def _reverted(means: Means, taps: Taps, domain: Domain, execution: Execution, hold: Hold | None) -> Confirmed:
    """Judge a revert by the snapshot that it went to (2)."""
    with means.records.reading() as record:
        intent = record.intent(domain.uuid, REVERT, means.clock())
        state = next((known for known in record.states(domain.uuid) if known.key == execution.state), None)
    name = state.name if state else ""
    if intent is not None and intent.state == name and intent.overrides:
        _allow(means, taps, domain, execution, hold, f"ordered by {intent.by}: {intent.reason}")
        return Confirmed(Next.NOTHING)
    if name != domain.loaded:
        # Its disks went back and no RAM, or libvirt's record of the current snapshot is behind.
        return Confirmed(Next.LOOK, "it was reverted, and its process does not say to what")
    if name in {"", CURRENT}:  # a snapshot of that name cannot be told from the present state
        return Confirmed(Next.LOOK, "it was reverted, and nobody can say to what")
    if _is_external(domain, name):
        # libvirt has put new images on top of its files, of which the chain is not known yet.
        return Confirmed(Next.LOOK, f"it was reverted to {name}, whose files lie outside its images")
    subject = snapshot_subject(means.host, domain, name)
    scanned = means.scanner.scan(means.view().files.target_for(domain), subject)
    # It is what the machine began with, so it is what is known of its present state.
    _judged(means, domain, replace(scanned, subject=domain_subjects(means.host, domain)[0]))
    judgement, reason = _judged(means, domain, scanned)
    if judgement.action is Action.ALLOW:
        _allow(means, taps, domain, execution, hold, f"reverted to {name}, which the policy allows")
        return Confirmed(Next.NOTHING)
    return _enforce(means, taps, domain, (judgement.action, f"reverted to {name}: {reason}"), execution.eid)


def _is_external(domain: Domain, name: str) -> bool:
    listed = (snapshot for snapshot in domain.snapshots if snapshot.name == name)
    return any(disk.kind == "external" for snapshot in listed for disk in snapshot.disks)


def _allow(
    means: Means, taps: Taps, domain: Domain, execution: Execution, hold: Hold | None, why: str
) -> None:
    """Open what was closed, end the order that a rollback was, and record the answer."""
    now = means.clock()
    with means.filter.changing(means.records, execution.machine) as record:
        late = hold is None and is_due(means, record, domain, execution) and not hold_of(record, domain.uuid)
        if execution.origin in ROLLBACKS:
            record.end_intent(execution.machine, REVERT, now)
        record.put_decision(_decision(execution, Action.ALLOW, why, now))
        if late:
            hold = Hold(domain.uuid, process_of(record, execution), (), why, now, pending=True)
            wait(means, record, taps, domain, hold, execution)
        elif hold is not None and _stands(record, hold):
            let_out(means, record, taps, domain, hold, why)


def _decision(execution: Execution, action: Action, reason: str, at: datetime) -> Decision:
    """Return what is decided about an execution after its start; the same answer is recorded once."""
    ident = decision_ident(execution, action)
    return Decision(ident, execution.machine, execution.name, execution.eid, action, False, reason, at, AGENT)


def _judged(means: Means, domain: Domain, scanned: Scanned) -> tuple[Judgement, str]:
    """Put a scan and its judgement on record; return it and the reason for its action."""
    with means.records.transaction() as record:
        scan = put_scanned(record, scanned)
    basis = means.basis()
    with means.advisor.advice(means.clock()) as advised:
        basis = replace(basis, mark=advised.mark)
        means.judging.assess(advised, scan.software)
    with means.records.transaction() as record:
        found = record.find_machines(domain.uuid)
        before = next((machine for machine in found if machine.host == means.host), None)
        # As it is on record by now: it may have stopped while it was looked at.
        machine = before or machine_record(None, domain, means.host, means.clock())
        facts = means.judging.facts(record, scanned.subject, machine, scan, basis)
        # What is decided here is whether it stays in quarantine: that it is in one is no reason.
        live = live_execution(means, record, domain.uuid)
        follows = goes_on(facts.subject, live.origin if live else None)
        facts = replace(facts, in_quarantine=False, goes_on=follows)
        judge = Judge(basis.policy, means.clock())
        judgement = judge.judge(facts, record.judgement(scanned.subject.key))
        record.put_judgements([judgement])
        return judgement, judge.reason(facts, judgement)


def _enforce(means: Means, taps: Taps, domain: Domain, answer: tuple[Action, str], eid: str) -> Confirmed:
    """Close a running machine's network, or say that it has to be stopped; on record as a decision.

    What cannot be closed is an alarm: the machine runs, and the policy wants it held.
    """
    action, reason = answer
    now = means.clock()
    with means.filter.changing(means.records, domain.uuid) as record:
        execution, live = record.execution(eid), live_execution(means, record, domain.uuid)
        if execution is None or not execution.live:
            if live is None and record.own_executions(domain.uuid, 1):
                return Confirmed(Next.NOTHING, "it has stopped meanwhile")
            execution = live
        if execution is not None:
            record.put_decision(_decision(execution, action, reason, now))
        if action is Action.REFUSE:
            return Confirmed(Next.DESTROY, reason)
        eid = process_of(record, execution) if execution else eid
        before = hold_of(record, domain.uuid, eid)
        hold = Hold(domain.uuid, eid, before.taps if before else (), reason, now, pending=False)
        is_waiting = execution is not None and waits(means, record, domain, execution, before)
        hold, by = (replace(hold, reseed=True), NO_FILTER) if is_waiting else (hold, means.filter)
        _, failures = close(record, taps, hold, domain.interfaces, means.state, by)
        if failures:
            sentence = f"{domain.name} should be in quarantine, and its network is open: {failures[0]}"
            record.log("alarm", domain.uuid, {"alarm": "open", "executions": [eid], "reason": sentence}, now)
    return Confirmed(Next.NOTHING, reason)


def _open(means: Means, taps: Taps, domain: Domain, hold: Hold, why: str) -> None:
    with means.filter.changing(means.records, hold.machine) as record:
        if _stands(record, hold):
            let_out(means, record, taps, domain, hold, why)


def _stands(record: Record, hold: Hold) -> bool:
    """Tell whether a hold is the one on record still: nobody closed the network for another reason since."""
    now = hold_of(record, hold.machine)
    return now is not None and (now.eid, now.since, now.pending) == (hold.eid, hold.since, hold.pending)
