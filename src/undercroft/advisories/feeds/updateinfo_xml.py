"""rpm-md's `updateinfo.xml`, read as a stream: one erratum in memory at a time, never a whole tree.

Follows what createrepo_c writes and libsolv reads (repo_updateinfoxml.c): `<updates>` of `<update>`, each
with `id`, `title`, `issued`, `severity`, `release`, `references` and a `pkglist` of collections. Guarantees:
a document type is refused, and with it every entity of a document's own; depth, every kept text, the
references and the packages of an erratum, and the longest single piece of markup are bounded, whatever the
document says of its encoding.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from xml.parsers import expat

from undercroft.advisories.feeds import fields
from undercroft.advisories.orders.rpm import MAX_EPOCH
from undercroft.errors import InputError

MAX_DEPTH: Final = 16
MAX_TEXT_CHARS: Final = 4096
"""Of an element's text; more is cut off: what is kept is names, and a title that is shown in one line."""
MAX_MARKUP_BYTES: Final = 1 << 20
"""Of one tag or comment, which expat holds whole in memory."""
MAX_PACKAGES: Final = 10_000
"""Of one erratum; SUSE's largest kernel updates name some 2,000."""
MAX_REFERENCES: Final = 10_000

_CHUNK_BYTES = 1 << 16
_UPDATE = "updates/update"
_COLLECTION = f"{_UPDATE}/pkglist/collection"
_EPOCH = re.compile(r"[0-9]{1,10}")
_PART = re.compile(r"[A-Za-z0-9._+~^]{1,120}")
"""Version or release: no colon and no dash, which would make another epoch or release of it."""


@dataclass(frozen=True, slots=True)
class ListedPackage:
    """A package that an erratum brings, as `epoch:version-release`, without an epoch of 0."""

    name: str
    version: str
    architecture: str


@dataclass(slots=True)
class Collection:
    """The packages of one repository or product; `module` is "NAME:STREAM", "" for none."""

    short: str
    name: str = ""
    module: str = ""
    packages: list[ListedPackage] = field(default_factory=list)


@dataclass(slots=True)
class Update:
    """One erratum; texts are untrusted and may be "".

    Attributes:
        kind: "security", "bugfix", ...
        issued, updated: as written.
        release: the product, as written.
        references: (type, id, title) of each.
    """

    kind: str
    ident: str = ""
    title: str = ""
    issued: str = ""
    updated: str = ""
    severity: str = ""
    release: str = ""
    references: list[tuple[str, str, str]] = field(default_factory=list)
    collections: list[Collection] = field(default_factory=list)


def updates(stream: BinaryIO, what: str) -> Iterator[Update]:
    """Yield the errata of an untrusted document, decompressed. Raises InputError, also on the way."""
    reader = _Reader(what)
    while chunk := stream.read(_CHUNK_BYTES):
        yield from reader.feed(chunk)
    yield from reader.feed(b"", is_last=True)


