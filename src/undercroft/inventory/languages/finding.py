"""Files that name packages, found in well-known folders within limits."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.model.inventory import Package

MAX_FOLDERS = 2000
MAX_LOOKED_AT = 20_000
"""Paths of which it is asked whether they are folders."""

MAX_ENTRIES = 200_000
MAX_CANDIDATES = 10_000
MAX_METADATA_BYTES = 1 << 20


class LimitReached(Exception):  # noqa: N818 - not an error: what was found until then counts
    """A finder has looked at as much as it may."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that names a package.

    Attributes:
        path: absolute, in the guest.
        read: gives the packages that it names. Raises InputError or NotFoundError.
        is_parsed: whether its whole content is; of others the name tells, or a few bytes.
    """

    path: bytes
    read: Callable[[GuestTree], list[Package]]
    is_parsed: bool = False


@dataclass(slots=True)
class Finder:
    """Looks into folders of a tree, and counts.

    Attributes:
        notes: folders that could not be read.
    """

    tree: GuestTree
    folders: int = 0
    entries: int = 0
    looked_at: int = 0
    notes: list[str] = field(default_factory=list)

    def names(self, folder: bytes) -> list[bytes]:
        """Return the names in a folder, sorted; none where it is missing. Raises LimitReached."""
        self.folders += 1
        if self.folders > MAX_FOLDERS:
            raise LimitReached
        names: list[bytes] = []
        try:
            for entry in self.tree.entries(folder):
                self.entries += 1
                if self.entries > MAX_ENTRIES:
                    raise LimitReached
                names.append(entry.name)
        except NotFoundError:
            return []
        except InputError as error:
            self.notes.append(f"{text(folder)} was not searched for packages: {error}")
        return sorted(names)

    def below(self, pattern: bytes) -> Iterator[bytes]:
        """Yield the folders that a path leads to; a part with a star stands for the names that begin so.

        A star takes each real folder once, so that lib64 -> lib is not listed twice. Raises LimitReached.
        """
        pending = [b""]
        for part in pattern.strip(b"/").split(b"/"):
            if b"*" not in part:
                pending = [base + b"/" + part for base in pending]
                continue
            start = part.partition(b"*")[0]
            pending = [
                base + b"/" + name for base in pending for name in self.names(base) if name.startswith(start)
            ]
        for folder in pending:
            if self._is_folder(folder):
                yield folder

    def _is_folder(self, path: bytes) -> bool:
        self.looked_at += 1
        if self.looked_at > MAX_LOOKED_AT:
            raise LimitReached
        try:
            return self.tree.stat(path).kind is FileKind.DIRECTORY
        except NotFoundError:
            return False
        except InputError as error:
            self.notes.append(f"{text(path)} was not searched for packages: {error}")
            return False


def unique_folders(finder: Finder, patterns: tuple[bytes, ...]) -> Iterator[bytes]:
    """Yield the folders of all patterns, each real one once. Raises LimitReached."""
    seen = set[bytes]()
    for pattern in patterns:
        for folder in finder.below(pattern):
            real = finder.tree.realpath(folder)
            if real not in seen:
                seen.add(real)
                yield real


def loads(untrusted: bytes) -> Any:
    """Return what JSON in UTF-8 says, with or without a byte order mark.

    The bytes are decoded here: by a mark, or zeros among the first four, json itself would choose a codec
    that is not loaded yet (utf-8-sig, utf-32-le), and a reader's child can load none.

    Raises:
        ValueError: it is no JSON, or in another encoding.
        RecursionError: it is nested too deep.
    """
    return json.loads(text(untrusted).removeprefix("\ufeff"))


def package(manager: str, name: str, version: str, origin: str = "") -> Package:
    """Return a package of a language: it is its own source, and of no architecture.

    Raises:
        InputError: a name or version is missing, or no text of one line.
    """
    for value in (name, version):
        if not value or len(value) > 1024 or not value.isprintable():
            raise InputError(f"{manager}: the name {name[:64]!r} with the version {version[:64]!r}")
    return Package(manager, name, version, "", name, version, origin=origin)
