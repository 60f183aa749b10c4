"""The database as a thing on the disk or on a server: how it is opened, and what is refused."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import recordwriters
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from recordvalues import NOW, decision, scan
from sqlalchemy import text

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, StateError
from undercroft.ports.records import Records
from undercroft.store.fleet.engine import parse_url, place
from undercroft.store.fleet.migrate import HEAD
from undercroft.store.fleet.records import SqlRecords, open_records
from undercroft.store.fleet.tables import metadata

Database = Callable[[], Records]


def execute(records: Records, statement: str) -> None:
    assert isinstance(records, SqlRecords)
    with records.engine.begin() as connection:
        connection.execute(text(statement))


def test_the_file_is_for_its_owner_only_and_its_folder_can_be_passed(tmp_path: Path):
    path = tmp_path / "state" / "fleet.db"
    records = open_records(str(path))
    with records.transaction() as record:
        record.put_decision(decision())
        files = {name: stat.S_IMODE(os.stat(path.parent / name).st_mode) for name in os.listdir(path.parent)}
    records.close()
    assert files == dict.fromkeys(["fleet.db", "fleet.db-shm", "fleet.db-wal", "fleet.db.lock"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711


def test_sqlite_keeps_its_word_at_a_power_cut_and_lets_readers_pass(tmp_path: Path):
    records = open_records(str(tmp_path / "fleet.db"))
    assert isinstance(records, SqlRecords)
    with records.engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    records.close()
    assert found == ["wal", 2, 1, 30_000]


def test_what_is_on_record_is_there_when_it_is_opened_again(database: Database):
    records = database()
    with records.transaction() as record:
        record.put_decision(decision())
        head = record.log_head()
    records.close()
    records = database()
    with records.reading() as record:
        assert record.decisions() == (decision(),)
        assert record.log_head() == head
    records.close()


def test_the_migrations_make_the_tables_that_the_program_uses(database: Database):
    records = database()
    assert isinstance(records, SqlRecords)
    with records.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    records.close()
    assert differences == []


def test_the_programs_revision_is_the_last_of_the_migrations():
    config = Config()
    config.set_main_option("script_location", "undercroft.store.fleet:migrations")
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_database_of_a_newer_undercroft_is_refused_and_stays_as_it_is(database: Database):
    records = database()
    with records.transaction() as record:
        record.put_decision(decision())
    execute(records, "UPDATE alembic_version SET version_num = '9999'")
    records.close()
    with pytest.raises(StateError, match=r"newer Undercroft \(schema 9999.*update Undercroft"):
        database()


def test_a_program_writes_nothing_once_a_newer_one_has_brought_the_record_up_to_date(database: Database):
    """Its rows would be damaged to the newer one, which an agent's restart would then not get past."""
    records = database()
    execute(records, "UPDATE alembic_version SET version_num = '9999'")
    with (
        pytest.raises(OperationError, match="to 9999: update Undercroft on this host"),
        records.transaction() as record,
    ):
        record.put_decision(decision())
    execute(records, f"UPDATE alembic_version SET version_num = '{HEAD}'")
    with records.transaction() as record:
        assert record.decisions() == ()
    records.close()


