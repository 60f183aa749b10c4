"""The states that executions may begin from, recorded as they are seen.

    snapshots_listed(record, domain, at)                       # as libvirt lists them; missing ones are gone
    snapshot_seen(record, uuid, snapshot, fingerprint)         # its disks were read
    end_seen(record, uuid, fingerprint, files, at)             # a stopped machine's disks were read
    image_seen(record, host, path, fingerprint, at)            # a template or an image of no machine
    save_seen(record, uuid, save)                              # a managed save image lies there

All are idempotent, and none takes back what was known: a state that can't be read any more keeps its
fingerprint.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from undercroft.lineage.colddisks import PROMPT
from undercroft.lineage.restored import save_key, saved_by
from undercroft.lineage.start import files_mark
from undercroft.model.domain import Domain, DomainSnapshot
from undercroft.model.execution import Execution, Fingerprint, RecordedState, SaveImage, StateKind
from undercroft.model.fleet import FileIdentity
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.facts import own

_SECOND = timedelta(seconds=1)
"""libvirt cuts the time of a snapshot to seconds."""
_TAKING = timedelta(seconds=5)
"""So long after libvirt has noted its time a snapshot of a machine that is off is in the images' tables."""
_IN_LIFE = frozenset({"running", "paused", "disk-snapshot"})


def snapshots_listed(record: Record, domain: Domain, at: datetime) -> tuple[DomainSnapshot, ...]:
    """Record a machine's snapshots as libvirt lists them, and return those that were not on record.

    Those on record that it lacks are gone.
    """
    known = {state.key: state for state in record.states(domain.uuid) if state.kind is StateKind.SNAPSHOT}
    present, added = set(), []
    for snapshot in domain.snapshots:
        key = _snapshot_state_key(known.values(), domain.uuid, snapshot)
        present.add(key)
        before = known.get(key)
        if before is None:
            added.append(snapshot)
        if before is None or before.gone_at is not None or not (before.eid or before.fingerprint):
            snapshot_seen(record, domain.uuid, snapshot)
    names = {snapshot.name for snapshot in domain.snapshots}
    in_images = {subject.state for subject in record.subjects(domain.uuid)} - names
    for state in known.values():
        # One that `qemu-img snapshot` took is known to no libvirt: it is gone when its subject is.
        if state.key not in present and state.name not in in_images and state.gone_at is None:
            record.put_state(replace(state, gone_at=at))
    return tuple(added)


def snapshot_seen(
    record: Record,
    machine: str,
    snapshot: DomainSnapshot,
    fingerprint: Fingerprint | None = None,
    sample: str = "",
) -> RecordedState:
    """Record one snapshot, and in which execution it was taken.

    Args:
        record: a transaction.
        machine: UUID.
        snapshot: as libvirt lists it, or as the image's own table names it.
        fingerprint: of its disks, None where they were not read.
        sample: `SaveImage.sample` of its external RAM file, "" for none.
    """
    key = _snapshot_state_key(record.states(machine), machine, snapshot)
    known = record.state(key)
    asked = (fingerprint.digest if fingerprint else "", sample)
    if known and known.eid and known.gone_at is None and asked == (known.fingerprint, known.sample):
        return known
    taken_at = datetime.fromtimestamp(max(snapshot.created_at_s, 0), UTC)
    in_life = snapshot.state in _IN_LIFE
    eid = _taken_in(record.own_executions(machine), taken_at, in_life=in_life)
    digest = fingerprint.digest if fingerprint else ""
    state = RecordedState(key, StateKind.SNAPSHOT, machine, snapshot.name, eid, taken_at, digest, sample)
    if digest and not in_life:
        return _put(record, replace(state, eid=_holder(record, state)), anew=True)
    return _put(record, state)


def end_seen(
    record: Record,
    machine: str,
    fingerprint: Fingerprint | None,
    files: Sequence[FileIdentity],
    at: datetime,
) -> RecordedState | None:
    """Record how the last execution left the disks; None, and nothing, where one lives or none ever ran.

    None, too, where they are not what it left: libvirt stopped it to revert it, or they were read late, or
    written after its end, and are in another state that is on record. To be called after libvirt's event of
    the stop, where one comes.

    Args:
        record: a transaction.
        machine: UUID.
        fingerprint: None where they could not be read.
        files: the identities of the top images, in the machine's order.
        at: when they were read. What was on record first stays: a later look may see a changed disk.
    """
    executions = [known for known in own(record, machine) if known.ending != "failed"]
    if not executions or any(known.live for known in executions):
        return None
    last = executions[-1]
    if last.started_at > at or _reverted_away(last):
        return None
    digest = fingerprint.digest if fingerprint else ""
    state = RecordedState(
        f"end:{last.eid}", StateKind.END, machine, last.name, last.eid, at, digest, files_mark(files)
    )
    before = record.state(state.key)
    if before is not None and before.fingerprint:
        if before.fingerprint != digest:
            return before
        state = replace(state, taken_at=before.taken_at)  # the files were touched: the disks are the same
    elif digest and _may_be_others(last, files, at) and _put_back(record, state):
        return None
    return _put(record, state)


