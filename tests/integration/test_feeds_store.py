"""What the database offers to feeds beyond replacing an edition: growing changelogs, confirmed editions."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from feedfixtures import NOW

from undercroft.advisories.records import ChangelogEntry, FeedHeader
from undercroft.errors import InputError, StateError
from undercroft.store.database import AdvisoryDatabase

NAME = "changelogs:debian:12"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[AdvisoryDatabase]:
    with AdvisoryDatabase(tmp_path / "db", writable=True) as opened:
        yield opened


def header(serial: str, name: str = NAME) -> FeedHeader:
    return FeedHeader(name, serial, None, None, 86_400, ("debian:12",))


def entry(source: str, version: str) -> ChangelogEntry:
    return ChangelogEntry(source, version, date(2025, 2, 10), ("CVE-2025-11111",), "A fault", branch=version)


def test_entries_are_added_to_those_that_are_there(database):
    database.add_changelogs(header("1"), [entry("a", "1.0-1")], NOW)
    database.add_changelogs(header("2"), [entry("a", "1.0-2"), entry("b", "1:2")], NOW + timedelta(hours=1))
    assert database.changelog_versions(NAME) == {("a", "1.0-1"), ("a", "1.0-2"), ("b", "1:2")}
    (status,) = database.feeds(NOW)
    assert (status.serial, status.records, status.fetched_at) == ("2", 3, NOW + timedelta(hours=1))


def test_what_breaks_halfway_adds_nothing(database):
    def breaking() -> Iterator[ChangelogEntry]:
        yield entry("b", "2")
        raise InputError("damaged")

    database.add_changelogs(header("1"), [entry("a", "1.0-1")], NOW)
    with pytest.raises(InputError):
        database.add_changelogs(header("2"), breaking(), NOW)
    assert database.changelog_versions(NAME) == {("a", "1.0-1")}
    assert database.feeds(NOW)[0].serial == "1"


def test_a_serial_that_goes_back_is_refused(database):
    database.add_changelogs(header("2"), [entry("a", "1.0-1")], NOW)
    with pytest.raises(StateError, match="older than"):
        database.add_changelogs(header("1"), [entry("b", "2")], NOW)


def test_a_feed_that_is_not_there_has_no_versions(database):
    assert database.changelog_versions(NAME) == frozenset()


def test_a_confirmed_edition_is_young_again_and_no_other_is(database):
    for name in ("mirror:debian:12:bookworm", "mirror:debian:12:other"):
        database.replace_feed(header("1", name), [], NOW)
    later = NOW + timedelta(days=2)
    database.confirm_feed("mirror:debian:12:bookworm", later)
    assert {status.name: status.stale for status in database.feeds(later)} == {
        "mirror:debian:12:bookworm": False,
        "mirror:debian:12:other": True,
    }
