"""Packages by dpkg's own database: status, its journal in updates/, and distroless' status.d/.

Guarantees: every package whose files are present comes out once per architecture, with the source
package that it was built from; what cannot be parsed becomes a problem that names file and line, and
the rest is read. Any bytes give an answer within the limits below.

Follows dpkg(1), deb-control(5) and dpkg's lib/dpkg/parse.c and dbmodify.c: stanzas separated by blank
lines, the journal's files applied in the order of their numbers, each stanza replacing the package's
earlier one. Works on bytes and looks only for the fields that it needs, because the file is megabytes
long and most of it is descriptions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from undercroft.disks.tree import Entry, GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.model.inventory import Package

ADMIN = b"/var/lib/dpkg"
STATUS = ADMIN + b"/status"
UPDATES = ADMIN + b"/updates"
STATUS_D = ADMIN + b"/status.d"

MAX_STATUS_BYTES = 32 << 20
"""A desktop with 5,000 packages has 8 MiB."""

MAX_UPDATE_FILES = 1000
"""dpkg merges its journal into status after 250 files (MAXUPDATES)."""

MAX_UPDATE_BYTES = 1 << 20
MAX_STATUS_D_FILES = 5000
MAX_PACKAGES = 100_000
MAX_FIELD_BYTES = 1024
MAX_PROBLEMS = 20

ABSENT_STATES = frozenset({b"not-installed", b"config-files"})
PRESENT_STATES = frozenset(
    {
        b"installed",
        b"unpacked",
        b"half-configured",
        b"half-installed",
        b"triggers-awaited",
        b"triggers-pending",
    }
)

_LINE_FEEDS = re.compile(rb"\n*")
_ODD_BYTES = re.compile(rb"[^A-Za-z0-9.+:~_-]")


@dataclass(slots=True)
class DpkgDatabase:
    """What the database holds.

    Attributes:
        found: whether there is one at all.
        packages: those whose files are present, by name and architecture.
        problems: files and lines that could not be read; at most `MAX_PROBLEMS`, then a count.
    """

    found: bool = False
    packages: tuple[Package, ...] = ()
    problems: tuple[str, ...] = ()


def read_database(tree: GuestTree) -> DpkgDatabase:
    """Return the packages of the dpkg database in `tree`. Unreadable files become problems."""
    reader = _Reader()
    found = False
    for path, read in ((STATUS, _read_status), (UPDATES, _read_updates), (STATUS_D, _read_status_d)):
        try:
            found = read(tree, reader) or found
        except NotFoundError:
            continue
        except InputError as error:
            found = True
            reader.problem(f"{_text(path)} could not be read: {error}")
    return DpkgDatabase(found, reader.present(), reader.shown_problems())


def parse_status(untrusted: bytes, place: str) -> DpkgDatabase:
    """Return the packages of one status file; `place` is its path, for messages.

    Raises:
        InputError: it has more than `MAX_PACKAGES`.
    """
    reader = _Reader()
    reader.read_status(untrusted, place)
    return DpkgDatabase(True, reader.present(), reader.shown_problems())


def _read_status(tree: GuestTree, reader: "_Reader") -> bool:
    reader.read_status(tree.read(STATUS, MAX_STATUS_BYTES), _text(STATUS))
    return True


def _read_updates(tree: GuestTree, reader: "_Reader") -> bool:
    """Apply the journal: files named by digits only, in their order; others are dpkg's scratch files."""
    names = _bounded(tree.entries(UPDATES), MAX_UPDATE_FILES, UPDATES)
    journal = sorted((entry for entry in names if entry.name.isdigit()), key=lambda entry: entry.name)
    for entry in journal:
        place = f"{_text(UPDATES)}/{_text(entry.name)}"
        reader.read_update(tree.read_entry(entry, MAX_UPDATE_BYTES), place)
    return bool(journal)


