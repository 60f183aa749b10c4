"""Node's packages in the folders of `npm install --global`, by their package.json.

Read are the packages themselves and those that they bring in their own node_modules, one deep: npm flattens
what it can.
"""

from collections.abc import Iterator

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.languages.finding import (
    MAX_METADATA_BYTES,
    Candidate,
    Finder,
    loads,
    package,
    unique_folders,
)
from undercroft.model.inventory import Package

FOLDERS = (
    b"/usr/lib/node_modules",
    b"/usr/local/lib/node_modules",
    b"/opt/*/lib/node_modules",
    b"/opt/*/node_modules",
)


def find(finder: Finder) -> Iterator[Candidate]:
    """Yield the package.json files. Raises LimitReached."""
    for folder in unique_folders(finder, FOLDERS):
        for path in _packages(finder, folder):
            yield _candidate(path)
            for inner in _packages(finder, path + b"/node_modules"):
                yield _candidate(inner)


def _packages(finder: Finder, folder: bytes) -> Iterator[bytes]:
    for name in finder.names(folder):
        if name.startswith(b"@"):
            yield from (folder + b"/" + name + b"/" + inner for inner in finder.names(folder + b"/" + name))
        elif not name.startswith(b"."):
            yield folder + b"/" + name


def _candidate(folder: bytes) -> Candidate:
    path = folder + b"/package.json"
    return Candidate(path, lambda tree: [_read(tree, path)], is_parsed=True)


def _read(tree: GuestTree, path: bytes) -> Package:
    try:
        found = loads(tree.read(path, MAX_METADATA_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError("npm: package.json is no JSON") from error
    name, version = (found.get("name"), found.get("version")) if isinstance(found, dict) else ("", "")
    if not isinstance(name, str) or not isinstance(version, str):
        raise InputError("npm: package.json names no package")
    return package("npm", name, version)
