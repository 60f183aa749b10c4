"""The database as a file: one importer at a time, a copy to work on, and its durable renaming."""

import fcntl
import os
import shutil

from undercroft.errors import DeniedError, NotFoundError, OperationError, StateError

_MAGIC = b"SQLite format 3\0"
MODE = 0o644
"""Of a new database: advisories are public, and every user who may read an image may scan it."""


def locked(path: str) -> int:
    """Return a descriptor that holds the importers' lock; the kernel lets go of it with the process."""
    lock = f"{path}.lock"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except PermissionError as error:
        raise DeniedError(
            f"{lock}: {error.strerror}; advisories are imported by the user who owns the database"
        ) from error
    except OSError as error:
        raise OperationError(
            f"{lock}: {error.strerror}; name another place with UNDERCROFT_DATABASE"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateError(f"another import into {path} is running; wait until it is done") from error
    return descriptor


def check_readable(path: str) -> None:
    """Raise where the file at `path` cannot be an advisory database that this user reads.

    Raises:
        NotFoundError: there is no such file.
        DeniedError: this user may not read it.
        StateError: it is a directory, or another program's file.
        OperationError: the disk failed.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise NotFoundError(f"there is no advisory database at {path}: undercroft feeds update") from None
    except PermissionError as error:
        raise DeniedError(
            f"{path}: no permission to read it; `chmod a+r` it, advisories are public"
        ) from error
    except IsADirectoryError as error:
        raise StateError(f"{path}: a directory; UNDERCROFT_DATABASE names the file itself") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    if start != _MAGIC[: len(start)] or (start and len(start) < len(_MAGIC)):
        raise StateError(f"{path}: not an advisory database; does UNDERCROFT_DATABASE name the right file?")


def copy_file(path: str, copy: str) -> None:
    """Make `copy` a copy of the file at `path`, or an empty file where there is none."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(copy, flags, MODE), "wb") as target:
        os.fchmod(target.fileno(), os.stat(path).st_mode & 0o777 if os.path.exists(path) else MODE)
        if os.path.exists(path):
            with open(path, "rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)


def publish(copy: str, path: str) -> None:
    """Rename `copy` to `path`, durably: first the data, then the name."""
    _synchronize(copy)
    os.replace(copy, path)
    _synchronize(os.path.dirname(path))


def _synchronize(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def uri_path(path: str) -> str:
    """Return `path` as it stands in a file: URI."""
    safe = b"/-_.~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return "".join(chr(byte) if byte in safe else f"%{byte:02x}" for byte in os.fsencode(path))
