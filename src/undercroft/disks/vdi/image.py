"""A VDI image as a block source: a header of 512 bytes, one table of blocks, and the blocks.

Follows VirtualBox's VDICore.h, as QEMU's block/vdi.c has it; all numbers are little-endian. A differencing
image does not name its parent's file, it bears its UUIDs: the one that the parent was made with, and the one
of the parent's last change.
"""

import uuid
from dataclasses import dataclass
from struct import Struct
from typing import Final

from undercroft.disks.mapped import BELOW, ZERO, BlockTable, MappedSource, Piece
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat, ImageInfo

HEADER: Final = Struct("<64sIIIII256sIIIIIIIQIIII16s16s16s16s")
"""Text, signature, version, header's length, type, flags, description, offsets of the block map and of the
data, geometry (cylinders, heads, sectors, sector size), unused, disk size, block size, extra bytes a block,
blocks, allocated blocks, UUIDs: made, changed, parent made, parent changed."""

SIGNATURE: Final = 0xBEDA107F
VERSION: Final = 0x00010001
SECTOR_BYTES: Final = 512

DYNAMIC, FIXED, DIFFERENCING = 1, 2, 4

FREE: Final = 0xFFFFFFFF
DISCARDED: Final = 0xFFFFFFFE

MIN_BLOCK_BYTES: Final = 4 << 10
MAX_BLOCK_BYTES: Final = 256 << 20
MAX_BLOCKS: Final = 0x3FFFFFFF
"""QEMU's limit; the map is read in pages, so that it costs no memory."""

CURE: Final = "`qemu-img check -f vdi` tells more"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says, within limits.

    Attributes:
        kind: DYNAMIC, FIXED or DIFFERENCING.
        size_bytes: the virtual disk's size, whole sectors.
        block_bytes: a power of two.
        blocks: entries of the map; enough for `size_bytes`.
        map_offset, data_offset: where the map and the first block lie.
        ident: of this image, "MADE/CHANGED".
        parent_ident: of the image below it, "" for none.
    """

    kind: int
    size_bytes: int
    block_bytes: int
    blocks: int
    map_offset: int
    data_offset: int
    ident: str
    parent_ident: str


def inspect(source: BlockSource, *, name: str = "image") -> ImageInfo:
    """Return an image's own account of itself.

    Raises:
        InputError: the header is malformed or over a limit.
        UnsupportedError: another version or kind of image.
    """
    header = _read_header(source, name)
    return ImageInfo(
        format=DiskFormat.VDI,
        size_bytes=header.size_bytes,
        cluster_bytes=header.block_bytes,
        version=1,
        backing_format="vdi" if header.parent_ident else "",
        features=("fixed",) if header.kind == FIXED else (),
        ident=header.ident,
        parent_ident=header.parent_ident,
    )


def open_image(
    source: BlockSource, *, backing: BlockSource | None = None, name: str = "image"
) -> BlockSource:
    """Open the virtual disk of an image.

    Args:
        source: the image file, untrusted.
        backing: the disk below, None when there is none or it is not at hand.
        name: of the image, for messages.

    Raises:
        InputError: malformed or over a limit; a parent was given that it does not have.
        UnsupportedError: another version or kind of image.
    """
    header = _read_header(source, name)
    if backing is not None and not header.parent_ident:
        raise InputError(f"{name}: a backing file was given, but its header has no parent")
    mapping = _Mapping(source, header, name)
    return MappedSource(
        source,
        header.size_bytes,
        mapping.piece,
        backing=backing,
        parent_name=header.parent_ident,
        name=name,
    )


class _Mapping:
    """The block map."""

    def __init__(self, source: BlockSource, header: Header, name: str) -> None:
        what = f"{name}: the block map"
        self._table = BlockTable(
            source, header.map_offset, header.blocks, header.block_bytes, order="little", what=what
        )
        self._table.check_apart(lambda entry: entry if entry < DISCARDED else -1, 1)
        self._header = header
        self._name = name
        self._blocks_in_file = (source.size_bytes - header.data_offset) // header.block_bytes
        # A difference leaves to its parent what it does not have; its zeros are discarded blocks.
        self._free = BELOW if header.parent_ident else ZERO

    def piece(self, offset: int, limit: int) -> Piece:
        """Return the run at `offset` up to the end of its block. Raises InputError."""
        entry, index, within, length = self._table.at(offset, limit)
        if entry == FREE:
            return self._free, length
        if entry == DISCARDED:
            return ZERO, length
        if entry >= self._blocks_in_file:
            raise InputError(
                f"{self._name}: block {index} is the file's block {entry}, beyond its end; {CURE}"
            )
        return self._header.data_offset + entry * self._header.block_bytes + within, length


def _read_header(source: BlockSource, name: str) -> Header:
    if source.size_bytes < HEADER.size:
        raise InputError(f"{name}: is too short for a vdi image")
    fields = HEADER.unpack(source.read(0, HEADER.size))
    signature, version, _, kind, _, _, map_offset, data_offset = fields[1:9]
    sector_bytes, _, size_bytes, block_bytes, extra_bytes, blocks, allocated = fields[12:19]
    made, changed, parent_made, parent_changed = fields[19:]
    if signature != SIGNATURE:
        raise InputError(f"{name}: is no vdi image, its signature is {signature:#010x}")
    if version != VERSION:
        raise UnsupportedError(f"{name}: vdi version {version >> 16}.{version & 0xFFFF} is not supported")
    if kind not in (DYNAMIC, FIXED, DIFFERENCING):
        raise UnsupportedError(f"{name}: is a vdi image of kind {kind}, which is not supported")
    if sector_bytes != SECTOR_BYTES or map_offset % SECTOR_BYTES or data_offset % SECTOR_BYTES:
        raise InputError(f"{name}: its parts do not begin with sectors of {SECTOR_BYTES} bytes; {CURE}")
    if not MIN_BLOCK_BYTES <= block_bytes <= MAX_BLOCK_BYTES or block_bytes & (block_bytes - 1):
        raise InputError(f"{name}: blocks of {block_bytes} bytes are out of range; {CURE}")
    if extra_bytes:  # QEMU passes over the field, and finds other blocks than VirtualBox
        raise UnsupportedError(f"{name}: {extra_bytes} bytes before each block are not supported")
    if blocks > MAX_BLOCKS or blocks != -(-size_bytes // block_bytes) or allocated > blocks:
        raise InputError(f"{name}: {blocks} blocks do not fit a disk of {size_bytes} bytes; {CURE}")
    if not HEADER.size <= map_offset <= data_offset - 4 * blocks:
        raise InputError(f"{name}: the block map at {map_offset} overlaps what lies beside it; {CURE}")
    if data_offset > source.size_bytes:
        raise InputError(f"{name}: its blocks at {data_offset} lie beyond the end of the file; {CURE}")
    parent = _idents(parent_made, parent_changed) if any(parent_made) else ""
    if bool(parent) != (kind == DIFFERENCING):
        raise InputError(f"{name}: its kind {kind} contradicts its parent {parent!r}; {CURE}")
    return Header(
        kind=kind,
        size_bytes=-(-size_bytes // SECTOR_BYTES) * SECTOR_BYTES,
        block_bytes=block_bytes,
        blocks=blocks,
        map_offset=map_offset,
        data_offset=data_offset,
        ident=_idents(made, changed),
        parent_ident=parent,
    )


def _idents(made: bytes, changed: bytes) -> str:
    return f"{uuid.UUID(bytes_le=made)}/{uuid.UUID(bytes_le=changed)}"
