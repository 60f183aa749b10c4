"""The header of an rpm package as a database keeps it.

Guarantees: any bytes give a header or `InputError` that begins with "rpm header"; nothing is read beyond
the blob, and no count allocates more than the blob is long. Where the header carries a digest of its
immutable region, the region is checked against it before anything is taken from it.

Follows rpm's docs/manual/format.md ("Header structure") and lib/header.c (`hdrblobVerifyRegion`): two
counts, index entries of 16 bytes (tag, type, offset, count), and the store that they point into; all
big-endian. Entries behind the region ("dribbles") replace those in it.
"""

import hashlib
import struct
from dataclasses import dataclass

from undercroft.errors import InputError

MAX_ENTRIES = 0xFFFF
MAX_STORE_BYTES = 64 << 20
MAX_TEXT_BYTES = 4096
MAX_ITEMS = 1_000_000
"""Of one tag. The largest packages have 200,000 files."""

NAME, VERSION, RELEASE, EPOCH = 1000, 1001, 1002, 1003
VENDOR, ARCH, SOURCE_RPM = 1011, 1022, 1044
OLD_FILE_NAMES, DIR_INDEXES, BASE_NAMES, DIR_NAMES = 1027, 1116, 1117, 1118
MODULARITY_LABEL = 5096
SHA1, SHA256 = 269, 273

_REGION = 63
_REGION_BYTES = 16
_INT32, _STRING, _BINARY, _STRING_ARRAY, _I18N = 4, 6, 7, 8, 9
_MAGIC = bytes.fromhex("8eade80100000000")
_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">IIiI")


@dataclass(frozen=True, slots=True)
class Header:
    """The index and the store of one header.

    Attributes:
        index: (type, offset in the store, count) by tag.
        store: what the offsets point into.
        checked: whether a digest covers the region.
    """

    index: dict[int, tuple[int, int, int]]
    store: bytes
    checked: bool

    def text(self, tag: int) -> bytes:
        """Return a string, b"" for none; of one in several languages the first, which is C's.

        Raises:
            InputError: the tag is of another type, or its string does not end within its limit.
        """
        found = self.index.get(tag)
        if found is None:
            return b""
        kind, offset, _ = found
        if kind not in (_STRING, _I18N):
            raise InputError(f"rpm header: tag {tag} is of type {kind}, no text")
        end = self.store.find(b"\0", offset, offset + MAX_TEXT_BYTES + 1)
        if end < 0:
            raise InputError(f"rpm header: the text of tag {tag} has no end")
        return self.store[offset:end]

    def number(self, tag: int) -> int | None:
        """Return the first of the tag's 32-bit numbers, None for none. Raises InputError for another type."""
        return next(iter(self.numbers(tag)), None)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the tag's 32-bit numbers, () for none. Raises InputError for another type."""
        found = self.index.get(tag)
        if found is None:
            return ()
        kind, offset, count = found
        if kind != _INT32 or count > MAX_ITEMS or offset + 4 * count > len(self.store):
            raise InputError(f"rpm header: tag {tag} is of type {kind} with {count} items at {offset}")
        return struct.unpack_from(f">{count}I", self.store, offset)

    def texts(self, tag: int) -> list[bytes]:
        """Return the tag's strings, [] for none. Raises InputError for another type, or one without end."""
        found = self.index.get(tag)
        if found is None:
            return []
        kind, offset, count = found
        if kind != _STRING_ARRAY or count > min(MAX_ITEMS, len(self.store) - offset):
            raise InputError(f"rpm header: tag {tag} is of type {kind} with {count} texts")
        parts = self.store[offset:].split(b"\0", count)
        if len(parts) <= count:
            raise InputError(f"rpm header: tag {tag} has {len(parts) - 1} texts, not {count}")
        return parts[:count]


def parse_header(untrusted: bytes) -> Header:
    """Return the header in a database's blob.

    Raises:
        InputError: counts or offsets lead out of it, or its digest is another.
    """
    if len(untrusted) < _COUNTS.size:
        raise InputError(f"rpm header: {len(untrusted)} bytes")
    entries, store_bytes = _COUNTS.unpack_from(untrusted)
    start = _COUNTS.size + _ENTRY.size * entries
    if (
        not 0 < entries <= MAX_ENTRIES
        or store_bytes > MAX_STORE_BYTES
        or start + store_bytes > len(untrusted)
    ):
        raise InputError(f"rpm header: {entries} entries and {store_bytes} bytes in {len(untrusted)}")
    store = untrusted[start : start + store_bytes]
    index: dict[int, tuple[int, int, int]] = {}
    for tag, kind, offset, count in _ENTRY.iter_unpack(untrusted[_COUNTS.size : start]):
        if not 0 <= offset < store_bytes or count == 0:
            raise InputError(f"rpm header: tag {tag} at {offset} with {count} items")
        index[tag] = (kind, offset, count)
    checked = _check_region(untrusted, start, Header(index, store, checked=False))
    return Header(index, store, checked)


def _check_region(untrusted: bytes, start: int, header: Header) -> bool:
    """Compare the immutable region with its digest; False where the header has no region or no digest.

    Raises:
        InputError: they differ, or the region's trailer is malformed.
    """
    digest = header.text(SHA256) or header.text(SHA1)
    if _REGION not in header.index or not digest:
        return False
    kind, offset, count = header.index[_REGION]
    trailer = header.store[offset : offset + _REGION_BYTES]
    if kind != _BINARY or count != _REGION_BYTES or len(trailer) != _REGION_BYTES:
        raise InputError(f"rpm header: its region is of type {kind} with {count} bytes at {offset}")
    size = -_ENTRY.unpack(trailer)[2]
    if size % _ENTRY.size or not 0 < size <= start - _COUNTS.size:
        raise InputError(f"rpm header: a region of {size} bytes")
    digester = hashlib.sha256 if SHA256 in header.index else hashlib.sha1
    found = digester(
        _MAGIC + _COUNTS.pack(size // _ENTRY.size, offset + _REGION_BYTES), usedforsecurity=False
    )
    found.update(untrusted[_COUNTS.size : _COUNTS.size + size])
    found.update(header.store[: offset + _REGION_BYTES])
    if found.hexdigest().encode() != digest:
        raise InputError(
            f"rpm header: its digest is {digest.decode('ascii', 'replace')}, its bytes give another"
        )
    return True
