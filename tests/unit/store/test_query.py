"""What the database gives back is all that matching needs: the answer is that of plain records."""

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from advisorydata import (
    BOOKWORM,
    CVES,
    DSA,
    EPSS,
    KEV,
    MIRROR,
    NOW,
    OSV,
    TRACKER,
    VEX,
    changelog,
    entry,
    header,
    inventory,
    knowledge,
    listed,
    package,
    statement,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undercroft.advisories.match import assess
from undercroft.advisories.records import (
    ExploitProbability,
    FeedHeader,
    KnownExploited,
    Record,
    Status,
    VexStatement,
    VexStatus,
    Vulnerability,
)
from undercroft.lineage.floor import raised
from undercroft.model.finding import Severity
from undercroft.model.fleet import Floor
from undercroft.store.database import AdvisoryDatabase

FEEDS = (TRACKER, DSA, OSV, MIRROR, CVES, KEV, EPSS, VEX)
VERSIONS = st.sampled_from(["0~1", "1.0-1", "1.0-2", "1:0.5-1", "2.0-1+esm1"])
SOURCES = st.sampled_from(["a", "b", "linux", "linux-signed-amd64", "é"])
CVE_NUMBERS = st.sampled_from(["CVE-1", "CVE-2", "CVE-3"])
DAYS = st.dates(date(2025, 1, 1), date(2025, 12, 31))
SEVERITIES = st.sampled_from(list(Severity))


def statements(feed: FeedHeader) -> st.SearchStrategy[Record]:
    return st.builds(
        lambda source, vulnerability, fixed, status, day, severity, stream: statement(
            feed,
            source,
            vulnerability,
            fixed if status is Status.FIXED else "",
            status=status,
            published_on=day,
            severity=severity,
            severity_source=f"from:{severity}",
            stream=stream,
            title=f"title {vulnerability}",
            advisory=f"ID-{vulnerability}",
        ),
        SOURCES,
        CVE_NUMBERS,
        VERSIONS | st.just("0") | st.just(""),
        st.sampled_from(list(Status)),
        DAYS | st.none(),
        SEVERITIES,
        st.sampled_from(["", "esm"]),
    )


RECORDS: dict[FeedHeader, st.SearchStrategy[Record]] = {
    **{feed: statements(feed) for feed in (TRACKER, DSA, OSV)},
    MIRROR: st.builds(listed, SOURCES, VERSIONS, SOURCES, VERSIONS)
    | st.builds(
        lambda source, version, names, day, branch: replace(
            entry(source, version, *names, dated_on=day), branch=branch
        ),
        SOURCES,
        VERSIONS,
        st.lists(CVE_NUMBERS, max_size=2, unique=True),
        DAYS,
        VERSIONS,
    ),
    CVES: st.builds(
        lambda number, severity, day, rejected: Vulnerability(
            "cve", number, severity, "cve", day, f"about {number}", rejected
        ),
        CVE_NUMBERS,
        SEVERITIES,
        DAYS | st.none(),
        st.booleans(),
    ),
    KEV: st.builds(KnownExploited, CVE_NUMBERS, DAYS),
    EPSS: st.builds(ExploitProbability, CVE_NUMBERS, st.floats(0, 1), DAYS),
    VEX: st.builds(
        VexStatement,
        st.just("https://example.com/vex"),
        CVE_NUMBERS,
        st.lists(SOURCES, max_size=2).map(tuple),
        st.sampled_from(list(VexStatus)),
        st.just(""),
        st.datetimes(datetime(2025, 1, 1), datetime(2025, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    ),
}
UNIQUE_BY_VULNERABILITY = (CVES, KEV, EPSS)
WORLDS = st.fixed_dictionaries(
    {
        feed: st.lists(
            RECORDS[feed],
            max_size=6,
            unique_by=(lambda record: record.vulnerability) if feed in UNIQUE_BY_VULNERABILITY else repr,
        )
        for feed in FEEDS
    }
)
MACHINES = st.lists(
    st.builds(package, SOURCES | st.just("odd\udcff"), VERSIONS, SOURCES, VERSIONS), max_size=4
).map(lambda packages: inventory(*packages))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(WORLDS, MACHINES, DAYS | st.none())
def test_the_database_answers_as_the_records_themselves_do(tmp_path: Path, world, machine, as_of) -> None:
    path = tmp_path / "a.db"
    path.unlink(missing_ok=True)
    with AdvisoryDatabase(path, writable=True) as database:
        for feed, records in world.items():
            if records:
                database.replace_feed(feed, records, NOW)
        stored = database.knowledge(BOOKWORM, machine)
    plain = knowledge(*[(feed, records) for feed, records in world.items() if records])
    from_database = assess(machine, stored, now=NOW, as_of=as_of)
    from_records = assess(machine, plain, now=NOW, as_of=as_of)
    assert from_database.findings == from_records.findings
    assert from_database.suppressed == from_records.suppressed
    assert from_database.outdated == from_records.outdated
    assert from_database.unassessed == from_records.unassessed
    assert set(from_database.problems) == set(from_records.problems)
    floor = Floor("uuid")
    assert raised(floor, machine, stored, NOW) == raised(floor, machine, plain, NOW)


def test_only_what_can_matter_comes_back(tmp_path: Path) -> None:
    records = [
        statement(TRACKER, "zlib", "CVE-OPEN"),
        statement(TRACKER, "zlib", "CVE-VOUCHES", "1.0-1"),
        statement(TRACKER, "zlib", "CVE-FIXED", "0.9-1"),
        statement(TRACKER, "zlib", "CVE-NEVER", status=Status.NOT_AFFECTED),
        statement(TRACKER, "other", "CVE-OTHER"),
    ]
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(TRACKER, records, NOW)
        known = database.knowledge(BOOKWORM, inventory(package("zlib", "1.0-1")))
    assert set(known.advisories) == {"zlib"}
    assert set(known.advisories["zlib"]) == set(records[:2])


def test_statements_that_overrule_an_open_one_come_back_with_it(tmp_path: Path) -> None:
    cleared = statement(TRACKER, "zlib", "CVE-1", status=Status.NOT_AFFECTED)
    open_there = statement(OSV, "zlib", "CVE-1")
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(TRACKER, [cleared], NOW)
        database.replace_feed(OSV, [open_there], NOW)
        known = database.knowledge(BOOKWORM, inventory(package("zlib", "1.0-1")))
    assert set(known.advisories["zlib"]) == {cleared, open_there}


def test_a_fix_that_is_installed_comes_back_where_a_newer_changelog_names_its_vulnerability(
    tmp_path: Path,
) -> None:
    fixed = statement(DSA, "zlib", "CVE-1", "1.0-1", published_on=date(2025, 1, 1))
    unnamed = statement(DSA, "zlib", "CVE-2", "0.9-1", published_on=date(2025, 1, 1))
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(DSA, [fixed, unnamed], NOW)
        database.replace_feed(MIRROR, [entry("zlib", "1.0-2", "CVE-1")], NOW)
        known = database.knowledge(BOOKWORM, inventory(package("zlib", "1.0-1")))
    assert known.advisories == {"zlib": (fixed,)}


def test_a_feed_of_another_release_says_nothing_about_this_one(tmp_path: Path) -> None:
    other = header("mirror:jammy", ("ubuntu:22.04",))
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(other, [entry("zlib", "1.0-2", "CVE-1"), listed("zlib", "1.0-2")], NOW)
        known = database.knowledge(BOOKWORM, inventory(package("zlib", "1.0-1")))
    assert (known.changelogs, known.index, known.archive, known.has_index) == ({}, {}, {}, False)
    assert known.editions == ()


@pytest.mark.parametrize("order", [1, -1])
def test_the_oldest_of_several_installed_versions_decides_what_can_matter(tmp_path: Path, order: int) -> None:
    record = statement(TRACKER, "linux", "CVE-1", "6.1.119-1")
    both = (
        package("linux-image-old", "6.1.106-3", "linux"),
        package("linux-image-new", "6.1.128-1", "linux"),
    )
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(TRACKER, [record], NOW)
        known = database.knowledge(BOOKWORM, inventory(*both[::order]))
    assert known.advisories == {"linux": (record,)}


def test_changelogs_come_back_whole_and_in_order_and_only_this_releases(tmp_path: Path) -> None:
    other = header("changelogs:debian:13", ("debian:13",))
    own = header("changelogs:debian:12")
    known = changelog(entry("zlib", "1.0-4", "CVE-1"), entry("zlib", "1.0-1"), entry("zlib", "0.9-1"))
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(own, known, NOW)
        database.replace_feed(other, [entry("zlib", "1.0-2")], NOW)
        found = database.knowledge(BOOKWORM, inventory(package("zlib", "1.0-3")))
    assert found.changelogs == {"zlib": tuple(known)}
