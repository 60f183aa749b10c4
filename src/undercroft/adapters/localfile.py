"""A mirror on this machine: file:// addresses, copied into the spool, where nobody changes them meanwhile."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from undercroft.adapters import spool
from undercroft.adapters.spool import SpooledFile
from undercroft.errors import DeniedError, NotFoundError, OperationError
from undercroft.ports.downloader import BytesProgress, Download, Wanted

_CHUNK_BYTES = 1 << 20


class LocalDownloader:
    """Copies files into a spool folder, which is made if need be, for this user alone.

    Raises OperationError when it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        spool.make(folder)
        self._folder = folder

    def download(self, wanted: Wanted, progress: BytesProgress) -> Download | None:
        """See `Downloader.download`; a local file is always fetched."""
        spooled = SpooledFile(self._folder, wanted)
        path = _path(wanted.url)
        try:
            if existing := spooled.existing():
                return existing
            spooled.forget_part()
            with path.open("rb") as source, spooled.growing() as part:
                total, size_bytes = path.stat().st_size, 0
                while chunk := source.read(_CHUNK_BYTES):
                    size_bytes += len(chunk)
                    if size_bytes > wanted.limit_bytes:
                        raise spool.too_large(wanted)
                    part.write(chunk)
                    progress(size_bytes, total)
                part.flush()
                return spooled.finish()
        except FileNotFoundError as error:
            raise NotFoundError(f"{wanted.url}: there is no such file") from error
        except PermissionError as error:
            raise DeniedError(f"{wanted.url}: no permission to read it") from error
        except OSError as error:
            raise OperationError(f"{wanted.url}: cannot be copied to {self._folder}: {error}") from error

    def discard(self, download: Download) -> None:
        """See `Downloader.discard`."""
        spool.discard(download)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"}:
        raise DeniedError(f"{url}: a file on another machine; mount it and give its path: file:///PATH")
    return Path(unquote(parts.path))
