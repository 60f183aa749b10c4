"""The file that holds the advisories: opened for reading, or for replacing what a feed says.

Guarantees:
1. A published file never changes. Imports work on a copy (see `draft`), each feed in a transaction of its
   own, and the copy is renamed over the old file once it is whole and on the disk: after a large feed, at
   the first change after some seconds, on closing. Whatever interrupts an import (a bad feed, a full disk,
   kill -9) leaves the old data, or that and the feeds before it; readers never wait.
2. Reading needs read permission on the file and nothing else: no lock, no journal, no writable folder.
3. One importer at a time: the second is told so.
4. A feed's serial never goes back, and an edition from the future is refused.

Why not SQLite's own journals: with WAL a user without write permission on the folder cannot create the
`-shm` file and so cannot read; with a rollback journal the same user cannot roll back what a killed import
of root left, and a large import locks readers out once it spills its cache. Since the file never changes,
it is opened as `immutable`, which needs neither.

    >>> with AdvisoryDatabase(path, writable=True) as database:
    ...     database.replace_feed(feed.header, feed.records, fetched_at)
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

from undercroft.advisories.knowledge import Edition, Knowledge
from undercroft.advisories.records import ChangelogEntry, FeedHeader, Record
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.finding import FeedStatus
from undercroft.model.inventory import Inventory
from undercroft.store import draft, query, schema
from undercroft.store.files import check_readable, locked, uri_path
from undercroft.store.rows import EDITION_COLUMNS, RowWriter, edition_row

MAX_CLOCK_SKEW = timedelta(days=1)
"""How far a publisher's clock may be ahead of ours."""


