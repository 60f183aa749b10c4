"""How the fleet does: how much of it is steady, how long that takes, and what has drifted for longest.

Only what is there counts: a machine that is gone takes its history with it. Times are seconds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from undercroft.model.verdict import SubjectKind, Verdict


@dataclass(frozen=True, slots=True)
class Course:
    """The verdicts of one subject over time.

    Attributes:
        kind: what it is.
        first_seen: when it came into being, as far as anybody knows.
        changes: (since when, which verdict), oldest first; equal ones may follow each other.
    """

    kind: SubjectKind
    first_seen: datetime
    changes: tuple[tuple[datetime, Verdict], ...]


@dataclass(frozen=True, slots=True)
class FleetMetrics:
    """Numbers at one time.

    Attributes:
        steady_share: of the machines, 0 to 1; None where there are none.
        counts: subjects by kind and verdict; every pair is there. What was never judged is UNKNOWN.
        until_first_steady_s: of each machine that has ever been steady, from when it was first seen.
        until_steady_again_s: of each drift that ended, from its start to the next steady verdict.
        oldest_drift_s: how long the machine that has not been steady for longest has not been; 0 for none.
    """

    steady_share: float | None
    counts: Mapping[tuple[SubjectKind, Verdict], int]
    until_first_steady_s: tuple[float, ...]
    until_steady_again_s: tuple[float, ...]
    oldest_drift_s: float


def fleet_metrics(courses: Sequence[Course], now: datetime) -> FleetMetrics:
    """Return the numbers for a fleet.

    Args:
        courses: of everything that is there, in any order.
        now: at or after the last change.
    """
    found = Counter((course.kind, _latest(course)) for course in courses)
    machines = [course for course in courses if course.kind is SubjectKind.MACHINE]
    steady = sum(_latest(course) is Verdict.STEADY for course in machines)
    starts = [start for course in machines if (start := _unsteady_since(course)) is not None]
    return FleetMetrics(
        steady_share=steady / len(machines) if machines else None,
        counts={(kind, verdict): found[kind, verdict] for kind in SubjectKind for verdict in Verdict},
        until_first_steady_s=tuple(span for course in machines for span in _first_steady(course)),
        until_steady_again_s=tuple(span for course in machines for span in _recoveries(course)),
        oldest_drift_s=max(((now - start).total_seconds() for start in starts), default=0.0),
    )


def _latest(course: Course) -> Verdict:
    return course.changes[-1][1] if course.changes else Verdict.UNKNOWN


def _first_steady(course: Course) -> list[float]:
    """Return the one time to the first steady verdict, nothing where there was none."""
    firsts = [at for at, verdict in course.changes if verdict is Verdict.STEADY][:1]
    return [max((at - course.first_seen).total_seconds(), 0.0) for at in firsts]


def _recoveries(course: Course) -> list[float]:
    """Return how long each time without a steady verdict took that lies between two of them."""
    spans: list[float] = []
    was_steady, left_at = False, None
    for at, verdict in course.changes:
        if verdict is Verdict.STEADY:
            if left_at is not None:
                spans.append((at - left_at).total_seconds())
            was_steady, left_at = True, None
        elif was_steady and left_at is None:
            left_at = at
    return spans


def _unsteady_since(course: Course) -> datetime | None:
    """Return since when it has not been steady, None when it is."""
    start = course.first_seen
    is_steady = False
    for at, verdict in course.changes:
        if verdict is Verdict.STEADY:
            is_steady = True
        elif is_steady:
            start, is_steady = at, False
    return None if is_steady else start
