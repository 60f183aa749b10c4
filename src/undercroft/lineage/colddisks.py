"""Cold starts: what the disks say of how a machine got to where it is.

A fingerprint stands for the superblocks, so two snapshots that one mounted filesystem passed through may
share theirs; where that leaves a choice, the conclusion is not certain.
"""

from collections.abc import Sequence
from datetime import timedelta

from undercroft.lineage.start import Conclusion, History, StartFacts, files_mark
from undercroft.model.execution import Execution, Origin, RecordedState, StateKind

PROMPT = timedelta(minutes=10)
"""Disks that were read later than this after an execution ended may have been changed before."""

_NAMED = 3
"""How many candidates a sentence names."""


def cold(facts: StartFacts, history: History) -> Conclusion:
    """Return what the disks of a machine that starts without RAM continue."""
    own = history.own(facts)
    if not own:
        return _first(facts, history)
    last = own[-1]
    end = _end_of(last, history)
    mark = files_mark(facts.files)
    if end and facts.fingerprint and facts.fingerprint == end.fingerprint:
        return _as_left(facts, history, last, end)
    unread = not facts.fingerprint or (end is not None and not end.fingerprint)
    if end and unread and mark and mark == end.sample:
        evidence = ("its image files are the same, unwritten since the last execution ended",)
        return _witnessed(Conclusion(Origin.START, last.eid, end.key, evidence), last, end)
    if not facts.fingerprint:
        return _unread(last, end)
    return _changed(facts, history, last, end)


def _end_of(last: Execution, history: History) -> RecordedState | None:
    ends = [state for state in history.states if state.kind is StateKind.END and state.eid == last.eid]
    return ends[-1] if ends else None


def _as_left(facts: StartFacts, history: History, last: Execution, end: RecordedState) -> Conclusion:
    """Return a start, in doubt where an older state of equal superblocks may have been put in its place."""
    evidence = ("its disks are as the last execution left them",)
    conclusion = _witnessed(Conclusion(Origin.START, last.eid, end.key, evidence), last, end)
    if files_mark(facts.files) == end.sample != "":
        return conclusion
    older = [
        state
        for state in history.states
        if state.fingerprint == facts.fingerprint
        and state.kind is not StateKind.END
        and state.gone_at is None
        and (last.ended_at is None or state.taken_at < last.ended_at)
    ]
    if older:
        return conclusion.doubted(f"the superblocks of {_names(older)} are the same")
    return conclusion


def _witnessed(conclusion: Conclusion, last: Execution, end: RecordedState) -> Conclusion:
    """Return the conclusion, in doubt where the disks were first read long after the execution ended."""
    if last.ending not in {"lost", "superseded"} and last.ended_at and end.taken_at <= last.ended_at + PROMPT:
        return conclusion
    return conclusion.doubted("they were first read long after it ended, or its end was not seen")


def _unread(last: Execution, end: RecordedState | None) -> Conclusion:
    if end is None:
        evidence = ("its disks were not read, and how the last execution left them is not on record",)
        return Conclusion(Origin.START, last.eid, "", evidence, certain=False)
    evidence = ("its image files were changed since the last execution ended, or cannot be told apart",)
    return Conclusion(Origin.UNKNOWN, last.eid, "", (*evidence, "its disks were not read"), certain=False)


def _changed(facts: StartFacts, history: History, last: Execution, end: RecordedState | None) -> Conclusion:
    """Return what disks that are not known to be as they were left hold: a snapshot, an end, or a copy."""
    mine = [
        state
        for state in history.states
        if state.fingerprint == facts.fingerprint and state.kind is not StateKind.IMAGE
    ]
    resting = [state for state in mine if _at_rest_since(state, last)]
    if resting and resting[-1].eid == last.eid and (end is None or not end.fingerprint):
        evidence = (f"its disks are as {_names(resting)} holds them, taken after the last execution ended",)
        start = Conclusion(Origin.START, last.eid, resting[-1].key, evidence)
        return start.doubted("how the last execution left them is not on record")
    if resting == mine and mine and not any(state.eid for state in mine):
        sentence = f"they were changed after the last execution ended, before {_names(resting)} was taken"
        return Conclusion(Origin.UNKNOWN, last.eid, resting[-1].key, (sentence,), certain=False)
    if mine:
        return _put_back(mine, last, end)
    others = [state for state in history.alike if _is_disks(state, facts)]
    if others:
        return _copied(facts, others)
    return _without_match(last, end)


