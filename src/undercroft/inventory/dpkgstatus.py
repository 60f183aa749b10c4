"""The stanzas of dpkg's files and the packages that they add up to.

Guarantees: any bytes give packages and problems that name file and line, within the limits below; a
package is left out only with a problem. Follows deb-control(5) and dpkg's lib/dpkg/parse.c and
dbmodify.c: stanzas separated by blank lines, each stanza of the journal replacing the package's earlier
one. Works on bytes and looks only for the fields that it needs, because the file is megabytes long and
most of it is descriptions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from undercroft.disks.text import text
from undercroft.errors import InputError
from undercroft.model.inventory import Package

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


@dataclass(frozen=True, slots=True)
class Stanza:
    """The fields of one stanza that matter; b"" for a field that it lacks."""

    name: bytes
    state: bytes
    architecture: bytes
    version: bytes
    source: bytes
    multi_arch: bytes
    origin: bytes


@dataclass(slots=True)
class PackageReader:
    """Collects stanzas by name and architecture; later files replace what earlier ones said.

    The methods that read take a file's untrusted bytes and its path, for messages.

    Raises:
        InputError: a file has more than `MAX_PACKAGES`; what stands before is kept.
    """

    by_name: dict[bytes, dict[bytes, Stanza]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def problem(self, message: str) -> None:
        """Record what could not be read; beyond `MAX_PROBLEMS` only their number."""
        self.problem_count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(message)

    def shown_problems(self) -> tuple[str, ...]:
        """Return the problems, and how many more there are."""
        more = self.problem_count - len(self.problems)
        return (*self.problems, f"dpkg: {more} more problems of this kind") if more else tuple(self.problems)

    def read_status(self, untrusted: bytes, place: str) -> None:
        """Take the status file: each package stands in it once."""
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
                self._problem_at(untrusted, offset, place, f"{text(stanza.name)} is recorded twice")
            instances[stanza.architecture] = stanza

    def read_update(self, untrusted: bytes, place: str) -> None:
        """Take one file of the journal: its stanzas replace what was read before."""
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
        """Return the packages whose files are present, by name and architecture."""
        stanzas = [stanza for instances in self.by_name.values() for stanza in instances.values()]
        stanzas = [stanza for stanza in stanzas if stanza.state not in ABSENT_STATES]
        stanzas.sort(key=lambda stanza: (stanza.name, stanza.architecture))
        return tuple([_package(stanza) for stanza in stanzas])

    def _drop_cross_graded(self, instances: dict[bytes, Stanza], stanza: Stanza) -> None:
        """A package that changed its architecture replaces its only other instance (parse_find_pkg_slot)."""
        installed = [other for other in instances.values() if other.state != b"not-installed"]
        if len(installed) == 1 and not (installed[0].multi_arch == stanza.multi_arch == b"same"):
            del instances[installed[0].architecture]

    def _problem_at(self, untrusted: bytes, offset: int, place: str, message: str) -> None:
        # Lines are counted only for the problems that will be shown: each count reads the file's start.
        shown = len(self.problems) < MAX_PROBLEMS
        line = untrusted.count(b"\n", 0, offset) + 1 if shown else 0
        self.problem(f"{place} line {line}: {message}")

    def _parse(
        self, raw: bytes, untrusted: bytes, offset: int, place: str, default_state: bytes = b""
    ) -> Stanza | None:
        name = _field(raw, b"\nPackage:")
        status = _field(raw, b"\nStatus:").rpartition(b" ")[2] or default_state
        version = _field(raw, b"\nVersion:")
        if not name or not status:
            lacking = "Package" if not name else "Status"
            self._problem_at(untrusted, offset, place, f"a package without the field {lacking} was left out")
            return None
        stanza = Stanza(
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
                self._problem_at(untrusted, offset, place, f"{text(stanza.name)}: {flaw}")
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


def _flaws(stanza: Stanza, version: bytes) -> Iterator[str]:
    if stanza.state not in PRESENT_STATES:
        yield f"the unknown state {text(stanza.state)[:64]!r}"
    if not version:
        yield "no version is recorded"
    if len(version) > MAX_FIELD_BYTES:
        yield f"a version of {len(version)} bytes was cut at {MAX_FIELD_BYTES}"
    if _ODD_BYTES.search(stanza.name) or _ODD_BYTES.search(stanza.version):
        yield "name or version holds characters that no package may have"


def _package(stanza: Stanza) -> Package:
    name, version = text(stanza.name), text(stanza.version)
    source, source_version = name, version
    if stanza.source:
        source_name, _, rest = text(stanza.source).partition("(")
        source = source_name.strip() or name
        source_version = rest.rpartition(")")[0].strip() or version
    return Package(
        "dpkg",
        name,
        version,
        text(stanza.architecture),
        source,
        source_version,
        text(stanza.state),
        text(stanza.origin),
    )
