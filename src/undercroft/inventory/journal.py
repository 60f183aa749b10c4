"""Kernel starts recorded in a systemd journal file.

Guarantees: any bytes give starts or `InputError`; only objects that a match leads to are read, and
chains are followed at most `MAX_ARRAYS` steps. Layout by systemd's JOURNAL_FILE_FORMAT: a message is a
DATA object that is stored once and points at the ENTRY objects that carry it, so a kernel that was
started five times has one message and five entries, of which the last counts.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.errors import InputError

SIGNATURE = b"LPKSHHRH"
MESSAGE = b"MESSAGE=Linux version "
MAX_MATCHES = 1000
MAX_ARRAYS = 64
MAX_RELEASE_BYTES = 65
"""Linux's own limit for a release (__NEW_UTS_LEN + 1)."""

_HEADER_BYTES = 208
_INCOMPATIBLE_FLAGS = struct.Struct("<I")
_INCOMPATIBLE_FLAGS_OFFSET = 12
_COMPACT = 1 << 4

_OBJECT_DATA = 1
_OBJECT_ENTRY = 3
_OBJECT_ENTRY_ARRAY = 6

_DATA = struct.Struct("<B15x24xQQQ")
"""Type; hash, next hash and next field skipped; first entry, entry array, number of entries."""

_DATA_PAYLOAD = 64
_DATA_PAYLOAD_COMPACT = 72

_ENTRY = struct.Struct("<B15x8xQ")
"""Type; sequence number skipped; microseconds since the epoch."""

_ARRAY = struct.Struct("<B7xQQ")
"""Type, size, offset of the next array; items follow, of 8 bytes, or of 4 in the compact form."""


@dataclass(frozen=True, slots=True)
class KernelStart:
    """One kernel and the last time that it logged its start, in seconds since the epoch."""

    release: bytes
    at_s: float


def kernel_starts(untrusted: bytes) -> list[KernelStart]:
    """Return the kernels that logged their start in this journal file (or in the part of it given).

    Raises:
        InputError: it is no journal file.
    """
    if len(untrusted) < _HEADER_BYTES or not untrusted.startswith(SIGNATURE):
        raise InputError("no systemd journal file")
    flags = _INCOMPATIBLE_FLAGS.unpack_from(untrusted, _INCOMPATIBLE_FLAGS_OFFSET)[0]
    compact = bool(flags & _COMPACT)
    starts = []
    for position in _matches(untrusted):
        text = untrusted[position + len(MESSAGE) : position + len(MESSAGE) + MAX_RELEASE_BYTES]
        at_us = _last_entry_us(untrusted, position, compact)
        if at_us:
            starts.append(KernelStart(text.partition(b" ")[0], at_us / 1e6))
    return starts


def _matches(untrusted: bytes) -> Iterator[int]:
    position = -1
    for _ in range(MAX_MATCHES):
        position = untrusted.find(MESSAGE, position + 1)
        if position < 0:
            return
        yield position


def _last_entry_us(untrusted: bytes, payload: int, compact: bool) -> int:
    """Return the time of the last entry that carries the message at `payload`, 0 where it has none."""
    start = payload - (_DATA_PAYLOAD_COMPACT if compact else _DATA_PAYLOAD)
    if start < 0:
        return 0
    kind, entry, array, count = _DATA.unpack_from(untrusted, start)
    if kind != _OBJECT_DATA:
        return 0
    times = [_entry_us(untrusted, entry)]
    left = count - 1
    item_bytes = 4 if compact else 8
    for _ in range(MAX_ARRAYS):
        if left <= 0 or not 0 < array <= len(untrusted) - _ARRAY.size:
            break
        kind, size, following = _ARRAY.unpack_from(untrusted, array)
        items = (size - _ARRAY.size) // item_bytes
        if kind != _OBJECT_ENTRY_ARRAY or items <= 0:
            break
        if left <= items:
            place = array + _ARRAY.size + (left - 1) * item_bytes
            times.append(
                _entry_us(untrusted, int.from_bytes(untrusted[place : place + item_bytes], "little"))
            )
        left -= items
        array = following
    return max(times)


def _entry_us(untrusted: bytes, offset: int) -> int:
    if not 0 < offset <= len(untrusted) - _ENTRY.size:
        return 0
    kind, realtime_us = _ENTRY.unpack_from(untrusted, offset)
    return int(realtime_us) if kind == _OBJECT_ENTRY else 0
