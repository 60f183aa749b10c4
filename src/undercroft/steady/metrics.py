"""How the fleet does: how much of it is steady, how long that takes, and what has drifted for longest.

Only what is there counts. What a change of verdict has ended is told once, when it happens (`Course.then`):
whoever adds it up has a sum that never shrinks. Times are seconds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.model.verdict import SubjectKind, Verdict


@dataclass(frozen=True, slots=True)
class Course:
    """What the verdicts of one subject have come to, in one value however many they were.

    Attributes:
        kind: what it is.
        first_seen: when it came into being, as far as anybody knows.
        verdict: the latest; what was never judged is UNKNOWN.
        was_steady: it has been steady once.
        left_at: since when it has not been any more, None while it is and before it first was.
    """

    kind: SubjectKind
    first_seen: datetime
    verdict: Verdict = Verdict.UNKNOWN
    was_steady: bool = False
    left_at: datetime | None = None

    def then(self, at: datetime, verdict: Verdict) -> "Step":
        """Return what the next verdict makes of it, and what it has ended; the same one ends nothing."""
        if verdict is not Verdict.STEADY:
            left_at = self.left_at or (at if self.was_steady else None)
            return Step(replace(self, verdict=verdict, left_at=left_at))
        steady = replace(self, verdict=verdict, was_steady=True, left_at=None)
        if not self.was_steady:
            return Step(steady, until_first_steady_s=max((at - self.first_seen).total_seconds(), 0.0))
        again_s = None if self.left_at is None else max((at - self.left_at).total_seconds(), 0.0)
        return Step(steady, until_steady_again_s=again_s)

    @property
    def unsteady_since(self) -> datetime | None:
        """Since when it has not been steady, None when it is."""
        if self.verdict is Verdict.STEADY:
            return None
        return self.left_at or self.first_seen


@dataclass(frozen=True, slots=True)
class Step:
    """One change of verdict.

    Attributes:
        course: what it has come to.
        until_first_steady_s: from when it was first seen, where it is steady for the first time.
        until_steady_again_s: from the start of the drift that has ended, where one has.
    """

    course: Course
    until_first_steady_s: float | None = None
    until_steady_again_s: float | None = None


@dataclass(frozen=True, slots=True)
class FleetMetrics:
    """Numbers at one time.

    Attributes:
        steady_share: of the machines, 0 to 1; None where there are none.
        counts: subjects by kind and verdict; every pair is there. What was never judged is UNKNOWN.
        oldest_drift_s: how long the machine that has not been steady for longest has not been; 0 for none.
    """

    steady_share: float | None
    counts: Mapping[tuple[SubjectKind, Verdict], int]
    oldest_drift_s: float


def fleet_metrics(courses: Sequence[Course], now: datetime) -> FleetMetrics:
    """Return the numbers for a fleet.

    Args:
        courses: of everything that is there, in any order.
        now: at or after the last change.
    """
    found = Counter((course.kind, course.verdict) for course in courses)
    machines = [course for course in courses if course.kind is SubjectKind.MACHINE]
    steady = sum(course.verdict is Verdict.STEADY for course in machines)
    starts = [start for course in machines if (start := course.unsteady_since) is not None]
    return FleetMetrics(
        steady_share=steady / len(machines) if machines else None,
        counts={(kind, verdict): found[kind, verdict] for kind in SubjectKind for verdict in Verdict},
        oldest_drift_s=max(((now - start).total_seconds() for start in starts), default=0.0),
    )
