"""Chunks: where a logical address lies on the devices, in how many copies.

Guarantees: chunks neither overlap nor are empty, and their stripes are as their profile wants them; a read
never passes its device. A copy on a device that is not there is skipped; where none is left the error names
the device. RAID5 and RAID6 are read from their data strips; nothing is computed from parity.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import Checksum
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError


class Stripe(NamedTuple):
    """A part of one device."""

    device: int
    offset: int
    uuid: bytes


class Chunk(NamedTuple):
    """A range of logical addresses; `profile` is the bit of its type, 0 for single."""

    start: int
    length: int
    profile: int
    stripes: tuple[Stripe, ...]


Copies = tuple[tuple[int, int], ...]
"""(device, offset there) of each copy of a range."""

_COPIES = {
    0: 1, layout.DUP: 2, layout.RAID1: 2, layout.RAID1C3: 3, layout.RAID1C4: 4,
}  # fmt: skip
_PARITIES = {layout.RAID5: 1, layout.RAID6: 2}
_STRIPED = layout.RAID0 | layout.RAID10 | layout.RAID5 | layout.RAID6


def parse_chunk(start: int, untrusted: bytes, sector_bytes: int) -> tuple[Chunk, int]:
    """Return the chunk at logical address `start` from its item, and the item's length.

    Raises InputError where it is malformed, UnsupportedError for an unknown profile.
    """
    what = f"btrfs chunk at {start}"
    if len(untrusted) < layout.CHUNK.size:
        raise InputError(f"{what}: an item of {len(untrusted)} bytes")
    length, _owner, stripe_bytes, kind, _, _, _, count, sub_stripes = layout.CHUNK.unpack_from(untrusted)
    profile = kind & ~7
    end = layout.CHUNK.size + count * layout.STRIPE.size
    if not 0 < count <= layout.MAX_STRIPES or end > len(untrusted):
        raise InputError(f"{what}: {count} stripes in {len(untrusted)} bytes")
    if not length or (start | length) & (sector_bytes - 1) or start + length > 1 << 64:
        raise InputError(f"{what}: it has {length} bytes")
    if profile & ~layout.PROFILES or profile & (profile - 1):
        raise UnsupportedError(f"{what}: the profile {profile:#x} is not supported")
    if stripe_bytes != layout.STRIPE_BYTES:
        raise InputError(f"{what}: stripes of {stripe_bytes} bytes")
    if count != _COPIES.get(profile, count) or count <= _PARITIES.get(profile, 0):
        raise InputError(f"{what}: {count} stripes do not fit the profile {profile:#x}")
    if profile == layout.RAID10 and (sub_stripes != 2 or count % 2):
        raise InputError(f"{what}: {count} stripes by {sub_stripes} do not fit RAID10")
    stripes = layout.STRIPE.iter_unpack(untrusted[layout.CHUNK.size : end])
    return Chunk(start, length, profile, tuple(Stripe(*stripe) for stripe in stripes)), end


def system_chunks(superblock: Superblock) -> Iterator[Chunk]:
    """Yield the chunks of the superblock's own array. Raises as `parse_chunk` does."""
    untrusted = superblock.system_chunks
    position = 0
    while position < len(untrusted):
        if position + layout.KEY.size > len(untrusted):
            raise InputError("btrfs superblock: its system chunks end within a key")
        _, kind, start = layout.KEY.unpack_from(untrusted, position)
        if kind != layout.CHUNK_ITEM:
            raise InputError(f"btrfs superblock: an item of type {kind} among its system chunks")
        position += layout.KEY.size
        chunk, length = parse_chunk(start, untrusted[position:], superblock.sector_bytes)
        yield chunk
        position += length


