"""What the audit log says of each change to the record; the same for every database.

Bodies are small: what stands in the record in full is named here by what identifies it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, cast

from undercroft.model.channel import Quiesced, Reseed
from undercroft.model.execution import Execution
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.model.fleet import Hold, Intent
from undercroft.model.schema import Json, encode
from undercroft.model.vaulthome import VaultHome
from undercroft.model.verdict import Decision, Judgement


class Line(NamedTuple):
    """The arguments of `Record.log`."""

    kind: str
    subject: str
    body: Mapping[str, Json]
    at: datetime


def decision_line(decision: Decision) -> Line:
    """Return what is logged of a decision."""
    return Line("decision", decision.machine, _without(decision, "machine", "at"), decision.at)


def judgement_line(before: tuple[str, str] | None, after: Judgement) -> Line | None:
    """Return what is logged of a judgement, None where it stays as it was.

    Args:
        before: verdict and action as they were, None for a new subject.
        after: what is now.
    """
    if before == (after.verdict, after.action):
        return None
    body: dict[str, Json] = {
        "verdict": after.verdict.value,
        "action": after.action.value,
        "why": after.why,
        "policy": after.policy,
        "advisories": after.advisories,
        "before": None if before is None else list(before),
    }
    return Line("verdict", after.subject, body, after.judged_at)


def execution_lines(before: Execution | None, after: Execution, now: datetime) -> tuple[Line, ...]:
    """Return what is logged of an execution: its beginning, its end, and what was concluded anew.

    Args:
        before: what was on record, None for nothing.
        after: what is now.
        now: when a conclusion changed; beginnings and ends have their own times.
    """
    lines: list[Line] = []
    if before is None:
        body = _without(after, "machine", "started_at", "ended_at", "ending")
        lines.append(Line("execution", after.machine, body, after.started_at))
    if after.ended_at is not None and (before is None or before.ended_at is None):
        body = {"eid": after.eid, "ending": after.ending}
        lines.append(Line("ending", after.machine, body, after.ended_at))
    if before is not None:
        changed = _changes(before, after)
        if changed:
            lines.append(Line("execution", after.machine, {"eid": after.eid, "changed": changed}, now))
    return tuple(lines)


def hold_line(hold: Hold) -> Line:
    """Return what is logged of a network that was closed."""
    return Line("hold", hold.machine, {"held": True, **_without(hold, "machine", "since")}, hold.since)


def open_line(hold: Hold, reason: str, at: datetime) -> Line:
    """Return what is logged of a network that is open again."""
    return Line("hold", hold.machine, {"held": False, "eid": hold.eid, "reason": reason}, at)


def intent_line(intent: Intent) -> Line:
    """Return what is logged of an administrator's decision."""
    return Line(intent.kind, intent.machine, _without(intent, "machine", "kind", "at"), intent.at)


def reseed_line(reseed: Reseed) -> Line:
    """Return what is logged of a guest that has confirmed its seed."""
    return Line("reseed", reseed.machine, _without(reseed, "machine", "at"), reseed.at)


def quiesced_line(quiesced: Quiesced) -> Line:
    """Return what is logged of a snapshot of a guest that stood still."""
    return Line("quiesced", quiesced.machine, _without(quiesced, "machine", "at"), quiesced.at)


def home_line(before: VaultHome | None, after: VaultHome, by: str, reason: str) -> Line | None:
    """Return what is logged of the home of a machine's vault, None where it stays the same host.

    Args:
        before: what was on record, None for nothing.
        after: what is now.
        by: who said so.
        reason: why.
    """
    if before is not None and before.host == after.host:
        return None
    body: dict[str, Json] = {
        "outcome": "begun" if before is None else "adopted",
        "home": after.host,
        "before": None if before is None else before.host,
        "above": after.above,
        "by": by,
        "reason": reason,
    }
    return Line("vault", after.machine, body, after.at)


def firewall_line(policy: AppliedPolicy) -> Line:
    """Return what is logged of a firewall policy that was applied; its subject is its digest."""
    return Line("firewall", policy.digest, _without(policy, "body", "at"), policy.at)


def filter_line(before: FilterState | None, after: FilterState) -> Line | None:
    """Return what is logged of a host's filter, None where policy and problem are as they were.

    Args:
        before: what was on record, None for nothing.
        after: what is now, `bounded`.
    """
    if before is not None and (before.digest, before.problem) == (after.digest, after.problem):
        return None
    body: dict[str, Json] = {
        "number": after.number,
        "digest": after.digest,
        "machines": after.machines,
        "problem": after.problem,
    }
    return Line("filter", after.host, body, after.at)


def _changes(before: Execution, after: Execution) -> dict[str, Json]:
    """Return the fields that differ, with their new values; an end that is new has a line of its own."""
    old, new = _without(before), _without(after)
    ends = {"ended_at", "ending"} if before.ended_at is None else set()
    return {name: new[name] for name in new if new[name] != old[name] and name not in ends}


def _without(value: object, *names: str) -> dict[str, Json]:
    fields = cast("dict[str, Json]", encode(value))
    return {name: fields[name] for name in fields if name not in names}
