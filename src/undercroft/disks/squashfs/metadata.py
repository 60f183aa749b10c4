"""squashfs' superblock, its blocks of metadata, and its tables of ids and fragments.

Follows Linux's fs/squashfs/squashfs_fs.h; all numbers are little-endian.
"""

from dataclasses import dataclass
from struct import Struct, unpack_from

from undercroft.disks.cache import BoundedCache
from undercroft.disks.source import BlockSource
from undercroft.disks.squashfs.streams import Unpack, unpacker
from undercroft.errors import InputError, UnsupportedError

MAGIC = 0x73717368
BLOCK_BYTES = 8192
MIN_BLOCK_BITS, MAX_BLOCK_BITS = 12, 20
MAX_IDS = 65_536
MAX_FRAGMENTS = 1 << 24
CACHED_BLOCKS = 512
PACKED_BYTES_MASK = 0x7FFF
UNPACKED = 0x8000

_SUPERBLOCK = Struct("<IIIIIHHHHHHQQQQQQQQ")
_FRAGMENT = Struct("<QII")


@dataclass(frozen=True, slots=True)
class Superblock:
    """What the superblock says: sizes and places in bytes, all within the volume."""

    block_bytes: int
    fragments: int
    compression: int
    ids: int
    root: int
    size_bytes: int
    id_table: int
    inode_table: int
    directory_table: int
    fragment_table: int
    attribute_table: int


def read_superblock(source: BlockSource) -> Superblock:
    """Return the superblock.

    Raises:
        InputError: it is malformed, or its tables lie beyond the volume.
        UnsupportedError: it is of another version.
    """
    if source.size_bytes < _SUPERBLOCK.size:
        raise InputError("squashfs superblock: the volume is too short for one")
    fields = _SUPERBLOCK.unpack(source.read(0, _SUPERBLOCK.size))
    magic, _, _, block, fragments, kind, bits, _, ids, major, minor = fields[:11]
    root, size, id_table, attributes, inodes, directories, fragment_table, _ = fields[11:]
    if magic != MAGIC:
        raise InputError("squashfs superblock: there is none")
    if (major, minor) != (4, 0):
        raise UnsupportedError(f"squashfs: version {major}.{minor} is not supported")
    if not MIN_BLOCK_BITS <= bits <= MAX_BLOCK_BITS or block != 1 << bits:
        raise InputError(f"squashfs superblock: blocks of {block} bytes")
    if size > source.size_bytes or not _SUPERBLOCK.size <= inodes <= directories <= id_table <= size:
        raise InputError(
            f"squashfs superblock: its tables do not lie in its {size} of {source.size_bytes} bytes"
        )
    if not 0 < ids <= MAX_IDS or fragments > MAX_FRAGMENTS:
        raise InputError(f"squashfs superblock: {ids} ids and {fragments} fragments")
    if fragments and not directories <= fragment_table <= size:
        raise InputError("squashfs superblock: its table of fragments lies outside")
    places = id_table, inodes, directories, fragment_table, attributes
    return Superblock(block, fragments, kind, ids, root, size, *places)


class Metadata:
    """Blocks of metadata, unpacked and cached.

    Args:
        source: the volume.
        superblock: as read of it.
    """

    def __init__(self, source: BlockSource, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self.unpack: Unpack = unpacker(superblock.compression)
        self._blocks: BoundedCache[int, tuple[bytes, int]] = BoundedCache(CACHED_BLOCKS)

    def block(self, place: int) -> tuple[bytes, int]:
        """Return the block at `place` of the volume, and where the next one is. Raises InputError."""
        found = self._blocks.get(place)
        if found is not None:
            return found
        if not 0 <= place <= self._superblock.size_bytes - 2:
            raise InputError(f"squashfs: metadata at {place} lie beyond the end")
        header = int.from_bytes(self._source.read(place, 2), "little")
        length = header & PACKED_BYTES_MASK
        if not 0 < length <= BLOCK_BYTES or place + 2 + length > self._superblock.size_bytes:
            raise InputError(f"squashfs: a block of metadata of {length} bytes at {place}")
        data = self._source.read(place + 2, length)
        if not header & UNPACKED:
            data = self.unpack(data, BLOCK_BYTES)
        return self._blocks.put(place, (data, place + 2 + length))

    def read(self, place: int, offset: int, length: int) -> tuple[bytes, int, int]:
        """Return `length` bytes from `offset` of the block at `place` on, and where they end.

        Raises:
            InputError: they pass the end of the metadata; a block within is short.
        """
        found = bytearray()
        while True:
            data, after = self.block(place)
            piece = data[offset : offset + length - len(found)]
            found += piece
            if len(found) == length:
                return bytes(found), place, offset + len(piece)
            if len(data) != BLOCK_BYTES or offset > len(data):
                raise InputError(f"squashfs: metadata at {place} end where more is needed")
            place, offset = after, 0

    def table(self, start: int, index: int, entry_bytes: int) -> bytes:
        """Return one entry of a table: a list of places, each of a block full of entries."""
        number, within = divmod(index, BLOCK_BYTES // entry_bytes)
        (place,) = unpack_from("<Q", self._source.read(start + 8 * number, 8))
        return self.read(place, within * entry_bytes, entry_bytes)[0]

    def owner(self, index: int) -> int:
        """Return the user or group that an index of the id table stands for. Raises InputError."""
        if index >= self._superblock.ids:
            raise InputError(f"squashfs: id {index} of {self._superblock.ids}")
        return int.from_bytes(self.table(self._superblock.id_table, index, 4), "little")

    def fragment(self, index: int) -> tuple[int, int]:
        """Return (place, size with its flag) of a block of fragments. Raises InputError."""
        if index >= self._superblock.fragments:
            raise InputError(f"squashfs: fragment {index} of {self._superblock.fragments}")
        place, size, _ = _FRAGMENT.unpack(self.table(self._superblock.fragment_table, index, 16))
        return place, size


class MetadataReader:
    """Takes one structure after the other from a place in the metadata on.

    Args:
        metadata: of the filesystem.
        place: of the block where it begins, in the volume.
        offset: in that block.
    """

    def __init__(self, metadata: Metadata, place: int, offset: int) -> None:
        self._metadata = metadata
        self._place, self._offset = place, offset

    def bytes(self, length: int) -> bytes:
        """Return the next `length` bytes. Raises InputError."""
        data, self._place, self._offset = self._metadata.read(self._place, self._offset, length)
        return data

    def take(self, layout: Struct) -> tuple[int, ...]:
        """Return the fields of the next structure. Raises InputError."""
        return layout.unpack(self.bytes(layout.size))
