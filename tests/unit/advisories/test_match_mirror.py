"""The distribution's mirror as a source: candidates, changelogs, and what nobody lists."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from advisorydata import (
    MIRROR,
    NOW,
    TRACKER,
    assessed,
    changelog,
    entry,
    header,
    inventory,
    knowledge,
    listed,
    package,
    statement,
)

from undercroft.advisories.match import missing_changelogs
from undercroft.advisories.records import Status
from undercroft.advisories.sources import Subject
from undercroft.model.finding import FixState, Outdated, Unassessed

ZLIB = package("zlib1g", "1.2-1", source="zlib")
CHANGELOG = changelog(
    entry("zlib", "1.2-5", "CVE-5", dated_on=date(2025, 10, 1)),
    entry("zlib", "1.2-4", "CVE-3", "CVE-4", dated_on=date(2025, 9, 1)),
    entry("zlib", "1.2-3", dated_on=date(2025, 6, 1)),
    entry("zlib", "1.2-2", "CVE-2", "CVE-3", dated_on=date(2025, 6, 1)),
    entry("zlib", "1.2-1", "CVE-1", dated_on=date(2025, 1, 1)),
)
INDEX = [
    listed("zlib1g", "1.2-1", "zlib", suite="bookworm"),
    listed("zlib1g", "1.2-4", "zlib", suite="bookworm-security"),
]


def test_the_changelogs_between_installed_and_candidate_are_read_whole() -> None:
    answer = assessed(inventory(ZLIB), (MIRROR, [*INDEX, *CHANGELOG]))
    assert [(found.vulnerability, found.fixed_version) for found in answer.findings] == [
        ("CVE-2", "1.2-2"),
        ("CVE-3", "1.2-2"),
        ("CVE-4", "1.2-4"),
    ]
    assert {finding.fix for finding in answer.findings} == {FixState.FIXABLE}
    assert {finding.feeds for finding in answer.findings} == {("mirror:debian:12:bookworm-security",)}
    assert {finding.published_on for finding in answer.findings} == {None}, "a fix's day is not the fault's"
    assert answer.outdated == (Outdated("zlib1g", "zlib", "1.2-1", "1.2-4", "bookworm-security"),)
    assert answer.unassessed == ()
    assert answer.complete


def test_an_outdated_package_whose_changelog_names_nothing_is_not_vulnerable() -> None:
    tzdata = package("tzdata", "2024a-1", architecture="all")
    index = [listed("tzdata", "2025b-1", architecture="all")]
    answer = assessed(
        inventory(tzdata),
        (MIRROR, [*index, *changelog(entry("tzdata", "2025b-1"), entry("tzdata", "2024a-1"))]),
    )
    assert [item.package for item in answer.outdated] == ["tzdata"]
    assert answer.findings == ()
    assert answer.complete


def test_the_candidate_is_the_newest_version_over_all_suites() -> None:
    index = [
        listed("zlib1g", "1.2-4", "zlib", suite="bookworm"),
        listed("zlib1g", "1.2-2", "zlib", suite="bookworm-security"),
    ]
    (outdated,) = assessed(inventory(ZLIB), (MIRROR, [*index, *CHANGELOG])).outdated
    assert (outdated.candidate_version, outdated.suite) == ("1.2-4", "bookworm")


def test_backports_are_candidates_only_for_what_came_from_there() -> None:
    index = [*INDEX, listed("zlib1g", "1.9-2~bpo12+1", "zlib", suite="bookworm-backports")]
    (outdated,) = assessed(inventory(ZLIB), (MIRROR, [*index, *CHANGELOG])).outdated
    assert outdated.candidate_version == "1.2-4"
    backported = package("zlib1g", "1.9-1~bpo12+1", source="zlib")
    (outdated,) = assessed(inventory(backported), (MIRROR, [*index, *CHANGELOG])).outdated
    assert outdated.candidate_version == "1.9-2~bpo12+1"


def test_the_candidate_is_of_the_packages_architecture() -> None:
    index = [
        listed("zlib1g", "1.2-1", "zlib"),
        listed("zlib1g", "1.2-1+b9", "zlib", "1.2-1", architecture="arm64"),
    ]
    assert assessed(inventory(ZLIB), (MIRROR, index)).outdated == ()


@pytest.mark.parametrize(
    "known",
    [
        [],
        changelog(entry("zlib", "1.2-2"), entry("zlib", "1.2-1")),
        changelog(entry("zlib", "1.2-4"), entry("zlib", "1.2-3")),
    ],
    ids=["none", "too old", "cut off above the installed version"],
)
def test_an_outdated_package_without_its_whole_changelog_is_a_problem(known) -> None:
    answer = assessed(inventory(ZLIB), (MIRROR, [*INDEX, *known]))
    (problem,) = answer.problems
    assert problem == (
        "1 outdated source packages without changelog, what their updates fix is unknown (zlib): "
        "undercroft feeds update --mirror auto --for IMAGE"
    )
    assert len(answer.outdated) == 1


def test_a_missing_changelog_is_no_problem_where_a_fresh_tracker_knows_the_release() -> None:
    answer = assessed(
        inventory(ZLIB), (MIRROR, INDEX), (TRACKER, [statement(TRACKER, "zlib", "CVE-2", "1.2-2")])
    )
    assert answer.complete
    stale = header("debian-tracker", complete=True, published_at=NOW - timedelta(days=9))
    answer = assessed(inventory(ZLIB), (MIRROR, INDEX), (stale, [statement(stale, "zlib", "CVE-2", "1.2-2")]))
    assert any("without changelog" in problem for problem in answer.problems)


def test_the_tracker_decides_about_what_a_changelog_names() -> None:
    tracker = [statement(TRACKER, "zlib", "CVE-2", status=Status.NOT_AFFECTED)]
    answer = assessed(inventory(ZLIB), (MIRROR, [*INDEX, *CHANGELOG]), (TRACKER, tracker))
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-3", "CVE-4"]


def test_an_old_kernel_that_left_the_index_is_still_read_in_the_signed_changelog() -> None:
    old = package("linux-image-6.1.0-25-amd64", "6.1.106-3", "linux-signed-amd64", "6.1.106+3")
    records = [
        listed("linux-libc-dev", "6.1.128-1", "linux"),
        listed("linux-image-6.1.0-31-amd64", "6.1.128-1", "linux-signed-amd64", "6.1.128+1"),
        *changelog(
            entry("linux-signed-amd64", "6.1.128+1", "CVE-2"),
            entry("linux-signed-amd64", "6.1.119+1", "CVE-1"),
            entry("linux-signed-amd64", "6.1.106+3"),
        ),
    ]
    answer = assessed(inventory(old), (MIRROR, records))
    assert [(found.source, found.vulnerability, found.fixed_version) for found in answer.findings] == [
        ("linux", "CVE-1", "6.1.119-1"),
        ("linux", "CVE-2", "6.1.128-1"),
    ]
    assert answer.unassessed == (Unassessed(old.name, "6.1.106-3", "no source lists this package"),)
    assert answer.complete


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        (package("backdoor", "1.0"), "no source lists this package"),
        (
            package("zlib1g", "1.2-1", "zlib", architecture="riscv64"),
            "no source lists this package for riscv64",
        ),
        (package("zlib1g", "1.2-9", "zlib"), "newer than any source lists"),
        (package("zlib1g", "1.2-1+local1", "zlib"), "no source lists this version"),
    ],
)
def test_a_package_that_nobody_vouches_for_is_unassessed(installed, reason: str) -> None:
    (unassessed,) = assessed(inventory(installed), (MIRROR, [*INDEX, *CHANGELOG])).unassessed
    assert unassessed == Unassessed(installed.name, installed.version, reason)


def test_a_version_between_suites_that_the_changelog_knows_is_vouched_for() -> None:
    between = package("zlib1g", "1.2-3", "zlib")
    newer = package("zlib1g", "1.2-5", "zlib")
    assert assessed(inventory(between, newer), (MIRROR, [*INDEX, *CHANGELOG])).unassessed == ()


def test_without_an_index_origins_are_noted_as_unchecked_and_nothing_is_unassessed() -> None:
    answer = assessed(inventory(ZLIB), (TRACKER, [statement(TRACKER, "zlib", "CVE-1", "1.0")]))
    assert answer.unassessed == ()
    assert answer.complete
    assert "no package index of debian:12 is imported: origins of packages were not checked" in answer.notes


def test_the_changelogs_to_fetch_are_those_of_newer_sources_even_where_no_package_has_a_newer_version() -> (
    None
):
    old = package("linux-image-6.1.0-25-amd64", "6.1.106-3", "linux-signed-amd64", "6.1.106+3")
    index = [*INDEX, listed("linux-libc-dev", "6.1.128-1", "linux")]
    machine = inventory(old, ZLIB)
    wanted = missing_changelogs(machine, knowledge((MIRROR, index)))
    assert wanted == (Subject("linux", "6.1.128-1"), Subject("zlib", "1.2-4"))
    assert missing_changelogs(machine, knowledge((MIRROR, [*index, *CHANGELOG]))) == wanted[:1]
    assert missing_changelogs(inventory(os=None), knowledge((MIRROR, index))) == ()


def test_a_title_that_names_another_vulnerability_is_not_taken_over() -> None:
    both = replace(entry("zlib", "1.2-2", "CVE-2024-0001", "CVE-2024-0002"), title="CVE-2024-0001: overflow")
    known = changelog(entry("zlib", "1.2-4"), both, entry("zlib", "1.2-1"))
    answer = assessed(inventory(ZLIB), (MIRROR, [*INDEX, *known]))
    assert {finding.vulnerability: finding.title for finding in answer.findings} == {
        "CVE-2024-0001": "CVE-2024-0001: overflow",
        "CVE-2024-0002": "",
    }
