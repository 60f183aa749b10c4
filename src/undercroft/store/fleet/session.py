"""One transaction: the statements that the parts of a record are made of, and the rule that binds them.

A statement that failed ends the transaction, whatever its caller makes of the error: `finish` then refuses,
and nothing is kept.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Column, Connection, Executable, Row, Select, Table, Update, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Delete

from undercroft.errors import NotFoundError, OperationError
from undercroft.store.fleet.codec import Remembered, from_text
from undercroft.store.fleet.engine import errors

Value = TypeVar("Value")
Fields = Mapping[str, object]

IN_ITEMS = 500
"""Of one `IN (...)`."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all transactions of one database have in common.

    Attributes:
        where: what messages call the database.
        remembered: values by digest.
        now: the clock, for changes that carry no time of their own.
    """

    where: str
    remembered: Remembered
    now: Callable[[], datetime]


class Session:
    """A connection within a transaction."""

    def __init__(self, connection: Connection, shared: Shared, *, writable: bool) -> None:
        self._connection = connection
        self._shared = shared
        self.writable = writable
        self._failed = ""
        self._new: list[tuple[type, str, object, int]] = []

    def finish(self) -> None:
        """Check that the transaction may be kept. Raises OperationError after a statement that failed."""
        if self._failed:
            raise OperationError(
                f"{self._shared.where}: a statement of this transaction failed ({self._failed}); nothing of "
                "it is on record"
            )

    def remember(self) -> None:
        """Remember what was put under its digest, now that it is on record."""
        for cls, digest, value, size_chars in self._new:
            self._shared.remembered.put(cls, digest, value, size_chars)

    def _run(self, statement: Executable, rows: Fields | Sequence[Fields] | None = None) -> Any:
        try:
            with errors(self._shared.where):
                return self._connection.execute(statement, rows)
        except OperationError as error:
            self._failed = str(error)
            raise

    def _all(self, statement: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
        rows: Sequence[Row[*tuple[Any, ...]]] = self._run(statement).all()
        return rows

    def _bodies(self, statement: Select[*tuple[Any, ...]]) -> list[str]:
        """Return the first column of all rows."""
        return [row[0] for row in self._run(statement)]

    def _write(self, statement: Update | Delete, rows: Sequence[Fields] | None = None) -> int:
        """Run an UPDATE or a DELETE and return how many rows it met."""
        self._may_write()
        count: int = self._run(statement, rows).rowcount
        return count

    def _insert(self, table: Table, rows: Sequence[Fields]) -> None:
        """Add rows that are not there."""
        self._may_write()
        if rows:
            self._run(table.insert(), rows)

    def _add(self, table: Table, row: Fields, *unique: str) -> bool:
        """Add one row; False where one with these columns is there already."""
        self._may_write()
        statement = self._dialect_insert(table).on_conflict_do_nothing(index_elements=unique)
        return bool(self._run(statement.returning(table.c[unique[0]]), row).all())

    def _put(self, table: Table, rows: Sequence[Fields]) -> None:
        """Add or replace rows by the table's primary key; each row has all columns."""
        self._may_write()
        if not rows:
            return
        keys = [column.name for column in table.primary_key]
        insert = self._dialect_insert(table)
        values = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
        self._run(insert.on_conflict_do_update(index_elements=keys, set_=values), rows)

    def _document(self, table: Table, cls: type[Value], digest: str) -> Value:
        """Return the value that stands under its own digest. Raises NotFoundError."""
        known = self._shared.remembered.get(cls, digest)
        if known is not None:
            return known
        bodies = self._bodies(select(table.c.body).where(table.c.digest == digest).limit(1))
        if not bodies:
            raise NotFoundError(f"the record holds no {table.name.replace('_', ' ')} {digest}")
        return self._remember(table, cls, digest, bodies[0])

    def _remember(self, table: Table, cls: type[Value], digest: str, body: str) -> Value:
        value = from_text(cls, body, f"{table.name.replace('_', ' ')} {digest}")
        self._shared.remembered.put(cls, digest, value, len(body))
        return value

    def _remember_later(self, cls: type[Value], digest: str, value: Value, size_chars: int) -> None:
        self._new.append((cls, digest, value, size_chars))

    def _may_write(self) -> None:
        if not self.writable:
            raise OperationError(f"{self._shared.where}: this transaction only reads")

    def _dialect_insert(self, table: Table) -> Any:
        """Return the dialect's own INSERT, which knows ON CONFLICT; both spell it the same."""
        module = sqlite if self._connection.dialect.name == "sqlite" else postgresql
        return module.insert(table)


def chunks(items: Iterable[Value]) -> Iterable[list[Value]]:
    """Yield lists of at most `IN_ITEMS` items."""
    rest = iter(items)
    while chunk := list(islice(rest, IN_ITEMS)):
        yield chunk


def bodies_of(table: Table, column: Column[Any], value: object) -> Select[*tuple[Any, ...]]:
    """Return the SELECT of the bodies with that value in a column; of all where the value is ""."""
    statement = select(table.c.body)
    return statement if value == "" else statement.where(column == value)
