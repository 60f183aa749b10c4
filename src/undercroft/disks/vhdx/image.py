"""A VHDX image as a block source: the block table, and the bitmaps of a difference."""

from undercroft.disks.mapped import BELOW, ZERO, MappedSource, Piece, TablePages
from undercroft.disks.sectorbits import SectorBits
from undercroft.disks.source import BlockSource
from undercroft.disks.vhdx import layout
from undercroft.disks.vhdx.header import CURE, Header, Region, read_header, read_regions
from undercroft.disks.vhdx.log import replayed
from undercroft.disks.vhdx.metadata import Metadata, read_metadata
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo


def inspect(source: BlockSource, *, name: str = "image") -> ImageInfo:
    """Return an image's own account of itself, its log replayed.

    Raises:
        InputError: headers, log, regions or metadata are damaged, malformed or over a limit.
        UnsupportedError: another version, or something required that is not known here.
    """
    header, _, _, metadata = _read(source, name)
    states = (
        ("fixed", metadata.fixed),
        ("differencing", bool(metadata.parent_name)),
        ("log-replayed", bool(header.log_ident)),
    )
    return ImageInfo(
        format=DiskFormat.VHDX,
        size_bytes=metadata.size_bytes,
        cluster_bytes=metadata.block_bytes,
        version=layout.VERSION,
        backing_name=metadata.parent_name,
        backing_format="vhdx" if metadata.parent_name else "",
        features=tuple(state for state, holds in states if holds),
        ident=header.data_ident,
        parent_ident=metadata.parent_ident,
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
        InputError: malformed, damaged or over a limit; a parent was given that it does not have.
        UnsupportedError: another version, or something required that is not known here.
    """
    _, logged, table, metadata = _read(source, name)
    if backing is not None and not metadata.parent_name:
        raise InputError(f"{name}: a backing file was given, but its metadata have no parent")
    mapping = _Mapping(logged, table, metadata, name)
    return MappedSource(
        logged,
        metadata.size_bytes,
        mapping.piece,
        backing=backing,
        parent_name=metadata.parent_name,
        name=name,
    )


def _read(source: BlockSource, name: str) -> tuple[Header, BlockSource, Region, Metadata]:
    """Return header, the file with its log laid over it, where the block table lies, and the metadata."""
    header = read_header(source, name)
    logged = replayed(source, header, name)
    table, metadata = read_regions(logged, name)
    return header, logged, table, read_metadata(logged, metadata, name)


def _place(entry: int) -> int:
    """Return the place that an entry of the block table names, -1 where it names none."""
    return entry & layout.BAT_OFFSET_MASK if entry & layout.BAT_STATE_MASK >= layout.BLOCK_PRESENT else -1


class _Mapping:
    """The block table: entries of blocks, and after each `chunk_ratio` of them one of a bitmap block."""

    def __init__(self, source: BlockSource, region: Region, metadata: Metadata, name: str) -> None:
        self._source = source
        self._metadata = metadata
        self._name = name
        self._has_parent = bool(metadata.parent_name)
        blocks = -(-metadata.size_bytes // metadata.block_bytes)
        chunks = -(-blocks // metadata.chunk_ratio)
        if self._has_parent:
            entries = chunks * (metadata.chunk_ratio + 1)
        else:
            entries = blocks + (blocks - 1) // metadata.chunk_ratio
        if entries * 8 > region.size_bytes:
            raise InputError(f"{name}: {entries} entries do not fit into its block table; {CURE}")
        what = f"{name}: the block table"
        self._table = TablePages(source, region.offset, entries, entry_bytes=8, order="little", what=what)
        # Bitmap blocks, which only a difference has, are of 1 MiB.
        self._table.check_apart(_place, layout.MIB if self._has_parent else metadata.block_bytes)
        self._bits = SectorBits(metadata.sector_bytes)

    def piece(self, offset: int, limit: int) -> Piece:
        """Return the run at `offset` up to the end of its block, or of its sectors that lie together."""
        metadata = self._metadata
        index, within = divmod(offset, metadata.block_bytes)
        length = min(limit, metadata.block_bytes - within)
        chunk, in_chunk = divmod(index, metadata.chunk_ratio)
        entry = self._table.entry(index + chunk)
        state, place = entry & layout.BAT_STATE_MASK, entry & layout.BAT_OFFSET_MASK
        if entry & layout.BAT_RESERVED:
            raise self._malformed(index, entry)
        if state in (layout.BLOCK_PRESENT, layout.BLOCK_PARTLY_PRESENT):
            self._check_place(place, metadata.block_bytes, index)
            if state == layout.BLOCK_PRESENT:
                return place + within, length
            if not self._has_parent:
                raise self._malformed(index, entry)
            is_here, length = self._bits.run(self._block_bits(index, chunk, in_chunk), within, length)
            return (place + within if is_here else BELOW), length
        if state == layout.BLOCK_NOT_PRESENT:
            return (BELOW if self._has_parent else ZERO), length
        if state in (layout.BLOCK_ZERO, layout.BLOCK_UNMAPPED, layout.BLOCK_UNDEFINED):
            return ZERO, length
        raise self._malformed(index, entry)

    def _block_bits(self, index: int, chunk: int, in_chunk: int) -> str:
        """Return which sectors of a block lie in this image. Raises InputError."""
        bits = self._bits.get(index)
        if bits is None:
            metadata = self._metadata
            entry = self._table.entry((chunk + 1) * (metadata.chunk_ratio + 1) - 1)
            place = entry & layout.BAT_OFFSET_MASK
            if entry & layout.BAT_STATE_MASK != layout.BLOCK_PRESENT:
                raise InputError(
                    f"{self._name}: block {index} is there in part, and its bitmap is not; {CURE}"
                )
            self._check_place(place, layout.MIB, index)
            length = metadata.block_bytes // metadata.sector_bytes // 8
            bitmap = self._source.read(place + in_chunk * length, length)
            bits = self._bits.keep(index, bitmap, "little")
        return bits

    def _check_place(self, place: int, length: int, index: int) -> None:
        if place < layout.MIB or place + length > self._source.size_bytes:
            raise InputError(
                f"{self._name}: block {index} at {place} lies outside of the data (truncated?); {CURE}"
            )

    def _malformed(self, index: int, entry: int) -> InputError:
        return InputError(f"{self._name}: block {index} has the malformed table entry {entry:#018x}; {CURE}")
