"""Directory entries of FAT: 32 bytes each, the long name in those before the short one."""

import codecs
from calendar import timegm
from struct import Struct
from typing import NamedTuple

from undercroft.errors import InputError

ENTRY_BYTES = 32
DELETED, END = 0xE5, 0x00
LABEL, FOLDER, LONG = 0x08, 0x10, 0x0F
_LONG_MASK = 0x3F
_LAST, _ORDER_MASK = 0x40, 0x3F
MAX_PARTS = 20
"""255 characters, 13 in each."""
_ESCAPED_E5 = 0x05
_LOWER_NAME, _LOWER_EXTENSION = 0x08, 0x10
_FIELDS = Struct("<11sBB7xHHHHI")
"""Name, attributes, case, high half of the cluster, time, date, low half, size."""
_UPPER_HALF = bytes(range(128, 256)).decode("cp437")
"""Decoded when this is loaded: a reader in its sandbox can import no codec."""


class Entry(NamedTuple):
    """A file, a folder or the label.

    Attributes:
        name: the long one where there is one, in UTF-8.
        short: the short one, in UTF-8.
        attributes: as they are.
        cluster: untrusted first one, 0 where it is empty.
        size_bytes: of a file.
        modified_at_s: as if the volume's local time were UTC; 0 for none.
    """

    name: bytes
    short: bytes
    attributes: int
    cluster: int
    size_bytes: int
    modified_at_s: int

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return bool(self.attributes & FOLDER)


class LongName:
    """The parts of a long name as they come, last part first, before the short name that they belong to."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._next = self._checksum = 0

    def add(self, raw: bytes, place: int) -> None:
        """Take one part. Raises InputError for one that does not follow."""
        order, checksum = raw[0] & _ORDER_MASK, raw[13]
        if raw[0] & _LAST and not self._parts:
            self._next, self._checksum = order, checksum
        elif raw[0] & _LAST:
            order = 0
        if not 1 <= order <= MAX_PARTS or order != self._next or checksum != self._checksum:
            raise InputError(f"vfat entry at {place}: part {order} of a long name, which does not follow")
        self._parts.append(raw[1:11] + raw[14:26] + raw[28:32])
        self._next = order - 1

    def take(self, short: bytes, place: int) -> bytes:
        """Return the name of the entry whose short one that is, in pairs of bytes; b"" for none.

        Raises:
            InputError: parts came, and they are not of this name.
        """
        if not self._parts:
            return b""
        if self._next or checksum_of(short) != self._checksum:
            raise InputError(f"vfat entry at {place}: the long name before it is not its own")
        name = b"".join(reversed(self._parts))
        self._parts = []
        for at in range(0, len(name), 2):
            if name[at : at + 2] == b"\0\0":
                return name[:at]
        return name

    def check_none(self, place: int) -> None:
        """Raise InputError where a long name came, and no entry that it belongs to."""
        if self._parts:
            raise InputError(f"vfat entry at {place}: a long name before it, which is nobody's")


def is_long(raw: bytes) -> bool:
    """Return whether an entry is a part of a long name."""
    return raw[11] & _LONG_MASK == LONG


def checksum_of(short: bytes) -> int:
    """Return the checksum of a short name's 11 bytes."""
    total = 0
    for byte in short:
        total = ((total >> 1 | total << 7) + byte) & 0xFF
    return total


def parse(raw: bytes, long_name: bytes, place: int) -> Entry:
    """Return an entry that is in use.

    Args:
        raw: untrusted, 32 bytes.
        long_name: from `LongName.take`.
        place: where it lies, for messages.

    Raises:
        InputError: its name is one that no system gives.
    """
    name, attributes, case, high, time, date, low, size = _FIELDS.unpack(raw)
    short = _short_name(name, case)
    wide = codecs.utf_16_le_decode(long_name, "surrogatepass")[0] if long_name else short
    if not attributes & LABEL and (
        not short or any(ord(char) < ord(" ") or char == "/" for char in short + wide)
    ):
        raise InputError(f"vfat entry at {place}: an impossible name")
    return Entry(
        name=wide.encode("utf-8", "surrogatepass"),
        short=short.encode(),
        attributes=attributes,
        cluster=high << 16 | low,
        size_bytes=size,
        modified_at_s=_seconds(date, time),
    )


def _short_name(raw: bytes, case: int) -> str:
    if raw[0] == _ESCAPED_E5:
        raw = b"\xe5" + raw[1:]
    text = "".join(chr(byte) if byte < 128 else _UPPER_HALF[byte - 128] for byte in raw)
    name, extension = text[:8].rstrip(" "), text[8:].rstrip(" ")
    name = name.lower() if case & _LOWER_NAME else name
    extension = extension.lower() if case & _LOWER_EXTENSION else extension
    return f"{name}.{extension}" if extension else name


def _seconds(date: int, time: int) -> int:
    when = (1980 + (date >> 9), date >> 5 & 15, date & 31, time >> 11, time >> 5 & 63, 2 * (time & 31))
    return timegm(when) if 1 <= when[1] <= 12 and when[2] else 0
