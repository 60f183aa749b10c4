"""A VHD image as a block source.

A dynamic image is read as QEMU reads it: what a block holds counts, whatever its bitmap says, since a sector
that was never written is zero there. In a differencing image the bitmap decides, sector by sector, between
the block and the parent.
"""

from typing import Final

from undercroft.disks.mapped import BELOW, ZERO, BlockTable, MappedSource, Piece
from undercroft.disks.sectorbits import SectorBits
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.vhd.header import (
    CURE,
    KIND_DIFFERENCING,
    KIND_FIXED,
    SECTOR_BYTES,
    Header,
    read_header,
)
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo

FREE: Final = 0xFFFFFFFF


def inspect(source: BlockSource, *, name: str = "image") -> ImageInfo:
    """Return an image's own account of itself, from its footer and headers.

    Raises:
        InputError: footer or header are damaged, malformed or over a limit.
        UnsupportedError: another version or kind of image.
    """
    header = read_header(source, name)
    kinds = {KIND_FIXED: ("fixed",), KIND_DIFFERENCING: ("differencing",)}.get(header.kind, ())
    return ImageInfo(
        format=DiskFormat.VHD,
        size_bytes=header.size_bytes,
        cluster_bytes=header.block_bytes,
        version=1,
        backing_name=header.parent_name,
        backing_format="vpc" if header.parent_name else "",
        features=(*kinds, *(("size-by-geometry",) if header.by_geometry else ())),
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
    header = read_header(source, name)
    if backing is not None and not header.parent_name:
        raise InputError(f"{name}: a backing file was given, but its header has no parent")
    if header.kind == KIND_FIXED:
        return SliceSource(source, 0, header.size_bytes, name)
    mapping = _Mapping(source, header, name)
    return MappedSource(
        source,
        header.size_bytes,
        mapping.piece,
        backing=backing,
        parent_name=header.parent_name,
        name=name,
    )


class _Mapping:
    """The block table, and the bitmaps of a difference."""

    def __init__(self, source: BlockSource, header: Header, name: str) -> None:
        self._source = source
        self._header = header
        self._name = name
        self._bitmap_bytes = header.bitmap_bytes
        self._is_difference = header.kind == KIND_DIFFERENCING
        what = f"{name}: the block table"
        offset = header.table_offset
        self._table = BlockTable(source, offset, header.blocks, header.block_bytes, order="big", what=what)
        self._table.check_apart(
            lambda entry: entry if entry != FREE else -1,
            (self._bitmap_bytes + header.block_bytes) // SECTOR_BYTES,
        )
        self._bits = SectorBits(SECTOR_BYTES)
        self._metadata_end = offset + 4 * header.blocks

    def piece(self, offset: int, limit: int) -> Piece:
        """Return the run at `offset` up to the end of its block, or of its sectors that lie together."""
        entry, index, within, length = self._table.at(offset, limit)
        if entry == FREE:
            return (BELOW if self._is_difference else ZERO), length
        place = entry * SECTOR_BYTES
        end = place + self._bitmap_bytes + self._header.block_bytes
        # A dynamic image may have lost its footer, so that its last block ends with the file.
        if place < self._metadata_end or end > self._source.size_bytes:
            raise InputError(f"{self._name}: block {index} at {place} lies outside of the data; {CURE}")
        data = place + self._bitmap_bytes + within
        if not self._is_difference:
            return data, length
        bits = self._bits.get(index)
        if bits is None:
            bits = self._bits.keep(index, self._source.read(place, self._bitmap_bytes), "big")
        is_here, length = self._bits.run(bits, within, length)
        return (data if is_here else BELOW), length
