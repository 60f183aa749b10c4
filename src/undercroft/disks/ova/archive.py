"""The members of a tar archive, where they lie in it: ustar, GNU and pax headers, nothing unpacked.

Guarantees: at most `MAX_MEMBERS`; a header's checksum is checked; members lie in the archive; no link is
followed and no name is opened. Follows POSIX.1-2017, pax, "ustar Interchange Format", and GNU tar's long
names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

BLOCK_BYTES: Final = 512
MAX_MEMBERS: Final = 1024
MAX_EXTENSION_BYTES: Final = 64 << 10
MAGIC: Final = b"ustar"
MAGIC_OFFSET: Final = 257

_REGULAR: Final = (b"0", b"\0", b"7")
_GNU_LONG_NAME, _PAX, _PAX_GLOBAL = b"L", b"x", b"g"
_PAX_RECORD: Final = re.compile(rb"([0-9]{1,6}) ([A-Za-z.]+)=")


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of the archive."""

    name: str
    offset: int
    size_bytes: int


def members(source: BlockSource, name: str) -> Iterator[Member]:
    """Yield the regular files of an archive, in its order.

    Args:
        source: the archive, untrusted.
        name: of the archive, for messages.

    Raises:
        InputError: a header is damaged, a member passes the end, a limit is passed.
    """
    position, count = 0, 0
    long_name, long_size = "", -1
    while position + BLOCK_BYTES <= source.size_bytes:
        header = source.read(position, BLOCK_BYTES)
        if not any(header):
            return
        count += 1
        if count > MAX_MEMBERS:
            raise InputError(f"{name}: over {MAX_MEMBERS} members")
        kind, size_bytes = header[156:157], _checked_size(header, f"{name}: the tar header at {position}")
        if long_size >= 0 and kind in _REGULAR:
            size_bytes = long_size
        data = position + BLOCK_BYTES
        if data + size_bytes > source.size_bytes:
            raise InputError(f"{name}: its member at {position} lies beyond its end (truncated?)")
        if kind in (_GNU_LONG_NAME, _PAX):
            if size_bytes > MAX_EXTENSION_BYTES:
                raise InputError(f"{name}: a tar extension of {size_bytes} bytes at {position}")
            extension = source.read(data, size_bytes)
            if kind == _GNU_LONG_NAME:
                long_name = _text(extension)
            else:
                long_name, long_size = _pax(extension, long_name, f"{name}: the pax header at {position}")
        elif kind != _PAX_GLOBAL:
            if kind in _REGULAR:
                yield Member(long_name or _name(header), data, size_bytes)
            long_name, long_size = "", -1
        position = data + -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _checked_size(header: bytes, what: str) -> int:
    stated = _number(header[148:156], what)
    if stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise InputError(f"{what} is damaged, its checksum is wrong")
    return _number(header[124:136], what)


def _number(field: bytes, what: str) -> int:
    """Return an octal number, or GNU's binary one. Raises InputError."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{0,12}", digits):
        raise InputError(f"{what} has the malformed number {field!r}")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _pax(records: bytes, long_name: str, what: str) -> tuple[str, int]:
    """Return the path and the size that pax records say; "" and -1 where they say none."""
    size_bytes, position = -1, 0
    while position < len(records) and records[position]:
        found = _PAX_RECORD.match(records, position)
        length = int(found.group(1)) if found else 0
        if found is None or not found.end() - position < length <= len(records) - position:
            raise InputError(f"{what} is malformed")
        value = records[found.end() : position + length - 1]
        if found.group(2) == b"path":
            long_name = _text(value)
        elif found.group(2) == b"size":
            if not re.fullmatch(rb"[0-9]{1,18}", value):
                raise InputError(f"{what} has a malformed size")
            size_bytes = int(value)
        position += length
    return long_name, size_bytes


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
