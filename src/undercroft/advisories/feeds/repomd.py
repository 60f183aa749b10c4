"""repomd.xml: which file of a repository of rpms has its errata, and what digest that has.

Follows createrepo_c: `<repomd>` of `<data type="updateinfo">` with a `location`, relative to the repository,
and a `checksum` of the file as it lies there. Guarantees: at most `MAX_BYTES`; a document type is refused; a
location leads nowhere but below the repository.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin
from xml.parsers import expat

from undercroft.errors import InputError, UnsupportedError

PATH: Final = "repodata/repomd.xml"
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16

_ERRATA = "updateinfo"
_LOCATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ListedErrata:
    """The file that has the errata: its address, and its SHA-256 in hexadecimal."""

    url: str
    sha256: str


class _Reader:
    def __init__(self, what: str) -> None:
        self.location = ""
        self.checksum = ""
        self.kind = ""
        self._what = what
        self._path: list[str] = []
        self._data = ""
        self._is_checksum = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        if len(self._path) > MAX_DEPTH:
            raise InputError(f"{self._what}: XML nested deeper than {MAX_DEPTH}")
        if self._path[0] != "repomd":
            raise InputError(f"{self._what}: is no repomd.xml")
        if tag == "data":
            self._data = attributes.get("type", "")
        self._is_checksum = tag == "checksum" and self._data == _ERRATA
        if self._is_checksum:
            self.kind, self.checksum = attributes.get("type", ""), ""
        elif tag == "location" and self._data == _ERRATA:
            self.location = attributes.get("href", "")

    def characters(self, text: str) -> None:
        if self._is_checksum:
            self.checksum += text

    def end(self, _tag: str) -> None:
        self._path.pop()
        self._is_checksum = False

    def refuse(self, *_: object) -> None:
        raise InputError(f"{self._what}: has a document type, which no repomd.xml needs")


def errata_in(untrusted: bytes, url: str) -> ListedErrata:
    """Return where a repository has its errata.

    Args:
        untrusted: a repomd.xml.
        url: its address, which ends with `PATH`.

    Raises:
        InputError: malformed, or a location that leads elsewhere.
        UnsupportedError: the repository has no errata, or another kind of digest.
    """
    if len(untrusted) > MAX_BYTES:
        raise InputError(f"{url}: a repomd.xml of over {MAX_BYTES} bytes")
    reader = _Reader(url)
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(untrusted, True)
    except expat.ExpatError as error:
        raise InputError(f"{url}: no well-formed XML: {error}") from error
    if not reader.location:
        raise UnsupportedError(f"{url}: the repository has no errata (updateinfo)")
    if not _LOCATION.fullmatch(reader.location):
        raise InputError(f"{url}: {ascii(reader.location)[:80]} is no place in the repository")
    digest = reader.checksum.strip()
    if reader.kind != "sha256" or not _SHA256.fullmatch(digest):
        raise UnsupportedError(f"{url}: its errata have no SHA-256 but {ascii(reader.kind)[:40]}")
    return ListedErrata(urljoin(url.removesuffix(PATH), reader.location), digest)
