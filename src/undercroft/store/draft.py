"""The copy of the database that an import works on until it takes the file's place.

Guarantees: a change is in the copy as a whole or not at all, and one that fails takes nothing from those
before it; readers see nothing of the copy before it is published, whole and on the disk; what a killed
import left is swept away and never read.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable

from undercroft.errors import OperationError
from undercroft.store import schema
from undercroft.store.files import copy_file, publish

PUBLISH_INTERVAL_S = 10.0
"""How old a draft grows before the next change publishes it: what kill -9 may cost."""
LARGE_RECORDS = 1000
"""A change of that many is published at once: doing it again would cost more than a copy of the file."""

_CACHE_KIB = 64 << 10


class Draft:
    """A copy of the database at `path`, brought up to date.

    `connection` reads and writes it. `sqlite3.Error` and `OSError` pass through unless said otherwise.
    """

    def __init__(self, path: str) -> None:
        sweep(path)
        self._path = path
        self._copy = _copy_of(path)
        self._begun_s = time.monotonic()
        self._changed: list[str] = []
        self.usable = True
        try:
            copy_file(path, self._copy)
            self.connection = sqlite3.connect(self._copy, isolation_level=None)
            # A crash discards the copy: nothing in it waits for the disk before `publish`.
            self.connection.execute("PRAGMA synchronous = OFF")
            self.connection.execute("PRAGMA temp_store = MEMORY")
            self.connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            schema.migrate(self.connection, schema.version_of(self.connection, path))
        except BaseException:
            self.discard()
            raise

    def apply(self, change: Callable[[sqlite3.Connection], int], what: str) -> bool:
        """Make a change in one transaction; when it raises, the copy is as it was before.

        Args:
            change: returns how many records it wrote; its errors pass through.
            what: its name, for the message when the copy is lost later.

        Returns:
            Whether it is time to publish.

        Raises:
            OperationError: the change failed and could not be taken back; the copy is gone then.
        """
        self.connection.execute("BEGIN")
        try:
            records = change(self.connection)
            self.connection.execute("COMMIT")
        except BaseException:
            self._take_back()
            raise
        self._changed.append(what)
        return records >= LARGE_RECORDS or time.monotonic() - self._begun_s >= PUBLISH_INTERVAL_S

    def publish(self) -> None:
        """Put the copy in the file's place, if anything was changed. The draft is used up, even on errors.

        Raises:
            OperationError: the disk failed; the message names the changes that are lost.
        """
        try:
            if self._changed:
                self.connection.close()
                publish(self._copy, self._path)
        except (OSError, sqlite3.Error) as error:
            raise self._lost(error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the copy. Discarding twice does nothing."""
        self.usable = False
        with contextlib.suppress(AttributeError):  # it failed before there was a connection
            self.connection.close()
        sweep(self._path)

    def _take_back(self) -> None:
        try:
            if self.connection.in_transaction:  # SQLite itself has rolled back after some errors of the disk
                self.connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self.discard()
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> OperationError:
        lost = ", ".join(self._changed) or "nothing else"
        return OperationError(f"{self._copy}: {error}; lost with it, to be imported again: {lost}")


def sweep(path: str) -> None:
    """Remove what an import into the database at `path` left when it was killed. Raises OSError.

    The journal goes first: it must never meet another copy, which SQLite would then "roll back" with it.
    """
    for leftover in (f"{_copy_of(path)}-journal", _copy_of(path)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(leftover)


def _copy_of(path: str) -> str:
    return f"{path}.new"
