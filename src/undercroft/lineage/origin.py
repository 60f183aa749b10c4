"""How an execution began: from the facts of a start and the history to an origin, a parent and the evidence.

Guarantees: a pure function. What proves a rewind is never outvoted by what merely fits a plain start, and
what could not be read proves nothing: the conclusion is then `certain=False`, never a clean start. The
order of the questions is:

1. what the hypervisor said: in-process load, migration, revert to a snapshot, restore;
2. the disks (`lineage.colddisks`): as the last execution left them, as a snapshot, an earlier end, or another
   machine's or an image's state holds them;
3. the UUIDs of their filesystems, which go with every copy: weak evidence.

    conclusion = conclude(facts, history)

What leaves no trace is listed in docs/LINEAGE.md, "Not detectable".
"""

from undercroft.lineage.colddisks import cold
from undercroft.lineage.restored import restored
from undercroft.lineage.start import Conclusion, History, StartFacts
from undercroft.model.execution import Origin, StateKind

MAY_BE_REVERT = "it has snapshots with RAM, and libvirt has not said that it booted"
"""Stands last in the evidence, and only where nothing else is in doubt: libvirt's event takes it away."""


def conclude(facts: StartFacts, history: History) -> Conclusion:
    """Return how an execution began.

    Args:
        facts: the start.
        history: what was on record before; what began later than the start does not count.
    """
    if facts.loaded:
        return _loaded(facts, history)
    if facts.migrating:
        return _migrated(facts, history)
    if facts.reverting:
        return _reverted(facts, history)
    if facts.restoring:
        return restored(facts, history)
    conclusion = cold(facts, history)
    if facts.found:
        return conclusion.doubted("it was found running: nobody saw how it began")
    start = conclusion.origin is Origin.START and conclusion.certain
    if start and facts.rewinds and not facts.booted:
        return conclusion.doubted(MAY_BE_REVERT)
    return conclusion


def _loaded(facts: StartFacts, history: History) -> Conclusion:
    own = history.own(facts)
    evidence = (
        "it was paused and resumed, and somebody has used its monitor: a state may have been loaded inside",
    )
    return Conclusion(Origin.LOAD, own[-1].eid if own else "", "", evidence, certain=False)


def _migrated(facts: StartFacts, history: History) -> Conclusion:
    """Return the execution on the other host, where this record knows of it."""
    others = [known for known in history.own(facts) if known.host != facts.host]
    live = [known for known in others if known.live or known.ending == "migrated"]
    if live:
        evidence = (f"it was migrated from {live[-1].host}, where it was execution {live[-1].eid}",)
        return Conclusion(Origin.MIGRATE, live[-1].eid, "", evidence)
    evidence = ("it was migrated from a host whose records are not at hand",)
    return Conclusion(Origin.MIGRATE, "", "", evidence, certain=False)


def _reverted(facts: StartFacts, history: History) -> Conclusion:
    """Return the snapshot that libvirt reverted to: the latest of that name which is still there."""
    named = [
        state
        for state in history.states
        if state.kind is StateKind.SNAPSHOT and facts.snapshot and state.name == facts.snapshot
    ]
    there = [state for state in named if state.gone_at is None] or named
    if not there:
        name = facts.snapshot or "a snapshot that it did not name"
        evidence = (f"libvirt reverted it to {name}, which is not on record",)
        return Conclusion(Origin.REVERT, "", "", evidence, certain=False)
    state = there[-1]
    evidence = (f"libvirt reverted it to snapshot {state.name}",)
    if not state.eid:
        return Conclusion(
            Origin.REVERT,
            "",
            state.key,
            (*evidence, "in which execution it was taken is not known"),
            certain=False,
        )
    return Conclusion(
        Origin.REVERT, state.eid, state.key, (*evidence, f"it was taken in execution {state.eid}")
    )