def _read_status_d(tree: GuestTree, reader: "_Reader") -> bool:
    entries = _bounded(tree.entries(STATUS_D), MAX_STATUS_D_FILES, STATUS_D)
    stanzas = [entry for entry in entries if not entry.name.endswith((b".md5sums", b".preinst", b".list"))]
    for entry in sorted(stanzas, key=lambda entry: entry.name):
        place = f"{_text(STATUS_D)}/{_text(entry.name)}"
        try:
            reader.read_single(tree.read_entry(entry, MAX_UPDATE_BYTES), place)
        except InputError as error:
            reader.problem(f"{place} could not be read: {error}")
    return bool(stanzas)


def _bounded(entries: Iterator[Entry], limit: int, path: bytes) -> list[Entry]:
    kept: list[Entry] = []
    for entry in entries:
        if len(kept) >= limit:
            raise InputError(f"{_text(path)}: more than {limit} files")
        kept.append(entry)
    return kept


@dataclass(frozen=True, slots=True)
class _Stanza:
    """The fields of one stanza that matter; b"" for a field that it lacks."""

    name: bytes
    state: bytes
    architecture: bytes
    version: bytes
    source: bytes
    multi_arch: bytes
    origin: bytes


@dataclass(slots=True)
class _Reader:
    """Collects stanzas by name and architecture; later files replace what earlier ones said."""

    by_name: dict[bytes, dict[bytes, _Stanza]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def problem(self, text: str) -> None:
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)

    def shown_problems(self) -> tuple[str, ...]:
        more = self.problem_count - len(self.problems)
        return (*self.problems, f"dpkg: {more} more problems of this kind") if more else tuple(self.problems)

    def read_status(self, untrusted: bytes, place: str) -> None:
        if not untrusted.strip(b"\n \t\r\0"):
            self.problem(f"{place} is empty ({len(untrusted)} bytes): the packages are unknown")
            return
        if not untrusted.endswith(b"\n\n"):
            line = untrusted.count(b"\n") + 1
            self.problem(f"{place} line {line}: the end lacks dpkg's blank line, the file may be cut off")
        for offset, raw in _stanzas(untrusted):
            stanza = self._parse(raw, untrusted, offset, place)
            if stanza is None:
                continue
            instances = self.by_name.setdefault(stanza.name, {})
            if stanza.architecture in instances:
                self._problem_at(untrusted, offset, place, f"{_text(stanza.name)} is recorded twice")
            instances[stanza.architecture] = stanza

    def read_update(self, untrusted: bytes, place: str) -> None:
        for offset, raw in _stanzas(untrusted):
            stanza = self._parse(raw, untrusted, offset, place)
            if stanza is None:
                continue
            instances = self.by_name.setdefault(stanza.name, {})
            self._drop_cross_graded(instances, stanza)
            instances[stanza.architecture] = stanza

    def read_single(self, untrusted: bytes, place: str) -> None:
        """A file of status.d: one package, often without a Status field, and present by being there."""
        for offset, raw in _stanzas(untrusted):
            stanza = self._parse(raw, untrusted, offset, place, default_state=b"installed")
            if stanza is not None:
                self.by_name.setdefault(stanza.name, {}).setdefault(stanza.architecture, stanza)

    def present(self) -> tuple[Package, ...]:
        stanzas = [stanza for instances in self.by_name.values() for stanza in instances.values()]
        stanzas = [stanza for stanza in stanzas if stanza.state not in ABSENT_STATES]
        stanzas.sort(key=lambda stanza: (stanza.name, stanza.architecture))
        return tuple([_package(stanza) for stanza in stanzas])

    def _drop_cross_graded(self, instances: dict[bytes, _Stanza], stanza: _Stanza) -> None:
        """A package that changed its architecture replaces its only other instance (parse_find_pkg_slot)."""
        installed = [other for other in instances.values() if other.state != b"not-installed"]
        if len(installed) == 1 and not (installed[0].multi_arch == stanza.multi_arch == b"same"):
            del instances[installed[0].architecture]

    def _problem_at(self, untrusted: bytes, offset: int, place: str, text: str) -> None:
        # Lines are counted only for the problems that will be shown: each count reads the file's start.
        shown = len(self.problems) < MAX_PROBLEMS
        line = untrusted.count(b"\n", 0, offset) + 1 if shown else 0
        self.problem(f"{place} line {line}: {text}")

    def _parse(
        self, raw: bytes, untrusted: bytes, offset: int, place: str, default_state: bytes = b""
    ) -> _Stanza | None:
        name = _field(raw, b"\nPackage:")
        status = _field(raw, b"\nStatus:").rpartition(b" ")[2] or default_state
        version = _field(raw, b"\nVersion:")
        if not name or not status:
            lacking = "Package" if not name else "Status"
            self._problem_at(untrusted, offset, place, f"a package without the field {lacking} was left out")
            return None
        stanza = _Stanza(
            name=name.lower()[:MAX_FIELD_BYTES],
            state=status[:MAX_FIELD_BYTES],
            architecture=_field(raw, b"\nArchitecture:")[:MAX_FIELD_BYTES],
            version=version[:MAX_FIELD_BYTES],
            source=_field(raw, b"\nSource:")[:MAX_FIELD_BYTES],
            multi_arch=_field(raw, b"\nMulti-Arch:")[:MAX_FIELD_BYTES],
            origin=_field(raw, b"\nOrigin:")[:MAX_FIELD_BYTES],
        )
        if stanza.state not in ABSENT_STATES:
            for flaw in _flaws(stanza, version):
                self._problem_at(untrusted, offset, place, f"{_text(stanza.name)}: {flaw}")
        return stanza


