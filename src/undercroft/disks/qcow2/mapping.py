"""Where each part of a virtual disk lies: the two-level table of a qcow2 image.

Tables are read in pages when they are first needed and the last ones are kept, so memory stays below
`MAX_TABLE_BYTES` whatever the disk's size. Every entry is checked when it is used: reserved bits, alignment,
contradictory subclusters. Follows "Cluster mapping" and "Extended L2 Entries" of the specification.
"""

import sys
from array import array
from enum import Enum
from typing import Final

from undercroft.disks.qcow2 import layout
from undercroft.disks.qcow2.header import CURE, Header
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

PAGE_BYTES: Final = 4096
"""Unit in which tables are read and kept (less where the cluster is smaller)."""

MAX_TABLE_BYTES: Final = 4 << 20
"""Of L2 tables that are kept; they map 32 GiB of a disk with 64 KiB clusters."""

MAX_L1_PAGES: Final = 64


class Kind(Enum):
    """What a run of the virtual disk is made of."""

    DATA = "data"
    ZERO = "zero"
    UNALLOCATED = "unallocated"
    COMPRESSED = "compressed"


Run = tuple[Kind, int, int]
"""Kind, where it lies, length in bytes. Where: for DATA the offset in the data's file, for COMPRESSED the L2
entry (the run then lies within one cluster), else 0. A tuple, as it is made for each read."""


