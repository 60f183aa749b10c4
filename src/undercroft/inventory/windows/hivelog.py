"""The log files of a registry hive (LOG1, LOG2), applied to it in memory.

Guarantees: an entry counts only where both its hashes are right and its number follows; what comes behind the
first that does not was never committed. Logs of Windows before 8.1 (whole sectors without hashes, one
checksum) are not applied, and said to be needed where the hive is dirty.

Follows the description of the registry file format by M. Suhanov, "Format of transaction log files".
"""

import struct
from dataclasses import dataclass

from undercroft.errors import InputError
from undercroft.inventory.guestfile import GuestFile

MAX_LOG_BYTES = 24 << 20
"""Of entries; their hashes take 5 s."""

MAX_ENTRIES = 100_000
MAX_OVERLAY_BYTES = 128 << 20

BASE_BYTES = 512
PAGE_BYTES = 4096
_ENTRY = struct.Struct("<4s5I2Q")
_PAGE = struct.Struct("<2I")
_SEED = 0x82EF4D887A4E55C5
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One committed set of pages.

    Attributes:
        sequence: its number.
        bins_bytes: length of the hive's bins from then on.
        pages: (offset in the bins, content).
    """

    sequence: int
    bins_bytes: int
    pages: tuple[tuple[int, bytes], ...]


def read_log(file: GuestFile) -> list[LogEntry]:
    """Return the log's entries up to the first that was not written whole.

    Raises:
        InputError: the log is of the old format, or passes a limit.
    """
    if file.size_bytes < BASE_BYTES:
        return []
    base = file.read(0, BASE_BYTES)
    if base[:4] != b"regf" or checksum(base) != int.from_bytes(base[508:512], "little"):
        return []
    if int.from_bytes(base[28:32], "little") != 6:
        raise InputError("hive log: the format before Windows 8.1 is not supported")
    entries: list[LogEntry] = []
    offset = BASE_BYTES
    while offset + _ENTRY.size <= file.size_bytes and len(entries) < MAX_ENTRIES:
        head = file.read(offset, _ENTRY.size)
        magic, size, _, sequence, bins_bytes, count, hash1, hash2 = _ENTRY.unpack(head)
        if magic != b"HvLE" or size % 512 or size < _ENTRY.size or offset + size > file.size_bytes:
            break
        if marvin32(head[:32]) != hash2 or (entries and sequence != entries[-1].sequence + 1):
            break
        if offset + size > MAX_LOG_BYTES:
            raise InputError(f"hive log: more than {MAX_LOG_BYTES} bytes of entries")
        data = file.read(offset, size)
        if marvin32(data[40:]) != hash1:
            break
        entries.append(LogEntry(sequence, bins_bytes, _pages(data, count)))
        offset += size
    return entries


def _pages(data: bytes, count: int) -> tuple[tuple[int, bytes], ...]:
    """Return the dirty pages of an entry. Raises InputError where they leave it."""
    at = _ENTRY.size + count * _PAGE.size
    if at > len(data):
        raise InputError(f"hive log: {count} pages in an entry of {len(data)} bytes")
    pages = []
    for offset, size in _PAGE.iter_unpack(data[_ENTRY.size : at]):
        if offset % PAGE_BYTES or size % PAGE_BYTES or size == 0 or at + size > len(data):
            raise InputError(f"hive log: a page of {size} bytes at {offset}")
        pages.append((offset, data[at : at + size]))
        at += size
    return tuple(pages)


def checksum(base: bytes) -> int:
    """Return the checksum of a base block: the XOR of its first 127 numbers, never 0 or -1."""
    found = 0
    for (number,) in struct.iter_unpack("<I", base[:508]):
        found ^= number
    return {0: 1, _MASK: _MASK - 1}.get(found, found)


def marvin32(data: bytes) -> int:
    """Return the Marvin32 hash of `data` with the registry's own seed."""
    low, high = _SEED & _MASK, _SEED >> 32
    whole = len(data) // 4 * 4
    rest = int.from_bytes(data[whole:] + b"\x80", "little")
    for number in (*struct.unpack(f"<{whole // 4}I", data[:whole]), rest, 0):
        low = (low + number) & _MASK
        high ^= low
        low = (((low << 20) | (low >> 12)) + high) & _MASK
        high = ((high << 9) | (high >> 23)) & _MASK
        high ^= low
        low = (((low << 27) | (low >> 5)) + high) & _MASK
        high = ((high << 19) | (high >> 13)) & _MASK
    return high << 32 | low
