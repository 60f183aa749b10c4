"""The footer of a VHD image and its dynamic header, checked.

Follows "Virtual Hard Disk Image Format Specification" 1.0 (Microsoft, 2006); all numbers are big-endian. The
footer at the file's end decides what the image is: a guest of a fixed image can write its first sector, where
other kinds keep a copy, but not what lies behind its last one. QEMU asks the first sector: where the two do
not agree the image is refused, since what is judged would not be what runs.
"""

import uuid
from dataclasses import dataclass
from struct import Struct
from typing import Final

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

COOKIE: Final = b"conectix"
DYNAMIC_COOKIE: Final = b"cxsparse"

FOOTER: Final = Struct(">8sIIQI4sI4sQQHBBII16s")
"""Cookie, features, version, offset of the dynamic header, time, creator, its version and system, original
size, current size, cylinders, heads, sectors a track, kind, checksum, UUID."""

FOOTER_BYTES: Final = 512
FOOTER_CHECKSUM: Final = slice(64, 68)

DYNAMIC: Final = Struct(">8sQQIIII16sII512s")
"""Cookie, unused, offset of the block table, version, its entries, block size, checksum, the parent's UUID
and time, unused, the parent's name in UTF-16."""

DYNAMIC_BYTES: Final = 1024
DYNAMIC_CHECKSUM: Final = slice(36, 40)

KIND_FIXED, KIND_DYNAMIC, KIND_DIFFERENCING = 2, 3, 4
VERSION: Final = 0x00010000
SECTOR_BYTES: Final = 512
MAX_SIZE_BYTES: Final = 2040 << 30
"""The specification's and QEMU's."""

MAX_BLOCK_BYTES: Final = 256 << 20
MAX_GEOMETRY_SECTORS: Final = 65535 * 16 * 255
SIZE_CREATORS: Final = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS")
"""Whose images have the size that they state; those of all others have the size of their geometry, as QEMU
reads them (block/vpc.c): Virtual PC showed its guests no more than that."""

CURE: Final = "`qemu-img check -f vpc` tells more"


