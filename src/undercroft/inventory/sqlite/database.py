"""Pages, table b-trees and the schema of SQLite's file format (sections 1.3 to 1.6 and 2.6)."""

import re
import struct
from collections.abc import Iterator

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.guestfile import GuestFile
from undercroft.inventory.sqlite.records import Value, decode_record, read_varint
from undercroft.inventory.sqlite.wal import MAX_PAGE_BYTES, MIN_PAGE_BYTES, Overlay, read_journal, read_wal

MAGIC = b"SQLite format 3\0"
MAX_DEPTH = 20
"""SQLite's own limit (BTCURSOR_MAX_DEPTH)."""

MAX_ROWS = 2_000_000
MAX_ROW_BYTES = 64 << 20
MAX_TABLES = 10_000
MAX_PAGES = 1_000_000
"""4 GiB in pages of 4 KiB. Those that a walk has seen are kept as numbers."""

MAX_DEFINITION_CHARS = 1 << 20

_LEAF, _INTERIOR = 0x0D, 0x05
_UTF8 = 1
_SCHEMA_COLUMNS = (0, 1, 3, 4)  # type, name, rootpage, sql
_NAME = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|`([^`]*)`|\[([^\]]*)\]|(\w+))""")
_CONSTRAINTS = frozenset({"constraint", "primary", "unique", "check", "foreign"})


class Database:
    """The tables of one database file with the log that lies beside it.

    Attributes:
        log: what of a log stands in place of the file's own pages, "" for nothing.
        problem: why what was committed may not be all there, "" for nothing.
    """

    def __init__(self, tree: GuestTree, path: bytes) -> None:
        """Read the header, the logs and the schema.

        Raises:
            NotFoundError: there is no such file.
            InputError: header, log or schema is malformed, or of an encoding other than UTF-8.
        """
        self._file = GuestFile(tree, path)
        self._overlay = Overlay()
        self.log = self.problem = ""
        page_bytes = self._page_size(self._file)
        for suffix, read in ((b"-wal", read_wal), (b"-journal", read_journal)):
            try:
                overlay = read(GuestFile(tree, path + suffix), page_bytes)
            except NotFoundError:
                continue
            self.problem = self.problem or overlay.problem
            if overlay.page_count:
                self._overlay = overlay
                self.log = f"{len(overlay.places)} pages of {suffix.decode()[1:]}"
                break
        self._page_bytes = page_bytes
        self._page_count = self._overlay.page_count or -(-self._file.size_bytes // page_bytes)
        if self._page_count > MAX_PAGES:
            raise InputError(f"sqlite: {self._page_count} pages, the limit is {MAX_PAGES}")
        header = self._page(1)[:100]
        if header[:16] != MAGIC:
            raise InputError("sqlite: the first page is no database's")
        encoding = int.from_bytes(header[56:60], "big")
        if encoding not in (0, _UTF8):
            raise InputError(f"sqlite: texts in encoding {encoding} are not read")
        self._usable = page_bytes - header[20]
        if self._usable < 480:
            raise InputError(f"sqlite: pages with {self._usable} usable bytes")
        self._tables = self._schema()

    def rows(self, table: str, columns: tuple[str, ...]) -> Iterator[list[Value]]:
        """Yield the columns of each row in the order of the row ids; None for one that the row lacks.

        Raises:
            NotFoundError: there is no such table.
            InputError: a column is missing, or a page or row is malformed; also midway.
        """
        found = self._tables.get(table.lower())
        if found is None:
            raise NotFoundError(f"sqlite: the table {table} is missing")
        root, definition = found
        if len(definition) > MAX_DEFINITION_CHARS:
            raise InputError(f"sqlite: the table {table} has a definition of {len(definition)} characters")
        names = _column_names(definition)
        for column in columns:
            if column.lower() not in names:
                raise InputError(f"sqlite: the table {table} has no column {column}")
        wanted = tuple(names.index(column.lower()) for column in columns)
        identity = _identity_column(definition, names)
        for row, payload in self._walk(root):
            values = decode_record(payload, wanted)
            if identity in wanted:
                values[wanted.index(identity)] = row
            yield values

    def _schema(self) -> dict[str, tuple[int, str]]:
        tables: dict[str, tuple[int, str]] = {}
        for _, payload in self._walk(1):
            kind, name, root, definition = decode_record(payload, _SCHEMA_COLUMNS)
            if kind != "table" or not isinstance(name, str):
                continue
            if len(tables) >= MAX_TABLES:
                raise InputError(f"sqlite: more than {MAX_TABLES} tables")
            if isinstance(root, int) and isinstance(definition, str):
                tables[name.lower()] = (root, definition)
        return tables

    def _walk(self, root: int) -> Iterator[tuple[int, bytes]]:
        """Yield (row id, payload) of a table b-tree; each page is entered once, row ids ascend."""
        pending = [(root, 0)]
        seen = {root}
        rows, last, total = 0, -(1 << 63) - 1, 0
        while pending:
            number, depth = pending.pop()
            page = self._page(number)
            start = 100 if number == 1 else 0
            kind, _, count = struct.unpack_from(">BHH", page, start)
            header = 8 if kind == _LEAF else 12
            if kind not in (_LEAF, _INTERIOR) or start + header + 2 * count > self._usable:
                raise InputError(f"sqlite page {number}: no page of a table with rows")
            pointers = struct.unpack_from(f">{count}H", page, start + header)
            if kind == _INTERIOR:
                children = [self._child(page, pointer) for pointer in pointers]
                children.append(int.from_bytes(page[start + 8 : start + 12], "big"))
                if depth >= MAX_DEPTH or not seen.isdisjoint(children) or len(set(children)) < len(children):
                    raise InputError(f"sqlite page {number}: its table is no tree")
                seen.update(children)
                pending += [(child, depth + 1) for child in reversed(children)]
                continue
            for pointer in pointers:
                row, payload = self._cell(page, pointer)
                rows += 1
                total += len(payload)
                if row <= last or rows > MAX_ROWS:
                    raise InputError(f"sqlite page {number}: row {row} behind row {last}")
                if total > self._page_count * self._page_bytes:  # rows that share their overflow pages
                    raise InputError(f"sqlite page {number}: its table's rows hold more than all pages do")
                last = row
                yield row, payload

    def _child(self, page: bytes, pointer: int) -> int:
        if pointer + 4 > self._usable:
            raise InputError("sqlite: a cell lies outside of its page")
        return int.from_bytes(page[pointer : pointer + 4], "big")

    def _cell(self, page: bytes, pointer: int) -> tuple[int, bytes]:
        """Return (row id, payload) of a leaf's cell, with its overflow pages."""
        size, at = read_varint(page, pointer)
        row, at = read_varint(page, at)
        row -= (row >> 63) << 64
        if size > MAX_ROW_BYTES:
            raise InputError(f"sqlite row {row}: {size} bytes, the limit is {MAX_ROW_BYTES}")
        local = _local_bytes(size, self._usable)
        if at + local + (4 if local < size else 0) > self._usable:
            raise InputError(f"sqlite row {row}: its cell lies outside of its page")
        if local == size:
            return row, page[at : at + size]
        data = bytearray(page[at : at + local])
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        while len(data) < size:
            overflow = self._page(following)
            data += overflow[4 : min(self._usable, 4 + size - len(data))]
            following = int.from_bytes(overflow[:4], "big")
        if following:
            raise InputError(f"sqlite row {row}: more pages than its {size} bytes take")
        return row, bytes(data)

    def _page(self, number: int) -> bytes:
        if not 1 <= number <= self._page_count:
            raise InputError(f"sqlite: page {number} of {self._page_count}")
        place = self._overlay.places.get(number)
        if place is not None and self._overlay.file is not None:
            return self._overlay.file.read(place, self._page_bytes)
        return self._file.read((number - 1) * self._page_bytes, self._page_bytes)

    def _page_size(self, file: GuestFile) -> int:
        if file.size_bytes < 512:
            raise InputError(f"sqlite: {file.size_bytes} bytes are no database")
        header = file.read(0, 100)
        size = int.from_bytes(header[16:18], "big")
        size = MAX_PAGE_BYTES if size == 1 else size
        if header[:16] != MAGIC or not MIN_PAGE_BYTES <= size <= MAX_PAGE_BYTES or size & (size - 1):
            raise InputError("sqlite: the file does not begin as a database does")
        return size


def _local_bytes(size: int, usable: int) -> int:
    """Return how much of a payload stands in its leaf page (section 1.6)."""
    most = usable - 35
    if size <= most:
        return size
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    return local if local <= most else least


def _column_names(definition: str) -> list[str]:
    """Return the columns of a CREATE TABLE statement in lower case, in their order."""
    names: list[str] = []
    for part in _parts(definition):
        match = _NAME.match(part)
        name = next((group for group in match.groups() if group is not None), "") if match else ""
        if match and match[5] and name.lower() in _CONSTRAINTS:
            break
        names.append(name.lower())
    return names


def _identity_column(definition: str, names: list[str]) -> int:
    """Return the column that stands for the row id (INTEGER PRIMARY KEY), -1 for none."""
    for number, part in enumerate(_parts(definition)[: len(names)]):
        words = re.sub(_NAME, "", part, count=1).lower().split()
        if words[:3] == ["integer", "primary", "key"]:
            return number
    return -1


def _parts(definition: str) -> list[str]:
    """Return what stands between the commas of the outermost parentheses."""
    parts: list[str] = []
    depth, start, quote = 0, definition.find("(") + 1, ""
    for at in range(start, len(definition)):
        char = definition[at]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'`":
            quote = char
        elif char == "(":
            depth += 1
        elif (char == "," and depth == 0) or (char == ")" and depth == 0):
            parts.append(definition[start:at])
            start = at + 1
            if char == ")":
                break
        elif char == ")":
            depth -= 1
    return parts