def end_withdrawn(record: Record, execution: Execution) -> None:
    """Take back how an execution left the disks: they may have been read after they were reverted."""
    state = record.state(f"end:{execution.eid}")
    if state is not None:
        record.put_state(replace(state, fingerprint="", sample=""))


def image_seen(
    record: Record, host: str, path: str, fingerprint: Fingerprint | None, at: datetime
) -> RecordedState:
    """Record an image that no machine writes to: a template, a backing image, an orphan."""
    digest = fingerprint.digest if fingerprint else ""
    return _put(record, RecordedState(f"image:{host}:{path}", StateKind.IMAGE, "", path, "", at, digest))


def save_seen(record: Record, machine: str, save: SaveImage) -> RecordedState:
    """Record a save image, and the execution whose RAM it holds."""
    taken_at = datetime.fromtimestamp(save.modified_ns // 1_000_000_000, UTC)
    parent, _proven = saved_by(save, record.own_executions(machine))
    eid = parent.eid if parent else ""
    known = record.states_like(sample=save.sample) if save.sample else ()
    if known:
        return known[-1]
    return _put(
        record,
        RecordedState(
            save_key(save.sample), StateKind.SAVE, machine, save.path, eid, taken_at, sample=save.sample
        ),
    )


def _reverted_away(execution: Execution) -> bool:
    """Whether libvirt stopped it to put a snapshot in its place."""
    return any(sentence.endswith(": stopped from-snapshot") for sentence in execution.evidence)


def _may_be_others(last: Execution, files: Sequence[FileIdentity], at: datetime) -> bool:
    """Whether somebody may have changed disks between an execution's end and their first read."""
    if last.ended_at is None:
        return False
    ended_ns = int(last.ended_at.timestamp() * 1e6) * 1000
    return at > last.ended_at + PROMPT or any(file.modified_ns > ended_ns for file in files)


def _put_back(record: Record, state: RecordedState) -> bool:
    """Whether disks that may have been changed are in a state that is on record: put back in the meantime.

    They are then no end of the last execution, and the next start tells what they are.
    """
    return any(
        known.machine == state.machine and known.eid != state.eid
        for known in record.states_like(fingerprint=state.fingerprint)
    )


def _snapshot_state_key(known: Iterable[RecordedState], machine: str, snapshot: DomainSnapshot) -> str:
    """Return the key of a snapshot's state.

    libvirt notes the time before it writes to the images, whose own table has a later one. Where the table
    was read before libvirt listed the snapshot, it is on record under that one.
    """
    listed_at = datetime.fromtimestamp(max(snapshot.created_at_s, 0), UTC)
    for state in known:
        is_later = timedelta(0) < state.taken_at - listed_at <= _TAKING
        if is_later and state.kind is StateKind.SNAPSHOT and state.name == snapshot.name:
            return state.key
    return f"snapshot:{machine}:{snapshot.name}:{snapshot.created_at_s}"


def _taken_in(executions: Sequence[Execution], taken_at: datetime, *, in_life: bool) -> str:
    """Return the execution in which a snapshot was taken, or which left the disks as it holds them.

    A snapshot of a machine that was off belongs to the execution before it, one of a running machine to
    the one that lived then.
    """
    begun = [
        known for known in executions if known.started_at < taken_at + _SECOND and known.ending != "failed"
    ]
    if not in_life:
        ended = [known for known in begun if known.ended_at and known.ended_at < taken_at + _SECOND]
        return ended[-1].eid if ended else ""
    # The first that lived in that second: a revert follows its snapshot, never the other way round.
    lived = [known for known in begun if known.ended_at is None or known.ended_at >= taken_at]
    return lived[0].eid if lived else ""


def _holder(record: Record, state: RecordedState) -> str:
    """Return the execution that left the disks of a machine that was off as a snapshot holds them, or "".

    Before it was taken, another state may have been put in place: then it is no work of the last execution.
    """
    end = record.state(f"end:{state.eid}")
    if end is not None and end.fingerprint == state.fingerprint:
        return state.eid
    alike = [
        known
        for known in reversed(record.states_like(fingerprint=state.fingerprint))
        if known.machine == state.machine
        and known.eid
        and known.key != state.key
        and known.taken_at <= state.taken_at
    ]
    if alike:
        return alike[-1].eid
    last = record.execution(state.eid)
    changed = end is not None and end.fingerprint
    return "" if changed or (last and _reverted_away(last)) else state.eid


def _put(record: Record, state: RecordedState, *, anew: bool = False) -> RecordedState:
    """Add or complete a state; what is on record already stays where the new one says nothing.

    Its execution stays, too, unless its disks are read for the first time and say better (`anew`).
    """
    before = record.state(state.key)
    if before is not None:
        state = replace(
            state,
            eid=state.eid if anew and not before.fingerprint else before.eid or state.eid,
            fingerprint=state.fingerprint or before.fingerprint,
            sample=state.sample or before.sample,
        )
    if state != before:
        record.put_state(state)
    return state
