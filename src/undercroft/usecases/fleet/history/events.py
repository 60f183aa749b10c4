"""The history as libvirt's events tell of it: what the hook could not see, and what no hook saw.

    machine_event(record, event, domain, host)       # every event of libvirt, with the domain as it is now

An event is matched with the execution that the hook announced: the earliest that has not been heard of. Each
leaves its sentence in the evidence, by which its double is known.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from undercroft.lineage.origin import MAY_BE_REVERT
from undercroft.lineage.start import StartFacts
from undercroft.model.domain import Domain, DomainSnapshot
from undercroft.model.execution import Execution, Origin
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.facts import (
    ENDINGS,
    FOUND,
    RAN,
    concluded,
    end,
    own,
    put,
    reverted_to,
)
from undercroft.usecases.fleet.history.states import end_withdrawn, snapshots_listed

_LATE = timedelta(minutes=2)
"""How long after its hook an event of libvirt may arrive."""
_AT_ONCE = timedelta(seconds=5)
"""How long after a snapshot that is on record already its pause may end."""
_ROUGH = frozenset({"", "stopped", "superseded", "lost"})
"""Endings that say less than libvirt's event does."""
_FROM_RAM = frozenset({Origin.RESTORE, Origin.FORK, Origin.CLONE, Origin.REVERT})
INSIDE = "it began inside a process that ran already"
"""Stands in the evidence of what libvirt tells no start of."""
UNSEEN = "no hook saw it begin"
"""Stands in the evidence of a start that only libvirt's event tells of: nobody has decided it."""
PROVEN = "its channel proves that it was put back: "
"""Begins the sentence of a proof in the evidence (`rewinds`)."""
_ONE_LOAD = timedelta(seconds=10)
"""How far libvirt's word on a load and the channel's proof of it may lie apart."""
_MONITOR = "custom-monitor"
_WAKEUP = "wakeup"
"""libvirt's reason for a STARTED that is none: a guest that slept, as it may at will, runs on."""


def machine_event(record: Record, event: MachineEvent, domain: Domain | None, host: str) -> Execution | None:
    """Take one of libvirt's events into the history.

    Args:
        record: a transaction.
        event: of a machine; those of the connection change nothing.
        domain: the machine as it is now, None where it is gone.
        host: this host's name.

    Returns:
        The execution that was begun, changed or ended, None where nothing was.
    """
    added: tuple[DomainSnapshot, ...] = ()
    if domain is not None and event.happening in {Happening.STARTED, Happening.RESUMED}:
        added = snapshots_listed(record, domain, event.at)
    match event.happening:
        case Happening.STARTED if event.detail != _WAKEUP:
            return _started(record, event, domain, host)
        case Happening.STOPPED:
            return _ended(record, event, host)
        case Happening.RESUMED:
            return _resumed(record, event, domain, host, added)
    return None


def _started(record: Record, event: MachineEvent, domain: Domain | None, host: str) -> Execution | None:
    said = _said(event)
    here = [known for known in own(record, event.uuid) if known.host == host]
    if heard := [known for known in here if said in known.evidence]:
        return heard[-1]
    waiting = [
        known
        for known in here
        if known.started_at <= event.at
        and (known.live or event.at - known.started_at <= _LATE)
        and known.ending != "failed"
        and INSIDE not in known.evidence
        and (known.live or FOUND not in known.evidence)
        and not has_heard(known, Happening.STARTED)
    ]
    if waiting:
        return put(record, _refined(record, waiting[0], event, domain))
    for known in here:
        if known.live:
            end(record, known, "superseded", event.at)
    facts = _event_facts(event, domain, host)
    return put(record, concluded(record, facts, RAN, said, UNSEEN))


def _refined(record: Record, execution: Execution, event: MachineEvent, domain: Domain | None) -> Execution:
    """Return what libvirt's word makes of an execution that the hook announced."""
    facts = replace(_event_facts(event, domain, execution.host), eid=execution.eid, at=execution.started_at)
    agrees = {
        "restored": execution.origin in _FROM_RAM,
        "migrated": execution.origin is Origin.MIGRATE,
        "booted": execution.origin not in {Origin.RESTORE, Origin.FORK, Origin.MIGRATE},
        "from-snapshot": False,
    }.get(event.detail, True)
    heard = tuple(dict.fromkeys((*execution.evidence, RAN, _said(event))))
    if not agrees:
        anew = concluded(record, facts, RAN, _said(event))
        return replace(anew, ended_at=execution.ended_at, ending=execution.ending)
    if event.detail == "booted" and MAY_BE_REVERT in execution.evidence:
        heard = tuple(sentence for sentence in heard if sentence != MAY_BE_REVERT)
        return replace(execution, evidence=heard, certain=True)
    return replace(execution, evidence=heard)


