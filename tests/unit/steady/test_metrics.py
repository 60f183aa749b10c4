"""Numbers of a fleet from the verdicts over time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.steady.metrics import Course, Step, fleet_metrics

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORDS = {"s": Verdict.STEADY, "d": Verdict.DRIFTING, "q": Verdict.QUARANTINED, "u": Verdict.UNKNOWN}


def told(story: str, kind: SubjectKind = SubjectKind.MACHINE) -> tuple[Course, list[Step]]:
    """Return a course that says a letter's verdict each hour, from an hour after the start; its steps."""
    so_far, steps = Course(kind, START), []
    for number, letter in enumerate(story):
        steps.append(so_far.then(START + (number + 1) * HOUR, WORDS[letter]))
        so_far = steps[-1].course
    return so_far, steps


def course(story: str, kind: SubjectKind = SubjectKind.MACHINE) -> Course:
    return told(story, kind)[0]


def hours(*numbers: int) -> tuple[float, ...]:
    return tuple(number * 3600.0 for number in numbers)


@pytest.mark.parametrize(
    ("story", "first", "again", "oldest"),
    [
        ("", (), (), 10),
        ("s", (1,), (), 0),
        ("u", (), (), 10),
        ("uds", (3,), (), 0),
        ("sd", (1,), (), 8),
        ("sdqus", (1,), (3,), 0),
        ("sdsds", (1,), (1, 1), 0),
        ("ssdd", (1,), (), 7),
        ("dsd", (2,), (), 7),
    ],
)
def test_times_to_steady_and_the_oldest_drift(story: str, first, again, oldest: int) -> None:
    so_far, steps = told(story)
    found = fleet_metrics([so_far], START + 10 * HOUR)
    spans = [(step.until_first_steady_s, step.until_steady_again_s) for step in steps]
    assert tuple(span for span, _ in spans if span is not None) == hours(*first)
    assert tuple(span for _, span in spans if span is not None) == hours(*again)
    assert (found.oldest_drift_s,) == hours(oldest)


def test_the_share_is_of_machines_and_everything_is_counted_by_kind() -> None:
    courses = [course("s"), course("sd"), course(""), course("s", SubjectKind.SNAPSHOT)]
    found = fleet_metrics(courses, START + 10 * HOUR)
    assert found.steady_share == 1 / 3
    assert found.counts[SubjectKind.MACHINE, Verdict.UNKNOWN] == 1
    assert found.counts[SubjectKind.SNAPSHOT, Verdict.STEADY] == 1
    assert len(found.counts) == len(SubjectKind) * len(Verdict)


def test_an_empty_fleet_has_no_share() -> None:
    assert fleet_metrics([course("s", SubjectKind.IMAGE)], START).steady_share is None


@given(st.lists(st.text("sdqu", max_size=8), min_size=1, max_size=5))
def test_numbers_fit_each_other(stories: list[str]) -> None:
    found = fleet_metrics([course(story) for story in stories], START + 10 * HOUR)
    assert sum(found.counts.values()) == len(stories)
    firsts = [step.until_first_steady_s for story in stories for step in told(story)[1]]
    assert sum(span is not None for span in firsts) == sum("s" in story for story in stories)
    assert (found.oldest_drift_s == 0) is (found.steady_share == 1)
