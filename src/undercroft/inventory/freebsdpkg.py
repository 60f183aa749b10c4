"""Packages by FreeBSD's pkg(8): the table `packages` of local.sqlite.

Guarantees: every row comes out as a package or as a problem. The origin ("security/sudo") is the port that a
package was built from; the base system is no package here (freebsd-update(8) keeps no list).
"""

from collections.abc import Set
from itertools import islice

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import sqlite
from undercroft.inventory.database import Database, Owners, Problems, by_name, flaw_of
from undercroft.model.inventory import Package

PATH = b"/var/db/pkg/local.sqlite"
MAX_FIELD_CHARS = 1024
MAX_PACKAGES = 100_000
"""All of FreeBSD's ports are 36,000."""

_COLUMNS = ("id", "name", "version", "arch", "origin")


def read_database(tree: GuestTree) -> Database:
    """Return the packages of pkg's database in `tree`. Unreadable rows become problems."""
    problems = Problems("pkg")
    packages: list[Package] = []
    try:
        database = sqlite.Database(tree, PATH)
        if database.problem:
            problems.add(f"{text(PATH)}: {database.problem}")
        for count, (number, *values) in enumerate(database.rows("packages", _COLUMNS)):
            if count >= MAX_PACKAGES:
                raise InputError(f"more than {MAX_PACKAGES} packages, the rest was not read")
            name, version, architecture, origin = (_text(value) for value in values)
            if not name or not version:
                problems.add(f"{text(PATH)} row {number!r}: the name {name!r} with the version {version!r}")
                continue
            package = Package("pkg", name, version, architecture, origin or name, version)
            packages.append(package)
            if flaw := flaw_of(package):
                problems.add(f"{text(PATH)} row {number!r}: {flaw}")
    except NotFoundError as error:
        if not tree.exists(PATH):
            return Database()
        problems.add(f"{text(PATH)} could not be read: {error}")
    except InputError as error:
        problems.add(f"{text(PATH)} could not be read: {error}")
    return Database(True, by_name(packages), problems.shown(), lambda wanted: _owners(tree, wanted))


def _text(value: sqlite.Value) -> str:
    return value[:MAX_FIELD_CHARS] if isinstance(value, str) else ""


def _owners(tree: GuestTree, wanted: Set[bytes]) -> Owners:
    """Return who owns the paths `wanted`, by the table `files`."""
    owners = Owners()
    try:
        database = sqlite.Database(tree, PATH)
        rows = islice(database.rows("packages", ("id", "name")), MAX_PACKAGES)
        names = {number: _text(name) for number, name in rows}
        paths = {text(path): path for path in wanted}
        for path, number in database.rows("files", ("path", "package_id")):
            if isinstance(path, str) and path in paths and number in names:
                owners.packages[paths[path]] = names[number]
    except (InputError, NotFoundError) as error:
        owners.problems.append(f"{text(PATH)}: the owners of files could not be read: {error}")
    return owners
