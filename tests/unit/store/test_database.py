"""The advisory database: editions replace one another whole or not at all, and anybody may read."""

import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from advisorydata import BOOKWORM, DSA, NOW, TRACKER, entry, header, inventory, listed, package, statement

from undercroft.advisories.records import ChangelogEntry, Record
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.store import schema
from undercroft.store.database import AdvisoryDatabase

MACHINE = inventory(package("zlib", "1.0-1"))
OLD = [statement(TRACKER, "zlib", "CVE-1")]
NEW = [statement(TRACKER, "zlib", "CVE-2")]
NEXT = replace(TRACKER, serial="2026-03-08")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database that holds one edition."""
    path = tmp_path / "state" / "advisories.db"
    with AdvisoryDatabase(path, writable=True) as database:
        assert database.replace_feed(TRACKER, OLD, NOW)
    return path


def vulnerabilities(path: Path) -> list[str]:
    with AdvisoryDatabase(path) as database:
        known = database.knowledge(BOOKWORM, MACHINE)
    return [record.vulnerability for record in known.advisories.get("zlib", ())]


def import_next(path: Path, records: Iterator[Record] | list[Record]) -> bool:
    with AdvisoryDatabase(path, writable=True) as database:
        return database.replace_feed(NEXT, records, NOW)


def test_an_edition_replaces_the_one_before_it_as_a_whole(path: Path) -> None:
    assert vulnerabilities(path) == ["CVE-1"]
    assert import_next(path, NEW)
    assert vulnerabilities(path) == ["CVE-2"]


def test_a_feed_leaves_the_others_alone(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True) as database:
        database.replace_feed(DSA, [statement(DSA, "zlib", "CVE-9", "1.0-2")], NOW)
        database.replace_feed(NEXT, NEW, NOW)
    assert sorted(vulnerabilities(path)) == ["CVE-2", "CVE-9"]


def test_an_importing_database_sees_what_it_imported(tmp_path: Path) -> None:
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        assert database.feeds(NOW) == ()
        database.replace_feed(TRACKER, OLD, NOW)
        assert [feed.records for feed in database.feeds(NOW)] == [1]
        database.remove_feed("debian-tracker")
        assert database.feeds(NOW) == ()
        assert database.knowledge(BOOKWORM, MACHINE).advisories == {}


def test_a_feed_shows_its_edition_and_whether_it_is_stale(path: Path) -> None:
    with AdvisoryDatabase(path) as database:
        (feed,) = database.feeds(NOW + timedelta(days=3))
        (later,) = database.feeds(NOW + timedelta(days=3, seconds=1))
    assert (feed.name, feed.serial, feed.published_at, feed.fetched_at) == (
        "debian-tracker",
        "2026-03-07",
        NOW,
        NOW,
    )
    assert feed.valid_until == NOW + timedelta(days=3)
    assert (feed.stale, later.stale) == (False, True)


def test_a_serial_that_goes_back_is_refused_and_the_old_data_stays(path: Path) -> None:
    import_next(path, NEW)
    with (
        AdvisoryDatabase(path, writable=True) as database,
        pytest.raises(StateError, match="older than 2026-03-08"),
    ):
        database.replace_feed(TRACKER, OLD, NOW)
    assert vulnerabilities(path) == ["CVE-2"]


def test_the_same_serial_changes_nothing_not_even_the_age(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True) as database:
        assert not database.replace_feed(TRACKER, NEW, NOW + timedelta(days=1))
        assert database.feeds(NOW)[0].fetched_at == NOW
    assert vulnerabilities(path) == ["CVE-1"]


def test_an_edition_from_the_future_is_refused(path: Path) -> None:
    future = replace(NEXT, published_at=NOW + timedelta(days=2))
    with AdvisoryDatabase(path, writable=True) as database, pytest.raises(StateError, match="in the future"):
        database.replace_feed(future, NEW, NOW)
    assert vulnerabilities(path) == ["CVE-1"]


def failing_midway() -> Iterator[Record]:
    yield from NEW
    raise InputError("feed: cut off at byte 4096")


def test_a_feed_that_fails_midway_leaves_the_old_data_and_no_file(path: Path) -> None:
    with pytest.raises(InputError, match="cut off"):
        import_next(path, failing_midway())
    assert vulnerabilities(path) == ["CVE-1"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["advisories.db", "advisories.db.lock"]


def test_a_text_that_is_not_unicode_is_refused_and_the_old_data_stays(path: Path) -> None:
    with pytest.raises(InputError, match="not Unicode"):
        import_next(path, [replace(NEW[0], title="half a pair: \ud800")])
    assert vulnerabilities(path) == ["CVE-1"]


def test_an_import_that_is_killed_midway_leaves_the_old_data(path: Path) -> None:
    program = """
        import os, signal, sys
        sys.path.insert(0, sys.argv[2])
        from advisorydata import NOW, TRACKER, statement
        from dataclasses import replace
        from undercroft.store.database import AdvisoryDatabase

        def records():
            for number in range(20_000):
                yield statement(TRACKER, "zlib", f"CVE-X-{number}")
            os.kill(os.getpid(), signal.SIGKILL)

        with AdvisoryDatabase(sys.argv[1], writable=True) as database:
            database.replace_feed(replace(TRACKER, serial="2026-03-08"), records(), NOW)
    """
    support = str(Path(sys.modules["advisorydata"].__file__ or "").parent)
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program), path, support], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.with_name("advisories.db.new").exists(), "it was killed in the middle of its work"
    assert vulnerabilities(path) == ["CVE-1"]
    assert import_next(path, NEW), "neither the lock nor the leftover stands in the way"
    assert vulnerabilities(path) == ["CVE-2"]
    assert not path.with_name("advisories.db.new").exists()


def test_a_disk_that_is_full_is_reported_and_the_old_data_stays(path: Path) -> None:
    many = [
        statement(TRACKER, "zlib", f"CVE-X-{number}", title=f"{number} {'x' * 200}")
        for number in range(20_000)
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, hard)
    )  # the kernel refuses to let a file grow further
    try:
        with pytest.raises(OperationError):
            import_next(path, many)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert vulnerabilities(path) == ["CVE-1"]
    assert import_next(path, many), "without the limit the same import succeeds"


def test_a_reader_works_while_an_import_runs_and_keeps_what_it_opened(path: Path) -> None:
    seen: list[list[str]] = []

    def records() -> Iterator[Record]:
        for number in range(12_000):  # more than one batch, so rows are being written
            yield statement(TRACKER, "zlib", f"CVE-X-{number}")
        seen.append(vulnerabilities(path))

    with AdvisoryDatabase(path) as early:
        assert import_next(path, records())
        assert len(early.knowledge(BOOKWORM, MACHINE).advisories["zlib"]) == 1
    assert seen == [["CVE-1"]]
    assert len(vulnerabilities(path)) == 12_000


def test_a_second_importer_is_told_to_wait(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True):
        with pytest.raises(StateError, match="another import"):
            AdvisoryDatabase(path, writable=True)
        assert vulnerabilities(path) == ["CVE-1"]
    AdvisoryDatabase(path, writable=True).close()


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that everybody may enter and only its owner may change."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_normal_user_reads_what_root_imported(foreign_folder: Path) -> None:
    path = foreign_folder / "advisories.db"
    mask = os.umask(0o077)
    try:
        with AdvisoryDatabase(path, writable=True) as database:
            database.replace_feed(TRACKER, OLD, NOW)
    finally:
        os.umask(mask)
    control = foreign_folder / "control.db"
    connection = sqlite3.connect(control)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE feed (name TEXT)")
    connection.close()
    os.chmod(control, 0o644)
    os.seteuid(65534)
    try:
        assert vulnerabilities(path) == ["CVE-1"]
        with pytest.raises(DeniedError, match="imported by the user who owns"):
            AdvisoryDatabase(path, writable=True)
        with pytest.raises(sqlite3.OperationalError):  # what write-ahead logging would have done to them
            sqlite3.connect(f"file:{control}?mode=ro", uri=True).execute("SELECT * FROM feed")
    finally:
        os.seteuid(0)


def test_an_owners_choice_of_permissions_survives_imports(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    path.chmod(0o600)
    import_next(path, NEW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_symbolic_link_to_the_database_stays_one(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    import_next(link, NEW)
    assert link.is_symlink()
    assert vulnerabilities(path) == ["CVE-2"]


def test_a_missing_database_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="undercroft feeds update"):
        AdvisoryDatabase(tmp_path / "none.db")


@pytest.mark.parametrize("name", ["a?b.db", "a#b%41.db", "a b.db", os.fsdecode(b"a\xff.db")])
def test_any_file_name_works(tmp_path: Path, name: str) -> None:
    with AdvisoryDatabase(tmp_path / name, writable=True) as database:
        database.replace_feed(TRACKER, OLD, NOW)
    assert vulnerabilities(tmp_path / name) == ["CVE-1"]


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to be looked at" * 20])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes, writable: bool) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(content)
    if writable and not content:
        AdvisoryDatabase(path, writable=True).close()
        return
    with pytest.raises((OperationError, StateError), match=r"a\.db"):
        AdvisoryDatabase(path, writable=writable)
    assert path.read_bytes() == content


def test_a_damaged_database_is_reported_and_never_clean(path: Path) -> None:
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[4096:] = b"\xa5" * (len(whole) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(OperationError, match="delete the file"):
        vulnerabilities(path)


@pytest.mark.parametrize("writable", [False, True])
def test_another_programs_database_is_left_alone(tmp_path: Path, writable: bool) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (value TEXT)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="not an advisory database"):
        AdvisoryDatabase(path, writable=writable)
    assert path.read_bytes() == before


@pytest.mark.parametrize("writable", [False, True])
def test_a_database_of_a_newer_version_is_refused_with_the_cure(path: Path, writable: bool) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    connection.close()
    with pytest.raises(StateError, match=r"newer Undercroft .*: update Undercroft"):
        AdvisoryDatabase(path, writable=writable)


def test_an_older_database_is_brought_forward_by_an_import_and_by_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE title ADD COLUMN language TEXT")
    )
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"older Undercroft .*undercroft feeds update"):
        AdvisoryDatabase(path)
    assert path.read_bytes() == before
    with AdvisoryDatabase(path, writable=True) as database:
        assert [feed.name for feed in database.feeds(NOW)] == ["debian-tracker"]
    assert vulnerabilities(path) == ["CVE-1"]


def first_schema(path: Path) -> None:
    """Write a file as the first version did, with one statement of a tracker and a feed of changelogs."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.executescript(schema.MIGRATIONS[0])
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        at = NOW.isoformat()
        for ident, name in enumerate(("debian-tracker", "changelogs:debian:12"), start=1):
            row = (ident, name, "2026-03-07", at, None, 86400, '["debian:12"]', "[]", "", at, 1)
            connection.execute(f"INSERT INTO feed VALUES ({', '.join('?' * len(row))})", row)
        connection.execute("INSERT INTO subject VALUES (1, 'debian:12', 'zlib')")
        connection.execute("INSERT INTO title VALUES (1, 0, '')")
        statement = (1, "CVE-1", 1, 0, "", "unfixed", "", b"", "", "", None, "unknown", "", 0)
        connection.execute(f"INSERT INTO advisory VALUES ({', '.join('?' * len(statement))})", statement)
    connection.close()


