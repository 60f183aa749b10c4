"""What makes an answer incomplete: nothing covers the release, feeds are old, nobody knows the system."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from advisorydata import (
    BOOKWORM,
    DEBIAN_12,
    DSA,
    KEV,
    MIRROR,
    NOW,
    TRACKER,
    assessed,
    edition,
    entry,
    header,
    inventory,
    listed,
    package,
    statement,
)

from undercroft.advisories.knowledge import gather
from undercroft.advisories.match import assess
from undercroft.model.inventory import OsRelease

MACHINE = inventory(package("zlib1g", "1.2-1", source="zlib"))
NOTHING_WRONG = [statement(TRACKER, "zlib", "CVE-1", "1.0")]


def test_a_fresh_tracker_alone_gives_a_whole_answer() -> None:
    answer = assessed(MACHINE, (TRACKER, NOTHING_WRONG))
    assert answer.complete
    assert [feed.name for feed in answer.feeds] == ["debian-tracker"]
    assert not answer.feeds[0].stale


@pytest.mark.parametrize("feeds", [(), ((KEV, []),), ((header("debian-tracker", ("debian:13",)), []),)])
def test_a_release_that_no_feed_covers_is_a_problem(feeds) -> None:
    assert assessed(MACHINE, *feeds).problems == ("no advisories for debian:12: undercroft feeds update",)


def test_a_feed_that_holds_nothing_covers_nothing() -> None:
    known = gather(BOOKWORM, [(edition(TRACKER, records=0), [])])
    assert assess(MACHINE, known, now=NOW).problems == (
        "no advisories for debian:12: undercroft feeds update",
    )


@pytest.mark.parametrize("name", ["debian-tracker", "kev"])
def test_a_feed_past_its_maximum_age_is_a_problem(name: str) -> None:
    old = header(name, () if name == "kev" else (BOOKWORM,), published_at=NOW - timedelta(days=9))
    problems = assessed(MACHINE, (TRACKER, NOTHING_WRONG), (old, [])).problems
    assert problems == (
        f"{name} is 9 days old, the limit is 3: its answers are unknown: undercroft feeds update",
    )


def test_a_feed_without_a_date_ages_from_its_import() -> None:
    undated = header("debian-tracker", complete=True, published_at=None)
    known = gather(BOOKWORM, [(edition(undated, fetched_at=NOW - timedelta(days=4)), NOTHING_WRONG)])
    answer = assess(MACHINE, known, now=NOW)
    assert "debian-tracker is 4 days old" in answer.problems[0]
    assert answer.feeds[0].stale


def test_importing_an_old_edition_again_does_not_make_it_fresh() -> None:
    old = header("debian-tracker", published_at=NOW - timedelta(days=9))
    known = gather(BOOKWORM, [(edition(old, fetched_at=NOW), NOTHING_WRONG)])
    assert not assess(MACHINE, known, now=NOW).complete


def test_the_publishers_own_limit_counts_when_it_comes_first() -> None:
    ended = header("mirror:debian:12:bookworm-security", valid_until=NOW - timedelta(hours=1))
    problems = assessed(MACHINE, (TRACKER, NOTHING_WRONG), (ended, [])).problems
    assert problems == (
        "mirror:debian:12:bookworm-security was valid until 2026-03-07, says its publisher: "
        "its answers are unknown: undercroft feeds update --mirror auto",
    )
    far = header(
        "debian-tracker", valid_until=NOW + timedelta(days=900), published_at=NOW - timedelta(days=9)
    )
    assert not assessed(MACHINE, (far, NOTHING_WRONG)).complete


def test_an_unknown_operating_system_is_a_problem() -> None:
    answer = assessed(inventory(os=None), (TRACKER, NOTHING_WRONG))
    assert answer.problems == ("the operating system is unknown, so no advisory can be matched",)


@pytest.mark.parametrize("ident", ["raspbian", "kali", "linuxmint", "devuan", "alpine", ""])
def test_a_derivative_is_never_matched_as_the_distribution_that_it_comes_from(ident: str) -> None:
    machine = inventory(package("zlib1g", "1.2-1"), os=replace(DEBIAN_12, ident=ident, name=ident))
    answer = assessed(machine, (TRACKER, [statement(TRACKER, "zlib1g", "CVE-1")]))
    assert answer.findings == ()
    assert not answer.complete


def test_knowledge_that_was_gathered_for_another_release_is_not_used() -> None:
    answer = assessed(MACHINE, (TRACKER, NOTHING_WRONG), release="debian:11")
    assert answer.problems == ("the advisories were gathered for debian:11, the system is debian:12",)


def test_a_release_past_its_end_of_life_is_a_problem_whatever_the_feeds_say() -> None:
    jessie = inventory(
        package("zlib1g", "1.2-1"), os=OsRelease("debian", "8", "jessie", "Debian 8", "/etc/os-release")
    )
    feed = header("debian-dsa", ("debian:8",))
    answer = assessed(jessie, (feed, [statement(feed, "zlib", "CVE-1", "1.0")]), release="debian:8")
    assert answer.end_of_life.state == "ended"
    (problem,) = answer.problems
    assert problem.startswith("debian:8 reached its end of life on 2020-06-30")


def test_a_release_in_lts_needs_both_lists_of_advisories_and_one_in_regular_support_only_the_first() -> None:
    late = datetime(2027, 1, 1, tzinfo=UTC)
    records = [statement(DSA, "zlib", "CVE-1", "1.0", published_on=date(2025, 1, 1))]

    def missing(now: datetime, *names: str) -> tuple[str, ...]:
        lists = [(header(name, published_at=now), records) for name in names]
        return assessed(MACHINE, *lists, now=now).problems

    assert missing(NOW, "debian-dsa") == ()
    assert missing(late, "debian-dsa", "debian-dla") == ()
    for now, present, absent in (
        (NOW, "debian-dla", "debian-dsa"),
        (late, "debian-dla", "debian-dsa"),
        (late, "debian-dsa", "debian-dla"),
    ):
        assert missing(now, present) == (
            f"the advisories of debian:12 in {absent} are not imported: undercroft feeds update",
        )


@pytest.mark.parametrize("name", ["osv:DSA-5865-1", "osv:Debian:12", "something-new"])
def test_a_feed_that_is_not_whole_covers_nothing_and_its_findings_still_show(name: str) -> None:
    feed = header(name)
    answer = assessed(MACHINE, (feed, [statement(feed, "zlib", "CVE-1")]))
    assert [finding.vulnerability for finding in answer.findings] == ["CVE-1"]
    assert answer.problems == ("no advisories for debian:12: undercroft feeds update",)


def test_lists_of_advisories_alone_leave_a_note_that_unfixed_ones_are_unknown() -> None:
    notes = assessed(MACHINE, (DSA, [statement(DSA, "zlib", "CVE-1", "1.0")])).notes
    assert "no security tracker of debian:12 is imported: only fixed vulnerabilities are known" in notes
    assert not any("tracker" in note for note in assessed(MACHINE, (TRACKER, NOTHING_WRONG)).notes)


def test_a_missing_catalog_of_known_exploited_vulnerabilities_is_noted() -> None:
    note = "no catalog of known exploited vulnerabilities is imported"
    assert note in assessed(MACHINE, (TRACKER, NOTHING_WRONG)).notes
    assert note not in assessed(MACHINE, (TRACKER, NOTHING_WRONG), (KEV, [])).notes


def test_a_malformed_version_is_a_problem_and_still_compared() -> None:
    machine = inventory(package("zlib1g", "1_2", source="zlib"))
    answer = assessed(machine, (TRACKER, [statement(TRACKER, "zlib", "CVE-1")]))
    assert answer.problems == ("1 packages with a malformed version are not assessed: zlib1g",)
    assert len(answer.findings) == 1


def test_changelogs_alone_do_not_cover_a_release() -> None:
    feed = header("changelogs:debian:12")
    answer = assessed(MACHINE, (feed, [entry("zlib", "1.2-1", "CVE-1")]))
    assert answer.problems == ("no advisories for debian:12: undercroft feeds update",)


def test_a_mirror_without_its_security_suite_is_a_problem_unless_another_feed_speaks() -> None:
    main = header("mirror:debian:12:bookworm")
    index = [listed("zlib1g", "1.2-1", "zlib", suite="bookworm")]
    (problem,) = assessed(MACHINE, (main, index)).problems
    assert problem.startswith("the security suite of debian:12 is not imported")
    assert assessed(MACHINE, (main, index), (MIRROR, index)).complete
    assert assessed(MACHINE, (main, index), (TRACKER, NOTHING_WRONG)).complete


@pytest.mark.parametrize("packages", [(), (package("zlib1g", "1.2-1", status="config-files"),)])
def test_a_machine_without_any_package_is_not_clean(packages) -> None:
    answer = assessed(inventory(*packages), (TRACKER, NOTHING_WRONG))
    assert answer.problems == ("no installed package is known, so nothing could be matched",)
