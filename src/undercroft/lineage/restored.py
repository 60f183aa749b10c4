"""Executions that begin from RAM: restored once, or a second time from the same image.

A save image is told by a sample of its bytes, so a copy of it is the same image. Where the image was not
seen before, its time of writing is compared with the ends of the executions that were saved.
"""

from datetime import UTC, datetime, timedelta

from undercroft.lineage.start import Conclusion, History, StartFacts
from undercroft.model.execution import Execution, Origin, RecordedState, SaveImage, StateKind

CLOSE = timedelta(seconds=10)
"""An image is written last when its execution ends; libvirt's event follows within this."""
_NOT_AFTER = timedelta(seconds=1)
"""So much later than the end an image may be written: the clocks of files are coarse."""

_UNTOLD = frozenset({"stopped", "superseded", "lost"})
_FROM_RAM = frozenset({Origin.RESTORE, Origin.FORK, Origin.REVERT, Origin.CLONE})


def save_key(sample: str) -> str:
    """Return the key of a save image's state."""
    return f"save:{sample}"


def restored(facts: StartFacts, history: History) -> Conclusion:
    """Return what a start from RAM continues."""
    if facts.save is not None:
        sample = facts.save.sample
        known = [state for state in history.alike if sample and state.sample == sample]
        if known:
            return _from_known(facts, history, known[0])
    return _from_unknown(facts, history)


def saved_by(save: SaveImage, executions: tuple[Execution, ...]) -> tuple[Execution | None, bool]:
    """Return the execution whose RAM an image holds, and whether its time of writing proves it.

    Args:
        save: the image; its times are the host's word.
        executions: one machine's, in order of their start.
    """
    written = datetime.fromtimestamp(save.modified_ns / 1e9, UTC)
    ended = [known for known in executions if known.ended_at and _may_be_saved(known)]
    close = [known for known in ended if known.ended_at and -_NOT_AFTER <= known.ended_at - written <= CLOSE]
    if close:
        nearest = min(close, key=lambda known: abs((known.ended_at or written) - written))
        return nearest, len(close) == 1 and nearest.ending == "saved"
    saved = [known for known in ended if known.ending == "saved"]
    earlier = [known for known in saved if known.ended_at and known.ended_at <= written]
    if earlier:
        return earlier[-1], False
    begun = [known for known in executions if known.started_at <= written]
    return (begun[-1] if begun else None), False


def _may_be_saved(known: Execution) -> bool:
    """Tell whether an execution was saved, or stopped without libvirt's word on why: a hook is told none."""
    heard = any(": stopped" in sentence for sentence in known.evidence)
    return known.ending == "saved" or (known.ending in _UNTOLD and not heard)


def _from_known(facts: StartFacts, history: History, state: RecordedState) -> Conclusion:
    what = f"the save image {state.name} is on record"
    if state.kind is StateKind.SNAPSHOT and state.machine == facts.machine:
        return Conclusion(
            Origin.REVERT,
            state.eid,
            state.key,
            (f"its RAM is that of snapshot {state.name}",),
            bool(state.eid),
        )
    before = _continued(facts, history, state.key, "")
    if before:
        return Conclusion(
            Origin.FORK,
            state.eid,
            state.key,
            (what, f"execution {before[0].eid} has continued it already"),
            bool(state.eid),
        )
    if state.machine != facts.machine:
        return Conclusion(
            Origin.CLONE, state.eid, state.key, (what, "it was saved by another machine"), bool(state.eid)
        )
    evidence = (what, *_meanwhile(facts, history, state.eid))
    return Conclusion(Origin.RESTORE, state.eid, state.key, evidence, bool(state.eid))


def _from_unknown(facts: StartFacts, history: History) -> Conclusion:
    """Return what an image that was never seen continues, from the ends of the executions."""
    own = history.own(facts)
    if facts.save is not None:
        parent, proven = saved_by(facts.save, own)
        key = save_key(facts.save.sample) if facts.save.sample else ""
        evidence = [f"it was restored from {facts.save.path}"]
        if proven and parent:
            evidence.append(f"which was written when execution {parent.eid} was saved")
    else:
        parent, proven, key = _last_saved(own, history)
        evidence = ["it was restored; the image was not seen"]
    if parent is None:
        evidence.append("no execution is on record that was saved into it")
        return Conclusion(Origin.RESTORE, "", key, tuple(evidence), certain=False)
    before = _continued(facts, history, key, parent.eid if parent.ending == "saved" else "")
    if before:
        evidence.append(f"execution {before[0].eid} has continued it already")
        return Conclusion(Origin.FORK, parent.eid, key, tuple(evidence), certain=proven)
    evidence += _meanwhile(facts, history, parent.eid)
    return Conclusion(Origin.RESTORE, parent.eid, key, tuple(evidence), certain=proven)


def _last_saved(own: tuple[Execution, ...], history: History) -> tuple[Execution | None, bool, str]:
    """Return the execution that a managed save continues, whether that is proven, and the save's key."""
    saved = [known for known in own if known.ending == "saved"]
    if not saved:
        return (own[-1] if own else None), False, ""
    parent = saved[-1]
    keys = [state.key for state in history.states if state.kind is StateKind.SAVE and state.eid == parent.eid]
    return parent, parent is own[-1], keys[-1] if keys else ""


def _continued(facts: StartFacts, history: History, key: str, parent: str) -> list[Execution]:
    """Return the executions that began from the same RAM: one execution is saved into one image only."""
    return [
        known
        for known in history.executions
        if known.eid != facts.eid
        and known.ending != "failed"
        and known.started_at <= facts.at
        and (
            (key and known.state == key and known.origin in _FROM_RAM)
            or (parent and known.parent == parent and known.origin in {Origin.RESTORE, Origin.FORK})
        )
    ]


def _meanwhile(facts: StartFacts, history: History, parent: str) -> tuple[str, ...]:
    own = history.own(facts)
    if parent and own and own[-1].eid != parent:
        return (f"other executions ran since: the last is {own[-1].eid}",)
    return ()
