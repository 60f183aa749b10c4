"""The packages of rpm's databases in a tree, and who owns what in the folders that are asked about."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import sqlite
from undercroft.inventory.asked import ASKED_SUFFIXES, is_asked, is_asked_folder
from undercroft.inventory.database import MAX_PATH_BYTES, Database, Owned, Problems, by_name, flaw_of
from undercroft.inventory.guestfile import GuestFile
from undercroft.inventory.rpm import bdb, header, ndb
from undercroft.model.inventory import Package

FOLDERS = (b"/var/lib/rpm", b"/usr/lib/sysimage/rpm", b"/usr/share/rpm")
"""The last is where systems that are made from an image (ostree) keep it."""

MAX_PACKAGES = 200_000
MAX_ALL_TEXT_CHARS = 64 << 20
"""Of all names, versions, vendors, ...: 300 for each of as many packages as there may be."""

PUBLIC_KEY = b"gpg-pubkey"

_Blobs = Iterator[tuple[int, bytes | InputError]]
_SOURCE = re.compile(r"(.+)-([^-]+-[^-]+)\.(?:no)?src\.rpm", re.DOTALL)


def _sqlite_blobs(tree: GuestTree, path: bytes) -> _Blobs:
    database = sqlite.Database(tree, path)
    if database.problem:
        yield 0, InputError(database.problem)
    for number, blob in database.rows("Packages", ("hnum", "blob")):
        if not isinstance(number, int) or not isinstance(blob, bytes):
            yield 0, InputError(f"sqlite: row {number!r} holds no header")
        else:
            yield number, blob


STORES: tuple[tuple[bytes, Callable[[GuestTree, bytes], _Blobs]], ...] = (
    (b"rpmdb.sqlite", _sqlite_blobs),
    (b"Packages.db", lambda tree, path: ndb.read_blobs(GuestFile(tree, path))),
    (b"Packages", lambda tree, path: bdb.read_blobs(GuestFile(tree, path))),
)
"""In the order of their age: where two lie side by side, rpm went over to the newer one."""


@dataclass(slots=True)
class _Reading:
    packages: list[Package] = field(default_factory=list)
    problems: Problems = field(default_factory=lambda: Problems("rpm"))
    owned: Owned = field(default_factory=lambda: Owned("rpm"))
    text_chars: int = 0


def read_database(tree: GuestTree) -> Database:
    """Return the packages of rpm's databases in `tree`. Unreadable ones become problems."""
    reading = _Reading()
    found = False
    for path, read in _databases(tree, reading.problems):
        found = True
        try:
            _read(read(tree, path), text(path), reading)
        except (InputError, NotFoundError) as error:
            reading.problems.add(f"{text(path)} could not be read: {error}")
    return Database(found, by_name(reading.packages), reading.problems.shown(), reading.owned.find)


def _databases(
    tree: GuestTree, problems: Problems
) -> Iterator[tuple[bytes, Callable[[GuestTree, bytes], _Blobs]]]:
    """Yield each database once, whatever links lead to its folder; of two in a folder the newer format."""
    seen = set[bytes]()
    for folder in FOLDERS:
        try:
            real = tree.realpath(folder)
            if real in seen:
                continue
            seen.add(real)
            stores = [
                (folder + b"/" + name, read) for name, read in STORES if tree.exists(folder + b"/" + name)
            ]
        except NotFoundError:
            continue
        except InputError as error:
            problems.add(f"{text(folder)} could not be read: {error}")
            continue
        yield from stores[:1]
        for path, _ in stores[1:]:
            problems.add(f"{text(path)}: a second database beside {text(stores[0][0])}, which was read")


def _read(blobs: _Blobs, place: str, reading: _Reading) -> None:
    for count, (number, blob) in enumerate(blobs):
        if count >= MAX_PACKAGES or reading.text_chars > MAX_ALL_TEXT_CHARS:
            raise InputError(
                f"more than {MAX_PACKAGES} packages, or {MAX_ALL_TEXT_CHARS} characters of names"
            )
        try:
            if isinstance(blob, InputError):
                raise blob
            parsed = header.parse_header(blob)
            if parsed.text(header.NAME) == PUBLIC_KEY:
                continue
            package = package_of(parsed)
            reading.packages.append(package)
            reading.text_chars += sum(
                map(len, (package.name, package.version, package.source, package.origin))
            )
            if flaw := flaw_of(package):
                reading.problems.add(f"{place} package number {number}: {flaw}")
            _note_owned(parsed, package.name, reading)
        except InputError as error:
            which = f" package number {number}" if number else ""
            reading.problems.add(f"{place}{which}: {error}")


def package_of(parsed: header.Header) -> Package:
    """Return the package of a header. Raises InputError where it names none, or no version."""
    name, version, release = (text(parsed.text(tag)) for tag in (header.NAME, header.VERSION, header.RELEASE))
    if not name or not version or not release:
        raise InputError(f"rpm header: the name {name!r} with version {version!r} and release {release!r}")
    epoch = parsed.number(header.EPOCH)
    prefix = f"{epoch}:" if epoch else ""
    source = _SOURCE.fullmatch(text(parsed.text(header.SOURCE_RPM)))
    source_name, source_version = (source[1], source[2]) if source else (name, f"{version}-{release}")
    if source_version == f"{version}-{release}":
        source_version = (
            prefix + source_version
        )  # the file's name has no epoch; of the same version it is the same
    module = text(parsed.text(header.MODULARITY_LABEL)).split(":")
    return Package(
        manager="rpm",
        name=name,
        version=f"{prefix}{version}-{release}",
        architecture=text(parsed.text(header.ARCH)),
        source=source_name,
        source_version=source_version,
        origin=text(parsed.text(header.VENDOR)),
        module=":".join(module[:2]) if len(module) > 1 else "",
    )


def _note_owned(parsed: header.Header, name: str, reading: _Reading) -> None:
    """Note the files that may be asked for. Raises InputError where the lists contradict each other."""
    folders = parsed.texts(header.DIR_NAMES)
    names = parsed.texts(header.BASE_NAMES)
    places = parsed.numbers(header.DIR_INDEXES)
    if len(names) != len(places) or (places and max(places) >= len(folders)):
        raise InputError(f"rpm header: {len(names)} files, {len(places)} places, {len(folders)} folders")
    asked = {number for number, folder in enumerate(folders) if is_asked_folder(folder)}
    if not asked and not any(suffix in parsed.store for suffix in ASKED_SUFFIXES):
        return  # of hundreds of files none is asked for, in nearly every package
    for base, place in zip(names, places, strict=True):
        if (place in asked or is_asked(b"", base)) and len(folders[place]) <= MAX_PATH_BYTES:
            reading.owned.note(folders[place] + base, name)
