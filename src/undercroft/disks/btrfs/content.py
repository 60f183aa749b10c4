"""A file's content: its extents, and the bytes in them, each sector checked by its checksum."""

from collections.abc import Iterator
from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.chunks import ChunkMap
from undercroft.disks.btrfs.compression import decompress
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.inode import Inode
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.pieces import zeros
from undercroft.errors import InputError, UnsupportedError

_INLINE_OFFSET = layout.EXTENT.size
_REGULAR_BYTES = layout.EXTENT.size + layout.EXTENT_PLACE.size


class Extent(NamedTuple):
    """A part of a file.

    Attributes:
        length: bytes of the file.
        kind: inline, regular or preallocated.
        compression: 0 for none.
        unpacked: bytes of the whole extent once unpacked.
        inline: the bytes of an inline one as they are stored.
        address, stored, skip: of the others, where they are (0: a hole), how many bytes, and where in what
            is unpacked the part begins.
    """

    length: int
    kind: int
    compression: int
    unpacked: int
    inline: bytes = b""
    address: int = 0
    stored: int = 0
    skip: int = 0


def parse_extent(untrusted: bytes, what: str, sector_bytes: int) -> Extent:
    """Return the extent of an item.

    Raises:
        UnsupportedError: it is encrypted or encoded in another way.
        InputError: it is malformed.
    """
    if len(untrusted) < _INLINE_OFFSET:
        raise InputError(f"{what}: an extent of {len(untrusted)} bytes")
    _, unpacked, compression, encryption, encoding, kind = layout.EXTENT.unpack_from(untrusted)
    if encryption or encoding:
        raise UnsupportedError(f"{what}: it is encrypted by the guest; only the guest has the key")
    if kind == layout.EXTENT_INLINE:
        inline = untrusted[_INLINE_OFFSET:]
        if not compression and len(inline) != unpacked:
            raise InputError(f"{what}: {len(inline)} inline bytes, it says {unpacked}")
        return Extent(unpacked, kind, compression, unpacked, inline)
    if kind > layout.EXTENT_PREALLOCATED or len(untrusted) != _REGULAR_BYTES:
        raise InputError(f"{what}: an extent of type {kind} in {len(untrusted)} bytes")
    address, stored, skip, length = layout.EXTENT_PLACE.unpack_from(untrusted, _INLINE_OFFSET)
    if (address | stored | skip | length) & (sector_bytes - 1) or not length:
        raise InputError(f"{what}: an extent of {length} bytes at {address} is not whole sectors")
    if skip + length > layout.LAST or (address and skip + length > (unpacked if compression else stored)):
        raise InputError(f"{what}: {length} bytes from {skip} on are not in an extent of {unpacked}")
    if compression and stored > layout.MAX_UNCOMPRESSED_BYTES:
        raise InputError(f"{what}: {stored} bytes of compressed data")
    return Extent(length, kind, compression, unpacked, b"", address, stored, skip)


class Content:
    """Reads the content of the files of one filesystem."""

    def __init__(self, chunks: ChunkMap, checksums: DataChecksums, superblock: Superblock) -> None:
        self._chunks = chunks
        self._checksums = checksums
        self._checksum = superblock.checksum
        self._sector = superblock.sector_bytes
        self._last: tuple[tuple[int, ...], bytes] = ((), b"")

    def chunks(self, tree: FsTree, number: int, inode: Inode, start: int = 0) -> Iterator[bytes]:
        """Yield the content of inode `number` from byte `start` on, in pieces of at most 1 MiB.

        Raises:
            UnsupportedError: an encoding that this version lacks.
            InputError: malformed extents, bytes that fit no checksum; also midway.
        """
        size = inode.stat.size_bytes
        position = start
        floor = 0
        for place, item in tree.extents(number, start):
            if place >= size:
                break
            extent = parse_extent(item, f"btrfs inode {number}", self._sector)
            if place < floor or (extent.kind == layout.EXTENT_INLINE and place):
                raise InputError(f"btrfs inode {number}: its extents overlap at {place}")
            floor = place + extent.length
            end = min(floor, size)
            if end <= position:
                continue
            if place > position:
                yield from zeros(place - position, layout.MAX_CHUNK_BYTES)
                position = place
            yield from self._pieces(extent, position - place, end - place, inode.flags, number)
            position = end
        if position < size:
            yield from zeros(size - position, layout.MAX_CHUNK_BYTES)

    def _pieces(self, extent: Extent, first: int, end: int, flags: int, number: int) -> Iterator[bytes]:
        """Yield the bytes `first` to `end` of an extent."""
        if extent.kind == layout.EXTENT_INLINE:
            data = extent.inline
            if extent.compression:
                what = f"btrfs inode {number}"
                data = decompress(data, extent.unpacked, extent.compression, self._sector, what)
            yield data[first:end]
        elif not extent.address or extent.kind == layout.EXTENT_PREALLOCATED:
            yield from zeros(end - first, layout.MAX_CHUNK_BYTES)
        elif extent.compression:
            yield self._unpacked(extent, flags)[extent.skip + first : extent.skip + end]
        elif not first and end <= layout.MAX_CHUNK_BYTES:
            data = self._read(extent.address + extent.skip, (end + self._sector - 1) & -self._sector, flags)
            yield data if len(data) == end else data[:end]
        else:
            yield from self._plain(extent.address + extent.skip, first, end, flags)

    def _unpacked(self, extent: Extent, flags: int) -> bytes:
        """Return all that a compressed extent holds; a file that is written to may have many parts of one."""
        key = (extent.address, extent.stored, extent.unpacked, extent.compression, flags)
        if self._last[0] != key:
            packed = self._read(extent.address, extent.stored, flags)
            what = f"btrfs data at {extent.address}"
            data = decompress(packed, extent.unpacked, extent.compression, self._sector, what)
            self._last = (key, data)
        return self._last[1]

    def _plain(self, address: int, first: int, end: int, flags: int) -> Iterator[bytes]:
        sector = self._sector
        position = first & -sector
        while position < end:
            length = min(layout.MAX_CHUNK_BYTES, (end - position + sector - 1) & -sector)
            data = self._read(address + position, length, flags)
            skip = max(first - position, 0)
            yield data[skip : end - position] if skip or end - position < length else data
            position += length

    def _read(self, address: int, length: int, flags: int) -> bytes:
        """Return whole sectors, checked unless the file is one without checksums."""
        if flags & layout.INODE_NO_CHECKSUMS:
            return self._chunks.plain(address, length)
        sums = self._checksums.of(address, length)
        return self._chunks.verified(address, length, sums, self._checksum, self._sector)
