"""Which edition of each feed was last imported from where, so that an unchanged one is not taken again.

A JSON file beside the spool, written by `save` only. Losing it costs a download; what it says counts only
while the database holds the serial that it names.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from undercroft.errors import InputError, OperationError
from undercroft.model.schema import decode

MAX_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Imported:
    """An edition: its serial in the database, its file's address and digest, its server's validators."""

    serial: str = ""
    url: str = ""
    sha256: str = ""
    etag: str = ""
    last_modified: str = ""


class Journal:
    """The editions imported so far, by feed name; kept in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._editions = _load(path)

    def known(self, name: str, stored_serials: Mapping[str, str]) -> Imported:
        """Return what was last imported as the feed `name`, if that is what the database still holds."""
        edition = self._editions.get(name, Imported())
        return edition if edition.serial and edition.serial == stored_serials.get(name) else Imported()

    def holder(self, sha256: str, stored_serials: Mapping[str, str]) -> str | None:
        """Return the name of the feed that was imported from a file of this digest, None for none."""
        for name in self._editions:
            if self._editions[name].sha256 == sha256 and self.known(name, stored_serials).sha256:
                return name
        return None

    def remember(self, name: str, edition: Imported) -> None:
        """Note an import."""
        self._editions[name] = edition

    def save(self) -> None:
        """Write the file. Raises OperationError when it cannot be written."""
        text = json.dumps({feed: asdict(known) for feed, known in self._editions.items()}, indent=1)
        draft = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(text, "utf-8")
            os.replace(draft, self.path)
        except OSError as error:
            raise OperationError(f"{self.path}: cannot be written: {error}") from error


def _load(path: Path) -> dict[str, Imported]:
    """Return the editions in `path`; none where it is missing or damaged, which costs a download each."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(MAX_BYTES))
        return {str(name): decode(Imported, edition) for name, edition in document.items()}
    except (OSError, ValueError, AttributeError, InputError):
        return {}
