"""Directory entries of exFAT: sets of 32 bytes each, with a checksum over all of a set."""

import codecs
from calendar import timegm
from struct import Struct
from typing import NamedTuple

from undercroft.errors import InputError

ENTRY_BYTES = 32
MAX_SET_BYTES = 19 * ENTRY_BYTES
"""A file, its stream, and 17 pieces of its name."""

IN_USE = 0x80
BITMAP, UPCASE, LABEL, FILE = 0x81, 0x82, 0x83, 0x85
_STREAM, _NAME = 0xC0, 0xC1
_BENIGN = 0x20
CHARS_PER_ENTRY = 15
NO_CHAIN = 0x2
DIRECTORY = 0x10

_FILE = Struct("<BBHH2xIIIBBBBB")
_STREAM_FIELDS = Struct("<BBxBH2xQ4xIQ")
_TABLE = Struct("<4xI12xIQ")


class Entry(NamedTuple):
    """A file or folder.

    Attributes:
        name: in the characters of the volume, as pairs of bytes.
        is_folder: whether it is one.
        modified_at_s: 0 where the stamp is none.
        first_cluster: untrusted, 0 where it is empty.
        size_bytes: of the content.
        written_bytes: of that, what was written; zeros follow.
        is_contiguous: whether its clusters have no chain.
    """

    name: bytes
    is_folder: bool
    modified_at_s: int
    first_cluster: int
    size_bytes: int
    written_bytes: int
    is_contiguous: bool


def set_bytes(first: bytes) -> int:
    """Return the length of the set that a file's entry begins. Raises InputError over the limit."""
    length = (first[1] + 1) * ENTRY_BYTES
    if not 3 * ENTRY_BYTES <= length <= MAX_SET_BYTES:
        raise InputError(f"exfat entry: a set of {length // ENTRY_BYTES} entries")
    return length


def parse_set(data: bytes, place: int) -> Entry:
    """Return the file of a whole set.

    Args:
        data: untrusted, of the length that `set_bytes` says.
        place: where it lies, for messages.

    Raises:
        InputError: it is malformed, or its checksum does not match.
    """
    what = f"exfat entry at {place}"
    _, _, found, attributes, _, modified, *_, zone, _ = _FILE.unpack_from(data)
    if found != (expected := set_checksum(data)):
        raise InputError(f"{what}: its checksum is {found:#x}, its bytes give {expected:#x}")
    kind, flags, length, _, written, cluster, size = _STREAM_FIELDS.unpack_from(data, ENTRY_BYTES)
    pieces = -(-length // CHARS_PER_ENTRY)
    names = [data[at : at + ENTRY_BYTES] for at in range(2 * ENTRY_BYTES, len(data), ENTRY_BYTES)]
    if kind != _STREAM or not length or len(names) < pieces or any(it[0] != _NAME for it in names[:pieces]):
        raise InputError(f"{what}: its stream of kind {kind:#x} has a name of {length} characters")
    if any(not it[0] & _BENIGN for it in names[pieces:]):
        raise InputError(f"{what}: its set holds what must not be passed over")
    name = b"".join(it[2:] for it in names[:pieces])[: 2 * length]
    if written > size:
        raise InputError(f"{what}: {written} bytes were written of {size}")
    return Entry(
        name=name,
        is_folder=bool(attributes & DIRECTORY),
        modified_at_s=_seconds(modified, zone),
        first_cluster=cluster,
        size_bytes=size,
        written_bytes=written,
        is_contiguous=bool(flags & NO_CHAIN),
    )


def parse_table(data: bytes) -> tuple[int, int, int]:
    """Return (checksum, first cluster, bytes) of the entry of the table of upper case."""
    checksum, cluster, size = _TABLE.unpack_from(data)
    return checksum, cluster, size


def set_checksum(data: bytes) -> int:
    """Return the checksum of a set (section 6.3.3)."""
    total = 0
    for index, byte in enumerate(data):
        if index not in (2, 3):
            total = ((total >> 1 | total << 15) + byte) & 0xFFFF
    return total


def shown_name(name: bytes) -> bytes:
    """Return a name in UTF-8. Raises InputError for one that could lead elsewhere."""
    shown = codecs.utf_16_le_decode(name, "surrogatepass")[0].encode("utf-8", "surrogatepass")
    if b"/" in shown or b"\0" in shown or shown in (b".", b".."):
        raise InputError("exfat entry: an impossible name")
    return shown


def _seconds(stamp: int, zone: int) -> int:
    """Return the seconds of a time stamp, whose zone is in quarters of an hour where its top bit is set."""
    date, time = stamp >> 16, stamp & 0xFFFF
    when = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, 2 * (time & 31))
    if not 1 <= when[1] <= 12 or not when[2]:
        return 0
    quarters = (zone & 0x7F) - (zone & 0x40) * 2 if zone & 0x80 else 0
    return timegm(when) - quarters * 900
