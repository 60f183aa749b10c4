"""What a reader's child says of an image of many: at a first look, and beside what is known already."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

from undercroft.model.disk import ImageInfo
from undercroft.model.inventory import Package
from undercroft.model.job import ProvenInventory

_ALL_FIELDS = attrgetter(*(field.name for field in fields(Package)))


@dataclass(frozen=True, slots=True)
class Looked:
    """One file's account of itself, from a child that looked at several; nothing in it is trusted.

    Attributes:
        info: None where it is no image that can be opened.
        content: what a raw file begins with ("gpt", "mbr", "ext", "iso9660", ...), "" for nothing known.
        problem: why there is no `info`, "" where there is.
    """

    info: ImageInfo | None
    content: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of looking at an image and reading recorded ranges of its disk again, in one child.

    Attributes:
        info: the top image's account of itself.
        digests: as `Replayed.digests`.
        found: what a reading gives, where no set was found to be what it was; without its packages where
            `same_packages` says that they are those whose digest the host named.
    """

    info: ImageInfo
    digests: tuple[str, ...]
    found: ProvenInventory | None = None
    same_packages: bool = False


def packages_digest(packages: Sequence[Package]) -> str:
    """Return the SHA-256 over all fields of packages in their order, in hexadecimal."""
    return hashlib.sha256(
        json.dumps([_ALL_FIELDS(package) for package in packages]).encode("ascii")
    ).hexdigest()