def _stanzas(untrusted: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, stanza) with a line feed before the first field, as `_field` needs it.

    Raises:
        InputError: `MAX_PACKAGES` is passed.
    """
    count = 0
    start = _end_of_blank_lines(untrusted, 0)
    while start < len(untrusted):
        count += 1
        if count > MAX_PACKAGES:
            raise InputError(f"more than {MAX_PACKAGES} packages, the rest was not read")
        stop = untrusted.find(b"\n\n", start)
        stop = len(untrusted) if stop < 0 else stop
        raw = b"\n" + untrusted[start:stop]
        if not raw.isspace():
            yield start, raw
        start = _end_of_blank_lines(untrusted, stop)


def _end_of_blank_lines(untrusted: bytes, start: int) -> int:
    match = _LINE_FEEDS.match(untrusted, start)
    return match.end() if match else start


def _field(stanza: bytes, key: bytes) -> bytes:
    """Return the first line of a field's value; `key` is spelled as dpkg itself writes it."""
    at = stanza.find(key)
    if at < 0:
        return b""
    at += len(key)
    end = stanza.find(b"\n", at)
    return stanza[at : end if end >= 0 else None].strip()


def _flaws(stanza: _Stanza, version: bytes) -> Iterator[str]:
    if stanza.state not in PRESENT_STATES:
        yield f"the unknown state {_text(stanza.state)[:64]!r}"
    if not version:
        yield "no version is recorded"
    if len(version) > MAX_FIELD_BYTES:
        yield f"a version of {len(version)} bytes was cut at {MAX_FIELD_BYTES}"
    if _ODD_BYTES.search(stanza.name) or _ODD_BYTES.search(stanza.version):
        yield "name or version holds characters that no package may have"


def _package(stanza: _Stanza) -> Package:
    name, version = _text(stanza.name), _text(stanza.version)
    source, source_version = name, version
    if stanza.source:
        text, _, rest = _text(stanza.source).partition("(")
        source = text.strip() or name
        source_version = rest.rpartition(")")[0].strip() or version
    return Package(
        "dpkg",
        name,
        version,
        _text(stanza.architecture),
        source,
        source_version,
        _text(stanza.state),
        _text(stanza.origin),
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
