"""A stable release that took a new upstream version: the candidate's changelog is of another branch.

The versions and days are those of rsync in Debian 12.
"""

from datetime import date

import pytest
from advisorydata import (
    DSA,
    MIRROR,
    NOW,
    TRACKER,
    assessed,
    changelog,
    entry,
    inventory,
    knowledge,
    listed,
    package,
    statement,
)

from undercroft.advisories.match import missing_changelogs
from undercroft.advisories.records import ChangelogEntry
from undercroft.advisories.sources import Subject
from undercroft.model.finding import Assessment

INSTALLED = "3.2.7-1+deb12u6"
CANDIDATE = "3.5.0+ds1-0+deb12u1"
RSYNC = package("rsync", INSTALLED)
INDEX = [listed("rsync", INSTALLED, suite="bookworm"), listed("rsync", CANDIDATE)]
COMMON = [
    entry("rsync", "3.2.7-1", dated_on=date(2022, 12, 18)),
    entry("rsync", "3.2.5-1", "CVE-OLD", dated_on=date(2022, 8, 16)),
]
OWN = [
    entry("rsync", INSTALLED, "CVE-BOTH-2", dated_on=date(2026, 5, 24)),
    entry("rsync", "3.2.7-1+deb12u1", "CVE-BOTH-1", dated_on=date(2024, 12, 18)),
]
OTHER = [
    entry("rsync", CANDIDATE, "CVE-NEW", dated_on=date(2026, 11, 4)),
    entry("rsync", "3.4.1+ds1-5+deb13u4", "CVE-BOTH-2", "CVE-OTHER", dated_on=date(2026, 6, 1)),
    entry("rsync", "3.3.0+ds1-3", "CVE-BOTH-1", dated_on=date(2025, 1, 12)),
    entry("rsync", "3.3.0-1", dated_on=date(2024, 4, 12)),
]
APART = changelog(*OTHER, *COMMON)
MERGED = changelog(*OTHER, *OWN, *COMMON)
OWN_CHANGELOG = changelog(*OWN, *COMMON)
MISSING = {"CVE-NEW": CANDIDATE, "CVE-OTHER": CANDIDATE}
UNCERTAIN = (
    "1 outdated source packages are updated from another branch, and their own changelogs are not at hand: "
    "some of their findings may be fixed already (rsync)"
)


def found(answer: Assessment) -> dict[str, str]:
    return {finding.vulnerability: finding.fixed_version for finding in answer.findings}


@pytest.mark.parametrize("leading", [APART, MERGED], ids=["apart", "merged"])
def test_what_the_installed_branch_has_fixed_by_itself_is_taken_away(leading: list[ChangelogEntry]) -> None:
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *leading, *OWN_CHANGELOG]))
    assert found(answer) == MISSING
    assert answer.complete
    assert UNCERTAIN not in answer.notes


def test_a_merged_changelog_tells_the_installed_branchs_history_too() -> None:
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *MERGED]))
    assert found(answer) == MISSING
    assert UNCERTAIN not in answer.notes


def test_a_merged_changelog_clears_nothing_that_a_lower_branch_fixed_later() -> None:
    unstable = package("rsync", "3.3.0-1")
    answer = assessed(inventory(unstable), (MIRROR, [*INDEX, *MERGED]))
    assert found(answer) == {"CVE-BOTH-1": CANDIDATE, "CVE-BOTH-2": CANDIDATE, **MISSING}


def test_without_its_own_history_the_findings_stay_and_a_note_says_so() -> None:
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *APART]))
    assert found(answer) == {"CVE-BOTH-1": CANDIDATE, "CVE-BOTH-2": CANDIDATE, **MISSING}
    assert UNCERTAIN in answer.notes
    tracker = (TRACKER, [statement(TRACKER, "rsync", "CVE-BOTH-1", "3.2.7-1+deb12u1")])
    assert UNCERTAIN not in assessed(inventory(RSYNC), (MIRROR, [*INDEX, *APART]), tracker).notes


