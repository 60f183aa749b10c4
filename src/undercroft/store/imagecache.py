"""Kept answers of scans of many images: an SQLite file of this user's own.

Guarantees: a file that this user does not own, or that others may write, is not used: what it says would be
taken for what was read. A damaged or unwritable one is as good as none: an inventory counts only with its
digest, and no row that holds something else ends a scan. Each value is kept by itself and at once, so that it
outlives the process however that ends, and no scan waits for another one that stands still. What other
readers said (`undercroft.readers`) is not given again.
"""

import hashlib
import json
import os
import sqlite3
import stat
import threading
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.fleet import DiskRead, FileIdentity, ReadSet
from undercroft.model.images import KeptAnswer
from undercroft.model.inventory import Inventory, Package
from undercroft.model.looks import packages_digest
from undercroft.model.schema import decode, decode_list, encode
from undercroft.readers import readers_digest
from undercroft.store.fleet.digests import to_text

SCHEMA = 2
IN_MEMORY = ":memory:"
MAX_ANSWERS = 200_000
MAX_INVENTORY_BYTES = 16 << 20
MAX_INVENTORIES_IN_MEMORY = 32
WAIT_S = 5.0
"""For another scan's write, which takes a moment."""

UNUSABLE = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, InputError, zlib.error,
)  # fmt: skip
"""What a row may cause that holds something else than was written."""

_TABLES = """
CREATE TABLE IF NOT EXISTS info (
  path TEXT NOT NULL, format TEXT NOT NULL, identity TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (path, format)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
  path TEXT NOT NULL, state TEXT NOT NULL, inventory TEXT NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (path, state)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS inventory (
  digest TEXT PRIMARY KEY, packages TEXT NOT NULL, body BLOB NOT NULL, reads BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packages (digest TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
"""
Value = TypeVar("Value")


class SqliteImageCache:
    """A cache in a file.

    Args:
        path: of the file, made where there is none; `IN_MEMORY` for one that ends with the process.

    Attributes:
        problem: why it keeps nothing beyond this process, "" where it does.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._inventories: OrderedDict[str, Inventory] = OrderedDict()
        self._last_packages: tuple[tuple[Package, ...], str] = ((), packages_digest(()))
        self._database: sqlite3.Connection | None = None
        self._writes = True
        self._readers = readers_digest()
        self.problem = ""
        try:
            self._database = _opened(path)
        except (OSError, sqlite3.Error, InputError) as error:
            self.problem = f"{path}: not used as the cache of scans: {error}"
            self._database = _opened(IN_MEMORY)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    def info(self, identity: FileIdentity, image_format: DiskFormat | None) -> ImageInfo | None:
        """Return what is kept of a file. See `ports.imagecache`."""
        row = self._row("SELECT identity, body FROM info WHERE path = ? AND format = ?",
                        _text(identity.path), image_format or "")  # fmt: skip
        if row is None or row[0] != self._identity(identity):
            return None
        return _decoded(ImageInfo, row[1])

    def keep_info(self, identity: FileIdentity, image_format: DiskFormat | None, info: ImageInfo) -> None:
        """Keep what a file said of itself."""
        if identity.proves:
            values = (_text(identity.path), image_format or "", self._identity(identity), to_text(info))
            self._write("INSERT OR REPLACE INTO info VALUES (?, ?, ?, ?)", *values)

    def answer(self, path: str, state: str) -> KeptAnswer | None:
        """Return the last answer about a state, with what proves its inventory."""
        row = self._row(
            "SELECT answer.body, inventory.digest, inventory.reads FROM answer JOIN inventory"
            " ON inventory.digest = answer.inventory WHERE path = ? AND state = ?",
            _text(path),
            _text(state),
        )
        if row is None:
            return None
        try:
            readers, files, inputs = json.loads(row[0])
            if readers != self._readers:
                return None
            identities = tuple(decode(FileIdentity, file) for file in files)
            return KeptAnswer(row[1], identities, str(inputs), _reads(row[2]))
        except UNUSABLE:
            return None

    def keep_answer(self, path: str, state: str, answer: KeptAnswer) -> None:
        """Keep an answer."""
        body = json.dumps([self._readers, [encode(file) for file in answer.files], answer.inputs])
        statement = "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)"
        self._write(statement, _text(path), _text(state), answer.inventory, body)

    def inventory(self, digest: str) -> Inventory | None:
        """Return a kept inventory; the same object as long as it is in memory."""
        with self._lock:
            if digest in self._inventories:
                self._inventories.move_to_end(digest)
                return self._inventories[digest]
        row = self._row(
            "SELECT inventory.body, packages.body FROM inventory JOIN packages"
            " ON packages.digest = inventory.packages WHERE inventory.digest = ?",
            digest,
        )
        found = _inventory(digest, *row) if row else None
        if found is not None:
            self._remember(digest, found)
        return found

    def keep_inventory(self, inventory: Inventory, reads: ReadSet | None) -> str:
        """Keep an inventory and what proves it; return its digest. Equal lists of packages are kept once."""
        packages = self._packages_digest(inventory.packages)
        rest = to_text(replace(inventory, packages=())).encode("ascii")
        digest = _digest(packages, rest)
        self._remember(digest, inventory)
        if self._row("SELECT 1 FROM packages WHERE digest = ?", packages) is None:
            listed = zlib.compress(to_text(inventory.packages).encode("ascii"), 1)
            self._write("INSERT OR REPLACE INTO packages VALUES (?, ?)", packages, listed)
        proof = None if reads is None else zlib.compress(_packed(reads).encode("ascii"), 1)
        body = zlib.compress(rest, 1)
        self._write("INSERT OR REPLACE INTO inventory VALUES (?, ?, ?, ?)", digest, packages, body, proof)
        return digest

    def _packages_digest(self, packages: tuple[Package, ...]) -> str:
        """Return the digest of a list; the last one is known as long as it is the same object."""
        last, digest = self._last_packages
        if last is not packages:
            digest = packages_digest(packages)
            self._last_packages = (packages, digest)
        return digest

    def _remember(self, digest: str, inventory: Inventory) -> None:
        with self._lock:
            self._inventories[digest] = inventory
            while len(self._inventories) > MAX_INVENTORIES_IN_MEMORY:
                self._inventories.popitem(last=False)

    def _row(self, statement: str, *values: str) -> tuple[Any, ...] | None:
        with self._lock:
            if self._database is None:
                return None
            try:
                row: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
            except sqlite3.Error:
                return None
            return row

    def _write(self, statement: str, *values: str | bytes | None) -> None:
        with self._lock:
            if self._database is None or not self._writes:
                return
            try:
                self._database.execute(statement, values)
            except (sqlite3.Error, OverflowError) as error:
                self._writes = False  # each further try would cost the wait again
                self.problem = f"the cache of scans cannot be written, and keeps nothing more: {error}"

    def _identity(self, identity: FileIdentity) -> str:
        return json.dumps(
            [self._readers, identity.device, identity.inode, identity.size_bytes, identity.modified_ns,
             identity.changed_ns]
        )  # fmt: skip


def _opened(path: str) -> sqlite3.Connection:
    """Return the database in a file. Raises OSError, sqlite3.Error, InputError."""
    if path != IN_MEMORY:
        _check_own(path)
    database = sqlite3.connect(path, timeout=WAIT_S, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = OFF")  # what a power cut loses is read again
    if database.execute("PRAGMA user_version").fetchone()[0] not in {0, SCHEMA}:
        for table in ("info", "answer", "inventory", "packages"):
            database.execute(f"DROP TABLE IF EXISTS {table}")
    database.executescript(_TABLES)
    database.execute(f"PRAGMA user_version = {SCHEMA}")
    _shrink(database)
    return database


def _check_own(path: str) -> None:
    """Make the file where there is none. Raises InputError where others could have written it."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for status, what in ((os.fstat(descriptor), path), (os.stat(folder), folder)):
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InputError(f"{what} is not this user's alone; remove it, or `chmod go-w` it")
    finally:
        os.close(descriptor)