def test_another_programs_database_is_refused_and_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE contact (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(StateError, match="another program's"):
        open_records(str(path))
    connection = sqlite3.connect(path)
    assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["contact"]
    connection.close()


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    path = tmp_path / "fleet.db"
    path.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(OperationError, match="not a database"):
        open_records(str(path))


def test_a_record_that_is_not_there_is_made_only_where_that_is_meant(tmp_path: Path):
    with pytest.raises(NotFoundError, match="undercroft up"):
        open_records(str(tmp_path / "fleet.db"), create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_symlink_in_place_of_the_file_is_not_followed(tmp_path: Path):
    (tmp_path / "fleet.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((OperationError, DeniedError)):
        open_records(str(tmp_path / "fleet.db"))
    assert not (tmp_path / "elsewhere").exists()


def test_many_that_open_a_new_record_at_once_migrate_it_once(
    request: pytest.FixtureRequest, database: Database, tmp_path: Path
):
    url = str(tmp_path / "new" / "fleet.db")
    if "postgresql" in request.node.name:
        server = request.getfixturevalue("postgres")
        url = server.url(server.new_database())
    writers = [recordwriters.start(url, f"w{number}", 1) for number in range(4)]
    recordwriters.release(*writers)
    assert [recordwriters.acknowledged(writer) for writer in writers] == [[f"w{n}-0"] for n in range(4)]
    records = open_records(url)
    with records.reading() as record:
        assert len(record.decisions()) == 4
        verify_log(record.log_entries(), (), "")
    records.close()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("state/fleet.db", "sqlite"),
        ("", "sqlite"),
        ("sqlite:////srv/fleet.db", "sqlite"),
        ("postgresql://root@db.example.org/fleet", "postgresql+psycopg"),
        ("postgres:///fleet?host=/run/postgresql", "postgresql+psycopg"),
    ],
)
def test_a_url_names_a_file_or_a_postgresql_server(given: str, expected: str):
    assert parse_url(given).drivername == expected


@pytest.mark.parametrize(
    "given", ["mysql://h/d", "sqlite://", "http://example.org/", "postgresql+asyncpg://h/d"]
)
def test_any_other_url_is_refused(given: str):
    with pytest.raises(InputError, match=r"give a path or postgresql"):
        parse_url(given)


def test_a_password_is_in_no_message():
    url = parse_url("postgresql://agent:secret@localhost:1/fleet")
    assert "secret" not in place(url)
    with pytest.raises(OperationError) as caught:
        open_records("postgresql://agent:secret@localhost:1/fleet")
    assert "localhost" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", ["{", "[]", '{"subject":1}', "null"])
def test_a_damaged_row_is_named_and_never_counts_as_empty(database: Database, body: str):
    records = database()
    with records.transaction() as record:
        record.put_scan(scan("machine:1"))
    execute(records, f"UPDATE scan SET body = '{body}'".replace(":", r"\:"))
    with records.reading() as record:
        with pytest.raises(OperationError, match="scan of machine:1 is damaged"):
            record.scan("machine:1")
        with pytest.raises(OperationError, match="scan is damaged"):
            record.scans()
    records.close()


def test_a_statement_that_failed_ends_the_transaction_though_its_error_was_caught(database: Database):
    records = database()
    execute(records, "DROP TABLE floor")
    with pytest.raises(OperationError, match="nothing of it is on record"):
        _decide_past_a_failure(records)
    with records.reading() as record:
        assert record.decisions() == ()
    records.close()


def _decide_past_a_failure(records: Records) -> None:
    with records.transaction() as record:
        record.put_decision(decision())
        with pytest.raises(OperationError, match="floor"):
            record.floor("x")


def test_a_log_whose_head_was_taken_away_is_told(database: Database):
    records = database()
    execute(records, "DELETE FROM log_head")
    with pytest.raises(OperationError, match="heads instead of one"), records.transaction() as record:
        record.log("agent", "host1", {}, NOW)
    records.close()


def test_opening_it_once_more_takes_no_lock_from_the_same_process(tmp_path: Path):
    # Whoever believes to be the last one with the file takes its log away, under all others.
    path = tmp_path / "fleet.db"
    other = (
        "import sys; from undercroft.store.fleet.records import open_records\n"
        "from datetime import datetime, UTC\n"
        "records = open_records(sys.argv[1])\n"
        "with records.transaction() as record: record.log('test', '', {}, datetime.now(UTC))\n"
        "records.close()"
    )
    with closing(open_records(str(path))) as records:
        with records.transaction() as record:
            record.log("test", "", {}, NOW)
        open_records(str(path)).close()
        subprocess.run([sys.executable, "-c", other, str(path)], check=True)
        assert path.with_name("fleet.db-wal").exists()
        with records.transaction() as record:
            record.log("test", "", {}, NOW)
            assert len(record.log_entries()) == 3