@dataclass(frozen=True, slots=True)
class Header:
    """What footer and dynamic header say, within limits.

    Attributes:
        kind: KIND_FIXED, KIND_DYNAMIC or KIND_DIFFERENCING.
        size_bytes: the virtual disk's size, as QEMU reads it.
        by_geometry: that size is the geometry's, and differs from the one that is stated.
        table_offset: of the block table, a sector's start; 0 for a fixed image.
        blocks: its entries; enough for `size_bytes`.
        block_bytes: a power of two.
        ident: the image's UUID.
        parent_ident: the parent's UUID, "" for none.
        parent_name: the parent's file name as stored, "" for none.
    """

    kind: int
    size_bytes: int
    by_geometry: bool
    ident: str
    table_offset: int = 0
    blocks: int = 0
    block_bytes: int = 0
    parent_ident: str = ""
    parent_name: str = ""

    @property
    def bitmap_bytes(self) -> int:
        """Length of the bitmap before each block: a bit a sector, whole sectors."""
        return -(-self.block_bytes // (SECTOR_BYTES * 8 * SECTOR_BYTES)) * SECTOR_BYTES


def read_header(source: BlockSource, name: str) -> Header:
    """Read and check footer and dynamic header.

    Raises:
        InputError: no sound footer, one that contradicts its copy or the file, a limit passed.
        UnsupportedError: another version or kind of image.
    """
    footer, at_end = _find_footer(source, name)
    fields = FOOTER.unpack_from(footer)
    _, _, version, dynamic_offset, _, creator, _, _, _, current, cylinders, heads, sectors, kind = fields[:14]
    if version >> 16 != VERSION >> 16:
        raise UnsupportedError(f"{name}: vhd version {version >> 16} is not supported")
    size_bytes, by_geometry = _size(creator, current, cylinders * heads * sectors)
    if not 0 < size_bytes <= MAX_SIZE_BYTES:
        raise InputError(f"{name}: a disk of {size_bytes} bytes is out of range; {CURE}")
    ident = str(uuid.UUID(bytes=fields[15]))
    if kind == KIND_FIXED:
        if not at_end:
            raise InputError(f"{name}: a fixed vhd image without its footer (truncated?); {CURE}")
        if size_bytes > source.size_bytes - FOOTER_BYTES:
            raise InputError(f"{name}: ends before its disk of {size_bytes} bytes does (truncated?); {CURE}")
        return Header(kind, size_bytes, by_geometry, ident)
    if kind not in (KIND_DYNAMIC, KIND_DIFFERENCING):
        raise UnsupportedError(f"{name}: is a vhd image of kind {kind}, which is not supported")
    return _read_dynamic(source, dynamic_offset, Header(kind, size_bytes, by_geometry, ident), name)


def _find_footer(source: BlockSource, name: str) -> tuple[bytes, bool]:
    """Return the footer, and whether it is the one at the end.

    A crash may leave the copy at the start alone.
    """
    if source.size_bytes < FOOTER_BYTES:
        raise InputError(f"{name}: is too short for a vhd image")
    footer = source.read(source.size_bytes - FOOTER_BYTES, FOOTER_BYTES)
    copy = source.read(0, FOOTER_BYTES)
    if _is_sound(footer, COOKIE, FOOTER_CHECKSUM):
        if FOOTER.unpack_from(footer)[13] == KIND_FIXED:
            if copy.startswith(COOKIE):
                raise InputError(
                    f"{name}: ends as a fixed vhd image does and begins as a dynamic one, which QEMU would"
                    " take it for: its guest may have written its first sectors"
                )
        elif copy != footer:
            raise InputError(f"{name}: its footer differs from the copy at its start; {CURE}")
        return footer, True
    if footer.startswith(COOKIE):
        raise InputError(f"{name}: its footer is damaged, the checksum is wrong; {CURE}")
    if _is_sound(copy, COOKIE, FOOTER_CHECKSUM):
        return copy, False
    raise InputError(f"{name}: is no vhd image, or its footer is damaged; {CURE}")


def _is_sound(data: bytes, cookie: bytes, checksum: slice) -> bool:
    """Tell whether a structure bears its cookie and the complement of the sum of its other bytes."""
    stated = int.from_bytes(data[checksum], "big")
    found = ~(sum(data) - sum(data[checksum])) & 0xFFFFFFFF
    return data.startswith(cookie) and stated == found


def _size(creator: bytes, current: int, geometry_sectors: int) -> tuple[int, bool]:
    if creator in SIZE_CREATORS or geometry_sectors == MAX_GEOMETRY_SECTORS:
        return current // SECTOR_BYTES * SECTOR_BYTES, False
    size_bytes = geometry_sectors * SECTOR_BYTES
    return size_bytes, size_bytes != current


def _read_dynamic(source: BlockSource, offset: int, header: Header, name: str) -> Header:
    """Return the header with what the dynamic header adds. Raises InputError, UnsupportedError."""
    if offset + DYNAMIC_BYTES > source.size_bytes:
        raise InputError(f"{name}: its dynamic header at {offset} lies beyond the end of the file; {CURE}")
    data = source.read(offset, DYNAMIC_BYTES)
    if not _is_sound(data, DYNAMIC_COOKIE, DYNAMIC_CHECKSUM):
        raise InputError(f"{name}: its dynamic header is damaged, the checksum is wrong; {CURE}")
    _, _, table_offset, version, blocks, block_bytes, _, parent, _, _, parent_name = DYNAMIC.unpack_from(data)
    if version >> 16 != VERSION >> 16:
        raise UnsupportedError(f"{name}: version {version >> 16} of the dynamic header is not supported")
    if not SECTOR_BYTES <= block_bytes <= MAX_BLOCK_BYTES or block_bytes & (block_bytes - 1):
        raise InputError(f"{name}: blocks of {block_bytes} bytes are out of range; {CURE}")
    if blocks * block_bytes < header.size_bytes:
        raise InputError(
            f"{name}: {blocks} blocks are too few for a disk of {header.size_bytes} bytes; {CURE}"
        )
    if table_offset % SECTOR_BYTES:
        raise InputError(f"{name}: the block table at {table_offset} does not begin with a sector; {CURE}")
    told = ""
    if header.kind == KIND_DIFFERENCING:
        told = parent_name.decode("utf-16-be", "replace").split("\0")[0]
        if not told:
            raise InputError(f"{name}: is a difference, but does not name its parent; {CURE}")
    return Header(
        kind=header.kind,
        size_bytes=header.size_bytes,
        by_geometry=header.by_geometry,
        ident=header.ident,
        table_offset=table_offset,
        blocks=-(-header.size_bytes // block_bytes),
        block_bytes=block_bytes,
        parent_ident=str(uuid.UUID(bytes=parent)) if told else "",
        parent_name=told,
    )
