"""Packages by dpkg's own database: status, its journal in updates/, and distroless' status.d/.

Guarantees: every package whose files are present comes out once per architecture, with the source
package that it was built from; what cannot be parsed becomes a problem that names file and line, and
the rest is read. Any bytes give an answer within the limits below.

Follows dpkg(1) and dpkg's lib/dpkg/dbmodify.c for the files and their order; `dpkgstatus` reads what
stands in them.
"""

from collections.abc import Iterator

from undercroft.disks.text import text
from undercroft.disks.tree import Entry, GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.database import Database
from undercroft.inventory.dpkgstatus import PackageReader
from undercroft.inventory.owners import find_owners

ADMIN = b"/var/lib/dpkg"
STATUS = ADMIN + b"/status"
UPDATES = ADMIN + b"/updates"
STATUS_D = ADMIN + b"/status.d"

MAX_STATUS_BYTES = 32 << 20
"""A desktop with 5,000 packages has 8 MiB."""

MAX_UPDATE_FILES = 1000
"""dpkg merges its journal into status after 250 files (MAXUPDATES)."""

MAX_UPDATE_BYTES = 1 << 20
MAX_STATUS_D_FILES = 5000


def read_database(tree: GuestTree) -> Database:
    """Return the packages of the dpkg database in `tree`. Unreadable files become problems."""
    reader = PackageReader()
    found = False
    for path, read in ((STATUS, _read_status), (UPDATES, _read_updates), (STATUS_D, _read_status_d)):
        try:
            found = read(tree, reader) or found
        except NotFoundError:
            continue
        except InputError as error:
            found = True
            reader.problem(f"{text(path)} could not be read: {error}")
    return Database(
        found, reader.present(), reader.shown_problems(), lambda wanted: find_owners(tree, wanted)
    )


def _read_status(tree: GuestTree, reader: PackageReader) -> bool:
    reader.read_status(tree.read(STATUS, MAX_STATUS_BYTES), text(STATUS))
    return True


def _read_updates(tree: GuestTree, reader: PackageReader) -> bool:
    """Apply the journal: files named by digits only, in their order; others are dpkg's scratch files."""
    names = _bounded(tree.entries(UPDATES), MAX_UPDATE_FILES, UPDATES)
    journal = sorted((entry for entry in names if entry.name.isdigit()), key=lambda entry: entry.name)
    for entry in journal:
        place = f"{text(UPDATES)}/{text(entry.name)}"
        reader.read_update(tree.read_entry(entry, MAX_UPDATE_BYTES), place)
    return bool(journal)


def _read_status_d(tree: GuestTree, reader: PackageReader) -> bool:
    entries = _bounded(tree.entries(STATUS_D), MAX_STATUS_D_FILES, STATUS_D)
    stanzas = [entry for entry in entries if not entry.name.endswith((b".md5sums", b".preinst", b".list"))]
    for entry in sorted(stanzas, key=lambda entry: entry.name):
        place = f"{text(STATUS_D)}/{text(entry.name)}"
        try:
            reader.read_single(tree.read_entry(entry, MAX_UPDATE_BYTES), place)
        except InputError as error:
            reader.problem(f"{place} could not be read: {error}")
    return bool(stanzas)


def _bounded(entries: Iterator[Entry], limit: int, path: bytes) -> list[Entry]:
    kept: list[Entry] = []
    for entry in entries:
        if len(kept) >= limit:
            raise InputError(f"{text(path)}: more than {limit} files")
        kept.append(entry)
    return kept