class ChunkMap:
    """All chunks of a filesystem, and the devices that they lie on.

    Args:
        devices: id -> (source, the device's UUID), of those that are there.
        behind: ids of those that lack the last commits: their copies come last.
    """

    def __init__(
        self, devices: Mapping[int, tuple[BlockSource, bytes]], behind: Collection[int] = ()
    ) -> None:
        self._devices = devices
        self._behind = behind
        self._starts: list[int] = []
        self._chunks: list[Chunk] = []

    def add(self, chunk: Chunk) -> None:
        """Add a chunk; one that is known by its start stays. Raises InputError where it overlaps another."""
        position = bisect_right(self._starts, chunk.start)
        before = self._chunks[position - 1] if position else None
        if before and before.start == chunk.start:
            return
        after = self._chunks[position] if position < len(self._chunks) else None
        if (before and before.start + before.length > chunk.start) or (
            after and chunk.start + chunk.length > after.start
        ):
            raise InputError(f"btrfs chunk at {chunk.start}: it overlaps another one")
        if len(self._chunks) >= layout.MAX_CHUNKS:
            raise InputError(f"btrfs filesystem: more than {layout.MAX_CHUNKS} chunks")
        self._starts.insert(position, chunk.start)
        self._chunks.insert(position, chunk._replace(stripes=tuple(map(self._given, chunk.stripes))))

    def missing_devices(self) -> list[int]:
        """Return the ids of the devices that chunks lie on and that are not there, ascending."""
        return sorted({~each.device for chunk in self._chunks for each in chunk.stripes if each.device < 0})

    def copies(self, address: int, length: int) -> Iterator[bytes]:
        """Yield `length` bytes at a logical address as each copy has them.

        Raises InputError where no copy can be had, or the address lies in no chunk.
        """
        pieces = list(self.pieces(address, length))
        number = 0
        damage: InputError | None = None
        is_any = False
        while number < max(len(copies) for _, copies in pieces):
            try:
                data = b"".join(
                    self.read(copies[min(number, len(copies) - 1)], room) for room, copies in pieces
                )
                is_any = True
                yield data
            except InputError as error:
                damage = damage or error
            number += 1
        if not is_any and damage:
            raise damage

    def verified(self, address: int, length: int, sums: bytes, checksum: Checksum, sector: int) -> bytes:
        """Return `length` bytes at a logical address, each sector from a copy that its checksum fits.

        `address` and `length` are multiples of `sector`, `length` at most 1 MiB; `sums` are the checksums of
        all sectors, one after the other.

        Raises InputError where no copy of a sector fits.
        """
        found = []
        digest, size = checksum.digest, checksum.size_bytes
        for room, copies in self.pieces(address, length):
            count = room // sector
            wanted, sums = sums[: count * size], sums[count * size :]
            try:
                data = self.read(copies[0], room)
            except InputError:
                data = b"" if len(copies) > 1 else self.read(copies[0], room)
            sectors = [data[start : start + sector] for start in range(0, room, sector)]
            if b"".join(map(digest, sectors)) != wanted:
                for number, piece in enumerate(sectors):
                    expected = wanted[number * size : (number + 1) * size]
                    if digest(piece) != expected:
                        place = address + number * sector
                        sectors[number] = self._repaired(
                            place, number * sector, copies, expected, checksum, sector
                        )
                data = b"".join(sectors)
            found.append(data)
            address += room
        return found[0] if len(found) == 1 else b"".join(found)

    def _repaired(
        self, address: int, skip: int, copies: Copies, expected: bytes, checksum: Checksum, sector: int
    ) -> bytes:
        damage: InputError | None = None
        for device, offset in copies:
            try:
                data = self.read((device, offset + skip), sector)
            except InputError as error:
                damage = damage or error
                continue
            if checksum.digest(data) == expected:
                return data
        raise damage or InputError(f"btrfs data at {address}: no copy has the checksum {expected.hex()}")

    def plain(self, address: int, length: int) -> bytes:
        """Return bytes that have no checksum, from the first copy that can be had. Raises InputError."""
        return next(self.copies(address, length))

    def read(self, place: tuple[int, int], length: int) -> bytes:
        """Return bytes of one device. Raises InputError; it names a device that is missing."""
        device = self._devices.get(place[0])
        if device is None:
            raise InputError(f"btrfs device {~place[0]} is missing; give its disk too")
        return device[0].read(place[1], length)

    def pieces(self, address: int, length: int) -> Iterator[tuple[int, Copies]]:
        """Yield (bytes, copies) of each part of a range that lies in one piece on its devices.

        Raises InputError where the range leaves the chunks.
        """
        while length:
            position = bisect_right(self._starts, address) - 1
            chunk = self._chunks[position] if position >= 0 else None
            if chunk is None or address >= chunk.start + chunk.length:
                raise InputError(f"btrfs address {address} lies in no chunk")
            offset = address - chunk.start
            room = min(length, chunk.length - offset)
            if chunk.profile & _STRIPED:
                room = min(room, layout.STRIPE_BYTES - offset % layout.STRIPE_BYTES)
                stripes, offset = _striped(chunk, offset)
            else:
                stripes = chunk.stripes
            if self._behind:
                stripes = tuple(sorted(stripes, key=lambda stripe: stripe.device in self._behind))
            yield room, tuple((stripe.device, stripe.offset + offset) for stripe in stripes)
            address += room
            length -= room

    def _given(self, stripe: Stripe) -> Stripe:
        """Return a stripe as it is, or with the complement of its device's number where that is missing.

        One of the same number and another UUID is another device: it was removed, and the number used again.
        """
        is_there = stripe.device in self._devices and self._devices[stripe.device][1] == stripe.uuid
        return stripe if is_there else stripe._replace(device=~stripe.device)


def _striped(chunk: Chunk, offset: int) -> tuple[tuple[Stripe, ...], int]:
    """Return the stripes that hold an offset of a striped chunk, and the offset within them."""
    number, inside = divmod(offset, layout.STRIPE_BYTES)
    count = len(chunk.stripes)
    if chunk.profile == layout.RAID10:
        row, column = divmod(number, count // 2)
        stripes = chunk.stripes[column * 2 : column * 2 + 2]
    elif chunk.profile == layout.RAID0:
        row, column = divmod(number, count)
        stripes = chunk.stripes[column : column + 1]
    else:
        row, column = divmod(number, count - _PARITIES[chunk.profile])
        column = (column + row) % count
        stripes = chunk.stripes[column : column + 1]
    return stripes, row * layout.STRIPE_BYTES + inside
