"""Downloading: whoever fetches a file for a use case, verifies its digest and keeps it in a spool."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

BytesProgress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None where that is not known)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to fetch.

    Attributes:
        url: https, http or file.
        limit_bytes: the most that is accepted.
        sha256: its digest in lower-case hexadecimal, "" where nobody vouches for one.
        plain_http: whether http will do: only for files that are verified by a signature or a digest.
        etag, last_modified: validators of the edition that is already there, "" to fetch it in any case.
    """

    url: str
    limit_bytes: int
    sha256: str = ""
    plain_http: bool = False
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Download:
    """A fetched file in the spool; it stays there until `Downloader.discard`.

    Attributes:
        path: in the spool.
        size_bytes: its length.
        sha256: its digest, equal to the wanted one where there was one.
        etag, last_modified: the server's validators, "" for none.
        modified_at: `last_modified` as a moment, None for none.
    """

    path: Path
    size_bytes: int
    sha256: str
    etag: str = ""
    last_modified: str = ""
    modified_at: datetime | None = None


class Downloader(Protocol):
    """Fetches files into a spool; what an interrupted run left there is resumed."""

    def download(self, wanted: Wanted, progress: BytesProgress) -> Download | None:
        """Return the file, None when the server says that it is still the one with these validators.

        Raises:
            InputError: larger than the limit, or another digest than the wanted one.
            NotFoundError: there is no such file.
            DeniedError: the address, or a redirect, would leave the allowed schemes.
            OperationError: the network, the server or the disk failed; what has arrived is kept.
        """
        ...

    def discard(self, download: Download) -> None:
        """Remove a fetched file from the spool."""
        ...
