"""Packages by pacman's local database: a folder with a file `desc` for each package.

Guarantees: every folder comes out as a package or as a problem that names it; any bytes give an answer
within the limits. Follows alpm's lib/libalpm/be_local.c: the folder is called NAME-VERSION, `desc` has
sections of a "%KEY%" line, values, and a blank line; name and version in it must be the folder's. BASE is
the source package (pkgbase), which has the package's version.
"""

from collections.abc import Set
from io import BytesIO
from itertools import pairwise

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import Database, Owners, Problems, by_name, flaw_of
from undercroft.model.inventory import Package

LOCAL = b"/var/lib/pacman/local"
FORMAT_VERSIONS = (b"", b"9")
"""ALPM_DB_VERSION of pacman since 2015; databases before it have no such file."""

MAX_PACKAGES = 50_000
MAX_DESC_BYTES = 1 << 20
MAX_ALL_DESC_BYTES = 32 << 20
MAX_FILES_BYTES = 64 << 20
MAX_ALL_FILES_BYTES = 256 << 20
MAX_VALUE_BYTES = 1024


def read_database(tree: GuestTree) -> Database:
    """Return the packages of pacman's database in `tree`. Unreadable folders become problems."""
    problems = Problems("pacman")
    packages: list[Package] = []
    try:
        version = _format_version(tree)
        if version not in FORMAT_VERSIONS:
            problems.add(f"{text(LOCAL)}: pacman's format {text(version)[:16]!r} is not supported")
        total = 0
        for folder in _folders(tree):
            path = LOCAL + b"/" + folder
            if total > MAX_ALL_DESC_BYTES:
                raise InputError(f"more than {MAX_ALL_DESC_BYTES} bytes, the rest was not read")
            try:
                untrusted = tree.read(path + b"/desc", MAX_DESC_BYTES)
                total += len(untrusted)
                package = _package(folder, untrusted)
                packages.append(package)
                if flaw := flaw_of(package):
                    problems.add(f"{text(path)}: {flaw}")
            except (InputError, NotFoundError) as error:
                problems.add(f"{text(path)} could not be read: {error}")
    except NotFoundError:
        return Database()
    except InputError as error:
        problems.add(f"{text(LOCAL)} could not be read: {error}")
    return Database(True, by_name(packages), problems.shown(), lambda wanted: _owners(tree, wanted))


def _format_version(tree: GuestTree) -> bytes:
    try:
        return tree.read(LOCAL + b"/ALPM_DB_VERSION", 64).strip()
    except NotFoundError:
        return b""


def _folders(tree: GuestTree) -> list[bytes]:
    names: list[bytes] = []
    for entry in tree.entries(LOCAL):
        kind = tree.stat_entry(entry).kind if entry.kind is FileKind.UNKNOWN else entry.kind
        if kind is FileKind.DIRECTORY:
            if len(names) >= MAX_PACKAGES:
                raise InputError(f"more than {MAX_PACKAGES} packages, the rest was not read")
            names.append(entry.name)
    return names


def _package(folder: bytes, untrusted: bytes) -> Package:
    """Return the package that a `desc` names. Raises InputError where it names another than its folder."""
    values: dict[bytes, bytes] = {}
    lines = untrusted.split(b"\n")
    for key, value in pairwise(lines):
        if key.startswith(b"%") and key.endswith(b"%"):
            values.setdefault(key[1:-1], value[:MAX_VALUE_BYTES])
    name, version = values.get(b"NAME", b""), values.get(b"VERSION", b"")
    if not name or not version or name + b"-" + version != folder:
        raise InputError(f"pacman: desc speaks of {text(name)[:64]!r} {text(version)[:64]!r}")
    source = text(values.get(b"BASE", b"") or name)
    return Package("pacman", text(name), text(version), text(values.get(b"ARCH", b"")), source, text(version))


def _owners(tree: GuestTree, wanted: Set[bytes]) -> Owners:
    """Return who owns the paths `wanted`, by the file `files` of each package."""
    owners, problems = Owners(), Problems("pacman")
    lines = {path.lstrip(b"/") + end: path for path in wanted for end in (b"\n", b"/\n")}
    total = 0
    for folder in _folders(tree):
        path = LOCAL + b"/" + folder + b"/files"
        try:
            untrusted = tree.read(path, MAX_FILES_BYTES)
        except NotFoundError:
            continue
        except InputError as error:
            problems.add(f"{text(path)} could not be read: {error}")
            continue
        total += len(untrusted)
        if total > MAX_ALL_FILES_BYTES:
            problems.add(f"{text(LOCAL)}: more than {MAX_ALL_FILES_BYTES} bytes of lists of files")
            break
        for line in lines.keys() & BytesIO(untrusted):  # by lines, and never all of them at once
            owners.packages.setdefault(lines[line], text(folder.rsplit(b"-", 2)[0]))
    owners.problems += problems.shown()
    return owners
