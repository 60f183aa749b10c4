"""rpm's own database format, ndb (Packages.db of SUSE): a table of slots, and blobs behind it.

Guarantees: each slot in use gives its header's bytes or a problem; lengths and checksums of blobs are
checked. Follows rpm's lib/backend/ndb/rpmpkg.c: little-endian, blobs in units of 16 bytes, the tail with
an Adler-32 over the blob's head and content.
"""

import struct
import zlib
from collections.abc import Iterator

from undercroft.errors import InputError
from undercroft.inventory.guestfile import GuestFile

MAX_PAGES = 4096
"""Slot pages: a million packages."""

MAX_BLOB_BYTES = 64 << 20

_PAGE_BYTES = 4096
_UNIT_BYTES = 16
_HEADER = struct.Struct("<4s4I")
_SLOT = struct.Struct("<4s3I")
_HEAD = struct.Struct("<4s3I")
_TAIL = struct.Struct("<2I4s")
_HEADER_BYTES = 32


def read_blobs(file: GuestFile) -> Iterator[tuple[int, bytes | InputError]]:
    """Yield (package number, header or what is wrong with its blob).

    Raises:
        InputError: the file's header or slots are malformed.
    """
    magic, version, _, pages, _ = _HEADER.unpack(file.read(0, _HEADER.size))
    if magic != b"RpmP" or version != 0 or not 0 < pages <= MAX_PAGES:
        raise InputError(f"rpm ndb: magic {magic!r}, version {version}, {pages} pages of slots")
    slots = file.read(_HEADER_BYTES, pages * _PAGE_BYTES - _HEADER_BYTES)
    seen = set[int]()
    total = 0
    for marker, number, offset, count in _SLOT.iter_unpack(slots):
        if marker != b"Slot":
            raise InputError(f"rpm ndb: {marker!r} in the place of a slot")
        if (number, offset, count) == (0, 0, 0):
            continue
        if number in seen or number == 0 or offset < pages * _PAGE_BYTES // _UNIT_BYTES:
            raise InputError(f"rpm ndb: a slot of package {number} at {offset} that none can be")
        seen.add(number)
        total += count * _UNIT_BYTES
        if total > file.size_bytes:
            raise InputError("rpm ndb: the blobs of its slots are longer than the file: they overlap")
        try:
            yield number, _blob(file, number, offset * _UNIT_BYTES, count * _UNIT_BYTES)
        except InputError as error:
            yield number, error


def _blob(file: GuestFile, number: int, offset: int, length: int) -> bytes:
    if not _HEAD.size + _TAIL.size <= length <= MAX_BLOB_BYTES:
        raise InputError(f"rpm ndb blob of package {number}: {length} bytes")
    data = file.read(offset, length)
    marker, found, _, size = _HEAD.unpack_from(data)
    checksum, size_again, end = _TAIL.unpack_from(data, length - _TAIL.size)
    if (marker, found, end) != (b"BlbS", number, b"BlbE") or size != size_again:
        raise InputError(f"rpm ndb blob of package {number}: its head and tail are not a package's")
    if -(-(size + _HEAD.size + _TAIL.size) // _UNIT_BYTES) * _UNIT_BYTES != length:
        raise InputError(f"rpm ndb blob of package {number}: {size} bytes in {length}")
    if zlib.adler32(data[: length - _TAIL.size]) != checksum:
        raise InputError(f"rpm ndb blob of package {number}: its checksum is another")
    return data[_HEAD.size : _HEAD.size + size]