def test_changelogs_of_the_first_schema_are_dropped_so_that_they_are_fetched_again(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first_schema(path)
    with AdvisoryDatabase(path, writable=True) as database:
        assert [feed.name for feed in database.feeds(NOW)] == ["debian-tracker"]
        assert database.changelog_versions("changelogs:debian:12") == frozenset()
        database.add_changelogs(CHANGELOGS, [entry("zlib", "1.0-1")], NOW)
    assert vulnerabilities(path) == ["CVE-1"]


CHANGELOGS = header("changelogs:debian:12", published_at=None, serial="1")


def changelog_versions(path: Path) -> set[tuple[str, str]]:
    with AdvisoryDatabase(path) as database:
        return set(database.changelog_versions("changelogs:debian:12"))


def test_changelogs_are_added_to_those_that_are_there(path: Path) -> None:
    with AdvisoryDatabase(path, writable=True) as database:
        database.add_changelogs(CHANGELOGS, [entry("zlib", "1.0-1")], NOW)
        later = NOW + timedelta(days=1)
        database.add_changelogs(replace(CHANGELOGS, serial="2"), [entry("zlib", "1.0-2", "CVE-1")], later)
        feed = next(feed for feed in database.feeds(NOW) if feed.name == CHANGELOGS.name)
    assert (feed.serial, feed.records, feed.fetched_at) == ("2", 2, later)
    assert changelog_versions(path) == {("zlib", "1.0-1"), ("zlib", "1.0-2")}
    assert vulnerabilities(path) == ["CVE-1"]


def test_changelogs_that_fail_midway_or_go_back_add_nothing(path: Path) -> None:
    def failing() -> Iterator[ChangelogEntry]:
        yield entry("zlib", "1.0-2")
        raise InputError("cut off")

    with AdvisoryDatabase(path, writable=True) as database:
        database.add_changelogs(replace(CHANGELOGS, serial="2"), [entry("zlib", "1.0-1")], NOW)
        with pytest.raises(InputError):
            database.add_changelogs(replace(CHANGELOGS, serial="3"), failing(), NOW)
        with pytest.raises(StateError):
            database.add_changelogs(CHANGELOGS, [entry("zlib", "1.0-3")], NOW)
    assert changelog_versions(path) == {("zlib", "1.0-1")}


def test_a_confirmed_edition_without_a_date_of_its_own_is_fresh_again(tmp_path: Path) -> None:
    main = header("mirror:debian:12:bookworm", published_at=None)
    later = NOW + timedelta(days=5)
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(main, [listed("zlib", "1.0-1")], NOW)
        assert database.feeds(later)[0].stale
        database.confirm_feed(main.name, later)
        assert not database.feeds(later)[0].stale


def test_forgetting_a_feed_that_is_not_there_is_an_error(path: Path) -> None:
    with (
        AdvisoryDatabase(path, writable=True) as database,
        pytest.raises(NotFoundError, match="no feed nosuch"),
    ):
        database.remove_feed("nosuch")


def test_times_keep_their_zone(tmp_path: Path) -> None:
    feed = header("kev", (), published_at=datetime(2026, 3, 7, 1, tzinfo=UTC), valid_until=NOW)
    with AdvisoryDatabase(tmp_path / "a.db", writable=True) as database:
        database.replace_feed(feed, [], NOW)
        (found,) = database.feeds(NOW)
    assert (found.published_at, found.valid_until, found.records) == (feed.published_at, NOW, 0)


def test_what_is_no_database_is_named_and_never_advised_to_be_deleted(tmp_path: Path) -> None:
    other = tmp_path / "notes.json"
    other.write_text("{}")
    for path, text in ((tmp_path, "a directory"), (other, "not an advisory database")):
        with pytest.raises(StateError, match=text) as refused:
            AdvisoryDatabase(path)
        assert "delete" not in str(refused.value)
    with pytest.raises(StateError, match="not an advisory database"):
        AdvisoryDatabase(other, writable=True)
    assert other.read_text() == "{}"
