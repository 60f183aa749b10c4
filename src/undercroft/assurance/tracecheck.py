"""Replays a trace against the invariants of the models: what a real run did, beside what the models allow.

    violations = check(tracelines.read(lines))        empty: none was found in what the trace has

What the invariants say stands in `models.INVARIANTS`. A violation between whose two sides a disk was put back
is one of NoSilentRollback. What is void (`tracecalls`) is not missed; values of counters never repeat, void
or not. A trace that cannot be judged is an InputError.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from undercroft.assurance import trace
from undercroft.assurance.tracecalls import CHANGES, Call, Losses, calls
from undercroft.assurance.traceruns import executions, gate, service
from undercroft.assurance.violations import Violation
from undercroft.channel.requests import Operation, Outcome

_DECIDED = frozenset((Outcome.OK, Outcome.REFUSED))


def check(events: Sequence[trace.Event]) -> list[Violation]:
    """Return what breaks an invariant, in the order of moments; nothing where all is well.

    Args:
        events: of a whole run, in the order of their moments (`tracelines.read`).

    Raises:
        InputError: the trace contradicts itself, or lacks what it speaks of.
    """
    found = calls(events)
    losses = Losses(events, found)
    broken = [*executions(events), *gate(events), *service(events, found)]
    by_name: dict[tuple[str, bytes], list[Call]] = defaultdict(list)
    by_number: dict[tuple[str, int], list[Call]] = defaultdict(list)
    for call in found:
        by_name[call.machine, call.name].append(call)
        if call.asked.number and call.asked.operation in CHANGES:
            by_number[call.asked.eid, call.asked.number].append(call)
    for same in by_number.values():
        broken += _at_most_once(same, losses)
    for named in by_name.values():
        for rule in (_values, _ledger, _spends, _revoked):
            broken += rule(named, losses)
    return sorted(set(broken), key=lambda each: (each.at_ns, each.invariant, each.text))


@dataclass(frozen=True, slots=True)
class _Point:
    """What a call that was granted says of a name: a number that must not fall."""

    call: Call
    number: int


def _granted(named: Iterable[Call], *operations: Operation) -> list[Call]:
    """Return the granted calls of these operations, one for each request that was asked again."""
    found: dict[tuple[object, ...], Call] = {}
    for call in named:
        if call.granted and call.asked.operation in operations:
            asked = call.asked
            again = asked.number and asked.operation in CHANGES
            key = (asked.eid, asked.number, call.request) if again else (asked.client, asked.call)
            if key not in found or call.end_ns < found[key].end_ns:
                found[key] = call
    return list(found.values())


def _values(named: Sequence[Call], losses: Losses) -> Iterator[Violation]:
    """Counters, and the versions of sealed blobs, which are values of the same kind."""
    counted = _granted(named, Operation.INCREMENT)
    yield from _apart([(call, call.value(0), _count(call)) for call in counted], losses)
    points = [_Point(call, call.value(0)) for call in counted]
    yield from _rising(points, points, losses, "MonotonePerName", void=False, strictly=True)
    floors = [_Point(call, call.value(0) + _count(call) - 1) for call in counted]
    reads = [_Point(call, call.value(0)) for call in _granted(named, Operation.COUNTER)]
    yield from _rising([*floors, *reads], reads, losses, "FreshLatest", void=True, strictly=False)
    sealed = _granted(named, Operation.SEAL)
    yield from _apart([(call, call.value(0), 1) for call in sealed], losses)
    points = [_Point(call, call.value(0)) for call in sealed]
    yield from _rising(points, points, losses, "MonotonePerName", void=False, strictly=True)
    latest = [
        call for call in named if call.asked.operation is Operation.UNSEAL and not call.asked.arguments[1]
    ]
    reads = [_Point(call, call.value(0)) for call in _granted(latest, Operation.UNSEAL)]
    none = [_Point(call, 0) for call in latest if _outcome(call) in (Outcome.UNKNOWN, Outcome.VOID)]
    yield from _rising([*points, *reads], [*reads, *none], losses, "FreshLatest", void=True, strictly=False)


def _ledger(named: Sequence[Call], losses: Losses) -> Iterator[Violation]:
    entries = [_Point(call, call.value(0)) for call in _granted(named, Operation.APPEND)]
    reads = [_Point(call, call.value(0)) for call in _granted(named, Operation.LATEST)]
    yield from _rising(entries, entries, losses, "MonotonePerName", void=True, strictly=True)
    yield from _rising([*entries, *reads], reads, losses, "FreshLatest", void=True, strictly=False)
    heads: dict[int, Call] = {}
    for point in sorted([*entries, *reads], key=lambda each: each.call.end_ns):
        before = heads.setdefault(point.number, point.call)
        if _head(before) != _head(point.call) and losses.holds(before, point.call.begin_ns):
            yield _broken("FreshLatest", before, point.call, losses, f"height {point.number} has two heads")


def _spends(named: Sequence[Call], losses: Losses) -> Iterator[Violation]:
    granted = sorted(_granted(named, Operation.SPEND), key=lambda call: call.end_ns)
    for at, call in enumerate(granted):
        for before in granted[:at]:
            if losses.holds(before, call.begin_ns):
                yield _broken("SingleSpend", before, call, losses, "it was spent twice")
                break


def _revoked(named: Sequence[Call], losses: Losses) -> Iterator[Violation]:
    guards = _granted(named, Operation.GUARD)
    gone = [*_granted(named, Operation.REVOKE), *(call for call in guards if _flag(call) is False)]
    used = [*(call for call in guards if _flag(call)), *_granted(named, Operation.SIGN)]
    for call in used:
        for before in gone:
            if before.end_ns < call.begin_ns and losses.holds(before, call.begin_ns):
                yield _broken("RevokedStays", before, call, losses, "it was revoked, and held again")
                break


def _at_most_once(same: Sequence[Call], losses: Losses) -> Iterator[Violation]:
    """One number of one execution: one request, and one answer."""
    ended = sorted((call for call in same if _outcome(call) in _DECIDED), key=lambda call: call.end_ns)
    for before, call in pairwise(ended):
        if not losses.holds(before, call.begin_ns) or not (before.granted or call.granted):
            continue
        if before.request != call.request:
            if before.granted and call.granted:
                yield _broken(
                    "AtMostOnce", before, call, losses, "two requests were granted under one number"
                )
        elif (_outcome(before), before.granted and _answer(before)) != (
            _outcome(call),
            call.granted and _answer(call),
        ):
            yield _broken("AtMostOnce", before, call, losses, "one request got two answers")


def _apart(spans: list[tuple[Call, int, int]], losses: Losses) -> Iterator[Violation]:
    """No two requests were given one value; each span is its call, its first value and how many."""
    spans.sort(key=lambda span: (span[1], span[0].end_ns))
    for (one, first, count), (other, second, _) in pairwise(spans):
        if second < first + count:
            before, call = (one, other) if one.end_ns <= other.end_ns else (other, one)
            yield _broken("NoRepeat", before, call, losses, f"value {second} was granted twice")


def _rising(
    floors: Sequence[_Point],
    points: Sequence[_Point],
    losses: Losses,
    invariant: str,
    *,
    void: bool,
    strictly: bool,
) -> Iterator[Violation]:
    """No point is below a floor that was known before it was asked for; `void`: but for what is void.

    Two adoptions of different losses may let a counter go on below one of them (docs/VAULT.md).
    """
    known = sorted(floors, key=lambda point: point.call.end_ns)
    highest: _Point | None = None
    at = 0
    for point in sorted(points, key=lambda each: each.call.begin_ns):
        begin_ns = point.call.begin_ns
        while at < len(known) and known[at].call.end_ns < begin_ns:
            if highest is None or known[at].number > highest.number:
                highest = known[at]
            at += 1
        below = highest if highest is None or not void else _holding(known[:at], highest, begin_ns, losses)
        if below is None or point.number > below.number - (not strictly):
            continue
        if sum(below.call.end_ns <= adopted <= begin_ns for adopted in losses.adopted) < 2:
            yield _broken(invariant, below.call, point.call, losses, f"{point.number} after {below.number}")


def _holding(known: Sequence[_Point], highest: _Point, at_ns: int, losses: Losses) -> _Point | None:
    """Return the highest point that is not void."""
    if losses.holds(highest.call, at_ns):
        return highest
    kept = [point for point in known if losses.holds(point.call, at_ns)]
    return max(kept, key=lambda point: point.number, default=None)


def _broken(invariant: str, before: Call, call: Call, losses: Losses, text: str) -> Violation:
    rolled = losses.rolled(before.end_ns, call.end_ns)
    who = f"{call.asked.operation.name} {call.name.hex() or '-'}"
    clients = (
        f"{before.asked.client:.60} call {before.asked.call}, {call.asked.client:.60} call {call.asked.call}"
    )
    return Violation("NoSilentRollback" if rolled else invariant, call.end_ns, f"{who}: {text} ({clients})")


def _outcome(call: Call) -> Outcome | None:
    return call.answered.outcome if call.answered is not None else None


def _answer(call: Call) -> tuple[trace.Value, ...]:
    return call.answered.values if call.answered is not None else ()


def _count(call: Call) -> int:
    return int(call.asked.arguments[1])


def _head(call: Call) -> trace.Value:
    answer = _answer(call)
    return answer[1] if len(answer) > 1 else b""


def _flag(call: Call) -> bool:
    answer = _answer(call)
    return bool(answer) and answer[0] is True