def _shrink(database: sqlite3.Connection) -> None:
    """Drop what no answer needs, and all of it where it has grown past its limit."""
    if database.execute("SELECT count(*) FROM answer").fetchone()[0] > MAX_ANSWERS:
        database.execute("DELETE FROM answer")
        database.execute("DELETE FROM info")
    database.execute("DELETE FROM inventory WHERE digest NOT IN (SELECT inventory FROM answer)")
    database.execute("DELETE FROM packages WHERE digest NOT IN (SELECT packages FROM inventory)")


def _decoded(cls: type[Value], body: str) -> Value | None:
    try:
        return decode(cls, json.loads(body))
    except UNUSABLE:
        return None


def _digest(packages: str, rest: bytes) -> str:
    return hashlib.sha256(packages.encode("ascii") + rest).hexdigest()


def _inventory(digest: str, body: bytes, packages: bytes) -> Inventory | None:
    """Return the inventory of that digest, None where the rows hold something else."""
    try:
        rest = _unpacked(body)
        listed = decode_list(Package, json.loads(_unpacked(packages)))
        if _digest(packages_digest(listed), rest) != digest:
            return None
        return replace(decode(Inventory, json.loads(rest)), packages=listed)
    except UNUSABLE:
        return None


def _unpacked(body: bytes) -> bytes:
    """Return what was compressed, cut where it is larger than anything that was kept here."""
    return zlib.decompressobj().decompress(body, MAX_INVENTORY_BYTES)


def _packed(reads: ReadSet) -> str:
    triples = [[read.disk, read.offset, read.length] for read in reads.reads]
    return json.dumps({"reads": triples, "sizes": reads.sizes, "digest": reads.digest})


def _reads(body: bytes | None) -> ReadSet | None:
    if body is None:
        return None
    found: Mapping[str, Any] = json.loads(_unpacked(body))
    reads = tuple(DiskRead(int(disk), int(offset), int(length)) for disk, offset, length in found["reads"])
    return ReadSet(reads, tuple(map(int, found["sizes"])), str(found["digest"]))


def _text(value: str) -> str:
    """Return a path or name as text that SQLite takes: undecodable bytes and backslashes as escapes."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if not value.isascii() else value
