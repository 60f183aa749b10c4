"""What a start is concluded from, gathered from an event, a look at the disks and the record."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from undercroft.errors import InputError
from undercroft.lineage.origin import conclude
from undercroft.lineage.start import History, Relative, StartFacts, files_mark
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution, Fingerprint, HookEvent, RecordedState, SaveImage
from undercroft.model.fleet import FileIdentity
from undercroft.model.schema import Json, decode, encode
from undercroft.ports.records import Record

RAN = "it was seen running"
"""Stands in the evidence of every execution that did more than be prepared."""

FOUND = "it was found running"
"""Stands in the evidence of an execution that a survey began."""

ENDINGS = {"saved": "saved", "crashed": "crashed", "migrated": "migrated", "failed": "failed"}
"""What libvirt's reason for a stop is called in an execution; all others are "stopped"."""

RECENT = 64
"""So many of a machine's latest executions tell how it begins and ends: whoever starts one waits for it."""

_PENDING_WITHIN = timedelta(minutes=10)
"""`restore begin` and `migrate begin` come just before their `prepare begin`."""
_PENDING_ENTRIES = 100
"""How far back among the machine's own entries it is looked for; those of others may lie between."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen of a machine's disks before it starts.

    Attributes:
        fingerprint: None where they were not read.
        files: the identities of its top images, in the machine's order, () where they were not looked at.
        bases: paths of the backing images below them.
    """

    fingerprint: Fingerprint | None = None
    files: tuple[FileIdentity, ...] = ()
    bases: tuple[str, ...] = ()


NOT_LOOKED = Looked()


def moment(at_ns: int) -> datetime:
    """Return nanoseconds since the epoch as a time, cut to microseconds."""
    seconds, rest_ns = divmod(at_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1000)


def put_pending(record: Record, event: HookEvent) -> None:
    """Remember, in the log, that a restore or a migration has been announced."""
    body: dict[str, Json] = {
        "pending": event.operation,
        "at_ns": event.at_ns,
        "save": encode(event.save) if event.save else None,
    }
    record.log("execution", event.uuid, body, moment(event.at_ns))


def hook_facts(record: Record, event: HookEvent, host: str, looked: Looked) -> StartFacts:
    """Return the facts of a start that the hook has announced."""
    facts = StartFacts(
        event.uuid,
        event.name,
        host,
        moment(event.at_ns),
        event.eid,
        rewinds=any(
            snapshot.memory != "no"
            for machine in record.find_machines(event.uuid)
            for snapshot in machine.domain.snapshots
        ),
        fingerprint=looked.fingerprint.digest if looked.fingerprint else "",
        lineage=looked.fingerprint.lineage if looked.fingerprint else "",
        files=looked.files,
        bases=looked.bases,
    )
    operation, save = _pending(record, event.uuid, facts.at)
    if operation == "restore":
        return replace(facts, restoring=True, save=save)
    return replace(facts, migrating=operation == "migrate")


def concluded(record: Record, facts: StartFacts, *evidence: str) -> Execution:
    """Return the execution that begins, with `evidence` before what was concluded."""
    conclusion = conclude(facts, _history(record, facts))
    return Execution(
        facts.eid,
        facts.machine,
        facts.name,
        facts.host,
        conclusion.origin,
        conclusion.parent,
        conclusion.state,
        facts.at,
        evidence=(*evidence, *conclusion.evidence),
        certain=conclusion.certain,
    )


def reverted_to(domain: Domain, at: datetime) -> str:
    """Return the snapshot that a machine was reverted to at `at`, "" where libvirt names none.

    It is what its process was started from, where that says. Else it is the current one, unless others were
    taken since: then the one below them. libvirt names the current one late: see `starting`.
    """
    if domain.loaded:
        return domain.loaded
    by_name = {snapshot.name: snapshot for snapshot in domain.snapshots}
    current = next((snapshot for snapshot in domain.snapshots if snapshot.current), None)
    for _step in by_name:
        if current is None or current.created_at_s <= at.timestamp():
            break
        current = by_name.get(current.parent)
    return current.name if current else ""