def _at_rest_since(state: RecordedState, last: Execution) -> bool:
    return state.kind is StateKind.SNAPSHOT and last.ended_at is not None and state.taken_at >= last.ended_at


def _put_back(mine: Sequence[RecordedState], last: Execution, end: RecordedState | None) -> Conclusion:
    """Return which of the machine's states, oldest first, was put in place: rather a snapshot than an end."""
    there = [state for state in mine if state.kind is StateKind.SNAPSHOT and state.gone_at is None]
    ends = [state for state in mine if state.kind is StateKind.END]
    if there:
        origin, chosen, sentence = Origin.REVERT, there, "its disks are as a snapshot holds them"
    elif ends:
        origin, chosen, sentence = Origin.BACKUP, ends, "its disks are as an earlier execution left them"
    else:
        origin, chosen, sentence = (
            Origin.BACKUP,
            list(mine),
            "its disks are as a snapshot that is gone held them",
        )
    state = chosen[-1]
    evidence = (f"{sentence}: {state.name}",)
    conclusion = Conclusion(origin, state.eid, state.key, evidence, certain=bool(state.eid))
    if len(chosen) > 1 or len({state.eid for state in mine}) > 1:
        return conclusion.doubted(f"the superblocks of {_names(mine)} are the same")
    if (end is None or not end.fingerprint) and state.eid == last.eid:
        return conclusion.doubted("how the last execution left them is not on record")
    return conclusion


def _without_match(last: Execution, end: RecordedState | None) -> Conclusion:
    if end is None or not end.fingerprint:
        evidence = ("how the last execution left its disks is not on record",)
        return Conclusion(Origin.START, last.eid, "", evidence, certain=False)
    evidence = ("its disks were changed while it was off, into no state that is on record",)
    return Conclusion(Origin.UNKNOWN, last.eid, "", evidence, certain=False)


def _first(facts: StartFacts, history: History) -> Conclusion:
    """Return what the disks of a machine without any history are: new, or a copy."""
    mark = files_mark(facts.files)
    same = [state for state in history.alike if mark and state.sample == mark]
    others = [state for state in history.alike if _is_disks(state, facts)]
    if same or others:
        return _copied(facts, others or same, same_file=bool(same))
    if history.relatives:
        return _related(history)
    evidence = ("nothing earlier is known of the machine",)
    if not facts.fingerprint:
        return Conclusion(Origin.FIRST, "", "", (*evidence, "its disks were not read"), certain=False)
    return Conclusion(Origin.FIRST, "", "", evidence)


def _is_disks(state: RecordedState, facts: StartFacts) -> bool:
    """Whether a state is one of another machine's or an image's disks, equal to these."""
    return (
        bool(facts.fingerprint) and state.fingerprint == facts.fingerprint and state.machine != facts.machine
    )


def _copied(facts: StartFacts, others: Sequence[RecordedState], *, same_file: bool = False) -> Conclusion:
    """Return which state was copied: the backing image where there is one, else the one that is there."""
    based = [state for state in others if state.kind is StateKind.IMAGE and state.name in facts.bases]
    there = [state for state in others if state.gone_at is None]
    state = (based or there or list(others))[0]
    parents = sorted({other.eid for other in others if other.eid})
    parent = state.eid or (parents[0] if len(parents) == 1 else "")
    evidence = [f"its disks are as {state.name} holds them"]
    if based:
        evidence.append("which is its backing image")
    if same_file:
        evidence.append("it has the very same image file: the machine was defined anew")
    conclusion = Conclusion(Origin.CLONE, parent, state.key, tuple(evidence))
    if not based and not same_file and len({(other.machine, other.eid) for other in others}) > 1:
        return conclusion.doubted(f"the disks of {_names(others)} are the same")
    return conclusion


def _related(history: History) -> Conclusion:
    """Return a copy that is told only by the UUIDs of its filesystems: one of a running machine, say."""
    relatives = history.relatives
    names = ", ".join(relative.name for relative in relatives[:_NAMED])
    more = f" and {len(relatives) - _NAMED} more" if len(relatives) > _NAMED else ""
    evidence = (
        "nothing earlier is known of the machine",
        f"its filesystems have the UUIDs of {names}{more}",
    )
    parent = relatives[0].eid if len(relatives) == 1 else ""
    return Conclusion(Origin.CLONE, parent, "", evidence, certain=False)


def _names(states: Sequence[RecordedState]) -> str:
    names = list(dict.fromkeys(state.name for state in states))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
