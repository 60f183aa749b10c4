"""Devices that lie in pieces on others: one after the other, striped, or with parity; LVM and md share them.

Guarantees: a read gives exactly what it was asked for or raises `InputError`; nothing is read beyond the
parts. Layouts of RAID 5 are those of Linux (drivers/md/raid5.c, raid5_compute_sector).
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from undercroft.disks.source import BlockSource, check_range
from undercroft.errors import InputError

LEFT_ASYMMETRIC, RIGHT_ASYMMETRIC, LEFT_SYMMETRIC, RIGHT_SYMMETRIC, PARITY_FIRST, PARITY_LAST = range(6)


class Piece(NamedTuple):
    """`length` bytes of a device: those at `offset` of `source`, or zeros where it is None."""

    length: int
    source: BlockSource | None
    offset: int


class ConcatSource:
    """Pieces one after the other. The pieces lie in their sources, which whoever makes them checks.

    Args:
        pieces: in order, none of them empty.
        name: for error messages ("lvm vg/root").
    """

    __slots__ = ("_pieces", "_starts", "name", "size_bytes")

    def __init__(self, pieces: Sequence[Piece], name: str) -> None:
        self._pieces = tuple(pieces)
        self._starts: list[int] = []
        position = 0
        for piece in self._pieces:
            self._starts.append(position)
            position += piece.length
            if piece.source is not None and piece.offset + piece.length > piece.source.size_bytes:
                raise InputError(
                    f"{name}: {piece.length} bytes at {piece.offset} of a part lie beyond its end at"
                    f" {piece.source.size_bytes}"
                )
        self.size_bytes = position
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        index = bisect_right(self._starts, offset) - 1
        while length:
            piece = self._pieces[index]
            within = offset - self._starts[index]
            size = min(length, piece.length - within)
            found.append(piece.source.read(piece.offset + within, size) if piece.source else bytes(size))
            offset, length, index = offset + size, length - size, index + 1
        return found[0] if len(found) == 1 else b"".join(found)


class StripedSource:
    """Chunks that go around the parts, all of which are as long as the shortest (RAID 0, LVM stripes).

    Args:
        parts: at least one.
        chunk_bytes: at least 512.
        name: for error messages.
    """

    __slots__ = ("_chunk", "_parts", "name", "size_bytes")

    def __init__(self, parts: Sequence[BlockSource], chunk_bytes: int, name: str) -> None:
        self._parts = tuple(parts)
        self._chunk = check_chunk(chunk_bytes, name)
        self.size_bytes = min(part.size_bytes for part in parts) // chunk_bytes * chunk_bytes * len(parts)
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            stripe, part = divmod(number, len(self._parts))
            size = min(length, self._chunk - within)
            found.append(self._parts[part].read(stripe * self._chunk + within, size))
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)


class ParitySource:
    """RAID 4 and 5: one chunk of each stripe is the XOR of the others; one part may be missing.

    Args:
        parts: in the order of their roles, None for the one that is missing.
        chunk_bytes: at least 512.
        layout: where the parity goes, one of the six of Linux.
        size_bytes: length of the device, cut at what the parts hold.
        name: for error messages.
    """

    __slots__ = ("_chunk", "_layout", "_parts", "name", "size_bytes")

    def __init__(
        self, parts: Sequence[BlockSource | None], chunk_bytes: int, layout: int, size_bytes: int, name: str
    ) -> None:
        present = [part for part in parts if part is not None]
        if len(parts) < 2 or len(present) < len(parts) - 1:
            raise InputError(f"{name}: {len(present)} of {len(parts)} members are not enough for its data")
        self._parts = tuple(parts)
        self._chunk = check_chunk(chunk_bytes, name)
        self._layout = layout
        stripes = min(part.size_bytes for part in present) // chunk_bytes
        self.size_bytes = min(size_bytes, stripes * chunk_bytes * (len(parts) - 1))
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            stripe, chunk = divmod(number, len(self._parts) - 1)
            size = min(length, self._chunk - within)
            part = self._parts[place_of(stripe, chunk, len(self._parts), self._layout)]
            place = stripe * self._chunk + within
            found.append(part.read(place, size) if part is not None else self._rebuilt(place, size))
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)

    def _rebuilt(self, offset: int, length: int) -> bytes:
        value = 0
        for part in self._parts:
            if part is not None:
                value ^= int.from_bytes(part.read(offset, length), "little")
        return value.to_bytes(length, "little")


def place_of(stripe: int, chunk: int, count: int, layout: int) -> int:
    """Return which of `count` members holds data chunk `chunk` of a stripe."""
    data = count - 1
    match layout:
        case 0 | 2:
            parity = data - stripe % count
        case 1 | 3:
            parity = stripe % count
        case 4:
            parity = 0
        case _:
            parity = data
    if layout in (LEFT_SYMMETRIC, RIGHT_SYMMETRIC):
        return (parity + 1 + chunk) % count
    return chunk + 1 if chunk >= parity else chunk


class MirrorStripedSource:
    """RAID 10 of the layout "near": each chunk lies on `copies` neighbouring parts; any of them gives it.

    Args:
        parts: in the order of their roles, None for those that are missing.
        chunk_bytes: at least 512.
        copies: of each chunk, from 1 to the number of parts.
        size_bytes: length of the device.
        name: for error messages.
    """

    __slots__ = ("_chunk", "_copies", "_parts", "name", "size_bytes")

    def __init__(
        self, parts: Sequence[BlockSource | None], chunk_bytes: int, copies: int, size_bytes: int, name: str
    ) -> None:
        self._parts = tuple(parts)
        self._chunk = check_chunk(chunk_bytes, name)
        self._copies = copies
        present = [part.size_bytes for part in parts if part is not None]
        if not present or not 1 <= copies <= len(parts):
            raise InputError(f"{name}: {len(present)} members and {copies} copies of its data make no array")
        # A chunk without a copy: where the copies of a chunk start repeats with the number of members.
        for first in range(len(parts)):
            if all(self._parts[(first * copies + copy) % len(parts)] is None for copy in range(copies)):
                raise InputError(f"{name}: the members that were given hold no copy of a part of its data")
        chunks = min(present) // chunk_bytes * len(parts) // copies
        self.size_bytes = min(size_bytes, chunks * chunk_bytes)
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            size = min(length, self._chunk - within)
            for copy in range(self._copies):
                row, index = divmod(number * self._copies + copy, len(self._parts))
                if part := self._parts[index]:
                    found.append(part.read(row * self._chunk + within, size))
                    break
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)


def check_chunk(chunk_bytes: int, name: str) -> int:
    """Return a chunk's size. Raises InputError for one that makes a read of very many pieces."""
    if chunk_bytes < 512 or chunk_bytes % 512:
        raise InputError(f"{name}: a chunk of {chunk_bytes} bytes is not whole sectors")
    return chunk_bytes
