"""Packages by Alpine's package manager: the text file `installed`, one stanza for each package.

Guarantees: every stanza comes out as a package or as a problem that names file and line; any bytes give an
answer within the limits. Follows apk-package(5) and apk-tools' src/database.c (`apk_db_fdb_read`): a line
is a letter, a colon and the value; P is the name, V the version, A the architecture, o the origin (the
source package, whose version is the package's); F a folder and R a file in it; f flags a package whose
files are broken. apk 3 writes the same text file; its binary format (ADB) is for packages and indexes.
"""

from collections.abc import Iterator

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.asked import ASKED_SUFFIXES, is_asked, is_asked_folder
from undercroft.inventory.database import MAX_PATH_BYTES, Database, Owned, Problems, by_name, flaw_of
from undercroft.model.inventory import Package

PATHS = (b"/lib/apk/db/installed", b"/usr/lib/apk/db/installed")

MAX_BYTES = 32 << 20
"""A desktop with 3,000 packages has 20 MiB, most of it names of files."""

MAX_PACKAGES = 100_000
MAX_FIELD_BYTES = 1024

_BINARY = b"ADB"
_LETTERS = frozenset(b"CPVATDILSUmctorqaiZpkFRMgfs")
"""Which letters apk itself reads; it refuses a database with others unless they are lower case."""


def read_database(tree: GuestTree) -> Database:
    """Return the packages of apk's databases in `tree`. Unreadable ones become problems."""
    problems = Problems("apk")
    packages: list[Package] = []
    owned = Owned("apk")
    seen = set[bytes]()
    for path in PATHS:
        try:
            real = tree.realpath(path)
            if real not in seen:
                seen.add(real)
                _read(tree.read(path, MAX_BYTES), text(path), packages, owned, problems)
        except NotFoundError:
            continue
        except InputError as error:
            seen.add(path)
            problems.add(f"{text(path)} could not be read: {error}")
    return Database(bool(seen), by_name(packages), problems.shown(), owned.find)


def _read(untrusted: bytes, place: str, packages: list[Package], owned: Owned, problems: Problems) -> None:
    if untrusted.startswith(_BINARY):
        raise InputError("apk: a database in the binary format is not supported")
    if untrusted and not untrusted.endswith(b"\n\n"):
        problems.add(f"{place}: the end lacks apk's blank line, the file may be cut off")
    line = 1
    for count, stanza in enumerate(_stanzas(untrusted)):
        if count >= MAX_PACKAGES:
            raise InputError(f"apk: more than {MAX_PACKAGES} packages, the rest was not read")
        lines = stanza.split(b"\n")
        if any(lines):
            fields = _fields(lines)
            flaw = _flaw(lines, fields)
            if fields.get(b"P") and fields.get(b"V"):
                packages.append(_package(fields))
                flaw = flaw or flaw_of(packages[-1])
                _note_owned(lines, packages[-1].name, owned)
            if flaw:
                problems.add(f"{place} line {line}: {flaw}")
        line += len(lines) + 1


def _stanzas(untrusted: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(untrusted):
        stop = untrusted.find(b"\n\n", start)
        stop = len(untrusted) if stop < 0 else stop
        yield untrusted[start:stop]
        start = stop + 2


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    """Return the first value of each letter."""
    fields: dict[bytes, bytes] = {}
    for line in lines:
        fields.setdefault(line[:1], line[2 : MAX_FIELD_BYTES + 2])
    return fields


def _flaw(lines: list[bytes], fields: dict[bytes, bytes]) -> str:
    name = text(fields.get(b"P", b""))[:64]
    if not name or not fields.get(b"V"):
        return f"a package without a {'version' if name else 'name'} was left out: {name!r}"
    for line in lines:
        if line and (line[1:2] != b":" or line[0] not in _LETTERS):
            return f"{name}: the line {text(line[:32])!r} is none of apk's"
    names = sum(line.startswith(b"P:") for line in lines)
    return f"{name}: {names} names in one package" if names > 1 else ""


def _package(fields: dict[bytes, bytes]) -> Package:
    name, version = text(fields[b"P"]), text(fields[b"V"])
    source = text(fields.get(b"o", b"")) or name
    broken = b"f" in fields.get(b"f", b"")
    status = "broken files" if broken else "installed"
    return Package("apk", name, version, text(fields.get(b"A", b"")), source, version, status)


def _note_owned(lines: list[bytes], name: str, owned: Owned) -> None:
    folder, is_asked_in = b"", False
    for line in lines:
        letter, value = line[:2], line[2:]
        if letter == b"F:":
            above, _, base = value.rpartition(b"/")
            folder, is_asked_in = b"/" + value + b"/", is_asked_folder(b"/" + value + b"/")
            if is_asked(b"/" + above + b"/", base):
                owned.note(b"/" + value, name)
        elif (
            letter == b"R:"
            and len(folder) <= MAX_PATH_BYTES  # of a longer one each file would be as long
            and (is_asked_in or value.endswith(ASKED_SUFFIXES))
        ):
            owned.note(folder + value, name)
