"""One downloader for every scheme that is read: https, http and file."""

import time
from pathlib import Path
from types import TracebackType
from typing import Self

from undercroft.adapters import spool
from undercroft.adapters.http import HttpDownloader
from undercroft.adapters.localfile import LocalDownloader
from undercroft.ports.downloader import BytesProgress, Download, Wanted


class SpoolingDownloader:
    """Fetches into one spool folder, by the address's scheme. A context manager.

    What lies in the spool unused for two weeks is removed first. Raises OperationError when the folder cannot
    be made, read or tidied up.
    """

    def __init__(self, folder: Path) -> None:
        self._http = HttpDownloader(folder)
        self._local = LocalDownloader(folder)
        spool.prune(folder, time.time())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.__exit__(kind, error, traceback)

    def download(self, wanted: Wanted, progress: BytesProgress) -> Download | None:
        """See `Downloader.download`."""
        downloader = self._local if wanted.url.startswith("file:") else self._http
        return downloader.download(wanted, progress)

    def discard(self, download: Download) -> None:
        """See `Downloader.discard`."""
        self._local.discard(download)
