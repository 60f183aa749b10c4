"""The record's schema is brought up to date when it is opened, once, whoever opens it at the same time.

The revisions lie in `migrations/versions`. They are in one transaction with the number of the schema: a
migration that is interrupted has not begun. Values stand in the rows as JSON of `model`'s dataclasses, so a
change of a stored dataclass is a change of the schema, and needs a revision that brings the rows along.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text

from undercroft.errors import OperationError, StateError
from undercroft.store.fleet.engine import WAIT_S, WRITES, errors

HEAD = "0008"
"""The revision that this program reads and writes."""

_LOCK = 0x756E646572  # PostgreSQL's advisory lock of the migration
_PAUSE_S = 0.01


def migrate(engine: Engine, where: str) -> None:
    """Bring the database up to date.

    Raises:
        StateError: it is another program's, or of a newer Undercroft.
        OperationError: the database failed, or another migration does not end.
    """
    with _alone(engine), errors(where):
        with engine.connect() as connection:
            if _found(connection, where) == HEAD:
                return
        with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            found = _found(connection, where)
            if found and engine.dialect.name == "postgresql":
                # Whoever writes has this row: an agent of another host, which is of the old schema.
                connection.execute(text("SELECT number FROM log_head FOR UPDATE"))
            if found != HEAD:
                _upgrade(connection, found, where)


def _found(connection: Connection, where: str) -> str:
    """Return the revision of the database, "" for an empty one. Raises StateError for a foreign one."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return ""
    rows = (
        connection.execute(text("SELECT version_num FROM alembic_version")).all()
        if ("alembic_version" in tables and "log_head" in tables)
        else []
    )
    if len(rows) != 1:
        raise StateError(
            f"{where}: another program's database; does UNDERCROFT_FLEET_DATABASE name the right one?"
        )
    return str(rows[0][0])


def _upgrade(connection: Connection, found: str, where: str) -> None:
    """Apply the revisions that are missing."""
    from alembic import command  # noqa: PLC0415 - 100 ms, and as a rule nothing is to be done
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "undercroft.store.fleet:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found and found not in known:
        raise StateError(
            f"{where}: written by a newer Undercroft (schema {found}, this one knows {HEAD}): update "
            "Undercroft on this host, or name another database with UNDERCROFT_FLEET_DATABASE"
        )
    command.upgrade(config, HEAD)


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold a lock beside a SQLite file: two that turn WAL on at once would fail, not wait."""
    if engine.dialect.name != "sqlite":
        yield
        return
    path = f"{engine.url.database}.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    try:
        _acquire(lock, path)
        yield
    finally:
        os.close(lock)


def _acquire(lock: int, path: str) -> None:
    ends = time.monotonic() + WAIT_S
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > ends:
                raise OperationError(f"{path}: held by another process for {WAIT_S} s") from error
            time.sleep(_PAUSE_S)
