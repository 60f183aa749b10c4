"""Feeds are gathered in one copy of the database, and published whole."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from advisorydata import NOW, TRACKER, header, statement

from undercroft.advisories.records import Record
from undercroft.errors import InputError, OperationError
from undercroft.store import draft
from undercroft.store.database import AdvisoryDatabase

FIRST, SECOND = header("osv:A"), header("osv:B")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that holds the tracker."""
    path = tmp_path / "advisories.db"
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(TRACKER, [statement(TRACKER, "zlib", "CVE-1")], NOW)
    return path


def published(path: Path) -> list[str]:
    with AdvisoryDatabase(path) as database:
        return [feed.name for feed in database.feeds(NOW)]


def small(feed: str) -> list[Record]:
    return [statement(header(feed), "zlib", "CVE-2")]


def breaking() -> Iterator[Record]:
    for number in range(12_000):  # more than a batch: rows have been written, and have to be taken back
        yield statement(SECOND, f"package{number}", f"CVE-{number}")
    raise InputError("cut off")


def test_small_feeds_share_one_copy_that_is_published_on_closing(path: Path) -> None:
    before = path.stat().st_ino
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(FIRST, small("osv:A"), NOW)
        copy = path.with_name("advisories.db.new").stat().st_ino
        database.replace_feed(SECOND, small("osv:B"), NOW)
        database.confirm_feed("osv:A", NOW)
        assert [feed.name for feed in database.feeds(NOW)] == ["debian-tracker", "osv:A", "osv:B"]
        assert path.stat().st_ino == before
        assert published(path) == ["debian-tracker"]
    assert path.stat().st_ino == copy
    assert published(path) == ["debian-tracker", "osv:A", "osv:B"]


def test_a_large_feed_is_published_at_once(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(FIRST, small("osv:A"), NOW)
        many = [statement(SECOND, "zlib", f"CVE-{number}") for number in range(draft.LARGE_RECORDS)]
        database.replace_feed(SECOND, many, NOW)
        assert published(path) == ["debian-tracker", "osv:A", "osv:B"]
        database.remove_feed("osv:A")
    assert published(path) == ["debian-tracker", "osv:B"]


def test_a_draft_that_has_grown_old_is_published_by_the_next_feed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "PUBLISH_INTERVAL_S", 0.0)
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(FIRST, small("osv:A"), NOW)
        assert published(path) == ["debian-tracker", "osv:A"]


def test_a_feed_that_fails_takes_nothing_from_those_before_it(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(FIRST, small("osv:A"), NOW)
        with pytest.raises(InputError, match="cut off"):
            database.replace_feed(SECOND, breaking(), NOW)
        assert [feed.name for feed in database.feeds(NOW)] == ["debian-tracker", "osv:A"]
        database.replace_feed(SECOND, small("osv:B"), NOW)
    assert published(path) == ["debian-tracker", "osv:A", "osv:B"]


def test_a_session_in_which_every_feed_fails_leaves_the_file_as_it_is(path: Path) -> None:
    def written() -> tuple[int, int, int, int]:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    before = written()
    with AdvisoryDatabase(path, writable=True) as database, pytest.raises(InputError):
        database.replace_feed(SECOND, breaking(), NOW)
    assert written() == before


def test_feeds_that_were_not_published_when_it_was_killed_are_lost_and_nothing_else(path: Path) -> None:
    program = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from advisorydata import NOW, header, statement
        from undercroft.store.database import AdvisoryDatabase

        def records():
            for number in range(20_000):
                yield statement(header("osv:B"), f"package{number}", f"CVE-{number}")
            os.kill(os.getpid(), signal.SIGTERM)

        with AdvisoryDatabase(sys.argv[1], writable=True) as database:
            database.replace_feed(header("osv:A"), [statement(header("osv:A"), "zlib", "CVE-2")], NOW)
            database.replace_feed(header("osv:B"), records(), NOW)
    """
    support = str(Path(sys.modules["advisorydata"].__file__ or "").parent)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program), path, support], check=False)
    leftovers = [path.with_name("advisories.db.new"), path.with_name("advisories.db.new-journal")]
    assert all(leftover.exists() for leftover in leftovers), "it was killed in the middle of its work"
    assert published(path) == ["debian-tracker"]
    AdvisoryDatabase(path, writable=True).close()
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_disk_that_fails_at_the_last_moment_names_what_is_lost(path: Path) -> None:
    database = AdvisoryDatabase(path, writable=True)
    database.replace_feed(FIRST, small("osv:A"), NOW)
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    with pytest.raises(OperationError, match="to be imported again: osv:A"):
        database.close()
    path.joinpath("in the way").unlink()
    path.rmdir()
    AdvisoryDatabase(path, writable=True).close()  # neither the lock nor the copy stayed


def test_confirming_an_edition_does_not_copy_the_file_by_itself(path: Path) -> None:
    feed = replace(header("mirror:debian:12:bookworm"), published_at=None)
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(feed, [], NOW)
        copy = path.with_name("advisories.db.new").stat().st_ino
        database.confirm_feed(feed.name, NOW)
        assert path.with_name("advisories.db.new").stat().st_ino == copy
