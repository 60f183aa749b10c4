"""Files that are replaced as a whole, and read within limits without following links."""

import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.model.schema import Json

MAX_NOTE_BYTES = 1 << 20
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def write_file(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file as a whole, durably. Raises OSError; the old file stands then."""
    # A round and a start may write one machine's decision at once, each in a thread of its own.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        with open(
            temporary, "wb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, mode)
        ) as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def json_bytes(value: Json) -> bytes:
    """Return a value as compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def loaded(path: Path, limit_bytes: int) -> dict[str, object]:
    """Return the JSON object in a file. Raises NotFoundError, InputError, OperationError."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
            untrusted = file.read(limit_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
    if len(untrusted) > limit_bytes:
        raise InputError(f"{path}: more than {limit_bytes} bytes")
    try:
        value = json.loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON object expected")
    return value


def checked_uuid(untrusted: str) -> str:
    """Return a machine's UUID, which is a plain name then. Raises InputError."""
    if not UUID.fullmatch(untrusted):
        raise InputError(f"{untrusted[:64]!r} is no machine's UUID in lower case")
    return untrusted


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError into OperationError, or StateError where something is in the way."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise StateError(f"{error.filename or path}: {error.strerror}: move it away") from error
        raise OperationError(f"{error.filename or path}: {error.strerror}") from error
