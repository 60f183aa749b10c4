"""The log of a VHDX image, replayed in memory: the file as it will be once its log is written out.

Guarantees: an entry counts only with its checksum, its log's ID and its place in the sequence; of all
sequences the one with the highest number counts, and it must be whole. A log that has an ID and no such
sequence raises: what it held is lost, and the tables may be old. Bytes that are checksummed, pages that are
laid over and pages that are zeroed are bounded. Follows [MS-VHDX] 2.3.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Final

from undercroft.disks.source import BlockSource
from undercroft.disks.vhdx import layout
from undercroft.disks.vhdx.header import Header, checksum
from undercroft.errors import InputError

CURE: Final = "`qemu-img check -f vhdx -r all` on a copy replays it"
CHECKED_TIMES: Final = 4
"""How many times the log's length may be checksummed: an entry counts once, a forged log many times."""

MAX_PAGES: Final = 1 << 17
"""Pages of 4 KiB that are laid over, zeroed ones included: 512 MiB of zeros cost 20 MiB."""

SECTOR: Final = layout.LOG_SECTOR_BYTES


@dataclass(frozen=True, slots=True)
class _Entry:
    """One sound entry: where it begins in the log, and what its header says."""

    place: int
    length: int
    tail: int
    sequence: int
    descriptors: int
    flushed_bytes: int
    data: bytes