class AdvisoryDatabase:
    """The local database of advisories. A context manager; one thread at a time.

    Args:
        path: the file.
        writable: allow imports; creates the file and its folder, and brings an older file up to date.

    Raises:
        NotFoundError: there is no such file, and `writable` is False.
        DeniedError: no permission.
        StateError: the file is another program's, of a newer version, or (only for reading) of an older
            one; another import is running.
        OperationError: the file is damaged, or the disk failed.
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = False) -> None:
        self.path = os.path.realpath(path)
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._draft: draft.Draft | None = None
        try:
            if writable:
                self._lock = locked(self.path)
                self._prepare()
            self._open()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return the database itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the database, as `close` does; the feeds that are whole are published after an error too."""
        self.close()

    def close(self) -> None:
        """Publish what was imported, close the file and let other importers in. Closing twice does nothing.

        Raises:
            OperationError: the disk failed; the message names the feeds that are lost.
        """
        try:
            self._publish()
        finally:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def feeds(self, now: datetime) -> tuple[FeedStatus, ...]:
        """Return all feeds sorted by name, stale or not at `now`. Raises OperationError."""
        with self._errors():
            return tuple(edition.status(now) for edition in query.editions(self._reader).values())

    def knowledge(self, release: str, inventory: Inventory) -> Knowledge:
        """Return every record that can change the answer for `inventory`. Raises OperationError."""
        with self._errors():
            return query.knowledge(self._reader, release, inventory)

    def replace_feed(self, header: FeedHeader, records: Iterable[Record], fetched_at: datetime) -> bool:
        """Put one edition in place of the one before it, as a whole or not at all.

        Readers see it once it is published, see guarantee 1.

        Args:
            header: of the edition; its times have a time zone.
            records: taken once; an error that it raises passes through, and nothing has changed.
            fetched_at: now, with a time zone.

        Returns:
            False when this edition (its serial) is already there, and then nothing was done.

        Raises:
            StateError: the serial goes back, or the edition is from the future.
            InputError: a text in it is not Unicode.
            OperationError: the disk is full, no permission, the database is damaged.
        """
        if header.published_at is not None and header.published_at > fetched_at + MAX_CLOCK_SKEW:
            raise StateError(
                f"{header.name}: its edition is dated {header.published_at:%Y-%m-%d %H:%M}, which is in the "
                "future; check this machine's clock and where the feed comes from"
            )
        held = self._edition(header.name)
        if held is not None and header.serial < held.header.serial:
            raise StateError(
                f"{header.name}: its edition {header.serial} is older than {held.header.serial}, which is "
                "imported already; the old data stays"
            )
        if held is not None and header.serial == held.header.serial:
            return False

        def replace(connection: sqlite3.Connection) -> int:
            _delete(connection, header.name)
            feed = _insert(connection, header, fetched_at)
            writer = RowWriter(connection, feed)
            writer.write(records)
            connection.execute("UPDATE feed SET records = ? WHERE id = ?", (writer.records, feed))
            return writer.records

        self._change(replace, header.name)
        return True

    def add_changelogs(
        self, header: FeedHeader, entries: Iterable[ChangelogEntry], fetched_at: datetime
    ) -> None:
        """Add entries to a feed of changelogs, which only ever grows, as a whole or not at all.

        Args:
            header: of the feed as it will be; its serial takes the place of the former one.
            entries: of changelogs that are not there yet, see `changelog_versions`.
            fetched_at: now, with a time zone.

        Raises: as `replace_feed`.
        """
        held = self._edition(header.name)
        if held is not None and header.serial < held.header.serial:
            raise StateError(f"{header.name}: {header.serial} is older than {held.header.serial}")

        def add(connection: sqlite3.Connection) -> int:
            feed = _feed_id(connection, header.name)
            feed = _insert(connection, header, fetched_at) if feed is None else feed
            writer = RowWriter(connection, feed)
            writer.write(entries)
            connection.execute(
                "UPDATE feed SET serial = ?, fetched_at = ?, records = records + ? WHERE id = ?",
                (header.serial, fetched_at.isoformat(), writer.records, feed),
            )
            return writer.records

        self._change(add, header.name)

    def confirm_feed(self, name: str, fetched_at: datetime) -> None:
        """Note that the publisher still offers the edition that is here; an age from the import starts anew.

        Raises: as `replace_feed`.
        """

        def confirm(connection: sqlite3.Connection) -> int:
            connection.execute(
                "UPDATE feed SET fetched_at = ? WHERE name = ?", (fetched_at.isoformat(), name)
            )
            return 1

        self._change(confirm, name)

    def changelog_versions(self, name: str) -> frozenset[tuple[str, str]]:
        """Return the source versions whose changelogs the feed holds. Raises OperationError."""
        with self._errors():
            rows = self._reader.execute(
                "SELECT DISTINCT entry.source, entry.branch FROM changelog_entry AS entry "
                "JOIN feed ON feed.id = entry.feed WHERE feed.name = ?",
                (name,),
            )
            return frozenset((source, version) for source, version in rows)

    def remove_feed(self, name: str) -> None:
        """Forget a feed. Raises NotFoundError when it is not there, else as `replace_feed`."""
        if self._edition(name) is None:
            raise NotFoundError(f"{self.path} holds no feed {name}")

        def remove(connection: sqlite3.Connection) -> int:
            _delete(connection, name)
            return 1

        self._change(remove, name)

    def _edition(self, name: str) -> Edition | None:
        with self._errors():
            return query.edition_named(self._reader, name)

    @property
    def _reader(self) -> sqlite3.Connection:
        """The draft's connection while there is a draft: an importer sees what it imported."""
        if self._connection is None:
            raise ValueError("the advisory database is closed")
        return self._connection if self._draft is None else self._draft.connection

    def _open(self) -> None:
        if self._connection is not None:
            self._connection.close()
        check_readable(self.path)
        with self._errors():
            self._connection = _reader(self.path)
            version = schema.version_of(self._connection, self.path)
        if version < schema.VERSION:
            raise StateError(
                f"{self.path} was written by an older Undercroft (schema {version}, this one reads "
                f"{schema.VERSION}): undercroft feeds update"
            )

    def _prepare(self) -> None:
        """Sweep up after a killed import; create the file, or bring an older one up to date."""
        with self._errors():
            draft.sweep(self.path)
        if os.path.exists(self.path):
            check_readable(self.path)
            with self._errors(), contextlib.closing(_reader(self.path)) as connection:
                if schema.version_of(connection, self.path) == schema.VERSION:
                    return
        self._change(lambda _: 0, "the database")
        self._publish()

    def _change(self, change: Callable[[sqlite3.Connection], int], what: str) -> None:
        """Apply `change`, which returns how many records it wrote, to the draft (guarantee 1)."""
        if self._lock is None:
            raise ValueError("the advisory database was opened for reading")
        try:
            with self._errors():
                if self._draft is None:
                    self._draft = draft.Draft(self.path)
                due = self._draft.apply(change, what)
        except UnicodeEncodeError as error:
            raise InputError(f"{what}: holds a text that is not Unicode; the old data stays") from error
        finally:
            if self._draft is not None and not self._draft.usable:
                self._draft = None
        if due:
            self._publish()
            self._open()

    def _publish(self) -> None:
        if self._draft is not None:
            done, self._draft = self._draft, None
            with self._errors():
                done.publish()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what the disk and SQLite report into OperationError."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OperationError(
                f"{self.path}: {error}; if this stays, delete the file and run undercroft feeds update"
            ) from error
        except OSError as error:
            raise OperationError(f"{error.filename or self.path}: {error.strerror}") from error


def _reader(path: str) -> sqlite3.Connection:
    """Return a connection that takes no lock and looks for no journal (guarantee 2)."""
    connection = sqlite3.connect(f"file:{uri_path(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _feed_id(connection: sqlite3.Connection, name: str) -> int | None:
    row = connection.execute("SELECT id FROM feed WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def _insert(connection: sqlite3.Connection, header: FeedHeader, fetched_at: datetime) -> int:
    """Add a feed without records and return its row id."""
    marks = ", ".join("?" * len(EDITION_COLUMNS.split(",")))
    insert = f"INSERT INTO feed ({EDITION_COLUMNS}) VALUES ({marks})"  # noqa: S608 - constants
    return connection.execute(insert, edition_row(header, fetched_at, 0)).lastrowid or 0


def _delete(connection: sqlite3.Connection, name: str) -> None:
    feed = _feed_id(connection, name)
    if feed is None:
        return
    for table in schema.FEED_TABLES:
        connection.execute(f"DELETE FROM {table} WHERE feed = ?", (feed,))  # noqa: S608 - a constant's names
    connection.execute("DELETE FROM feed WHERE id = ?", (feed,))
