"""Devices that lie in pieces on others: one after the other, striped, or with parity; LVM and md share them.

Guarantees: a read gives exactly what it was asked for or raises `InputError`; nothing is read beyond the
parts. Layouts of RAID 5 are those of Linux (drivers/md/raid5.c, raid5_compute_sector).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

from undercroft.disks.source import BlockSource, check_range
from undercroft.errors import InputError, UnsupportedError

MAX_REBUILDS = 2
"""How deep what is computed from parity may lie on what is computed from parity: each level reads all of the
members of the level below, which a guest may describe so that one sector costs billions of reads."""

_rebuilds: ContextVar[int] = ContextVar("rebuilds", default=0)

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
    """RAID 4, 5 and 6: some chunks of each stripe are computed from the others; one part may be missing.

    Args:
        parts: in the order of their roles, None for the one that is missing.
        chunk_bytes: at least 512.
        layout: where the parity goes, one of the six of Linux.
        size_bytes: length of the device, cut at what the parts hold.
        name: for error messages.
        parities: chunks of parity in each stripe, 1 or 2.

    Raises:
        InputError: more than one part is missing.
    """

    __slots__ = ("_chunk", "_layout", "_parities", "_parts", "name", "size_bytes")

    def __init__(
        self,
        parts: Sequence[BlockSource | None],
        chunk_bytes: int,
        layout: int,
        size_bytes: int,
        name: str,
        parities: int = 1,
    ) -> None:
        present = [part for part in parts if part is not None]
        if len(parts) < parities + 1 or len(present) < len(parts) - 1:
            raise InputError(f"{name}: {len(present)} of {len(parts)} members are not enough for its data")
        if not 0 <= layout <= (PARITY_LAST if parities == 1 else RIGHT_SYMMETRIC):
            raise UnsupportedError(f"{name}: layout {layout} with {parities} parities is not supported")
        self._parts = tuple(parts)
        self._parities = parities
        self._chunk = check_chunk(chunk_bytes, name)
        self._layout = layout
        stripes = min(part.size_bytes for part in present) // chunk_bytes
        self.size_bytes = min(size_bytes, stripes * chunk_bytes * (len(parts) - parities))
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            stripe, chunk = divmod(number, len(self._parts) - self._parities)
            size = min(length, self._chunk - within)
            index, second = place_of(stripe, chunk, len(self._parts), self._layout, self._parities)
            part = self._parts[index]
            place = stripe * self._chunk + within
            found.append(part.read(place, size) if part is not None else self._rebuilt(place, size, second))
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)

    def _rebuilt(self, offset: int, length: int, second: int) -> bytes:
        """XOR what is there; the second parity of RAID 6 is no part of that sum."""
        depth = _rebuilds.get()
        if depth >= MAX_REBUILDS:
            raise InputError(f"{self.name}: computed from parity that is itself computed, {depth} deep")
        token = _rebuilds.set(depth + 1)
        try:
            value = 0
            for index, part in enumerate(self._parts):
                if part is not None and index != second:
                    value ^= int.from_bytes(part.read(offset, length), "little")
        finally:
            _rebuilds.reset(token)
        return value.to_bytes(length, "little")


def place_of(stripe: int, chunk: int, count: int, layout: int, parities: int = 1) -> tuple[int, int]:
    """Return which of `count` members holds a stripe's data chunk, and which the second parity (-1: none)."""
    last = count - 1
    match layout:
        case 0 | 2:
            parity = last - stripe % count
        case 1 | 3:
            parity = stripe % count
        case 4:
            parity = 0
        case _:
            parity = last
    second = (parity + 1) % count if parities == 2 else -1
    if layout in (LEFT_SYMMETRIC, RIGHT_SYMMETRIC):
        return (parity + parities + chunk) % count, second
    if parities == 2 and parity == last:
        return chunk + 1, second  # the second parity is the first chunk
    return (chunk + parities if chunk >= parity else chunk), second


class CopiesSource:
    """RAID 10: striped, with each chunk on several members; any copy gives it.

    Copies lie on neighbouring members ("near"), in a later part of the next member ("far") or in the next
    row of it ("offset"). Follows Linux's drivers/md/raid10.c, __raid10_find_phys.

    Args:
        parts: in the order of their roles, None for those that are missing.
        chunk_bytes: at least 512.
        near: copies on neighbours.
        far: copies on later parts of other members.
        offset: whether the far ones lie in the next row instead.
        part_bytes: what the array uses of each member.
        name: for error messages.

    Raises:
        InputError: a part of the data has no copy on the members that are there.
    """

    __slots__ = ("_chunk", "_far", "_near", "_offset", "_parts", "_stride", "name", "size_bytes")

    def __init__(
        self,
        parts: Sequence[BlockSource | None],
        chunk_bytes: int,
        near: int,
        far: int,
        part_bytes: int,
        name: str,
        *,
        offset: bool = False,
    ) -> None:
        if near < 1 or far < 1 or near * far > len(parts):
            raise InputError(f"{name}: {near} times {far} copies on {len(parts)} members")
        self._parts = tuple(parts)
        self._chunk = check_chunk(chunk_bytes, name)
        self._near, self._far, self._offset = near, far, offset
        self.name = name
        chunks = part_bytes // chunk_bytes // far * len(parts) // near
        used = -(-chunks * near * far // len(parts))
        self._stride = chunk_bytes if offset else used // far * chunk_bytes
        self.size_bytes = chunks * chunk_bytes
        for chunk in range(len(parts)):  # where copies lie repeats with the number of members
            if all(self._parts[index] is None for index, _ in self._copies(chunk)):
                raise InputError(f"{name}: the members that were given hold no copy of a part of its data")

    def _copies(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield (member, place in bytes) of each copy of a chunk."""
        count = len(self._parts)
        row, first = divmod(number * self._near, count)
        place = row * (self._far if self._offset else 1) * self._chunk
        for near in range(self._near):
            wrapped, index = divmod(first + near, count)
            for far in range(self._far):
                member = (index + far * self._near) % count
                yield member, place + wrapped * self._chunk + far * self._stride

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            size = min(length, self._chunk - within)
            for index, place in self._copies(number):
                if (part := self._parts[index]) is not None:
                    found.append(part.read(place + within, size))
                    break
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)


def check_chunk(chunk_bytes: int, name: str) -> int:
    """Return a chunk's size. Raises InputError for one that makes a read of very many pieces."""
    if chunk_bytes < 512 or chunk_bytes % 512:
        raise InputError(f"{name}: a chunk of {chunk_bytes} bytes is not whole sectors")
    return chunk_bytes
