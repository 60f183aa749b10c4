"""The two logs beside a SQLite database: the write-ahead log and the rollback journal.

Guarantees: a page of a log counts only where its checksum is right, and only as far as SQLite itself would
take it: frames up to the last commit of the write-ahead log, records up to the first bad one of a journal.
What follows is what a crash left unfinished, and no damage.
"""

import struct
from dataclasses import dataclass, field

from undercroft.errors import InputError
from undercroft.inventory.guestfile import GuestFile

MAX_LOG_PAGES = 50_000
"""200 MiB of pages of 4 KiB; SQLite empties its log at 1,000 pages. Their checksums take 4 s."""

MIN_PAGE_BYTES, MAX_PAGE_BYTES = 512, 65536

_WAL_HEADER = struct.Struct(">8I")
_FRAME_HEADER = struct.Struct(">6I")
_WAL_MAGIC = 0x377F0682
_WAL_VERSION = 3007000
_JOURNAL_HEADER = struct.Struct(">8s5I")
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_MASK = 0xFFFFFFFF
_ALL_RECORDS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Overlay:
    """Pages that stand in place of the database's own.

    Attributes:
        file: where they lie.
        places: offset of each in the file, by page number.
        page_count: pages of the database with the log, 0 for as many as its file has.
        problem: why what was committed may not be all there, "" for nothing.
    """

    file: GuestFile | None = None
    places: dict[int, int] = field(default_factory=dict)
    page_count: int = 0
    problem: str = ""


def read_wal(file: GuestFile, page_bytes: int) -> Overlay:
    """Return the committed pages of a write-ahead log; none where its header is not one's.

    Args:
        file: untrusted log.
        page_bytes: the database's page size, 0 where its own header is not written yet.

    Raises:
        InputError: another page size than the database's, or more than `MAX_LOG_PAGES`.
    """
    if file.size_bytes < _WAL_HEADER.size:
        return Overlay()
    header = file.read(0, _WAL_HEADER.size)
    magic, version, size, _, salt1, salt2, sum1, sum2 = _WAL_HEADER.unpack(header)
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _WAL_MAGIC or _checksum(header[:24], order, (0, 0)) != (sum1, sum2):
        return Overlay(
            problem="sqlite log: its header is damaged, and nothing of it counts" if any(header) else ""
        )
    if version != _WAL_VERSION or size != page_bytes:
        raise InputError(f"sqlite log: version {version} with pages of {size} bytes, not {page_bytes}")
    places: dict[int, int] = {}
    pending: dict[int, int] = {}
    sums, page_count, problem = (sum1, sum2), 0, ""
    step = _FRAME_HEADER.size + size
    for number, offset in enumerate(range(_WAL_HEADER.size, file.size_bytes - step + 1, step)):
        if number >= MAX_LOG_PAGES:
            raise InputError(f"sqlite log: more than {MAX_LOG_PAGES} pages")
        frame = file.read(offset, step)
        page, commit, one, two, *found = _FRAME_HEADER.unpack_from(frame)
        if (one, two) != (salt1, salt2) or page == 0:
            break
        sums = _checksum(frame[_FRAME_HEADER.size :], order, _checksum(frame[:8], order, sums))
        if sums != tuple(found):
            problem = _lost_commit(file, offset, step, (salt1, salt2))
            break
        pending[page] = offset + _FRAME_HEADER.size
        if commit:
            places |= pending
            pending, page_count = {}, commit
    return Overlay(file, places, page_count, problem)


def _lost_commit(file: GuestFile, broken: int, step: int, salts: tuple[int, int]) -> str:
    """Return what a frame with a wrong checksum hides: SQLite takes nothing behind it, committed or not.

    A writer that was killed leaves such a frame too, but no commit behind it.
    """
    for offset in range(broken + step, file.size_bytes - step + 1, step):
        page, commit, one, two, *_ = _FRAME_HEADER.unpack(file.read(offset, _FRAME_HEADER.size))
        if (one, two) != salts:
            break
        if page and commit:
            return f"sqlite log: the frame at {broken} is damaged, and a commit at {offset} is lost with it"
    return ""


def read_journal(file: GuestFile, page_bytes: int) -> Overlay:
    """Return the pages that a rollback journal gives back; none where it is not hot (its header is zeros).

    Raises:
        InputError: sizes that no journal has, or more than `MAX_LOG_PAGES`.
    """
    places: dict[int, int] = {}
    offset = page_count = 0
    while offset + _JOURNAL_HEADER.size <= file.size_bytes:
        header = _JOURNAL_HEADER.unpack(file.read(offset, _JOURNAL_HEADER.size))
        magic, records, nonce, before, sector, size = header
        if magic != _JOURNAL_MAGIC:
            break
        if size != page_bytes or not 32 <= sector <= MAX_PAGE_BYTES or sector & (sector - 1):
            raise InputError(f"sqlite journal: sectors of {sector} bytes, pages of {size}, not {page_bytes}")
        page_count = page_count or before
        room = (file.size_bytes - offset - sector) // (size + 8)
        records = max(0, min(room, records) if records != _ALL_RECORDS else room)
        start = offset + sector
        for place in range(start, start + records * (size + 8), size + 8):
            if not _take_record(file, place, size, nonce, places):
                return Overlay(file, places, page_count)
        offset = -(-(start + records * (size + 8)) // sector) * sector
    return Overlay(file, places, page_count) if page_count else Overlay()


def _take_record(file: GuestFile, place: int, size: int, nonce: int, places: dict[int, int]) -> bool:
    """Note the page of one record, the first of each page; False where its checksum is wrong."""
    record = file.read(place, size + 8)
    page, found = int.from_bytes(record[:4], "big"), int.from_bytes(record[-4:], "big")
    if page == 0 or (nonce + sum(record[4 : 4 + size][size - 200 : 0 : -200])) & _MASK != found:
        return False
    if len(places) >= MAX_LOG_PAGES:
        raise InputError(f"sqlite journal: more than {MAX_LOG_PAGES} pages")
    places.setdefault(page, place + 4)
    return True


def _checksum(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Return the running checksum of a write-ahead log over a multiple of 8 bytes."""
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + two) & _MASK
        two = (two + second + one) & _MASK
    return one, two
