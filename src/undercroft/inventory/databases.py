"""The package databases that are read, one line each.

A reader is a module with `read_database(tree) -> Database` (`inventory.database`). To add one: write it, add
its line, give it tests, mutants and an oracle (docs/FORMATS.md, "Adding a format"). README's table is made
from here.

A tree may hold databases of several managers (alien, a chroot's tools): all are read, and a path is owned by
whoever owns it in any of them. A system whose own manager's database is missing or empty has a problem.
"""

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass

from undercroft.disks.formats import Level
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import apk, dpkg, freebsdpkg, pacman, rpm, windows
from undercroft.inventory.database import Database, Owners

ReadDatabase = Callable[[GuestTree], Database]


@dataclass(frozen=True, slots=True)
class PackageDatabase:
    """One package manager.

    Attributes:
        manager: as `Package.manager` has it.
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        place: where the database lies, for the message that it is missing.
        families: release IDs (os-release ID or ID_LIKE) of systems that must have it.
        read: the reader.
    """

    manager: str
    title: str
    level: Level
    reads: str
    place: str
    families: frozenset[str]
    read: ReadDatabase


_RPM_FAMILIES = frozenset(
    {
        "rhel",
        "fedora",
        "centos",
        "almalinux",
        "rocky",
        "ol",
        "amzn",
        "mageia",
        "openeuler",
        "azurelinux",
        "mariner",
        "photon",
    }
    | {"suse", "opensuse", "sles", "sled"}
)

DATABASES = (
    PackageDatabase(
        "dpkg",
        "dpkg (Debian, Ubuntu)",
        Level.WHOLE,
        "status, the journal of an interrupted dpkg, and distroless' status.d",
        "/var/lib/dpkg",
        frozenset({"debian", "ubuntu"}),
        dpkg.read_database,
    ),
    PackageDatabase(
        "rpm",
        "rpm (RHEL, Alma, Rocky, Fedora, SUSE, Oracle, Amazon)",
        Level.WHOLE,
        "SQLite with its logs, ndb, Berkeley DB hash; headers are checked against their digests",
        "/var/lib/rpm, /usr/lib/sysimage/rpm or /usr/share/rpm",
        _RPM_FAMILIES,
        rpm.read_database,
    ),
    PackageDatabase(
        "apk",
        "apk (Alpine, Wolfi)",
        Level.WHOLE,
        "the list of installed packages with their origin, as apk 2 and 3 write it",
        "/lib/apk/db or /usr/lib/apk/db",
        frozenset({"alpine", "wolfi", "chainguard", "postmarketos"}),
        apk.read_database,
    ),
    PackageDatabase(
        "pacman",
        "pacman (Arch)",
        Level.WHOLE,
        "the local database, format 9",
        "/var/lib/pacman/local",
        frozenset({"arch", "archlinux", "manjaro"}),
        pacman.read_database,
    ),
    PackageDatabase(
        "pkg",
        "pkg (FreeBSD)",
        Level.PARTLY,
        "the packages of local.sqlite; the base system, and the filesystems UFS and ZFS, are not read",
        "/var/db/pkg",
        frozenset({"freebsd"}),
        freebsdpkg.read_database,
    ),
    PackageDatabase(
        "windows",
        "Windows",
        Level.PARTLY,
        "build, installed updates and programs from the registry with its logs; not: programs of one user, "
        "the store's, and logs of Windows before 8.1",
        "/Windows/System32/config",
        frozenset({"windows"}),
        windows.read_database,
    ),
)


def read_databases(
    tree: GuestTree, families: Collection[str], table: Sequence[PackageDatabase] = DATABASES
) -> Database:
    """Return what all databases in `tree` hold together, in the table's order.

    Args:
        tree: the machine's files.
        families: what the release calls itself and is like (`Release.families`).
        table: the databases to look for.
    """
    found: list[Database] = []
    problems: list[str] = []
    for each in table:
        try:
            database = each.read(tree)
        except (InputError, NotFoundError) as error:
            problems.append(f"packages of {each.manager}: {error}")
            continue
        problems += database.problems
        found.append(database)
        if each.families.isdisjoint(families) or database.problems:
            continue
        if not database.found:
            problems.append(
                f"no {each.manager} database in {each.place}: the packages of this system are unknown"
            )
        elif not database.packages:
            problems.append(f"the {each.manager} database in {each.place} holds no package: they are unknown")
    packages = tuple(package for database in found for package in database.packages)
    is_found = any(database.found for database in found)
    return Database(is_found, packages, tuple(problems), lambda wanted: _owners(found, wanted))


def _owners(databases: Sequence[Database], wanted: Set[bytes]) -> Owners:
    owners = Owners()
    for database in databases:
        answer = database.find_owners(wanted)
        owners.packages = answer.packages | owners.packages
        owners.problems += answer.problems
    return owners
