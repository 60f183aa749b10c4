"""Python's packages, by the metadata that pip leaves (PEP 376, "Core metadata specifications")."""

from collections.abc import Iterator

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.languages.finding import (
    MAX_METADATA_BYTES,
    Candidate,
    Finder,
    package,
    unique_folders,
)
from undercroft.model.inventory import Package

FOLDERS = tuple(
    b"%s/python3*/%s" % (base, packages)
    for base in (
        b"/usr/lib",
        b"/usr/lib64",
        b"/usr/local/lib",
        b"/usr/local/lib64",
        b"/opt/*/lib",
        b"/opt/*/venv/lib",
    )
    for packages in (b"site-packages", b"dist-packages")
)

OF_DEBIAN = b"/usr/lib/python3/dist-packages"
"""Debian's packages alone lie there, and pip installs beside it: nobody is asked who owns them."""


def find(finder: Finder) -> Iterator[Candidate]:
    """Yield the metadata of installed distributions. Raises LimitReached."""
    for folder in unique_folders(finder, FOLDERS):
        if folder == OF_DEBIAN:
            continue
        for name in finder.names(folder):
            if name.endswith(b".dist-info"):
                yield _candidate(folder + b"/" + name + b"/METADATA")
            elif name.endswith(b".egg-info"):
                path = folder + b"/" + name
                inner = path + b"/PKG-INFO"
                yield _candidate(inner if finder.tree.exists(inner) else path)


def _candidate(path: bytes) -> Candidate:
    return Candidate(path, lambda tree: [_read(tree, path)], is_parsed=True)


def _read(tree: GuestTree, path: bytes) -> Package:
    fields: dict[str, str] = {}
    for line in text(tree.read(path, MAX_METADATA_BYTES)).splitlines():
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.lower(), value.strip())
    if "metadata-version" not in fields:
        raise InputError("pypi: no metadata of a Python package")
    return package("pypi", fields.get("name", ""), fields.get("version", ""))