class LoggedSource:
    """A file with pages of 4 KiB laid over it; `pages` has the new ones, None for zeros."""

    def __init__(self, source: BlockSource, pages: dict[int, bytes | None]) -> None:
        self._source = source
        self._pages = pages
        self._numbers = sorted(pages)
        # A log may extend the file; what lies there and is in no page cannot be read.
        self.size_bytes = max([source.size_bytes, *((number + 1) * SECTOR for number in self._numbers[-1:])])

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError as the file does."""
        index = bisect_left(self._numbers, offset // SECTOR)
        end = offset + length
        if index == len(self._numbers) or self._numbers[index] * SECTOR >= end:
            return self._source.read(offset, length)
        kept = max(0, min(length, self._source.size_bytes - offset))
        data = bytearray(self._source.read(offset, kept) if kept else b"")
        data.extend(bytes(length - kept))
        covered = offset + kept
        while index < len(self._numbers) and self._numbers[index] * SECTOR < end:
            begin = self._numbers[index] * SECTOR
            start, stop = max(offset, begin), min(end, begin + SECTOR)
            if start > covered:
                break
            page = self._pages[self._numbers[index]] or bytes(SECTOR)
            data[start - offset : stop - offset] = page[start - begin : stop - begin]
            covered = max(covered, stop)
            index += 1
        if covered < end:
            raise InputError(f"the file ends at {covered}, and {length} bytes at {offset} are asked for")
        return bytes(data)


def replayed(source: BlockSource, header: Header, name: str) -> BlockSource:
    """Return the file with its log laid over it; the file itself where the log is empty.

    Raises:
        InputError: the log has no whole sequence, contradicts itself or passes a limit.
    """
    if not header.log_ident:
        return source
    log = source.read(header.log_offset, header.log_bytes)
    entries = _newest_sequence(_sound_entries(log, header.log_ident, name), len(log), name)
    if not entries:
        raise InputError(
            f"{name}: its log is not empty and cannot be replayed, it has no whole entry; {CURE}"
        )
    if max(entry.flushed_bytes for entry in entries) > source.size_bytes:
        raise InputError(f"{name}: ends before its log says it did (truncated?); {CURE}")
    pages: dict[int, bytes | None] = {}
    for entry in entries:
        _apply(entry, pages, name)
    return LoggedSource(source, pages)


def _sound_entries(log: bytes, ident: bytes, name: str) -> dict[int, _Entry]:
    """Return the sound entries by place. Raises InputError where checking them would take too long."""
    found: dict[int, _Entry] = {}
    budget = CHECKED_TIMES * len(log)
    for place in range(0, len(log), SECTOR):
        if not log.startswith(layout.LOG_SIGNATURE, place):
            continue
        fields = layout.LOG_ENTRY.unpack_from(log, place)
        _, stated, length, tail, sequence, descriptors, _, entry_ident, flushed_bytes, _ = fields
        if entry_ident != ident or length % SECTOR or not SECTOR <= length <= len(log):
            continue
        if tail % SECTOR or tail >= len(log) or not sequence:
            continue
        budget -= length
        if budget < 0:
            raise InputError(f"{name}: its log has entries that overlap; {CURE}")
        data = log[place : place + length]
        data += log[: length - len(data)]
        if checksum(data) == stated:
            found[place] = _Entry(place, length, tail, sequence, descriptors, flushed_bytes, data)
    return found


def _newest_sequence(entries: dict[int, _Entry], log_bytes: int, name: str) -> list[_Entry]:
    """Return the entries of the whole sequence with the highest number, oldest first, if there is one.

    A sequence is whole where its last entry's tail is the place of one of its entries: replay begins there.
    What is behind a torn write never happened: an older sequence is whole up to there.

    Raises InputError where looking would take too long, as only a forged log makes it.
    """
    steps = CHECKED_TIMES * (log_bytes // SECTOR)
    for head in sorted(entries.values(), key=lambda entry: entry.sequence, reverse=True):
        sequence, place, number, passed = [], head.tail, None, 0
        while passed <= log_bytes:
            entry, steps = entries.get(place), steps - 1
            if steps < 0:
                raise InputError(f"{name}: its log has too many sequences that are not whole; {CURE}")
            if entry is None or number not in (None, entry.sequence):
                break
            sequence.append(entry)
            if entry is head:
                return sequence
            number = entry.sequence + 1
            passed += entry.length
            place = (place + entry.length) % log_bytes
    return []


def _apply(entry: _Entry, pages: dict[int, bytes | None], name: str) -> None:
    """Lay one entry's descriptors over the file. Raises InputError."""
    table = layout.LOG_ENTRY.size + entry.descriptors * layout.LOG_DESCRIPTOR_BYTES
    data_at = -(-table // SECTOR) * SECTOR
    if data_at > entry.length:
        raise InputError(f"{name}: a log entry of {entry.descriptors} descriptors does not hold them; {CURE}")
    for index in range(entry.descriptors):
        place = layout.LOG_ENTRY.size + index * layout.LOG_DESCRIPTOR_BYTES
        if entry.data.startswith(b"zero", place):
            _, _, length, offset, sequence = layout.LOG_ZERO.unpack_from(entry.data, place)
            _check(entry, sequence, offset, length, name)
            if len(pages) + length // SECTOR > MAX_PAGES:
                raise InputError(f"{name}: its log zeroes {length} bytes, over the limit; {CURE}")
            pages.update(dict.fromkeys(range(offset // SECTOR, (offset + length) // SECTOR)))
        elif entry.data.startswith(b"desc", place):
            _, trailing, leading, offset, sequence = layout.LOG_DATA.unpack_from(entry.data, place)
            _check(entry, sequence, offset, SECTOR, name)
            sector = entry.data[data_at : data_at + SECTOR]
            data_at += SECTOR
            pages[offset // SECTOR] = leading + _logged(sector, entry, name) + trailing
            if len(pages) > MAX_PAGES:
                raise InputError(f"{name}: its log changes over {MAX_PAGES} pages; {CURE}")
        else:
            raise InputError(f"{name}: its log has a malformed descriptor; {CURE}")


def _check(entry: _Entry, sequence: int, offset: int, length: int, name: str) -> None:
    if sequence != entry.sequence or offset % SECTOR or length % SECTOR or offset + length > 1 << 63:
        raise InputError(f"{name}: its log has a malformed descriptor for {length} bytes at {offset}; {CURE}")


def _logged(sector: bytes, entry: _Entry, name: str) -> bytes:
    """Return the middle of a data sector; its first eight and last four bytes stand in the descriptor."""
    high, low = sector[4:8], sector[SECTOR - 4 :]
    number = int.from_bytes(high, "little") << 32 | int.from_bytes(low, "little")
    if not sector.startswith(layout.LOG_DATA_SECTOR) or len(sector) != SECTOR or number != entry.sequence:
        raise InputError(f"{name}: its log has a malformed data sector; {CURE}")
    return sector[8 : SECTOR - 4]
