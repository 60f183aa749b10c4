"""Directory records and times."""

from typing import NamedTuple

from undercroft.disks.iso9660 import layout
from undercroft.errors import InputError

_EPOCH_YEAR = 1900
_MAX_ZONE = 52
_unpack = layout.RECORD.unpack_from


class Record(NamedTuple):
    """A directory record.

    Attributes:
        block: where the content begins, in logical blocks.
        size_bytes: of this extent.
        flags: as the format has them.
        is_interleaved: the content lies in pieces that Linux does not read either.
        modified_at_s: by the record's own date.
        name: as it stands there.
        system_use: what follows the name.
    """

    block: int
    size_bytes: int
    flags: int
    is_interleaved: bool
    modified_at_s: int
    name: bytes
    system_use: bytes


def parse(untrusted: bytes, what: str) -> Record:
    """Return the record that `untrusted` begins with.

    Args:
        untrusted: from the record's start on.
        what: for messages.

    Raises:
        InputError: it is malformed or cut off, or its numbers disagree in the two byte orders.
    """
    if len(untrusted) < layout.RECORD_BYTES or len(untrusted) < untrusted[0]:
        raise InputError(f"{what}: a record is cut off")
    (
        length, attribute_blocks, block, big_block, size, big_size, date, flags, unit, gap, name_bytes,
    ) = _unpack(untrusted)  # fmt: skip
    end = layout.RECORD_BYTES + name_bytes
    if not name_bytes or end > length:
        raise InputError(f"{what}: a record of {length} bytes with a name of {name_bytes}")
    if block != int.from_bytes(big_block, "big") or size != int.from_bytes(big_size, "big"):
        raise InputError(f"{what}: a record's numbers disagree in the two byte orders")
    name = untrusted[layout.RECORD_BYTES : end]
    rest = untrusted[end + (not name_bytes & 1) : length]
    return Record(block + attribute_blocks, size, flags, bool(unit or gap), short_time(date), name, rest)


def both(untrusted: bytes, offset: int, width: int, what: str) -> int:
    """Return a number that stands at `offset` in both byte orders. Raises InputError where they disagree."""
    little = untrusted[offset : offset + width]
    if len(little) != width or untrusted[offset + width : offset + 2 * width] != little[::-1]:
        raise InputError(f"{what}: a number at {offset} disagrees in the two byte orders")
    return int.from_bytes(little, "little")


def short_time(untrusted: bytes) -> int:
    """Return the seconds that a time of 7 bytes stands for; any bytes give some, as in Linux."""
    year, month, day, hour, minute, second, zone = untrusted
    return _seconds(_EPOCH_YEAR + year, month, day, hour, minute, second, zone)


def long_time(untrusted: bytes) -> int:
    """Return the seconds that a time of 17 bytes, in digits, stands for; 0 where it has others."""
    digits = untrusted[: layout.LONG_TIME_BYTES - 1]
    if not digits.isdigit():
        return 0
    year = int(digits[:4])
    month, day, hour, minute, second = (int(digits[place : place + 2]) for place in range(4, 14, 2))
    return _seconds(year, month, day, hour, minute, second, untrusted[layout.LONG_TIME_BYTES - 1])


def _seconds(year: int, month: int, day: int, hour: int, minute: int, second: int, zone: int) -> int:
    """Linux' mktime64, which takes any numbers; `zone` counts quarters of an hour, as a signed byte."""
    month -= 2
    if month <= 0:
        month += 12
        year -= 1
    days = year // 4 - year // 100 + year // 400 + 367 * month // 12 + day + year * 365 - 719499
    offset = zone - 256 if zone > 127 else zone
    return (
        ((days * 24 + hour) * 60 + minute) * 60
        + second
        - (offset * 900 if -_MAX_ZONE <= offset <= _MAX_ZONE else 0)
    )