def _event_facts(event: MachineEvent, domain: Domain | None, host: str) -> StartFacts:
    reverting = event.detail == "from-snapshot"
    return StartFacts(
        event.uuid,
        event.name,
        host,
        event.at,
        secrets.token_hex(16),
        restoring=event.detail == "restored",
        migrating=event.detail == "migrated",
        reverting=reverting,
        snapshot=reverted_to(domain, event.at) if domain and reverting else "",
        booted=event.detail == "booted",
    )


def _ended(record: Record, event: MachineEvent, host: str) -> Execution | None:
    """End the execution that stopped, or say better how it ended where the hook was first."""
    here = [known for known in own(record, event.uuid) if known.host == host and known.started_at <= event.at]
    if heard := [known for known in here if _said(event) in known.evidence]:
        return heard[-1]
    waiting = [
        known
        for known in here
        if known.ended_at
        and abs(event.at - known.ended_at) <= _LATE
        and not has_heard(known, Happening.STOPPED)
    ]
    live = [known for known in here if known.live]
    execution = next(iter((*waiting, *live[-1:])), None)
    if execution is None:
        return None
    ending = execution.ending
    if ending in _ROUGH or (ending == "failed" and event.detail in {"saved", "crashed", "migrated"}):
        ending = ENDINGS.get(event.detail, "stopped")
    if event.detail == "from-snapshot":
        end_withdrawn(record, execution)
    evidence = (*execution.evidence, _said(event))
    ended_at = execution.ended_at or event.at
    return put(record, replace(execution, ended_at=ended_at, ending=ending, evidence=evidence))


def _resumed(
    record: Record,
    event: MachineEvent,
    domain: Domain | None,
    host: str,
    added: Sequence[DomainSnapshot],
) -> Execution | None:
    executions = own(record, event.uuid)
    live = [known for known in executions if known.live and known.host == host]
    if not live or _said(event) in live[-1].evidence:
        return live[-1] if live else None
    execution = live[-1]
    if event.detail == "migrated":
        for other in executions:
            if other.live and other.host != host:
                end(record, other, "migrated", event.at)
        return execution
    recent = event.at - execution.started_at <= _LATE
    begins = recent and INSIDE not in execution.evidence and not has_heard(execution, Happening.STARTED)
    if domain is None or begins:
        return None  # it belongs to the start, whose own event may come after it
    facts = replace(_event_facts(event, domain, host), restoring=False, migrating=False)
    if event.detail == "from-snapshot":  # the end of a revert or a restore, or one inside the process
        return execution if recent else _inside(record, execution, facts, event)
    if taken := _snapshot_taken(executions, domain, added, event.at):
        return put(record, replace(execution, evidence=(*execution.evidence, taken, _said(event))))
    if _is_proven_before(execution, event.at):
        return put(record, replace(execution, evidence=(*execution.evidence, _said(event))))
    if _MONITOR in domain.tainted:
        return _inside(record, execution, replace(facts, loaded=True), event)
    return None


def _is_proven_before(execution: Execution, at: datetime) -> bool:
    """Tell whether a load that libvirt tells of is the one by whose proof an execution has begun already."""
    proven = any(sentence.startswith(PROVEN) for sentence in execution.evidence)
    is_told = any(sentence.startswith("libvirt said at ") for sentence in execution.evidence)
    return proven and not is_told and abs(at - execution.started_at) <= _ONE_LOAD


def _inside(record: Record, execution: Execution, facts: StartFacts, event: MachineEvent) -> Execution:
    """Begin an execution inside a running process."""
    begun = concluded(record, facts, RAN, INSIDE, _said(event))
    end(record, execution, "superseded", event.at)
    return put(record, begun)


def _snapshot_taken(
    executions: Iterable[Execution], domain: Domain, added: Sequence[DomainSnapshot], at: datetime
) -> str:
    """Return the sentence on the snapshot with RAM that a pause was for, "" for none.

    A snapshot explains one pause: whoever loads it through the monitor right after it was taken is seen. It
    is new to the record; or, where a survey was quicker than the event, new by its time.
    """
    told = {sentence for known in executions for sentence in known.evidence}
    for snapshot in domain.snapshots:
        sentence = f"it was paused for snapshot {snapshot.name} of {snapshot.created_at_s}"
        near = _LATE if snapshot in added else _AT_ONCE
        taken_then = abs(at.timestamp() - snapshot.created_at_s) <= near.total_seconds()
        if taken_then and snapshot.memory != "no" and sentence not in told:
            return sentence
    return ""


def _said(event: MachineEvent) -> str:
    return f"libvirt said at {event.at.isoformat()}: {event.happening.value} {event.detail}".rstrip()


def has_heard(execution: Execution, happening: Happening) -> bool:
    """Tell whether libvirt's event of that kind is on record of an execution."""
    return any(
        sentence.startswith("libvirt said at ") and f": {happening.value}" in sentence
        for sentence in execution.evidence
    )