def _pending(record: Record, machine: str, at: datetime) -> tuple[str, SaveImage | None]:
    """Return the operation that was announced for this start, "" for none, and its save image."""
    entries = record.log_entries(0, _PENDING_ENTRIES, machine, last=True)
    started = max((known.started_at for known in own(record, machine, 1)), default=None)
    for entry in reversed(entries):
        if entry.kind != "execution" or not at - _PENDING_WITHIN <= entry.at <= at:
            continue
        body = json.loads(entry.body)
        if body.get("refused"):
            return "", None
        if "pending" in body and (started is None or entry.at > started):
            return str(body["pending"]), _save(body.get("save"))
    return "", None


def _save(encoded: Json) -> SaveImage | None:
    try:
        return decode(SaveImage, encoded) if encoded else None
    except InputError:
        return None  # a damaged entry: a restore whose image is not known


def own(record: Record, machine: str, limit: int = RECENT) -> tuple[Execution, ...]:
    """Return a machine's own executions in order of their start, the latest of them."""
    return record.own_executions(machine, limit)


def end(record: Record, execution: Execution, ending: str, at: datetime) -> Execution:
    """Record that an execution ended, not before it began."""
    ended_at = max(at, execution.started_at)
    return put(record, replace(execution, ended_at=ended_at, ending=ending))


def put(record: Record, execution: Execution) -> Execution:
    """Record an execution where it differs from what is on record."""
    if record.execution(execution.eid) != execution:
        record.put_execution(execution)
    return execution


def _history(record: Record, facts: StartFacts) -> History:
    """Return what counts for a start. A cold one, which somebody waits for, needs no more than the latest."""
    cold = not (facts.restoring or facts.reverting or facts.migrating)
    executions = record.own_executions(facts.machine, RECENT if cold else 0)
    alike = [
        *(record.states_like(fingerprint=facts.fingerprint) if facts.fingerprint else ()),
        *(record.states_like(sample=mark) if (mark := files_mark(facts.files)) else ()),
        *(record.states_like(sample=facts.save.sample) if facts.save and facts.save.sample else ()),
    ]
    states = tuple(dict.fromkeys(alike))
    relatives = () if executions or states or not facts.lineage else _relatives(record, facts)
    continued = tuple(
        execution
        for machine in sorted({state.machine for state in states if state.sample} - {"", facts.machine})
        for execution in record.own_executions(machine)
    )
    mine = _ends_and_alike(record, facts, executions, states) if cold else record.states(facts.machine)
    return History((*executions, *continued), mine, states, relatives)


def _ends_and_alike(
    record: Record,
    facts: StartFacts,
    executions: tuple[Execution, ...],
    alike: tuple[RecordedState, ...],
) -> tuple[RecordedState, ...]:
    """Return how the last execution left the disks, and the machine's states that look like them now."""
    own_before = History(executions).own(facts)
    ends = [record.state(f"end:{one.eid}") for one in own_before[-1:]]
    found = {state.key: state for state in (*ends, *alike) if state and state.machine == facts.machine}
    return tuple(sorted(found.values(), key=lambda state: (state.taken_at, state.key)))


def _relatives(record: Record, facts: StartFacts) -> tuple[Relative, ...]:
    """Return the machines and images of the same weak lineage, each machine once.

    The last execution is told where there is one relative alone: among a thousand clones none is the parent.
    """
    alike = [one for one in record.subjects_of_lineage(facts.lineage) if one.machine != facts.machine]
    found: dict[str, Relative] = {}
    for subject in alike:
        name = subject.name.partition("@")[0] if subject.machine else subject.name
        found.setdefault(subject.machine or subject.key, Relative(subject.machine, name))
    if len(found) != 1:
        return tuple(found.values())
    (only,) = found.values()
    theirs = own(record, only.machine, 1) if only.machine else ()
    return (replace(only, eid=theirs[-1].eid if theirs else ""),)
