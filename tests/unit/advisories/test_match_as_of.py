"""Answers for a day in the past come from records dated on or before it, or not at all."""

from datetime import UTC, date, datetime, timedelta

import pytest
from advisorydata import (
    BOOKWORM,
    CVES,
    DSA,
    EPSS,
    KEV,
    MIRROR,
    NOW,
    TRACKER,
    assessed,
    changelog,
    entry,
    header,
    inventory,
    listed,
    package,
    statement,
)

from undercroft.advisories.records import ExploitProbability, KnownExploited, Status, Vulnerability
from undercroft.model.finding import Severity

DAY = date(2025, 6, 1)
ZLIB = package("zlib1g", "1.2-1", source="zlib")


def dsa(vulnerability: str, day: date | None):
    return statement(DSA, "zlib", vulnerability, "1.2-2", published_on=day)


def test_only_records_of_that_day_or_earlier_count() -> None:
    records = [dsa("CVE-1", DAY), dsa("CVE-2", DAY + timedelta(days=1))]
    answer = assessed(inventory(ZLIB), (DSA, records), as_of=DAY)
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-1"]
    assert answer.complete


def test_undated_statements_that_would_match_are_counted_as_a_problem() -> None:
    tracker = [
        statement(TRACKER, "zlib", "CVE-1", "1.2-2"),
        statement(TRACKER, "zlib", "CVE-2"),
        statement(TRACKER, "zlib", "CVE-3", "1.2-1"),
        statement(TRACKER, "zlib", "CVE-4", status=Status.NOT_AFFECTED),
        statement(TRACKER, "other", "CVE-5"),
    ]
    answer = assessed(inventory(ZLIB), (TRACKER, tracker), (DSA, [dsa("CVE-1", DAY)]), as_of=DAY)
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-1"]
    assert answer.problems == (
        "1 vulnerabilities that debian-tracker gives no date for may have been known on 2025-06-01",
    )


def test_undated_statements_do_not_clear_what_a_dated_one_says() -> None:
    tracker = [statement(TRACKER, "zlib", "CVE-1", status=Status.NOT_AFFECTED)]
    answer = assessed(inventory(ZLIB), (TRACKER, tracker), (DSA, [dsa("CVE-1", DAY)]), as_of=DAY)
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-1"]


def test_what_is_known_of_a_vulnerability_is_what_was_known_then() -> None:
    after = DAY + timedelta(days=1)
    records = {
        day: (
            (CVES, [Vulnerability("cve", "CVE-1", Severity.HIGH, "cve:cvss3.1:8.0", day, "t")]),
            (KEV, [KnownExploited("CVE-1", day)]),
            (EPSS, [ExploitProbability("CVE-1", 0.5, day)]),
        )
        for day in (DAY, after)
    }
    for day, severity, exploited, probability in ((DAY, "high", DAY, 0.5), (after, "unknown", None, None)):
        answer = assessed(inventory(ZLIB), (DSA, [dsa("CVE-1", DAY)]), *records[day], as_of=DAY)
        (finding,) = answer.findings
        assert (finding.severity, finding.known_exploited_on, finding.exploit_probability) == (
            severity,
            exploited,
            probability,
        )


ONE_BRANCH = [
    listed("zlib1g", "1.2-3", "zlib"),
    *changelog(
        entry("zlib", "1.2-3", "CVE-2", dated_on=DAY + timedelta(days=1)),
        entry("zlib", "1.2-2", "CVE-1", dated_on=DAY),
        entry("zlib", "1.2-1", dated_on=date(2024, 1, 1)),
    ),
]
"""What a mirror tells when the candidate continues the installed version."""


