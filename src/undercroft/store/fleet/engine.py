"""From a URL to an engine of SQLAlchemy, with what each database needs to keep its word.

SQLite: WAL, so that readers wait for nobody; `synchronous=FULL`, so that a commit is on the disk when it
returns; a transaction that writes takes the lock at its beginning. The file is for its owner only.

PostgreSQL: `synchronous_commit=on` whatever the server's default; connections are tried before use, so a
server that was restarted costs nothing.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError

DEFAULT_PATH = "/var/lib/undercroft/fleet.db"
WAIT_S = 30
"""How long a transaction waits for another one's end."""

WRITES = "undercroft_writes"
"""Execution option of a connection whose transaction may write."""

_CONNECT_TIMEOUT_S = 10
_POSTGRESQL = {"postgresql", "postgres", "postgresql+psycopg"}


def parse_url(text: str) -> URL:
    """Return the URL of a database.

    Args:
        text: a path, "" for the default one, `sqlite:///PATH` or `postgresql://USER@HOST/NAME`.

    Raises:
        InputError: it is none of these.
    """
    if "://" not in text:
        return URL.create("sqlite", database=os.path.abspath(text or DEFAULT_PATH))
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise InputError(
            "the record's database URL cannot be read: give a path or postgresql://..."
        ) from error
    if url.drivername in _POSTGRESQL:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database:
        return URL.create("sqlite", database=os.path.abspath(url.database))
    raise InputError(f"{url.drivername}: no database for the record; give a path or postgresql://...")


def place(url: URL) -> str:
    """Return what messages call a database: its path, or its URL without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def connect(url: URL) -> Engine:
    """Return the engine; nothing is connected yet."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": WAIT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    settings = f"-c lock_timeout={WAIT_S * 1000} -c synchronous_commit=on -c timezone=UTC"
    arguments = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": "undercroft",
        "options": settings,
    }
    try:
        return create_engine(url, connect_args=arguments, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise OperationError(
            f"{error.name} is not installed: pip install 'undercroft[fleet]', or keep the record in a file"
        ) from error


def create_file(path: str, *, allowed: bool) -> None:
    """See to it that the file of a SQLite database is there and is for its owner only.

    Raises:
        NotFoundError: it is not there, and may not be made.
        DeniedError: no permission.
        OperationError: the disk failed.
    """
    try:
        if not allowed and not os.path.exists(path):
            raise NotFoundError(
                f"there is no record of the fleet at {path}: undercroft up makes it, and "
                "UNDERCROFT_FLEET_DATABASE names another"
            )
        os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
        if stat.S_ISLNK(_mode(path)):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        # Never one that is there: closing it would take away the locks that this process has on it already.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, flags, 0o600))
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except PermissionError as error:
        raise DeniedError(
            f"{path}: {error.strerror}; the record is its owner's alone: run this as the agent's user"
        ) from error
    except OSError as error:
        raise OperationError(
            f"{path}: {error.strerror}; name another place with UNDERCROFT_FLEET_DATABASE"
        ) from error


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def errors(where: str) -> Iterator[None]:
    """Turn what the database reports into OperationError."""
    try:
        yield
    except DBAPIError as error:
        cause = " ".join(str(error.orig).split())
        raise OperationError(
            f"{where}: {cause}; nothing of this transaction is on record, and it may be tried again"
        ) from error
    except SQLAlchemyError as error:
        raise OperationError(f"{where}: {error}; nothing of this transaction is on record") from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where this program says so, see _begin_sqlite
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {setting}").close()


def _begin_sqlite(connection: Connection) -> None:
    """Begin with the lock where the transaction may write: to get it later could fail at once."""
    writes = connection.get_execution_options().get(WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
