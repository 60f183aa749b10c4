"""Opens the record, and makes its transactions.

    records = open_records("/var/lib/undercroft/fleet.db")
    with records.transaction() as record:
        record.put_execution(execution)

Guarantees, for both databases:
1. A transaction is whole or not at all, and durable when its block has ended. Where the connection is lost
   in the commit itself (PostgreSQL), nobody can tell: done again, it finds what it did by its idents.
2. Transactions that write run one after the other, so the audit log has one end.
3. One that reads sees one moment, and waits for nobody.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from undercroft.model.execution import Execution, Origin
from undercroft.ports.records import Record, Records
from undercroft.store.fleet.channelpart import ChannelPart
from undercroft.store.fleet.codec import Remembered
from undercroft.store.fleet.engine import WRITES, connect, create_file, errors, parse_url, place
from undercroft.store.fleet.filterpart import FilterPart
from undercroft.store.fleet.homepart import HomePart
from undercroft.store.fleet.judgepart import JudgePart
from undercroft.store.fleet.lineagepart import LineagePart
from undercroft.store.fleet.machinepart import MachinePart
from undercroft.store.fleet.migrate import migrate
from undercroft.store.fleet.scanpart import ScanPart
from undercroft.store.fleet.session import Shared


def _clock() -> datetime:
    return datetime.now(UTC)


def open_records(url: str, *, create: bool = True, now: Callable[[], datetime] = _clock) -> Records:
    """Open the record of the fleet, and bring its schema up to date.

    Args:
        url: a path (SQLite; "" for the default one), or `postgresql://...`.
        create: make the SQLite file where there is none.
        now: the clock of changes that carry no time of their own.

    Raises:
        InputError: the URL names no such database.
        NotFoundError: there is none, and `create` is False.
        DeniedError: no permission.
        StateError: it is another program's, or of a newer Undercroft.
        OperationError: the database failed.
    """
    parsed = parse_url(url)
    where = place(parsed)
    if parsed.get_backend_name() == "sqlite":
        create_file(str(parsed.database), allowed=create)
    engine = connect(parsed)
    try:
        migrate(engine, where)
    except BaseException:
        engine.dispose()
        raise
    return SqlRecords(engine, Shared(where, Remembered(), now))


class SqlRecord(MachinePart, ScanPart, JudgePart, LineagePart, ChannelPart, HomePart, FilterPart):
    """One transaction: `ports.records.Record`."""

    def put_execution(self, execution: Execution) -> None:
        """See `ports.records.Record.put_execution`."""
        comes = _lives_migrated(execution) and not _lives_migrated(self.execution(execution.eid))
        super().put_execution(execution)
        if comes:  # once: where it has come from may be gone later, and another one of its UUID be there
            self.carry_over(execution.host, execution.machine)


def _lives_migrated(execution: Execution | None) -> bool:
    return execution is not None and execution.live and execution.origin is Origin.MIGRATE


class SqlRecords:
    """The database: `ports.records.Records`. May be used by several threads."""

    def __init__(self, engine: Engine, shared: Shared) -> None:
        self.engine = engine
        self._shared = shared
        self._where = shared.where

    @contextmanager
    def transaction(self) -> Iterator[Record]:
        """See `ports.records.Records.transaction`."""
        with self._connected(**{WRITES: True}) as connection:
            record = SqlRecord(connection, self._shared, writable=True)
            record.lock()
            yield record
            record.finish()
            self._commit(connection)
            record.remember()

    @contextmanager
    def reading(self) -> Iterator[Record]:
        """See `ports.records.Records.reading`."""
        options: dict[str, object] = {}
        if self.engine.dialect.name == "postgresql":
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self._connected(**options) as connection:
            yield SqlRecord(connection, self._shared, writable=False)

    def close(self) -> None:
        """Give the connections back. The record may not be used any more."""
        self.engine.dispose()

    def _commit(self, connection: Connection) -> None:
        """Commit; where that fails the connection goes, for it may still be in the transaction."""
        try:
            with errors(self._where):
                connection.commit()
        except BaseException:
            connection.invalidate()
            raise

    @contextmanager
    def _connected(self, **options: object) -> Iterator[Connection]:
        """Give a connection in a transaction that ends with the block, kept only where it was committed."""
        with errors(self._where):
            connection = self.engine.connect()
        try:
            with errors(self._where):
                connection = connection.execution_options(**options)
                connection.begin()
            yield connection
        finally:
            with suppress(SQLAlchemyError):  # what could not be rolled back is lost with the connection
                connection.close()