@pytest.mark.parametrize(("days", "found"), [(-1, set()), (0, {"CVE-1"}), (1, {"CVE-1", "CVE-2"})])
def test_dated_entries_of_the_same_branch_count_and_what_was_outdated_is_not_told(days: int, found) -> None:
    day = DAY + timedelta(days=days)
    old = [statement(DSA, "other", "CVE-9", "1.0", published_on=date(2020, 1, 1))]
    answer = assessed(inventory(ZLIB), (MIRROR, ONE_BRANCH), (DSA, old), as_of=day)
    assert {finding.vulnerability for finding in answer.findings} == found
    assert answer.outdated == ()
    assert answer.complete


def test_a_mirror_alone_answers_for_no_day_in_the_past() -> None:
    answer = assessed(inventory(ZLIB), (MIRROR, ONE_BRANCH), as_of=date(2025, 1, 1))
    (problem,) = answer.problems
    assert "--as-of answers from dated records only" in problem
    assert assessed(inventory(ZLIB), (MIRROR, ONE_BRANCH)).complete, "today it does"


def test_nothing_of_another_branch_is_told_of_a_day_in_the_past() -> None:
    records = [
        listed("zlib1g", "2.0-0+deb12u1", "zlib"),
        *changelog(
            entry("zlib", "2.0-0+deb12u1", "CVE-2", dated_on=DAY),
            entry("zlib", "1.9-1", "CVE-1", dated_on=date(2024, 6, 1)),
            entry("zlib", "1.1-1", dated_on=date(2023, 1, 1)),
        ),
        *changelog(
            entry("zlib", "1.2-1", "CVE-1", dated_on=date(2024, 1, 1)),
            entry("zlib", "1.1-1", dated_on=date(2023, 1, 1)),
        ),
    ]
    answer = assessed(inventory(ZLIB), (MIRROR, records), (DSA, [dsa("CVE-7", DAY)]), as_of=DAY)
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-7"]
    assert answer.outdated == ()
    (problem,) = answer.problems
    assert "was missing on 2025-06-01 is unknown (zlib): --as-of answers from dated records only" in problem
    assert [finding.vulnerability for finding in assessed(inventory(ZLIB), (MIRROR, records)).findings] == [
        "CVE-2"
    ]


def test_an_outdated_package_without_dated_history_is_a_problem_even_beside_a_tracker() -> None:
    answer = assessed(
        inventory(ZLIB),
        (MIRROR, [listed("zlib1g", "1.2-3", "zlib")]),
        (TRACKER, [statement(TRACKER, "zlib", "CVE-1", "1.0")]),
        as_of=DAY,
    )
    (problem,) = answer.problems
    assert "1 source packages have newer versions in an index, which has no dates" in problem


@pytest.mark.parametrize(
    ("published_on", "answers"),
    [(DAY - timedelta(days=9), False), (DAY - timedelta(days=2), True), (DAY + timedelta(days=200), True)],
)
def test_a_feed_answers_for_a_day_when_it_was_not_stale_then(published_on: date, answers: bool) -> None:
    feed = header("debian-dsa", published_at=datetime.combine(published_on, datetime.min.time(), UTC))
    answer = assessed(inventory(ZLIB), (feed, [dsa("CVE-1", DAY - timedelta(days=30))]), as_of=DAY)
    assert answer.complete is answers
    assert answer.feeds[0].stale is not answers


def test_a_day_in_the_future_makes_no_stale_feed_fresh_and_no_fresh_one_stale() -> None:
    answer = assessed(inventory(ZLIB), (DSA, [dsa("CVE-1", DAY)]), as_of=NOW.date() + timedelta(days=365))
    assert answer.complete


def test_end_of_life_is_told_as_of_the_day() -> None:
    records = [dsa("CVE-1", DAY)]
    late = datetime(2027, 1, 1, tzinfo=UTC)
    fresh = header("debian-dla", published_at=late)
    assert assessed(inventory(ZLIB), (fresh, records), now=late).end_of_life.state == "extended"
    assert assessed(inventory(ZLIB), (fresh, records), now=late, as_of=DAY).end_of_life.state == "supported"
    assert BOOKWORM in fresh.releases