class Mapping:
    """The tables of one state of an image.

    Args:
        source: the image file, untrusted.
        header: its checked header.
        l1_offset: a checked L1 table: the active one's or a snapshot's.
        l1_entries: its length; what lies past it is unallocated.
        name: of the image, for messages.
    """

    def __init__(
        self, source: BlockSource, header: Header, l1_offset: int, l1_entries: int, name: str
    ) -> None:
        self._source = source
        self._header = header
        self._l1_offset = l1_offset
        self._l1_entries = l1_entries
        self._name = name
        self._pages: dict[int, array[int] | None] = {}
        self._l1_pages: dict[int, array[int]] = {}
        self._cluster_bits = header.cluster_bits
        self._words = header.l2_entry_bytes // 8
        page_bytes = min(PAGE_BYTES, header.cluster_bytes)
        self._max_pages = MAX_TABLE_BYTES // page_bytes
        self._page_bits = (page_bytes // header.l2_entry_bytes).bit_length() - 1
        self._l2_bits = (header.cluster_bytes // header.l2_entry_bytes).bit_length() - 1
        self._page_mask = (1 << self._page_bits) - 1
        self._special = (
            layout.ENTRY_COMPRESSED
            | layout.ENTRY_RESERVED
            | layout.ENTRY_ZERO
            | (layout.OFFSET_MASK & (header.cluster_bytes - 1))
        )
        self._checks_place = header.has_data_file

    def data_offset(self, offset: int, length: int) -> int:
        """Return where `length` bytes at `offset` lie in the data's file, -1 when `runs` must be asked.

        The short way for the commonest case: plain data within one cluster.
        """
        cluster = offset >> self._cluster_bits
        within = offset & ((1 << self._cluster_bits) - 1)
        page = self._pages.get(cluster >> self._page_bits)
        if page is None or within + length > 1 << self._cluster_bits or self._words != 1:
            return -1
        entry = page[cluster & self._page_mask]
        place = entry & layout.OFFSET_MASK
        if entry & self._special or not place or self._checks_place:
            return -1
        return place + within

    def runs(self, offset: int, length: int) -> list[Run]:
        """Return the runs that make up `length` bytes at `offset`, in order, as long as they can be.

        Raises:
            InputError: a table lies beyond the file, or an entry is malformed.
        """
        runs: list[Run] = []
        end = offset + length
        kind, place, run_length = Kind.ZERO, 0, 0
        while offset < end:
            next_kind, next_place, piece = self._piece(offset, end - offset)
            if next_kind is kind and next_place == _continuation(kind, place, run_length):
                run_length += piece
            else:
                if run_length:
                    runs.append((kind, place, run_length))
                kind, place, run_length = next_kind, next_place, piece
            offset += piece
        if run_length:
            runs.append((kind, place, run_length))
        return runs

    def _piece(self, offset: int, limit: int) -> Run:
        """Return the run at `offset` up to the end of its cluster, subcluster, or empty table."""
        cluster_bits = self._cluster_bits
        cluster = offset >> cluster_bits
        number = cluster >> self._page_bits
        page = self._pages[number] if number in self._pages else self._load_page(number)
        if page is None:
            table_end = ((number + 1) << self._page_bits) << cluster_bits
            return Kind.UNALLOCATED, 0, min(limit, table_end - offset)
        index = cluster & self._page_mask
        within = offset & ((1 << cluster_bits) - 1)
        piece = min(limit, (1 << cluster_bits) - within)
        if self._words != 1:
            return self._subcluster_run(page[2 * index], page[2 * index + 1], offset, within, piece)
        entry = page[index]
        place = entry & layout.OFFSET_MASK
        if place and not entry & self._special and not self._checks_place:
            if piece < limit:
                piece += self._continued(page, index + 1, place, limit - piece)
            return Kind.DATA, place + within, min(piece, limit)
        return self._cluster_run(entry, offset, within, piece)

    def _continued(self, page: "array[int]", index: int, place: int, limit: int) -> int:
        """Return how many bytes of plain data follow the cluster at `place` without a gap, in whole clusters.

        An entry that equals the expected offset has no flag set and is aligned, so nothing else is asked.
        """
        cluster_bytes = 1 << self._cluster_bits
        length = 0
        for entry in page[index : index + (limit >> self._cluster_bits) + 1]:
            place += cluster_bytes
            if entry & ~layout.ENTRY_COPIED != place:
                break
            length += cluster_bytes
        return length

    def _cluster_run(self, entry: int, offset: int, within: int, piece: int) -> Run:
        """Classify a standard L2 entry."""
        if entry & layout.ENTRY_COMPRESSED:
            return self._compressed_run(entry, offset, piece)
        place = self._check_entry(entry, offset, within)
        if entry & layout.ENTRY_ZERO:
            if self._header.version < 3:
                raise self._malformed(offset, "is a zero cluster, which version 2 does not have")
            return Kind.ZERO, 0, piece
        if self._is_allocated(entry):
            return Kind.DATA, place + within, piece
        return Kind.UNALLOCATED, 0, piece

    def _subcluster_run(self, entry: int, bitmap: int, offset: int, within: int, piece: int) -> Run:
        """Classify an extended L2 entry from the subcluster at `within` on, up to where the kind changes."""
        if entry & layout.ENTRY_COMPRESSED:
            return self._compressed_run(entry, offset, piece)
        place = self._check_entry(entry, offset, within)
        allocated, zero = bitmap & layout.SUBCLUSTERS_ALL_ALLOCATED, bitmap >> layout.SUBCLUSTERS
        if entry & layout.ENTRY_ZERO or allocated & zero or (allocated and not self._is_allocated(entry)):
            raise self._malformed(offset, f"has a contradictory subcluster bitmap {bitmap:#x}")
        if allocated == layout.SUBCLUSTERS_ALL_ALLOCATED:
            return Kind.DATA, place + within, piece
        shift = self._cluster_bits - 5
        first = within >> shift
        state = (allocated >> first & 1, zero >> first & 1)
        last = first + 1
        while last < layout.SUBCLUSTERS and state == (allocated >> last & 1, zero >> last & 1):
            last += 1
        piece = min(piece, (last << shift) - within)
        if state[0]:
            return Kind.DATA, place + within, piece
        return Kind.ZERO if state[1] else Kind.UNALLOCATED, 0, piece

    def _compressed_run(self, entry: int, offset: int, piece: int) -> Run:
        if self._header.has_data_file:
            raise self._malformed(offset, "is compressed, which images with a data file do not have")
        return Kind.COMPRESSED, entry & ~layout.ENTRY_COPIED, piece

    def _is_allocated(self, entry: int) -> bool:
        """In a data file a cluster at offset 0 is possible; then the copied bit tells."""
        if entry & layout.OFFSET_MASK:
            return True
        return self._header.has_data_file and bool(entry & layout.ENTRY_COPIED)

    def _check_entry(self, entry: int, offset: int, within: int) -> int:
        """Return the offset of a standard or extended entry. Raises InputError where it is malformed."""
        place = entry & layout.OFFSET_MASK
        if entry & layout.ENTRY_RESERVED or place & (self._header.cluster_bytes - 1):
            raise self._malformed(offset, f"has a malformed table entry {entry:#018x}")
        if self._checks_place and self._is_allocated(entry) and place + within != offset:
            raise self._malformed(offset, f"lies at {place + within} of the data file, not at its own offset")
        return place

    def _load_page(self, number: int) -> "array[int] | None":
        """Read a page of an L2 table into the cache; None when there is no table for it."""
        page = self._read_page(number)
        if len(self._pages) >= self._max_pages:
            del self._pages[next(iter(self._pages))]
        self._pages[number] = page
        return page

    def _read_page(self, number: int) -> "array[int] | None":
        pages_per_table_bits = self._l2_bits - self._page_bits
        l1_entry = self._l1_entry(number >> pages_per_table_bits)
        table = l1_entry & layout.OFFSET_MASK
        guest_offset = number << self._page_bits << self._cluster_bits
        if l1_entry & layout.L1_RESERVED or table % self._header.cluster_bytes:
            raise self._malformed(guest_offset, f"has a malformed L1 entry {l1_entry:#018x}")
        if not table:
            return None
        if table + self._header.cluster_bytes > self._source.size_bytes:
            raise self._malformed(guest_offset, f"has its L2 table at {table}, beyond the end of the file")
        page_bytes = (self._page_mask + 1) * self._header.l2_entry_bytes
        within_table = (number & ((1 << pages_per_table_bits) - 1)) * page_bytes
        return _big_endian(self._source.read(table + within_table, page_bytes))

    def _l1_entry(self, index: int) -> int:
        if index >= self._l1_entries:
            return 0
        number, within = divmod(index, PAGE_BYTES // 8)
        page = self._l1_pages.get(number)
        if page is None:
            start = number * PAGE_BYTES
            length = min(PAGE_BYTES, self._l1_entries * 8 - start)
            page = _big_endian(self._source.read(self._l1_offset + start, length))
            if len(self._l1_pages) >= MAX_L1_PAGES:
                del self._l1_pages[next(iter(self._l1_pages))]
            self._l1_pages[number] = page
        return page[within]

    def _malformed(self, offset: int, what: str) -> InputError:
        return InputError(f"{self._name}: the cluster of guest offset {offset} {what}; {CURE}")


def _continuation(kind: Kind, place: int, run_length: int) -> int:
    """Return the place that a next run must have to lengthen this one, -1 when none can."""
    if kind is Kind.DATA:
        return place + run_length
    return -1 if kind is Kind.COMPRESSED else 0


def _big_endian(data: bytes) -> "array[int]":
    numbers = array("Q", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
