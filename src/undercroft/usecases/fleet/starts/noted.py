"""What the hook noted of a start, and what is on record as closed because of it."""

from undercroft.adapters.hookfiles import RunNote, read_note
from undercroft.errors import InputError
from undercroft.model.execution import HookEvent
from undercroft.model.fleet import Hold
from undercroft.model.verdict import Action
from undercroft.ports.records import Record
from undercroft.usecases.fleet.starts.admission import Means
from undercroft.usecases.fleet.starts.network import let_go


def held_by_hook(means: Means, record: Record, event: HookEvent) -> Hold | None:
    """Record what is closed at `start begin`, by the hook or the filter; None where nothing is.

    Args:
        means: the clock and the folder of the hook's notes.
        record: a transaction.
        event: a `start begin`.
    """
    note = note_of(means, event.uuid, event.eid)
    if note is None:
        return None
    if not note.closed:
        let_go(record, event.uuid, "", means.clock())  # of an earlier process whose end nobody saw
        by_filter = note.action is Action.QUARANTINE and means.filter.quarantines
        return _put_by_filter(means, record, note) if by_filter else None
    return put_noted(means, record, note)


def is_quarantined_start(means: Means, event: HookEvent) -> bool:
    """Tell whether `prepare` answered quarantine: whatever is true by now, its taps may not simply open.

    Args:
        means: the folder of the hook's notes.
        event: a `start begin`.
    """
    note = note_of(means, event.uuid, event.eid)
    return note is not None and note.action is Action.QUARANTINE


def note_of(means: Means, machine: str, eid: str) -> RunNote | None:
    """Return what the hook has noted of this execution, None for nothing."""
    try:
        note = read_note(means.state, machine)
    except InputError:
        return None  # the hook rewrites it at the next start; the taps are seen by `close`
    return note if note is not None and note.eid == eid else None


def put_noted(means: Means, record: Record, note: RunNote) -> Hold:
    """Record what the hook has closed of an execution, once, and return it."""
    before = hold_of(record, note.machine, note.eid)
    if before is not None and not before.by_filter:
        return before
    pending = note.action is Action.ALLOW
    hold = Hold(note.machine, note.eid, note.taps, note.reason, means.clock(), pending)
    record.put_hold(hold)
    return hold


def _put_by_filter(means: Means, record: Record, note: RunNote) -> Hold:
    before = hold_of(record, note.machine, note.eid)
    if before is not None:
        return before
    hold = Hold(note.machine, note.eid, (), note.reason, means.clock(), pending=False, by_filter=True)
    record.put_hold(hold)
    return hold


def hold_of(record: Record, machine: str, eid: str = "") -> Hold | None:
    """Return a machine's hold, of that execution where one is named."""
    holds = (hold for hold in record.holds() if hold.machine == machine and eid in {"", hold.eid})
    return next(holds, None)
