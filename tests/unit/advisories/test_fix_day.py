"""Since when a fix can be had, from records whose dates mean that."""

from dataclasses import replace
from datetime import date

import pytest
from advisorydata import (
    DSA,
    MIRROR,
    OSV,
    TRACKER,
    assessed,
    changelog,
    entry,
    inventory,
    listed,
    package,
    statement,
)

from undercroft.advisories.records import Record
from undercroft.model.finding import FixState

OPENSSL = package("libssl3", "3.0.11-1", "openssl")
FEBRUARY, MAY, JUNE = date(2025, 2, 1), date(2025, 5, 1), date(2025, 6, 1)


def fix_day(*feeds: tuple[object, list[Record]], version: str = "3.0.11-1") -> date | None:
    answer = assessed(inventory(package("libssl3", version, "openssl")), *feeds)  # type: ignore[arg-type]
    (finding,) = answer.findings
    return finding.fixed_on


def test_the_publishers_advisory_dates_the_fix_that_its_tracker_names() -> None:
    tracker = [statement(TRACKER, "openssl", "CVE-1", "3.0.13-1")]
    dsa = [statement(DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-1", published_on=MAY)]
    assert fix_day((TRACKER, tracker), (DSA, dsa)) == MAY


def test_a_fix_that_nobody_dates_has_no_day() -> None:
    assert fix_day((TRACKER, [statement(TRACKER, "openssl", "CVE-1", "3.0.13-1")])) is None


def test_the_day_of_the_fault_is_not_the_day_of_its_fix() -> None:
    about_the_fault = statement(
        OSV, "openssl", "CVE-1", "3.0.13-1", advisory="DEBIAN-CVE-1", published_on=FEBRUARY
    )
    assert fix_day((OSV, [about_the_fault])) is None
    about_the_fix = statement(OSV, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-1", published_on=MAY)
    assert fix_day((OSV, [about_the_fault, about_the_fix])) == MAY


@pytest.mark.parametrize(("version", "day"), [("3.0.11-1", MAY), ("3.0.12-1", JUNE)])
def test_who_has_no_fix_is_without_it_since_the_first_and_who_has_the_first_since_the_second(
    version: str, day: date
) -> None:
    records = [
        statement(DSA, "openssl", "CVE-1", "3.0.12-1", advisory="DSA-1-1", published_on=MAY),
        statement(DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-2", published_on=JUNE),
    ]
    assert fix_day((DSA, list(records)), version=version) == day


def test_what_cannot_be_had_yet_has_no_day() -> None:
    dsa = [statement(DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-1", published_on=MAY)]
    index = [listed("libssl3", "3.0.12-1", "openssl")]
    answer = assessed(inventory(OPENSSL), (DSA, dsa), (MIRROR, index))
    assert [(found.fix, found.fixed_on) for found in answer.findings] == [(FixState.UNFIXED, None)]


def test_a_changelog_dates_the_first_version_that_names_it() -> None:
    history = changelog(
        entry("openssl", "3.0.13-1", "CVE-1", dated_on=JUNE),
        entry("openssl", "3.0.12-1", "CVE-1", dated_on=MAY),
        entry("openssl", "3.0.11-1", dated_on=FEBRUARY),
    )
    assert fix_day((MIRROR, [listed("libssl3", "3.0.13-1", "openssl"), *history])) == MAY


def test_a_version_of_another_branch_counts_from_its_own_day_and_not_from_the_entry_that_names_it() -> None:
    history = changelog(
        entry("openssl", "3.5.1-1", dated_on=JUNE),
        entry("openssl", "3.5.0-1", "CVE-1", dated_on=MAY),
        entry("openssl", "3.0.5-1", dated_on=date(2022, 1, 1)),
    )
    own = changelog(
        entry("openssl", "3.0.11-1", "CVE-0", dated_on=FEBRUARY),
        entry("openssl", "3.0.5-1", dated_on=date(2022, 1, 1)),
    )
    assert fix_day((MIRROR, [listed("libssl3", "3.5.1-1", "openssl"), *history, *own])) == JUNE


def test_another_releases_advisory_dates_nothing() -> None:
    other = statement(DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-1", published_on=FEBRUARY)
    elsewhere = replace(other, release="debian:11")
    tracker = [statement(TRACKER, "openssl", "CVE-1", "3.0.13-1")]
    assert fix_day((TRACKER, tracker), (DSA, [elsewhere])) is None
