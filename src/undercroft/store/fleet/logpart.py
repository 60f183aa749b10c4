"""The audit log's part of a record: entries are gathered, and written with the head when the block ends.

On PostgreSQL the head's row is locked when a transaction begins, on SQLite the whole file is: there is one
writer, so the chain has one end.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Text, column, select, table

from undercroft.assurance.auditlog import make_entry
from undercroft.errors import OperationError
from undercroft.model.audit import AuditEntry
from undercroft.model.schema import Json
from undercroft.store.fleet import tables
from undercroft.store.fleet.logged import Line
from undercroft.store.fleet.migrate import HEAD
from undercroft.store.fleet.session import Session

_HEAD = select(tables.log_head.c.log, tables.log_head.c.number, tables.log_head.c.digest)
_REVISION = select(column("version_num", Text)).select_from(table("alembic_version"))
_ENTRY = tables.log_entry.c
_COLUMNS = (
    _ENTRY.number,
    _ENTRY.at,
    _ENTRY.kind,
    _ENTRY.subject,
    _ENTRY.body,
    _ENTRY.previous,
    _ENTRY.digest,
)


class LogPart(Session):
    """The methods of the log."""

    _head: tuple[str, int, str] | None = None
    _pending: tuple[AuditEntry, ...] = ()

    def lock(self) -> None:
        """Wait until this transaction is the only one that writes.

        Raises OperationError where the record is another version's by now: the rows that this program writes
        would be damaged to the one that has brought it up to date.
        """
        self._head = self._read_head(lock=True)
        found = [row[0] for row in self._all(_REVISION)]
        if found != [HEAD]:
            raise OperationError(
                f"{self._shared.where}: a newer Undercroft has brought it from schema {HEAD} to "
                f"{', '.join(map(str, found))}: update Undercroft on this host; systemctl restart undercroft"
            )

    def log(self, kind: str, subject: str, body: Mapping[str, Json], at: datetime) -> AuditEntry:
        """See `ports.records.Record.log`."""
        return self._append([Line(kind, subject, body, at)])[0]

    def log_entries(
        self, after: int = 0, limit: int = 1000, subject: str = "", *, last: bool = False
    ) -> tuple[AuditEntry, ...]:
        """See `ports.records.Record.log_entries`."""
        self._flush()
        order = _ENTRY.number.desc() if last else _ENTRY.number
        statement = select(*_COLUMNS).where(_ENTRY.number > after).order_by(order).limit(limit)
        if subject:
            statement = statement.where(_ENTRY.about == subject)
        try:
            found = [
                AuditEntry(number, tables.moment(at), kind, name, body, previous, digest)
                for number, at, kind, name, body, previous, digest in self._all(statement)
            ]
            return tuple(reversed(found) if last else found)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:  # SQLite takes any type
            raise OperationError(
                f"{self._shared.where}: an entry of the audit log above {after} was edited: {error}"
            ) from error

    def log_head(self) -> tuple[str, int, str]:
        """See `ports.records.Record.log_head`."""
        if self._head is None:
            self._head = self._read_head()
        return self._head

    def finish(self) -> None:
        """Check as `Session.finish`, then write the log's new entries."""
        super().finish()
        self._flush()

    def _append(self, lines: list[Line]) -> list[AuditEntry]:
        """Append entries, in order."""
        self._may_write()
        name, number, digest = self.log_head()
        entries: list[AuditEntry] = []
        for line in lines:
            entries.append(make_entry(number + 1, digest, *line))
            number, digest = entries[-1].number, entries[-1].digest
        self._head = name, number, digest
        self._pending = (*self._pending, *entries)
        return entries

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = [
            {
                "number": entry.number,
                "at": tables.micros(entry.at),
                "kind": entry.kind,
                "subject": entry.subject,
                "about": entry.subject,
                "body": entry.body,
                "previous": entry.previous,
                "digest": entry.digest,
            }
            for entry in self._pending
        ]
        self._pending = ()
        self._insert(tables.log_entry, rows)
        _, number, digest = self.log_head()
        self._write(tables.log_head.update().values(number=number, digest=digest))

    def _read_head(self, *, lock: bool = False) -> tuple[str, int, str]:
        rows = self._all(_HEAD.with_for_update() if lock else _HEAD)
        if len(rows) != 1:
            raise OperationError(
                f"{self._shared.where}: the audit log has {len(rows)} heads instead of one; somebody changed "
                "the database past Undercroft: undercroft audit verify"
            )
        log, number, digest = rows[0]
        return str(log), int(number), str(digest)
