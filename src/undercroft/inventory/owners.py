"""Which package owns a path, by dpkg's file lists (/var/lib/dpkg/info/PACKAGE.list).

Guarantees: answers only for the paths that are asked for, and reads the lists only then. A list that
cannot be read is a problem, because what it owns would look as if nobody owned it.
"""

from collections.abc import Set
from io import BytesIO

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import Owners

LISTS = b"/var/lib/dpkg/info"
MAX_LISTS = 100_000
MAX_LIST_BYTES = 32 << 20
MAX_ALL_LISTS_BYTES = 256 << 20
"""A desktop's lists have 30 MiB together."""

MAX_PROBLEMS = 10


def find_owners(tree: GuestTree, wanted: Set[bytes]) -> Owners:
    """Return who owns the paths `wanted`. Malformed lists become problems."""
    owners = Owners()
    wanted_lines = {path + b"\n" for path in wanted}
    total = count = 0
    try:
        for entry in tree.entries(LISTS):
            count += 1
            if count > MAX_LISTS or total > MAX_ALL_LISTS_BYTES:
                raise InputError("more files or bytes than the limit allows")
            if not entry.name.endswith(b".list"):
                continue
            try:
                paths = tree.read_entry(entry, MAX_LIST_BYTES)
            except InputError as error:
                _add_problem(owners, f"{text(LISTS + b'/' + entry.name)} could not be read: {error}")
                continue
            total += len(paths)
            package = text(entry.name[: -len(b".list")].partition(b":")[0])
            for line in wanted_lines.intersection(BytesIO(paths)):  # by lines, and never all of them at once
                owners.packages.setdefault(line[:-1], package)
    except NotFoundError:
        pass
    except InputError as error:
        _add_problem(owners, f"{text(LISTS)}: {error}")
    return owners


def _add_problem(owners: Owners, text: str) -> None:
    if len(owners.problems) < MAX_PROBLEMS:
        owners.problems.append(text)
