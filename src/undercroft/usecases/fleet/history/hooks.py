"""The history of every machine: executions, as hooks and libvirt's events tell of them, kept in the record.

All functions take a `Record` in a transaction that the caller began, are idempotent, and take events that are
lost, late or doubled. The agent takes the spool's files before libvirt's events that came after them.

    execution = begins(record, event, host, looked)                 # what a `prepare` would begin
    hook_event(record, replace(event, decided=...), host, looked)   # every call of the hook, once decided
    machine_event(record, event, domain, host)                      # every event of libvirt

`states` records the states that executions may begin from, and `reconcile.surveyed` puts right what
was missed, and finds the alarms.
"""

from collections.abc import Iterable
from dataclasses import replace

from undercroft.lineage.restored import save_key
from undercroft.model.execution import Execution, HookEvent, Origin, RecordedState, SaveImage, StateKind
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.events import machine_event
from undercroft.usecases.fleet.history.facts import (
    ENDINGS,
    NOT_LOOKED,
    RAN,
    Looked,
    concluded,
    end,
    hook_facts,
    moment,
    own,
    put,
    put_pending,
)

__all__ = ["begins", "hook_event", "machine_event"]


def begins(record: Record, event: HookEvent, host: str, looked: Looked = NOT_LOOKED) -> Execution:
    """Return the execution that begins with a `prepare begin`, without recording it."""
    return concluded(record, hook_facts(record, event, host, looked))


def hook_event(record: Record, event: HookEvent, host: str, looked: Looked = NOT_LOOKED) -> Execution | None:
    """Take one call of the hook into the history.

    Args:
        record: a transaction; the event is taken into it here, and counts once.
        event: with `decided` and `reason` as they were answered.
        host: this host's name.
        looked: what was seen of the disks before the start, for `prepare begin`.

    Returns:
        The execution that it is about, None where there is none: a refused start, an announcement.
    """
    if not record.take_event(event):
        return record.execution(event.eid) if event.eid else None
    match event.operation, event.sub:
        case (("restore" | "migrate"), "begin"):
            # libvirt tells its hook of a migration before it looks: it refuses one of what lives here.
            lives = event.operation == "migrate" and record.live_origins([event.uuid])
            if not any(one.host == host for one in lives or ()):
                put_pending(record, event)
            return None
        case "prepare", "begin":
            return _prepared(record, event, host, looked)
        case "started", "begin":
            return _ran(record, event)
        case (("stopped" | "release"), "end"):
            return _stopped(record, event, host)
    return record.execution(event.eid) if event.eid else None


def _prepared(record: Record, event: HookEvent, host: str, looked: Looked) -> Execution | None:
    if known := record.execution(event.eid):
        return known
    at = moment(event.at_ns)
    if event.decided == "refuse":
        record.log("execution", event.uuid, {"refused": True, "eid": event.eid, "reason": event.reason}, at)
        return None
    facts = hook_facts(record, event, host, looked)
    execution = concluded(record, facts)
    here = [known for known in own(record, event.uuid) if known.host == host]
    for known in here:
        if known.live and known.started_at <= at:
            end(record, known, "superseded", at)
    later = [known for known in here if known.started_at > at]
    if later:  # this event was late: its execution is over
        execution = replace(execution, ended_at=later[0].started_at, ending="superseded")
    record.put_execution(execution)
    _put_save(record, facts.save, execution)
    return execution


def _put_save(record: Record, save: SaveImage | None, execution: Execution) -> None:
    """Record the image that was restored, so that the next restore of it is told as a fork."""
    if save is None or not save.sample or execution.state != save_key(save.sample):
        return
    if not record.states_like(sample=save.sample):
        taken_at = moment(save.modified_ns)
        record.put_state(
            RecordedState(
                execution.state,
                StateKind.SAVE,
                execution.machine,
                save.path,
                execution.parent,
                taken_at,
                sample=save.sample,
            )
        )


def _ran(record: Record, event: HookEvent) -> Execution | None:
    execution = record.execution(event.eid)
    if execution is None or RAN in execution.evidence:
        return execution
    ending = "stopped" if execution.ending == "failed" else execution.ending
    return put(record, replace(execution, ending=ending, evidence=(*execution.evidence, RAN)))


def _stopped(record: Record, event: HookEvent, host: str) -> Execution | None:
    at = moment(event.at_ns)
    executions = own(record, event.uuid)
    target = record.execution(event.eid) if event.eid else None
    if target is None:
        live = [known for known in executions if known.live and known.host == host and known.started_at <= at]
        return end(record, live[-1], _hooks_ending(live[-1], event), at) if live and not event.eid else None
    loads = list(_loaded_inside(executions, target))
    for inside in loads:
        if inside.live:
            return end(record, inside, _hooks_ending(inside, event), at)
    if target.live or (target.ending in {"superseded", "lost"} and not loads):
        return end(record, target, _hooks_ending(target, event), at)
    return target


def _hooks_ending(execution: Execution, event: HookEvent) -> str:
    if RAN not in execution.evidence:
        return "failed"
    return ENDINGS.get(event.extra, "stopped")


def _loaded_inside(executions: Iterable[Execution], target: Execution) -> Iterable[Execution]:
    """Yield the executions that began inside the process of `target`, which has one id for the hook."""
    inside = {target.eid}
    for known in executions:
        if known.origin is Origin.LOAD and known.parent in inside:
            inside.add(known.eid)
            yield known
