"""What the containers have in common: a table of blocks, and a disk whose bytes lie where a mapping says.

Guarantees: tables are read in pages when they are first needed and the last ones are kept, so memory stays
below a few MiB whatever an image states; a disk's block that lies beyond the end of its file raises, and one
that belongs to a parent which nobody gave is never taken for zeros.
"""

import sys
from array import array
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

from undercroft.disks.source import MAX_READ_BYTES, BlockSource, check_range
from undercroft.errors import InputError

PAGE_BYTES: Final = 4096
MAX_PAGES: Final = 1024
"""Pages that one table keeps: 4 MiB."""

MAX_COMPARED_ENTRIES: Final = 1 << 18
"""Of a table whose entries are compared when it is opened: some 40 ms, and 20 MiB for that time."""

ZERO: Final = -1
"""The place of a run that reads as zeros."""

BELOW: Final = -2
"""The place of a run that lies in the parent, zeros where the image has none."""

Piece = tuple[int, int]
"""Where a run lies in the image's file (or ZERO, BELOW), and its length in bytes."""

ByteOrder = Literal["little", "big"]


class TablePages:
    """A table of numbers in an image file.

    Args:
        source: the image file, untrusted.
        offset: where the table begins.
        count: how many entries it has, bounded by the caller.
        entry_bytes: 4 or 8.
        order: of the bytes of an entry.
        what: for messages ("image: the block map").

    Raises:
        InputError: it passes the end of the file.
    """

    __slots__ = ("_entry_bytes", "_offset", "_order", "_pages", "_per_page", "_source", "count", "what")

    def __init__(
        self, source: BlockSource, offset: int, count: int, *, entry_bytes: int, order: ByteOrder, what: str
    ) -> None:
        if offset + count * entry_bytes > source.size_bytes:
            raise InputError(f"{what} at {offset} lies beyond the end of the file at {source.size_bytes}")
        self._source = source
        self._offset = offset
        self._entry_bytes = entry_bytes
        self._order = order
        self._per_page = PAGE_BYTES // entry_bytes
        self._pages: dict[int, array[int]] = {}
        self.count = count
        self.what = what

    def entry(self, index: int) -> int:
        """Return one entry. Raises InputError where the table has none of that number."""
        number, within = divmod(index, self._per_page)
        page = self._pages.get(number)
        if page is None:
            page = self._load(number)
        if within >= len(page):
            raise InputError(f"{self.what} has {self.count} entries, and entry {index} is asked for")
        return page[within]

    def check_apart(self, places: Callable[[int], int], spacing: int) -> None:
        """Raise InputError where two blocks overlap: a table without a checksum has no other sign of damage.

        Args:
            places: takes an entry and returns the place that it names, -1 for none.
            spacing: of two places, at least.
        """
        if self.count > MAX_COMPARED_ENTRIES:
            return
        data = self._source.read(self._offset, self.count * self._entry_bytes)
        used = [
            place for entry in numbers(data, self._entry_bytes, self._order) if (place := places(entry)) >= 0
        ]
        used.sort()
        if any(following - place < spacing for place, following in pairwise(used)):
            raise InputError(f"{self.what} has blocks of the disk that overlap in the file")

    def _load(self, number: int) -> "array[int]":
        start = number * PAGE_BYTES
        length = min(PAGE_BYTES, self.count * self._entry_bytes - start)
        data = self._source.read(self._offset + start, length) if length > 0 else b""
        if len(self._pages) >= MAX_PAGES:
            del self._pages[next(iter(self._pages))]
        self._pages[number] = page = numbers(data, self._entry_bytes, self._order)
        return page


class BlockTable(TablePages):
    """A table with one entry of 4 bytes for each block of a disk, as those of vhd and vdi are.

    Args:
        source, offset, count, order, what: as in `TablePages`.
        block_bytes: of a block of the disk.

    Raises as `TablePages`.
    """

    __slots__ = ("_block_bytes",)

    def __init__(
        self, source: BlockSource, offset: int, count: int, block_bytes: int, *, order: ByteOrder, what: str
    ) -> None:
        super().__init__(source, offset, count, entry_bytes=4, order=order, what=what)
        self._block_bytes = block_bytes

    def at(self, offset: int, limit: int) -> tuple[int, int, int, int]:
        """Return the block at an offset of the disk. Raises InputError where the table has none.

        Returns:
            Its entry, its number, where in it the offset lies, and the length up to its end or `limit`.
        """
        index, within = divmod(offset, self._block_bytes)
        return self.entry(index), index, within, min(limit, self._block_bytes - within)


class MappedSource:
    """A virtual disk whose mapping says where each of its runs lies.

    Args:
        source: the image file, untrusted.
        size_bytes: the virtual disk's size.
        piece: takes an offset and a length and returns the run that begins there, at most that long.
        backing: the disk below, None when there is none or it is not at hand.
        parent_name: what the image calls its parent, "" for none.
        name: of the image, for messages.
    """

    __slots__ = ("_backing", "_parent_name", "_piece", "_source", "name", "size_bytes")

    def __init__(
        self,
        source: BlockSource,
        size_bytes: int,
        piece: Callable[[int, int], Piece],
        *,
        backing: BlockSource | None = None,
        parent_name: str = "",
        name: str = "image",
    ) -> None:
        self._source = source
        self._piece = piece
        self._backing = backing
        self._parent_name = parent_name
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset` as the guest would read them.

        Raises:
            InputError: beyond the end; a malformed table; data beyond the file; data in a parent that nobody
                gave.
        """
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        if not length:
            return b""
        place, run = self._piece(offset, length)
        if run == length:
            return self._fetch(place, offset, length)
        pieces = []
        end = offset + length
        while True:
            following = offset + run
            while following < end:
                next_place, next_run = self._piece(following, end - following)
                if next_place != (place + run if place >= 0 else place):
                    break
                run += next_run
                following += next_run
            pieces.append(self._fetch(place, offset, run))
            if following == end:
                return b"".join(pieces)
            offset, place, run = following, next_place, next_run

    def _fetch(self, place: int, offset: int, length: int) -> bytes:
        if place == ZERO:
            return bytes(length)
        if place == BELOW:
            return read_below(self._backing, self._parent_name, offset, length, self.name)
        return self._read_data(place, length)

    def _read_data(self, place: int, length: int) -> bytes:
        if place + length > self._source.size_bytes:
            raise InputError(
                f"{self.name}: data at {place} lies beyond the end of its file at {self._source.size_bytes}"
                " (truncated?)"
            )
        return self._source.read(place, length)


def read_below(backing: BlockSource | None, parent_name: str, offset: int, length: int, name: str) -> bytes:
    """Return what a parent holds there: zeros past its end, and where the image has no parent.

    Raises InputError where it has one that nobody gave.
    """
    if backing is None:
        if not parent_name:
            return bytes(length)
        raise InputError(
            f"{name}: {length} bytes at {offset} lie in its parent, which it calls {parent_name!r}; if that"
            " is to be trusted, name it with `--backing FILE`"
        )
    kept = max(0, min(length, backing.size_bytes - offset))
    data = backing.read(offset, kept) if kept else b""
    return data if kept == length else data + bytes(length - kept)


def numbers(data: bytes, entry_bytes: int, order: ByteOrder) -> "array[int]":
    """Return unsigned numbers of 4 or 8 bytes each; a rest that makes no whole one is left out."""
    found = array("I" if entry_bytes == 4 else "Q", data[: len(data) - len(data) % entry_bytes])
    if sys.byteorder != order:
        found.byteswap()
    return found
