"""What every reader of a package database gives back."""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field

from undercroft.model.inventory import Package

MAX_PROBLEMS = 20

_ODD = re.compile(r"[^!-~]")


@dataclass(slots=True)
class Owners:
    """The package of each owned path among those asked for, and the lists that could not be read."""

    packages: dict[bytes, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


FindOwners = Callable[[Set[bytes]], Owners]
"""Tells which package owns each of some absolute paths; reads what that takes only when it is called."""


def nobody(_wanted: Set[bytes]) -> Owners:
    """Own nothing: a database without lists of files."""
    return Owners()


@dataclass(frozen=True, slots=True)
class Database:
    """What the databases of one package manager hold.

    Attributes:
        found: whether there is one at all.
        packages: those whose files are present, by name and architecture.
        problems: what could not be read; the first few, then a count.
        find_owners: who owns a path.
    """

    found: bool = False
    packages: tuple[Package, ...] = ()
    problems: tuple[str, ...] = ()
    find_owners: FindOwners = field(default=nobody, compare=False)


@dataclass(slots=True)
class Problems:
    """Collects what could not be read: the first `MAX_PROBLEMS`, then their number."""

    manager: str
    told: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, message: str) -> None:
        """Record one."""
        self.count += 1
        if len(self.told) < MAX_PROBLEMS:
            self.told.append(message)

    def shown(self) -> tuple[str, ...]:
        """Return the problems, and how many more there are."""
        more = self.count - len(self.told)
        return (
            (*self.told, f"{self.manager}: {more} more problems of this kind") if more else tuple(self.told)
        )


def owners_from(owned: Mapping[bytes, str]) -> FindOwners:
    """Return an answer from a table of paths that was made while the packages were read."""

    def find(wanted: Set[bytes]) -> Owners:
        return Owners({path: owned[path] for path in wanted if path in owned})

    return find


def flaw_of(package: Package) -> str:
    """Return what no package can have (a name or version with a space, or beyond ASCII), "" for nothing."""
    if _ODD.search(f"{package.name}{package.version}{package.architecture}{package.source}"):
        return f"{package.name[:64]!r}: name, version or architecture hold characters that none may have"
    return ""


def by_name(packages: list[Package]) -> tuple[Package, ...]:
    """Return the packages by name, architecture and version, each once."""
    return tuple(sorted(dict.fromkeys(packages), key=lambda one: (one.name, one.architecture, one.version)))
