"""The spool: a private folder of files that are being, or have been, downloaded.

A file's name in it is the digest of its address, so no name from outside becomes a path. `NAME.part` grows
while it is fetched, `NAME.json` beside it holds the server's validators, and `NAME` is whole.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

from undercroft.errors import InputError, OperationError
from undercroft.ports.downloader import Download, Wanted

MAX_UNUSED_S = 14 * 86_400


@dataclass(frozen=True, slots=True)
class Validators:
    """What a server says of the edition of a file: RFC 9110, section 8.8."""

    etag: str = ""
    last_modified: str = ""

    @property
    def if_range(self) -> str:
        """The value of If-Range, "" where neither validator is strong enough to join two halves by."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class SpooledFile:
    """One address's place in the spool."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        name = hashlib.sha256(wanted.url.encode("utf-8", "surrogateescape")).hexdigest()[:40]
        self._wanted = wanted
        self.path = folder / name
        self._part = folder / f"{name}.part"
        self._meta = folder / f"{name}.json"

    def existing(self) -> Download | None:
        """Return the whole file if it is here and has the wanted digest."""
        if self._wanted.sha256 and self.path.is_file() and _sha256(self.path) == self._wanted.sha256:
            os.utime(self.path)  # `prune` keeps what is in use
            return self._download(self._wanted.sha256, self.validators())
        return None

    def unused(self) -> Download | None:
        """Return a whole file that an earlier run fetched and did not get to use, digest unverified."""
        if self._wanted.sha256 or self._part.exists() or not self.path.is_file():
            return None
        return self._download(_sha256(self.path), self.validators())

    def validators(self) -> Validators:
        """Return the validators of what is here; empty ones when they are missing or unreadable."""
        try:
            return Validators(**json.loads(self._meta.read_text()))
        except (OSError, ValueError, TypeError):
            return Validators()

    def start(self, validators: Validators) -> None:
        """Begin another edition: the validators are no longer those of a whole file that is here."""
        self.path.unlink(missing_ok=True)
        self._meta.write_text(json.dumps(asdict(validators)))

    @contextmanager
    def growing(self) -> Iterator[BinaryIO]:
        """Open the part for appending, alone. Raises OperationError when another process is at it."""
        with self._part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OperationError(
                    f"{self._wanted.url}: another process downloads it; wait for it"
                ) from error
            yield file

    def part_bytes(self) -> int:
        """Return how much has arrived so far."""
        return self._part.stat().st_size if self._part.exists() else 0

    def drop_part(self) -> None:
        """Remove what has arrived so far."""
        self._part.unlink(missing_ok=True)

    def forget_part(self) -> None:
        """Remove what has arrived so far, and its validators."""
        self.drop_part()
        self._meta.unlink(missing_ok=True)

    def finish(self) -> Download:
        """Verify the part, make it the whole file and return it. Raises InputError for another digest."""
        sha256 = _sha256(self._part)
        if self._wanted.sha256 not in {"", sha256}:
            raise InputError(
                f"{self._wanted.url}: its SHA256 is {sha256}, the signed index says {self._wanted.sha256}; "
                "the mirror is being updated, or was tampered with: try again later or use another one"
            )
        os.replace(self._part, self.path)
        return self._download(sha256, self.validators())

    def _download(self, sha256: str, validators: Validators) -> Download:
        return Download(
            path=self.path,
            size_bytes=self.path.stat().st_size,
            sha256=sha256,
            etag=validators.etag,
            last_modified=validators.last_modified,
            modified_at=_moment(validators.last_modified),
        )


def too_large(wanted: Wanted) -> InputError:
    """Return the error for a file that is larger than `wanted` allows."""
    whose = "the signed index says" if wanted.sha256 else "the limit is"
    return InputError(f"{wanted.url}: too large: {whose} {wanted.limit_bytes} bytes")


def make(folder: Path) -> None:
    """Make the spool if need be, for this user alone. Raises OperationError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OperationError(
            f"{folder}: cannot be the folder for downloads: {error.strerror}; move away what is in its place"
        ) from error


def prune(folder: Path, now_s: float) -> None:
    """Remove what nobody has asked for in `MAX_UNUSED_S`: superseded indexes, abandoned parts.

    Raises:
        OperationError: the folder cannot be read, or a file in it not be removed.
    """
    try:
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # another update prunes, or uses up, the same file
                if path.is_file() and now_s - path.stat().st_mtime > MAX_UNUSED_S:
                    path.unlink()
    except OSError as error:
        raise OperationError(
            f"{error.filename or folder}: the folder for downloads cannot be tidied up: {error.strerror}"
        ) from error


def discard(download: Download) -> None:
    """Remove a whole file and its validators from the spool."""
    download.path.unlink(missing_ok=True)
    download.path.with_name(f"{download.path.name}.json").unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _moment(http_date: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(http_date)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
