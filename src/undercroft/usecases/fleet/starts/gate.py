"""What keeps taps closed for want of fresh randomness, and what opens them: `reseed`, in record and kernel.

`shut` closes what no hook has held; `let_out` stands in front of whatever opens a hold; `reseeded` opens what
waited for nothing else. Each is repeated after a crash of the agent, and finds on record where it was.
"""

import hashlib
from dataclasses import replace

from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import Hold
from undercroft.model.schema import Json
from undercroft.model.verdict import Action
from undercroft.ports.records import Record
from undercroft.ports.taps import Taps
from undercroft.usecases.fleet.history.events import UNSEEN
from undercroft.usecases.fleet.starts.admission import Means
from undercroft.usecases.fleet.starts.network import NO_FILTER, close, reopen
from undercroft.usecases.fleet.starts.noted import hold_of
from undercroft.usecases.fleet.starts.reseed import WAITS, is_owed
from undercroft.usecases.fleet.starts.reseed import reason as waits_for

HOOK = "hook"
"""Who decided, where a hook did by itself."""
ROLLBACKS = frozenset({Origin.REVERT, Origin.LOAD})
RECENT = 16


def reseeded(means: Means, taps: Taps, domain: Domain) -> None:
    """Open what waits for nothing but its guest's confirmation, where that is on record by now.

    A quarantine goes on: by the filter where one is in force, which its taps had to stay off until now.

    Raises OperationError: a tap could not be opened; the hold stays on record.
    """
    with means.filter.changing(means.records, domain.uuid) as record:
        hold, execution = hold_of(record, domain.uuid), live_execution(means, record, domain.uuid)
        if hold is None or not hold.reseed or execution is None or _owes(means, record, domain, execution):
            return
        if execution.origin in ROLLBACKS and not is_confirmed(record, execution):
            return  # it went back since, and is judged first
        if hold.pending:
            why = "its guest has confirmed fresh randomness"
            reopen(record, taps, hold, why, means.clock(), means.state, means.filter)
        else:
            hold = replace(hold, reseed=False)
            close(record, taps, hold, domain.interfaces, means.state, means.filter)


def shut(means: Means, taps: Taps, domain: Domain, execution: Execution) -> None:
    """Close what began or went back without being held by its taps; what was waits for its new execution."""
    with means.records.reading() as record:
        if not is_due(means, record, domain, execution):
            return
    with means.filter.changing(means.records, domain.uuid) as record:
        hold, known = hold_of(record, domain.uuid), record.execution(execution.eid)
        if known is None or not known.live or not is_due(means, record, domain, known):
            return
        if hold is None:
            reason = waits_for(record, domain, execution)
            hold = Hold(domain.uuid, process_of(record, execution), (), reason, means.clock(), pending=True)
        elif not hold.pending:
            hold = replace(hold, by_filter=False, reseed=True)
        else:
            return
        _hold_taps(means, record, taps, domain, hold)


def let_out(means: Means, record: Record, taps: Taps, domain: Domain, hold: Hold, why: str) -> None:
    """Open what a hold has closed; where its guest has yet to confirm, that is what it waits for now."""
    execution = live_execution(means, record, domain.uuid)
    if execution is not None and _owes(means, record, domain, execution):
        wait(means, record, taps, domain, hold, execution)
    else:
        reopen(record, taps, hold, why, means.clock(), means.state, means.filter)


def wait(means: Means, record: Record, taps: Taps, domain: Domain, hold: Hold, execution: Execution) -> None:
    """Hold taps until the guest has confirmed; all else about the machine is known."""
    reason = waits_for(record, domain, execution)
    waits = replace(hold, reason=reason, pending=True, by_filter=False, reseed=True)
    _hold_taps(means, record, taps, domain, waits)


def _hold_taps(means: Means, record: Record, taps: Taps, domain: Domain, hold: Hold) -> None:
    """Hold taps off their bridges, filter or not. What cannot be held the policy leaves open."""
    holdable = [item for item in domain.interfaces if item.holdable]
    _, failures = close(record, taps, hold, holdable, means.state, NO_FILTER)
    if failures:
        sentence = f"{domain.name}: {WAITS}, and its network is open: {failures[0]}"
        body: dict[str, Json] = {"alarm": "open", "executions": [hold.eid], "reason": sentence}
        record.log("alarm", domain.uuid, body, means.clock())


def _owes(means: Means, record: Record, domain: Domain, execution: Execution) -> bool:
    return is_owed(record, means.basis().policy, domain, execution, means.clock())


def is_due(means: Means, record: Record, domain: Domain, execution: Execution) -> bool:
    """Tell whether a machine has to be closed that no hook has held: it went back, or nobody was asked."""
    if is_confirmed(record, execution) or not _owes(means, record, domain, execution):
        return False
    if execution.origin in ROLLBACKS or UNSEEN in execution.evidence:
        return True
    answers = (one for one in record.decisions(domain.uuid, RECENT) if one.eid == execution.eid)
    return any(one.by == HOOK for one in answers)


def waits(means: Means, record: Record, domain: Domain, execution: Execution, before: Hold | None) -> bool:
    """Tell whether a quarantine is a matter of taps until the guest has confirmed.

    A policy that has come to want that since counts from the next start on: what the filter holds, it does.
    """
    by_filter = before is not None and before.by_filter
    if by_filter and not is_due(means, record, domain, execution):
        return False
    return _owes(means, record, domain, execution)


# What is on record of an execution


def live_execution(means: Means, record: Record, machine: str) -> Execution | None:
    """Return a machine's latest execution that lives on this host, None where it is off."""
    known = record.own_executions(machine, RECENT)
    return next((one for one in reversed(known) if one.live and one.host == means.host), None)


def process_of(record: Record, execution: Execution) -> str:
    """Return the execution that its process began with: the hook's notes and the taps are of that one."""
    known = record.own_executions(execution.machine, RECENT)
    begun = [one for one in known if one.origin is not Origin.LOAD and one.started_at <= execution.started_at]
    return begun[-1].eid if begun else execution.eid


def is_confirmed(record: Record, execution: Execution) -> bool:
    """Tell whether an execution was decided after its start; one that was refused and runs on was not."""
    return any(
        record.decision(decision_ident(execution, action)) for action in (Action.ALLOW, Action.QUARANTINE)
    )


def decision_ident(execution: Execution, action: Action) -> str:
    """Return the ident of what is decided about an execution after its start: one for each answer."""
    return hashlib.sha256(f"{execution.eid} {action.value}".encode()).hexdigest()[:32]
