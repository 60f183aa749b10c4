"""Looks for an order of all that was asked at once in which each answer is what a vault would give.

Each name is an object of its own (Herlihy and Wing 1990: a history is linearizable if each object's is). For
each, the search of Wing and Gong (1993) with remembered states (Lowe 2017): a call comes next if none that is
left was answered before it was asked. What was not answered, or answered `failed`, may have taken place at
any time after it was asked, or never. An answer that names a value leaves few orders; so this is fast.

A trace in which a disk was put back, or a loss adopted, has no such order: `tracecheck` judges those.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from undercroft.assurance import trace
from undercroft.assurance.objects import OBJECTS, Object, State
from undercroft.assurance.tracecalls import CHANGES, Call, calls
from undercroft.assurance.violations import Violation
from undercroft.channel.requests import Outcome
from undercroft.errors import InputError

MOST_STATES: Final = 1_000_000
"""How many states of one name are looked at before it is given up."""

_DECIDED = frozenset((Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN))


@dataclass(frozen=True, slots=True)
class _Step:
    """A request, with all calls that asked it under its number."""

    call: Call
    begin_ns: int
    end_ns: int


def unordered(events: Sequence[trace.Event]) -> list[Violation]:
    """Return a violation for each name whose calls have no order; nothing where all have one.

    Raises:
        InputError: the trace cannot be judged, or a name has more states than are looked at.
    """
    if any(isinstance(event, trace.PutBack | trace.Adopted) for event in events):
        raise InputError("a disk was put back in this trace: what it lost has no place in an order")
    named: dict[tuple[str, bytes, Object], list[Call]] = defaultdict(list)
    for call in calls(events):
        for each in OBJECTS:
            if call.asked.operation in each.operations:
                named[call.machine, call.name, each].append(call)
    epochs = tuple(sorted({event.epoch for event in events if isinstance(event, trace.Served)}))
    broken: list[Violation] = []
    for (_, name, each), found in named.items():
        decided, open_ = _steps(found)
        stuck = _search(each, decided, open_, epochs)
        if stuck is not None:
            text = f"{each.word} {name.hex()}: {stuck.asked.operation.name} of {stuck.asked.client:.60}, call"
            broken.append(
                Violation("Linearizable", stuck.end_ns, f"{text} {stuck.asked.call}, fits into no order")
            )
    return sorted(broken, key=lambda violation: (violation.at_ns, violation.text))


def _steps(found: Sequence[Call]) -> tuple[list[_Step], list[Call]]:
    """Return what was decided, by when it was asked, and what may have taken place."""
    same: dict[tuple[object, ...], list[Call]] = defaultdict(list)
    for call in found:
        asked = call.asked
        again = asked.number and asked.operation in CHANGES
        same[(asked.eid, asked.number, call.request) if again else (asked.client, asked.call)].append(call)
    decided: list[_Step] = []
    open_: list[Call] = []
    for group in same.values():
        answered = [each for each in group if each.answered and each.answered.outcome in _DECIDED]
        first = min(group, key=lambda each: each.begin_ns)
        if answered:
            told = min(answered, key=lambda each: each.end_ns)
            decided.append(_Step(told, first.begin_ns, told.end_ns))
        elif first.asked.operation in CHANGES and any(_may_have_run(each) for each in group):
            open_.append(first)
    return sorted(decided, key=lambda step: step.begin_ns), open_


def _may_have_run(call: Call) -> bool:
    return call.answered is None or call.answered.outcome is Outcome.FAILED


def _search(
    each: Object, decided: Sequence[_Step], open_: Sequence[Call], epochs: tuple[int, ...]
) -> Call | None:
    """Return None where there is an order, else the earliest call that no order got past.

    A point of the search: how many steps from the front are done, which after them (a bit each), which of the
    open ones, and the object's state then.
    """
    stack: list[tuple[int, int, int, State]] = [(0, 0, 0, each.initial)]
    seen = set(stack)
    furthest = 0
    while stack:
        front, done, used, state = stack.pop()
        if front == len(decided):
            return None
        furthest = max(furthest, front)
        window = _window(decided, front, done)
        latest_ns = min(decided[at].end_ns for at in window)
        following = [
            (front, done, used | 1 << at, after)
            for at, call in enumerate(open_)
            if not used >> at & 1 and call.begin_ns <= latest_ns
            for after in each.maybe(state, call, epochs)
        ]
        for at in reversed(window):
            after = each.told(state, decided[at].call) if decided[at].begin_ns <= latest_ns else None
            if after is not None:
                following.append((*_done(front, done, at), used, after))
        for point in following:
            if point not in seen:
                seen.add(point)
                stack.append(point)
        if len(seen) > MOST_STATES:
            raise InputError(f"a {each.word} has more orders than are looked at: trace a shorter run")
    return decided[furthest].call


def _window(decided: Sequence[_Step], front: int, done: int) -> list[int]:
    """Return the steps that are left and may be next, the front one first."""
    found: list[int] = []
    latest_ns = decided[front].end_ns
    for at in range(front, len(decided)):
        if decided[at].begin_ns > latest_ns:
            break
        if not done >> (at - front) & 1:
            found.append(at)
            latest_ns = min(latest_ns, decided[at].end_ns)
    return found


def _done(front: int, done: int, at: int) -> tuple[int, int]:
    done |= 1 << (at - front)
    while done & 1:
        front, done = front + 1, done >> 1
    return front, done
