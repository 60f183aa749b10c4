"""What a survey puts right in the history after events were missed, and the alarms that it raises."""

import json
import secrets
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta

from undercroft.lineage.alarms import Alarm, alarms
from undercroft.lineage.start import StartFacts
from undercroft.model.domain import Domain, Survey
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import MachineRecord
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.facts import FOUND, RAN, concluded, end, own
from undercroft.usecases.fleet.history.states import snapshots_listed

_PREPARING = timedelta(minutes=10)
"""A machine that was prepared may be off in a survey for as long as its hooks, and its RAM, take."""
_PAGE = 1_000


def surveyed(record: Record, survey: Survey, moving: Collection[str] = frozenset()) -> tuple[Alarm, ...]:
    """Bring the history up to what a survey shows. To be called before `put_survey`, which it compares with.

    Args:
        record: a transaction.
        survey: what is there.
        moving: UUIDs of machines to which something happened while it was taken: their events tell of it, and
            which of the two looks was the later nobody knows.

    Returns:
        The alarms that are new; each is logged once, for as long as it stands.
    """
    known = {machine.domain.uuid: machine for machine in record.machines(survey.host)}
    live = {
        execution.machine: execution
        for execution in record.live_executions()
        if execution.host == survey.host
        and execution.started_at <= survey.taken_at
        and execution.machine not in moving
    }
    running = {domain.uuid: domain for domain in survey.domains if domain.power.has_process}
    for execution in live.values():
        if execution.machine not in running and not _preparing(execution, survey):
            end(record, execution, "lost", survey.taken_at)
    for domain in survey.domains:
        snapshots_listed(record, domain, survey.taken_at)
    for uuid, domain in running.items():
        if uuid in moving:
            continue
        _running(record, survey, domain, live.get(uuid), known.get(uuid))
    return _raised(record, survey)


def _preparing(execution: Execution, survey: Survey) -> bool:
    return RAN not in execution.evidence and survey.taken_at - execution.started_at <= _PREPARING


def _running(
    record: Record,
    survey: Survey,
    domain: Domain,
    live: Execution | None,
    before: MachineRecord | None,
) -> None:
    """Begin the execution of a running machine that has none, or whose process is another than it was."""
    if live is not None and _restarted(live, domain, before):
        end(record, live, "superseded", survey.taken_at)
        live = None
    if live is None:
        # Newer than the survey, or ended since: what ran then is on record.
        seen = [
            known
            for known in own(record, domain.uuid)
            if known.host == survey.host and (known.ended_at is None or known.ended_at > survey.taken_at)
        ]
        if not seen:
            record.put_execution(_found(record, survey, domain, before))
        return
    snapshot = _moved_to(domain, before)
    if snapshot and live.origin is not Origin.REVERT and before and before.last_seen < live.started_at:
        record.put_execution(_reverted(record, live, domain, snapshot, before))
    elif RAN not in live.evidence:
        record.put_execution(replace(live, evidence=(*live.evidence, RAN)))


def _restarted(live: Execution, domain: Domain, before: MachineRecord | None) -> bool:
    """Whether the process is another than the one that was surveyed in this execution."""
    return (
        before is not None
        and before.domain.libvirt_id not in {0, domain.libvirt_id}
        and live.started_at <= before.last_seen
    )


def _found(record: Record, survey: Survey, domain: Domain, before: MachineRecord | None) -> Execution:
    snapshot = _moved_to(domain, before)
    facts = StartFacts(
        domain.uuid,
        domain.name,
        survey.host,
        survey.taken_at,
        secrets.token_hex(16),
        reverting=bool(snapshot),
        snapshot=snapshot,
        found=True,
    )
    begun = concluded(record, facts, RAN, FOUND)
    return replace(begun, certain=False)


def _reverted(
    record: Record, live: Execution, domain: Domain, snapshot: str, before: MachineRecord
) -> Execution:
    """Return that a machine whose start was seen, but not of what kind, had been reverted."""
    facts = StartFacts(
        domain.uuid, domain.name, live.host, live.started_at, live.eid, reverting=True, snapshot=snapshot
    )
    sentence = f"{snapshot} is the machine's current snapshot, which it was not before"
    anew = concluded(record, facts, RAN, sentence)
    since = [known for known in own(record, domain.uuid) if known.started_at > before.last_seen]
    return anew if len(since) == 1 else replace(anew, certain=False)


def _moved_to(domain: Domain, before: MachineRecord | None) -> str:
    """Return the snapshot that became current although it is older than the one that was, "" for none.

    One that was deleted leaves its parent current: then there was no revert.
    """
    if before is None:
        return ""
    old = {(item.name, item.created_at_s): item for item in before.domain.snapshots}
    was = next((item for item in before.domain.snapshots if item.current), None)
    now = next((item for item in domain.snapshots if item.current), None)
    if was is None or now is None or (now.name, now.created_at_s) not in old:
        return ""
    there = {(item.name, item.created_at_s) for item in domain.snapshots}
    moved = (now.name, now.created_at_s) != (was.name, was.created_at_s)
    return now.name if moved and (was.name, was.created_at_s) in there else ""


def _raised(record: Record, survey: Survey) -> tuple[Alarm, ...]:
    new = [alarm for alarm in alarms(record.live_executions(), survey) if not _on_record(record, alarm)]
    for alarm in new:
        body: dict[str, Json] = {
            "alarm": alarm.kind,
            "executions": list(alarm.executions),
            "reason": alarm.reason,
        }
        record.log("alarm", alarm.machines[0], body, survey.taken_at)
    return tuple(new)


def _on_record(record: Record, alarm: Alarm) -> bool:
    after = 0
    while entries := record.log_entries(after, _PAGE, alarm.machines[0]):
        for entry in entries:
            if entry.kind == "alarm" and _same(json.loads(entry.body), alarm):
                return True
        after = entries[-1].number
    return False


def _same(body: Mapping[str, object], alarm: Alarm) -> bool:
    return (
        body.get("alarm") == alarm.kind
        and body.get("executions") == list(alarm.executions)
        and body.get("reason") == alarm.reason
    )
