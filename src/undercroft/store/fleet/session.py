"""One transaction: the statements that the parts of a record are made of, and the rule that binds them.

A statement that failed ends the transaction, whatever its caller makes of the error: `finish` then refuses,
and nothing is kept.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, TypeVar, cast

from sqlalchemy import Column, Connection, Executable, Row, Select, Table, Update, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Delete

from undercroft.errors import NotFoundError, OperationError
from undercroft.store.fleet.codec import Remembered, from_text
from undercroft.store.fleet.engine import errors

Value = TypeVar("Value")
Fields = Mapping[str, object]

IN_ITEMS = 500
"""Of one `IN (...)`."""

VALUE = "wanted"
"""The parameter of statements that are made once, as making one takes longer than running it."""


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

    def _all(
        self, statement: Select[*tuple[Any, ...]], values: Fields | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        rows: Sequence[Row[*tuple[Any, ...]]] = self._run(statement, values).all()
        return rows

    def _about(
        self,
        statement: Select[*tuple[Any, ...]],
        column: Column[Any],
        values: Collection[str] | None,
    ) -> list[Row[*tuple[Any, ...]]]:
        """Return all rows that have one of these values in a column; with None, all."""
        if values is None:
            return list(self._all(statement))
        found: list[Row[*tuple[Any, ...]]] = []
        for some in chunks(sorted(values)):
            found += self._all(statement.where(column.in_(some)))
        return found

    def _bodies(self, statement: Select[*tuple[Any, ...]], values: Fields | None = None) -> list[str]:
        """Return the first column of all rows."""
        return [row[0] for row in self._run(statement, values)]

    def _bodies_where(self, column: Column[Any], value: object) -> list[str]:
        """Return the bodies of the column's table that have this value in it."""
        return self._bodies(_bodies_by(column), {VALUE: value})

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
        return bool(self._run(_adding(table, unique, self._connection.dialect.name), row).all())

    def _put(self, table: Table, rows: Sequence[Fields]) -> None:
        """Add or replace rows by the table's primary key; each row has all columns."""
        self._may_write()
        if rows:
            self._run(_putting(table, self._connection.dialect.name), rows)

    def _document(self, table: Table, cls: type[Value], digest: str) -> Value:
        """Return the value that stands under its own digest. Raises NotFoundError."""
        known = self._shared.remembered.get(cls, digest)
        if known is not None:
            return known
        bodies = self._bodies_where(table.c.digest, digest)
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


def _insert_of(table: Table, dialect: str) -> Any:
    """Return the dialect's own INSERT, which knows ON CONFLICT; both spell it the same."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


@cache
def _adding(table: Table, unique: tuple[str, ...], dialect: str) -> Executable:
    statement = _insert_of(table, dialect).on_conflict_do_nothing(index_elements=unique)
    return cast("Executable", statement.returning(table.c[unique[0]]))


@cache
def _putting(table: Table, dialect: str) -> Executable:
    insert = _insert_of(table, dialect)
    keys = [column.name for column in table.primary_key]
    values = {column.name: insert.excluded[column.name] for column in table.c if column.name not in keys}
    return cast("Executable", insert.on_conflict_do_update(index_elements=keys, set_=values))


@cache
def _bodies_by(column: Column[Any]) -> Select[*tuple[Any, ...]]:
    return select(column.table.c.body).where(column == bindparam(VALUE))


def chunks(items: Iterable[Value]) -> Iterable[list[Value]]:
    """Yield lists of at most `IN_ITEMS` items."""
    rest = iter(items)
    while chunk := list(islice(rest, IN_ITEMS)):
        yield chunk


def bodies_of(table: Table, column: Column[Any], value: object) -> Select[*tuple[Any, ...]]:
    """Return the SELECT of the bodies with that value in a column; of all where the value is ""."""
    statement = select(table.c.body)
    return statement if value == "" else statement.where(column == value)
