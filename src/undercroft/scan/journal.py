"""Which edition was last imported from which address, so that an unchanged one is not fetched again.

A small JSON file beside the spool. Losing it costs a download; what it says counts only while the database
holds the serial that it names.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from undercroft.errors import InputError, OperationError
from undercroft.model.schema import decode
from undercroft.ports.downloader import Download

MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Imported:
    """An edition: its serial in the database, its digest, its server's validators."""

    serial: str = ""
    sha256: str = ""
    etag: str = ""
    last_modified: str = ""


class Journal:
    """The editions imported so far, by address; kept in `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._editions = _load(path)

    def known(self, url: str, stored_serial: str) -> Imported:
        """Return what was last imported from `url`, if the database still holds it as `stored_serial`."""
        edition = self._editions.get(url, Imported())
        return edition if edition.serial and edition.serial == stored_serial else Imported()

    def remember(self, url: str, download: Download, serial: str) -> None:
        """Note an import. Raises OperationError when the file cannot be written."""
        self._editions[url] = Imported(serial, download.sha256, download.etag, download.last_modified)
        text = json.dumps({address: asdict(edition) for address, edition in self._editions.items()}, indent=1)
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(text, "utf-8")
            os.replace(draft, self._path)
        except OSError as error:
            raise OperationError(f"{self._path}: cannot be written: {error}") from error


def _load(path: Path) -> dict[str, Imported]:
    """Return the editions in `path`; none where it is missing or damaged, which costs a download each."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_BYTES))
        return {str(url): decode(Imported, edition) for url, edition in document.items()}
    except (OSError, ValueError, AttributeError, InputError):
        return {}
