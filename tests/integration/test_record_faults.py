"""What becomes of the record when something fails under it, at any point.

Always: a transaction is on record whole or not at all, what was acknowledged stays, the chain has one end,
and the same transaction done again counts once.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import recordwriters
from postgres import PostgresServer
from recordvalues import (
    NOW,
    UUID,
    decision,
    domain,
    event,
    execution,
    inventory,
    judgement,
    reads,
    scan,
    subject,
    survey,
)
from sqlalchemy import event as sqlalchemy_event

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import OperationError
from undercroft.model.audit import AuditEntry
from undercroft.model.fleet import Hold
from undercroft.ports.records import Record, Records
from undercroft.store.fleet.codec import Remembered
from undercroft.store.fleet.records import SqlRecord, SqlRecords, open_records
from undercroft.store.fleet.session import Shared

Database = Callable[[], Records]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "state" / "fleet.db")
    server = request.getfixturevalue("postgres")
    return str(server.url(server.new_database("migrated")))


def log_of(records: Records) -> list[AuditEntry]:
    """The whole log, which is verified."""
    entries: list[AuditEntry] = []
    with records.reading() as record:
        while page := record.log_entries(entries[-1].number if entries else 0):
            entries += page
        _, number, digest = record.log_head()
    proof = verify_log(entries, (), "")
    assert (proof.last, proof.digest) == (number, digest)
    return entries


def whole_transaction(record: Record) -> None:
    """One that touches every kind of table."""
    if not record.take_event(event()):
        return
    record.put_survey(survey(domain(1), domain(2)))
    digest, _ = record.put_inventory(inventory(), reads())
    record.put_scan(scan("machine:1", digest))
    for key in ("machine:1", "machine:2"):
        record.put_subject(subject(key))
    record.put_judgements([judgement("machine:1"), judgement("machine:2")])
    record.put_execution(execution())
    record.put_hold(Hold(UUID, "", (), "held", NOW, True))
    assert record.put_decision(decision())
    record.seen_fixes([("debian:12", "openssl", "CVE-2026-1")], NOW)


def contents(records: Records) -> list[object]:
    with records.reading() as record:
        return [
            record.machines(),
            record.scans(),
            record.judgements(),
            record.executions(),
            record.holds(),
            record.decisions(),
            record.log_head()[1:],
        ]


class _Injector:
    """Fails the nth statement in place of the driver, or the commit after the last one."""

    def __init__(self, records: SqlRecords, fail_at: int) -> None:
        self.count = 0
        self.fail_at = fail_at
        self._engine = records.engine
        is_sqlite = records.engine.dialect.name == "sqlite"
        self._error: Exception = (
            sqlite3.OperationalError("disk I/O error") if is_sqlite else psycopg.OperationalError("lost")
        )

    def _hit(self, *_: Any) -> None:
        self.count += 1
        if self.count == self.fail_at:
            raise self._error

    @contextmanager
    def active(self) -> Iterator[None]:
        names = ("do_execute", "do_executemany", "do_execute_no_params", "do_commit")
        commit = self._engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            self._hit()
            commit(connection)

        for name in names[:3]:
            sqlalchemy_event.listen(self._engine, name, self._hit)
        self._engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        try:
            yield
        finally:
            self._engine.dialect.do_commit = commit  # type: ignore[method-assign]
            for name in names[:3]:
                sqlalchemy_event.remove(self._engine, name, self._hit)


def test_whichever_statement_fails_all_or_nothing_is_on_record_and_doing_it_again_counts_once(url: str):
    records = open_records(url)
    assert isinstance(records, SqlRecords)
    empty = contents(records)
    injected = 0
    while True:
        injector = _Injector(records, injected + 1)
        with injector.active():
            try:
                with records.transaction() as record:
                    whole_transaction(record)
                break
            except OperationError:
                injected += 1
        assert contents(records) == empty, f"statement {injected}"
    assert injected > 15
    once = contents(records)
    with records.transaction() as record:
        whole_transaction(record)
    assert contents(records) == once
    assert [entry.kind for entry in log_of(records)].count("decision") == 1
    records.close()


def test_writers_that_are_killed_at_any_point_leave_whole_transactions_and_one_chain(tmp_path: Path):
    path = str(tmp_path / "fleet.db")
    open_records(path).close()
    chance = random.Random(20260301)
    told: list[str] = []
    for round_number in range(6):
        writer = recordwriters.start(path, f"r{round_number}")
        recordwriters.release(writer)
        assert writer.stdout is not None
        for _ in range(chance.randrange(1, 25)):
            told.append(writer.stdout.readline().strip())
        threading.Event().wait(chance.random() / 100)
        writer.send_signal(signal.SIGKILL)
        told += recordwriters.acknowledged(writer)
    _check_writers(path, told)


def _check_writers(url: str, told: list[str]) -> None:
    """All that was acknowledged is there, all that is there is whole, and the chain has one end."""
    records = open_records(url)
    entries = log_of(records)
    with records.reading() as record:
        decided = {found.ident for found in record.decisions(limit=1_000_000)}
        executed = {found.eid for found in record.executions()}
    with records.transaction() as record:
        taken = {ident for ident in decided if not record.take_event(event(ident))}
    records.close()
    assert set(told) <= decided == executed == taken
    assert [entry.kind for entry in entries] == ["execution", "decision"] * len(decided)


def test_processes_that_write_at_once_keep_one_chain(url: str):
    open_records(url).close()
    writers = [recordwriters.start(url, f"w{number}", 25) for number in range(3)]
    recordwriters.release(*writers)
    told = [ident for writer in writers for ident in recordwriters.acknowledged(writer)]
    assert len(told) == 75
    _check_writers(url, told)


def test_threads_that_write_at_once_keep_one_chain(url: str):
    records = open_records(url)

    def write(name: int) -> None:
        for number in range(10):
            with records.transaction() as record:
                record.log("agent", f"thread{name}", {"number": number}, NOW)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log_of(records)) == 40
    records.close()


@pytest.mark.xdist_group("postgres")
def test_without_the_lock_on_the_head_the_second_writer_would_fail(postgres: PostgresServer):
    """The control: both read the same head, both write the entry after it, and one of them is lost."""
    records = open_records(postgres.url(postgres.new_database("migrated")))
    assert isinstance(records, SqlRecords)
    shared = Shared("the record", Remembered(), lambda: NOW)
    with records.engine.connect() as one, records.engine.connect() as other:
        first, second = (SqlRecord(connection, shared, writable=True) for connection in (one, other))
        assert first.log_head() == second.log_head()
        for record, connection in ((first, one), (second, other)):
            record.log("agent", "host1", {}, NOW)
            if record is first:
                record.finish()
                connection.commit()
        with pytest.raises(OperationError, match="duplicate key"):
            second.finish()
    assert len(log_of(records)) == 1
    records.close()


_FILL = """
import os, resource, signal, sys
sys.path[:0] = sys.argv[2:]
from recordvalues import decision
from undercroft.errors import OperationError
from undercroft.store.fleet.records import open_records
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
records = open_records(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
number = 0
try:
    while True:
        with records.transaction() as record:
            record.put_decision(decision(f"d{number}", reason="x" * 2000))
        number += 1
except OperationError as error:
    print(number, error)
with records.reading() as record:
    assert len(record.decisions(limit=100000)) == number
os._exit(0)
"""


def test_a_full_disk_is_an_operation_error_and_the_old_data_stays(tmp_path: Path):
    path = str(tmp_path / "fleet.db")
    output = subprocess.run(
        [sys.executable, "-c", _FILL, path, *sys.path], check=True, capture_output=True, text=True
    ).stdout
    number, _, message = output.partition(" ")
    assert int(number) > 20
    assert "fleet.db: " in message
    assert "nothing of this transaction is on record" in message
    records = open_records(path)
    with records.transaction() as record:
        assert len(record.decisions(limit=100_000)) == int(number)
        assert record.put_decision(decision(f"d{number}"))
    assert len(log_of(records)) == int(number) + 1
    records.close()


def test_a_writer_that_waits_too_long_says_so_and_a_reader_does_not_wait(
    url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("undercroft.store.fleet.engine.WAIT_S", 1)
    records, other = open_records(url), open_records(url)
    with records.transaction() as record:
        record.put_decision(decision())
        with other.reading() as seen:
            assert seen.decisions() == ()
        with pytest.raises(OperationError, match=r"locked|timeout"), other.transaction():
            pass
    with other.transaction() as record:
        assert record.decisions() == (decision(),)
    records.close()
    other.close()


@pytest.mark.xdist_group("postgres")
def test_a_backend_killed_in_a_transaction_leaves_nothing_of_it_and_the_next_one_works(
    postgres: PostgresServer,
):
    url = postgres.url(postgres.new_database("migrated"))
    records = open_records(url)
    with records.transaction() as record:
        record.put_decision(decision("before"))
    with pytest.raises(OperationError, match="nothing of this transaction"), records.transaction() as record:
        _decide_while_killed(records, record)
    postgres.start()
    with records.transaction() as record:
        assert [found.ident for found in record.decisions()] == ["before"]
        assert record.put_decision(decision("during"))
    assert len(log_of(records)) == 2
    records.close()


def _decide_while_killed(records: Records, record: Record) -> None:
    record.put_decision(decision("during"))
    assert isinstance(records, SqlRecords)
    with records.engine.connect() as connection:
        pids = connection.exec_driver_sql(
            "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND datname = current_database() AND pid != pg_backend_pid()"
        ).all()
    for (pid,) in pids:
        os.kill(pid, signal.SIGKILL)
    with suppress(OperationError):
        record.put_execution(execution())


@pytest.mark.xdist_group("postgres")
def test_a_postmaster_killed_under_writers_loses_nothing_that_was_acknowledged(postgres: PostgresServer):
    url = postgres.url(postgres.new_database("migrated"))
    writers = [recordwriters.start(url, f"w{number}") for number in range(2)]
    recordwriters.release(*writers)
    told = [writer.stdout.readline().strip() for writer in writers for _ in range(20) if writer.stdout]
    postgres.kill()
    for writer in writers:
        told += recordwriters.acknowledged(writer)
        assert writer.returncode == 1, "a writer went on without its database"
    postgres.start()
    _check_writers(url, told)