class _Reader:
    """Takes a document piece by piece, and gives the errata that ended in each."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._paths: list[str] = []
        self._text: list[str] = []
        self._text_chars = 0
        self._events = 0
        self._unseen_bytes = 0
        self._update = Update("")
        self._packages = 0
        self._done: list[Update] = []
        parser = expat.ParserCreate("utf-8")  # and no codec that the document names
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.CommentHandler = self._pass_over
        parser.ProcessingInstructionHandler = self._pass_over
        parser.StartDoctypeDeclHandler = self._refuse
        self._parser = parser

    def feed(self, chunk: bytes, *, is_last: bool = False) -> list[Update]:
        """Return the errata that end in `chunk`. Raises InputError."""
        before = self._events
        try:
            self._parser.Parse(chunk, is_last)
        except expat.ExpatError as error:
            raise InputError(f"{self._what}: no well-formed XML: {error}") from error
        self._unseen_bytes = 0 if self._events > before else self._unseen_bytes + len(chunk)
        if self._unseen_bytes > MAX_MARKUP_BYTES:
            raise InputError(f"{self._what}: a tag or comment of over {MAX_MARKUP_BYTES} bytes")
        done, self._done = self._done, []
        return done

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._events += 1
        if len(self._paths) >= MAX_DEPTH:
            raise InputError(f"{self._what}: XML nested deeper than {MAX_DEPTH}")
        path = f"{self._paths[-1]}/{tag}" if self._paths else tag
        if not self._paths and tag != "updates":
            raise InputError(f"{self._what}: no updateinfo.xml: begins with <{ascii(tag)[1:41]}>")
        self._paths.append(path)
        self._text, self._text_chars = [], 0
        if path == _UPDATE:
            self._update, self._packages = Update(attributes.get("type", "")[:MAX_TEXT_CHARS]), 0
        elif path.startswith(_UPDATE):
            self._within(path.removeprefix(f"{_UPDATE}/"), attributes)

    def _within(self, place: str, attributes: dict[str, str]) -> None:
        """Take what stands in the attributes of an element inside an erratum."""
        if place == "pkglist/collection/package":
            self._package(attributes)
        elif place == "references/reference":
            if len(self._update.references) >= MAX_REFERENCES:
                raise self._malformed(f"more than {MAX_REFERENCES} references")
            kind, ident, title = (
                attributes.get(name, "")[:MAX_TEXT_CHARS] for name in ("type", "id", "title")
            )
            self._update.references.append((kind.lower(), ident, title))
        elif place == "pkglist/collection":
            self._packages += 1  # empty ones take memory too
            self._update.collections.append(Collection(attributes.get("short", "")[:MAX_TEXT_CHARS]))
            self._check_count()
        elif place == "pkglist/collection/module":
            name = fields.package(attributes.get("name"), self._place("module"))
            stream = fields.package(attributes.get("stream"), self._place("module's stream"))
            self._update.collections[-1].module = f"{name}:{stream}"
        elif place == "issued":
            self._update.issued = attributes.get("date", "")[:MAX_TEXT_CHARS]
        elif place == "updated":
            self._update.updated = attributes.get("date", "")[:MAX_TEXT_CHARS]

    def _package(self, attributes: dict[str, str]) -> None:
        self._packages += 1
        self._check_count()
        place = self._place("package")
        name = fields.package(attributes.get("name"), place)
        version, release = attributes.get("version", ""), attributes.get("release", "")
        epoch = attributes.get("epoch") or "0"
        if not _EPOCH.fullmatch(epoch) or int(epoch) > MAX_EPOCH:
            raise InputError(f"{place} {name}: {ascii(epoch)[:40]} is no epoch")
        if not _PART.fullmatch(version) or not _PART.fullmatch(release):
            raise InputError(f"{place} {name}: {ascii(f'{version}-{release}')[:80]} is no version of an rpm")
        evr = f"{int(epoch)}:{version}-{release}" if int(epoch) else f"{version}-{release}"
        listed = ListedPackage(name, evr, attributes.get("arch", "")[:64])
        self._update.collections[-1].packages.append(listed)

    def _check_count(self) -> None:
        if self._packages > MAX_PACKAGES:
            raise self._malformed(f"more than {MAX_PACKAGES} packages")

    def _end(self, _tag: str) -> None:
        self._events += 1
        path = self._paths.pop()
        text = "".join(self._text).strip()
        if path == _UPDATE:
            self._done.append(self._update)
        elif path == f"{_UPDATE}/id":
            self._update.ident = text
        elif path == f"{_UPDATE}/title":
            self._update.title = text
        elif path == f"{_UPDATE}/severity":
            self._update.severity = text
        elif path == f"{_UPDATE}/release":
            self._update.release = text
        elif path == f"{_COLLECTION}/name":
            self._update.collections[-1].name = text
        self._text, self._text_chars = [], 0

    def _characters(self, text: str) -> None:
        self._events += 1
        if self._text_chars < MAX_TEXT_CHARS:
            self._text.append(text[: MAX_TEXT_CHARS - self._text_chars])
            self._text_chars += len(text)

    def _pass_over(self, *_: str) -> None:
        self._events += 1

    def _refuse(self, *_: object) -> None:
        raise InputError(f"{self._what}: has a document type, which no updateinfo.xml needs")

    def _place(self, what: str) -> str:
        return f"{self._what}: {ascii(self._update.ident)[1:81] or 'an erratum'}: {what}"

    def _malformed(self, what: str) -> InputError:
        return InputError(self._place(what))