def test_a_backports_history_is_what_its_changelog_lists_however_its_versions_sort() -> None:
    backport = package("rsync", "3.3.0-1~deb12u1")
    own = changelog(
        entry("rsync", "3.3.0-1~deb12u1", dated_on=date(2024, 5, 1)),
        entry("rsync", "3.3.0-1", "CVE-BELOW", dated_on=date(2024, 4, 12)),
        *COMMON,
    )
    leading = changelog(*OTHER[:3], own[1], *COMMON)
    answer = assessed(inventory(backport), (MIRROR, [*INDEX, *leading, *own]))
    assert found(answer) == {"CVE-BOTH-1": CANDIDATE, "CVE-BOTH-2": CANDIDATE, **MISSING}


def test_on_one_branch_a_vulnerability_that_is_named_again_is_a_finding_again() -> None:
    again = changelog(
        entry("rsync", "3.2.7-1+deb12u7", "CVE-BOTH-1", dated_on=date(2026, 6, 1)), *OWN, *COMMON
    )
    index = [INDEX[0], listed("rsync", "3.2.7-1+deb12u7")]
    answer = assessed(inventory(RSYNC), (MIRROR, [*index, *again, *OWN_CHANGELOG]))
    assert found(answer) == {"CVE-BOTH-1": "3.2.7-1+deb12u7"}


@pytest.mark.parametrize("leading", [APART, MERGED], ids=["apart", "merged"])
def test_the_installed_versions_changelog_is_asked_for_once_it_is_seen_to_matter(
    leading: list[ChangelogEntry],
) -> None:
    machine = inventory(RSYNC)
    assert missing_changelogs(machine, knowledge((MIRROR, INDEX))) == (Subject("rsync", CANDIDATE),)
    once = knowledge((MIRROR, [*INDEX, *leading]))
    assert missing_changelogs(machine, once) == (Subject("rsync", INSTALLED),)
    assert missing_changelogs(machine, knowledge((MIRROR, [*INDEX, *leading, *OWN_CHANGELOG]))) == ()


@pytest.mark.parametrize(
    ("fixed", "day", "stays"),
    [
        ("3.2.7-1+deb12u1", date(2025, 1, 14), False),
        ("3.2.7-1+deb12u1", None, True),
        ("3.2.7-1+deb12u7", date(2026, 6, 1), True),
    ],
)
def test_a_dated_fix_of_a_publisher_beats_a_changelog(fixed: str, day: date | None, stays: bool) -> None:
    dsa = [statement(DSA, "rsync", "CVE-BOTH-1", fixed, published_on=day)]
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *APART]), (DSA, dsa))
    assert ("CVE-BOTH-1" in found(answer)) is stays


def test_a_later_fix_of_the_same_publisher_keeps_the_finding() -> None:
    dsa = [
        statement(DSA, "rsync", "CVE-BOTH-1", "3.2.7-1+deb12u1", published_on=date(2025, 1, 14)),
        statement(DSA, "rsync", "CVE-BOTH-1", "3.2.7-1+deb12u7", published_on=NOW.date()),
    ]
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *APART]), (DSA, dsa))
    assert "CVE-BOTH-1" in found(answer)


def test_a_fix_below_the_installed_version_in_order_is_missing_where_its_own_history_lacks_it() -> None:
    late = entry("rsync", "3.2.6-9", "CVE-LATE", dated_on=date(2026, 6, 2))
    leading = changelog(*OTHER, *OWN, late, *COMMON)
    for own in ([], OWN_CHANGELOG):
        assert found(assessed(inventory(RSYNC), (MIRROR, [*INDEX, *leading, *own]))) == {
            "CVE-LATE": CANDIDATE,
            **MISSING,
        }


def test_a_shortened_own_changelog_makes_no_finding_of_what_was_fixed_before_it_begins() -> None:
    answer = assessed(inventory(RSYNC), (MIRROR, [*INDEX, *APART, *changelog(*OWN, COMMON[0])]))
    assert found(answer) == MISSING
