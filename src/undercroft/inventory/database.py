"""What every reader of a package database gives back."""

import re
from collections.abc import Callable, Set
from dataclasses import dataclass, field

from undercroft.model.inventory import Package

MAX_PROBLEMS = 20
MAX_OWNED = 500_000
MAX_OWNED_BYTES = 64 << 20
MAX_PATH_BYTES = 4096
MAX_CHARS = 1024
"""At which readers cut off a name or a version."""

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


@dataclass(slots=True)
class Owned:
    """Who owns which path, noted while the packages are read, within limits of number and memory.

    A file in a long folder costs its author a few bytes: the paths are counted as they are kept.
    """

    manager: str
    packages: dict[bytes, str] = field(default_factory=dict)
    total_bytes: int = 0
    is_full: bool = False

    def note(self, path: bytes, package: str) -> None:
        """Note a path's first owner; one that is longer than any kernel takes is nobody's."""
        if len(path) > MAX_PATH_BYTES or path in self.packages:
            return
        self.total_bytes += len(path)
        self.is_full = self.is_full or len(self.packages) >= MAX_OWNED or self.total_bytes > MAX_OWNED_BYTES
        if not self.is_full:
            self.packages[path] = package

    def find(self, wanted: Set[bytes]) -> Owners:
        """Tell who owns some paths."""
        owners = Owners({path: self.packages[path] for path in wanted if path in self.packages})
        if self.is_full:
            owners.problems.append(f"{self.manager}: more files have owners than the limit allows")
        return owners


def flaw_of(package: Package) -> str:
    """Return what no package can have (a space, letters beyond ASCII, endless names), "" for nothing."""
    if _ODD.search(f"{package.name}{package.version}{package.architecture}{package.source}"):
        return f"{package.name[:64]!r}: name, version or architecture hold characters that none may have"
    if max(map(len, (package.name, package.version, package.architecture, package.source))) >= MAX_CHARS:
        return f"{package.name[:64]!r}: name, version or architecture are longer than any, and may be cut off"
    return ""


def by_name(packages: list[Package]) -> tuple[Package, ...]:
    """Return the packages by name, architecture and version, each once."""
    return tuple(sorted(dict.fromkeys(packages), key=lambda one: (one.name, one.architecture, one.version)))
