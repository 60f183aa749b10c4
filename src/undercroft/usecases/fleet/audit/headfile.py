"""The signed heads as a file of JSON lines, and the key that signs them.

An append is on the disk when it returns. A line without its end was never acknowledged, and does not count.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from json import loads
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from undercroft.assurance.auditlog import canonical
from undercroft.errors import DeniedError, InputError, NotFoundError, OperationError, UndercroftError
from undercroft.model.audit import SignedHead
from undercroft.model.schema import decode, encode

MAX_LINE_BYTES = 4096
MAX_HEADS = 1_000_000
MAX_ARCHIVES = 100
_KEY_BYTES = 32


def own_key(path: Path) -> Ed25519PrivateKey:
    """Return the signing key; made at first use, for its owner only.

    Raises:
        DeniedError: no permission.
        StateError, InputError: the file is no such key.
        OperationError: the disk failed.
    """
    with _disk(path):
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        return _key_from(path)


def existing_key(path: Path) -> Ed25519PrivateKey:
    """Return the signing key. Raises NotFoundError where there is none, else as `own_key`."""
    with _disk(path):
        return _key_from(path)


def read_heads(path: Path) -> tuple[SignedHead, ...]:
    """Return the heads of a file.

    Raises:
        NotFoundError: there is no such file.
        InputError: a line of it is no head.
        DeniedError: no permission.
        OperationError: the disk failed.
    """
    heads: list[SignedHead] = []
    with _disk(path), path.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if not line.endswith(b"\n") and len(line) < MAX_LINE_BYTES:
                break
            heads.append(decode_head(line, f"{path}, line {len(heads) + 1}"))
            if len(heads) > MAX_HEADS:
                raise InputError(f"{path}: more than {MAX_HEADS:,} heads")
    return tuple(heads)


def decode_head(untrusted_line: bytes, place: str) -> SignedHead:
    """Return the head of one line. Raises InputError naming `place`."""
    try:
        return decode(SignedHead, loads(untrusted_line), place)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not a signed head, which is one JSON object") from error


class HeadFile:
    """The file while it is locked: its last head, and a way to add one."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def last(self) -> SignedHead | None:
        """Return the head that was added last, None for none. Raises InputError where it is damaged."""
        size = os.fstat(self._descriptor).st_size
        start = max(0, size - 2 * MAX_LINE_BYTES)
        lines = os.pread(self._descriptor, size - start, start).split(b"\n")[:-1]
        if not lines:
            return None
        return decode_head(lines[-1], f"{self._path}, last line")

    def append(self, head: SignedHead) -> None:
        """Add a head, durably; half a line of an interrupted append goes."""
        size = os.fstat(self._descriptor).st_size
        start = max(0, size - MAX_LINE_BYTES)
        whole = start + os.pread(self._descriptor, size - start, start).rfind(b"\n") + 1
        os.ftruncate(self._descriptor, whole)
        line = canonical(encode(head)).encode("ascii") + b"\n"
        written = os.pwrite(self._descriptor, line, whole)
        if written != len(line):
            raise OperationError(f"{self._path}: the disk is full: a head was not written")
        os.fsync(self._descriptor)


@contextmanager
def locked_heads(path: Path) -> Iterator[HeadFile]:
    """Open the file of heads for one writer; makes it where there is none.

    Raises:
        DeniedError: no permission.
        OperationError: the disk failed.
    """
    with _disk(path):
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        is_new = not path.exists()
        descriptor = _locked(path)
        try:
            if is_new:
                _keep_name(path)
            yield HeadFile(path, descriptor)
        finally:
            os.close(descriptor)


def archive(path: Path, at: datetime) -> Path:
    """Give the file of heads a second name beside itself, durably, and return that; the caller locks it.

    Nothing that was archived is ever replaced. A try that was cut short leaves one name more, no loss.

    Raises: as `locked_heads`.
    """
    stem = f"{path.stem}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = (f"{stem}{f'-{number}' if number else ''}{path.suffix}" for number in range(MAX_ARCHIVES))
    with _disk(path):
        for name in names:
            try:
                os.link(path, path.with_name(name), follow_symlinks=False)
            except FileExistsError:
                continue
            _keep_name(path)
            return path.with_name(name)
    raise OperationError(f"{path}: archived {MAX_ARCHIVES} times within this second; try again")


def begin_anew(path: Path, head: SignedHead) -> None:
    """Put a file with this one head in the place of the file of heads, durably; the caller locks that.

    Raises: as `locked_heads`; the old file is in its place then.
    """
    with _disk(path):
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(draft, flags, 0o600)
            try:
                HeadFile(draft, descriptor).append(head)
            finally:
                os.close(descriptor)
            draft.replace(path)
            _keep_name(path)
        finally:
            draft.unlink(missing_ok=True)


def _locked(path: Path) -> int:
    """Return an open and locked file that still has its name: another may have begun it anew meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _make_key(path: Path) -> None:
    """Make a key, under its name only once it is whole; where two do so at once, the first one's counts."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, Ed25519PrivateKey.generate().private_bytes_raw().hex().encode() + b"\n")
        os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _keep_name(path)
    finally:
        os.close(descriptor)
        draft.unlink()


def _key_from(path: Path) -> Ed25519PrivateKey:
    with path.open("rb") as file:
        text = file.read(MAX_LINE_BYTES)
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(text.decode("ascii").strip()))
    except ValueError as error:
        raise InputError(
            f"{path}: not a signing key, which is {_KEY_BYTES} bytes in hexadecimal; put it back from a copy"
        ) from error


def _keep_name(path: Path) -> None:
    """Make a new file's name durable."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except UndercroftError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise DeniedError(f"{path}: {error.strerror}; it is the agent's own") from error
    except OSError as error:
        raise OperationError(f"{path}: {error.strerror}") from error
