"""Extended attributes of the namespaces user and trusted: in the inode, and in a block of their own.

Follows the kernel's fs/ext4/xattr.c and "Extended Attributes" of its documentation.
"""

from struct import Struct

from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.checksum import MASK, extend
from undercroft.disks.ext4.inode import Inode
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

_NAMESPACES = ((b"user.", 1), (b"trusted.", 4))
_BLOCK_PLACE, _BLOCK_PLACE_HIGH = 104, 118
_BLOCK_HEADER = Struct("<IIIII")
"""magic, references, blocks, hash, checksum."""
_BLOCK_HEADER_BYTES = 32
_CHECKSUM = slice(16, 20)


def value(inode: Inode, name: bytes, source: BlockSource, superblock: Superblock) -> bytes | None:
    """Return the value of an attribute of `inode`, None where it has none of that name.

    Raises:
        UnsupportedError: the value lies in an inode of its own, or `name` is in another namespace.
        InputError: the attributes are malformed, or their checksum is wrong.
    """
    prefix, index = next(((p, i) for p, i in _NAMESPACES if name.startswith(p)), (b"", 0))
    if not index:
        raise UnsupportedError(f"ext inode {inode.stat.node}: attributes of other namespaces are not read")
    wanted = index, name.removeprefix(prefix)
    raw = inode.raw
    start = layout.INODE_EXTRA_OFFSET + int.from_bytes(raw[128:130], "little")
    if len(raw) > layout.INODE_EXTRA_OFFSET and raw[start : start + 4] == layout.XATTR_MAGIC.to_bytes(
        4, "little"
    ):
        found = _find(raw[start + 4 :], 0, wanted, inode.stat.node)
        if found is not None:
            return found
    place = int.from_bytes(raw[_BLOCK_PLACE : _BLOCK_PLACE + 4], "little")
    place |= int.from_bytes(raw[_BLOCK_PLACE_HIGH : _BLOCK_PLACE_HIGH + 2], "little") << 32
    if not place:
        return None
    return _find(_block(place, source, superblock), _BLOCK_HEADER_BYTES, wanted, inode.stat.node)


def _block(place: int, source: BlockSource, superblock: Superblock) -> bytes:
    data = source.read(place * superblock.block_bytes, superblock.block_bytes)
    magic, _, blocks, _, checksum = _BLOCK_HEADER.unpack_from(data)
    if magic != layout.XATTR_MAGIC or blocks != 1:
        raise InputError(f"ext attributes in block {place}: magic {magic:#x}, {blocks} blocks")
    if superblock.seed is not None:
        blanked = data[: _CHECKSUM.start] + bytes(4) + data[_CHECKSUM.stop :]
        computed = extend(extend(superblock.seed, place.to_bytes(8, "little")), blanked) ^ MASK
        if computed != checksum:
            raise InputError(
                f"ext attributes in block {place}: checksum {checksum:#x}, its bytes give {computed:#x}"
            )
    return data


def _find(area: bytes, start: int, wanted: tuple[int, bytes], node: int) -> bytes | None:
    """Return the value of an entry; entries begin at `start`, places of values count from the area's."""
    offset = start
    while area[offset : offset + 4].strip(b"\0"):
        if offset + layout.XATTR_ENTRY.size > len(area):
            raise InputError(f"ext inode {node}: extended attributes pass their end")
        name_bytes, index, place, value_inode, length, _ = layout.XATTR_ENTRY.unpack_from(area, offset)
        offset += layout.XATTR_ENTRY.size
        if (index, area[offset : offset + name_bytes]) == wanted:
            if value_inode:
                raise UnsupportedError(f"ext inode {node}: an attribute in inode {value_inode} is not read")
            if place + length > len(area):
                raise InputError(f"ext inode {node}: an attribute passes its end")
            return area[place : place + length]
        offset += name_bytes + 3 & ~3
    return None
