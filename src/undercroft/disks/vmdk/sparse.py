"""One sparse extent of a vmdk image: a header, two levels of tables, grains.

Guarantees: every table and grain lies in the file; a grain table that differs from its copy raises, since
neither has a checksum; a compressed grain unpacks to a grain's size and belongs where the table has it, or
raises.
"""

import zlib
from array import array
from dataclasses import dataclass
from typing import Final

from undercroft.disks.mapped import BELOW, ZERO, MappedSource, Piece, TablePages, numbers, read_below
from undercroft.disks.source import MAX_READ_BYTES, BlockSource, check_range
from undercroft.disks.vmdk import layout
from undercroft.errors import InputError, UnsupportedError

MAX_TABLES: Final = 1024
"""Grain tables that one extent keeps, 2 KiB each; they map 32 GiB."""

MAX_CACHE_BYTES: Final = 8 << 20
"""Of unpacked grains that one extent keeps; one more where a grain is larger."""

CURE: Final = "`qemu-img check -f vmdk` tells more"


@dataclass(frozen=True, slots=True)
class Header:
    """What a sparse extent's header says, within limits; sizes and offsets in bytes.

    Attributes:
        version: 1 to 3.
        size_bytes: how much of the virtual disk the extent holds.
        grain_bytes: a power of two.
        table_entries: of each grain table.
        directory_offset: of the grain directory.
        copy_offset: of the redundant one, 0 for none.
        metadata_bytes: what no grain may overlap, from the start of the file.
        compressed, zero_grains: whether the flags are set.
        descriptor: where the embedded descriptor lies and its length, (0, 0) for none.
    """

    version: int
    size_bytes: int
    grain_bytes: int
    table_entries: int
    directory_offset: int
    copy_offset: int
    metadata_bytes: int
    compressed: bool
    zero_grains: bool
    descriptor: tuple[int, int]

    @property
    def tables(self) -> int:
        """Entries of the grain directory."""
        return -(-self.size_bytes // (self.grain_bytes * self.table_entries))


def read_header(source: BlockSource, name: str) -> Header:
    """Read and check a sparse extent's header, or the footer that stands for it.

    Raises:
        InputError: no sparse extent, malformed, over a limit, or damaged by a copy in text mode.
        UnsupportedError: another version, flag or compression.
    """
    header, directory = _parse(_sector(source, 0, name), name)
    if directory != layout.DIRECTORY_AT_END:
        return header
    # A stream is written in one go: its header comes before the place of its directory is known.
    end = source.size_bytes // layout.SECTOR_BYTES * layout.SECTOR_BYTES
    marker = _sector(source, end - layout.FOOTER_FROM_END - layout.SECTOR_BYTES, name)
    if layout.MARKER.unpack_from(marker)[1:] != (0, layout.MARKER_FOOTER):
        raise InputError(f"{name}: has no footer (truncated?); {CURE}")
    footer, directory = _parse(_sector(source, end - layout.FOOTER_FROM_END, name), name)
    if directory == layout.DIRECTORY_AT_END or footer.size_bytes != header.size_bytes:
        raise InputError(f"{name}: its footer contradicts its header; {CURE}")
    return footer


def _sector(source: BlockSource, offset: int, name: str) -> bytes:
    if offset < 0 or offset + layout.SECTOR_BYTES > source.size_bytes:
        raise InputError(f"{name}: is too short for a vmdk extent")
    return source.read(offset, layout.SECTOR_BYTES)


def _parse(sector: bytes, name: str) -> tuple[Header, int]:
    """Return a header, and its directory's offset in sectors as it stands there."""
    fields = layout.HEADER.unpack_from(sector)
    magic, version, flags, capacity, grain, descriptor, descriptor_sectors, entries = fields[:8]
    copy, directory, overhead, _, newlines, compression = fields[8:]
    if magic != layout.MAGIC:
        raise _other_magic(sector, name)
    if not 1 <= version <= layout.MAX_VERSION:
        raise UnsupportedError(f"{name}: vmdk version {version} is not supported")
    if flags & ~layout.KNOWN_FLAGS:
        raise UnsupportedError(f"{name}: uses vmdk flags that are not known here: {flags:#x}")
    if flags & layout.FLAG_NEWLINES and newlines != layout.NEWLINES:
        raise InputError(f"{name}: its line ends were changed, as a copy in text mode does; copy it anew")
    compressed = bool(flags & layout.FLAG_COMPRESSED)
    if compressed != (compression == layout.COMPRESSION_DEFLATE) or compression > layout.COMPRESSION_DEFLATE:
        raise UnsupportedError(f"{name}: vmdk compression {compression} is not supported")
    if compressed and not flags & layout.FLAG_MARKERS:
        raise UnsupportedError(f"{name}: compressed grains without markers are not supported")
    if not 1 <= grain <= layout.MAX_GRAIN_SECTORS or grain & (grain - 1):
        raise InputError(f"{name}: grains of {grain} sectors are out of range; {CURE}")
    if not 1 <= entries <= layout.MAX_TABLE_ENTRIES:
        raise InputError(f"{name}: grain tables of {entries} entries are out of range; {CURE}")
    if not 0 < capacity <= layout.MAX_CAPACITY_SECTORS:
        raise InputError(f"{name}: a capacity of {capacity} sectors is out of range; {CURE}")
    header = Header(
        version=version,
        size_bytes=capacity * layout.SECTOR_BYTES,
        grain_bytes=grain * layout.SECTOR_BYTES,
        table_entries=entries,
        directory_offset=directory * layout.SECTOR_BYTES,
        copy_offset=copy * layout.SECTOR_BYTES if flags & layout.FLAG_REDUNDANT else 0,
        metadata_bytes=overhead * layout.SECTOR_BYTES,
        compressed=compressed,
        zero_grains=bool(flags & layout.FLAG_ZERO_GRAINS),
        descriptor=(descriptor * layout.SECTOR_BYTES, descriptor_sectors * layout.SECTOR_BYTES),
    )
    return header, directory


def _other_magic(sector: bytes, name: str) -> InputError:
    for magic, title in ((layout.COWD_MAGIC, "COWD"), (layout.SESPARSE_MAGIC, "seSparse")):
        if sector.startswith(magic):
            return UnsupportedError(
                f"{name}: is a sparse extent of ESX ({title}), which is not supported; convert a copy with"
                " `qemu-img convert -O qcow2`"
            )
    return InputError(f"{name}: is no sparse vmdk extent, its magic number is {sector[:4]!r}")


class GrainTables:
    """The grain directory and its tables.

    Args:
        source: the extent's file, untrusted.
        header: its checked header.
        name: of the extent, for messages.

    Raises:
        InputError: the directory lies beyond the file.
    """

    def __init__(self, source: BlockSource, header: Header, name: str) -> None:
        self._source = source
        self._header = header
        self._name = name
        self._directory = self._pages(header.directory_offset, "the grain directory")
        self._copy = (
            self._pages(header.copy_offset, "the redundant grain directory") if header.copy_offset else None
        )
        self._tables: dict[int, array[int] | None] = {}

    def _pages(self, offset: int, what: str) -> TablePages:
        what = f"{self._name}: {what}"
        return TablePages(self._source, offset, self._header.tables, entry_bytes=4, order="little", what=what)

    def piece(self, offset: int, limit: int) -> Piece:
        """Return the run at `offset`, grains that lie together as one unless they are compressed.

        For compressed grains the place is where the grain's marker begins. Raises InputError.
        """
        header = self._header
        grain, within = divmod(offset, header.grain_bytes)
        number, index = divmod(grain, header.table_entries)
        table = self._tables[number] if number in self._tables else self._load(number)
        if table is None:
            return BELOW, min(limit, (number + 1) * header.table_entries * header.grain_bytes - offset)
        entry = table[index]
        length = header.grain_bytes - within
        if entry <= layout.GRAIN_ZERO:
            if entry and not header.zero_grains:
                raise InputError(f"{self._name}: grain {grain} is marked as zeros, which the extent has not")
            return ZERO if entry else BELOW, min(limit, length)
        place = entry * layout.SECTOR_BYTES
        if place < header.metadata_bytes or place >= self._source.size_bytes:
            raise InputError(f"{self._name}: grain {grain} at {place} lies outside of the data; {CURE}")
        if header.compressed:
            return place, min(limit, length)
        step, end = header.grain_bytes // layout.SECTOR_BYTES, self._source.size_bytes // layout.SECTOR_BYTES
        while length < limit and index + 1 < len(table) and table[index + 1] == entry + step < end:
            index, entry, length = index + 1, entry + step, length + header.grain_bytes
        return place + within, min(limit, length)

    def _load(self, number: int) -> "array[int] | None":
        """Read a grain table into the cache; None where there is none."""
        place = self._directory.entry(number) * layout.SECTOR_BYTES
        table = None
        if place:
            table = self._read(place, number)
        if self._copy is not None:
            copy = self._copy.entry(number) * layout.SECTOR_BYTES
            if bool(copy) != bool(place) or (table is not None and self._read(copy, number) != table):
                raise InputError(f"{self._name}: grain table {number} differs from its copy; {CURE}")
        if len(self._tables) >= MAX_TABLES:
            del self._tables[next(iter(self._tables))]
        self._tables[number] = table
        return table

    def _read(self, place: int, number: int) -> "array[int]":
        length = self._header.table_entries * 4
        if place + length > self._source.size_bytes:
            raise InputError(
                f"{self._name}: grain table {number} at {place} lies beyond the end of the file; {CURE}"
            )
        return numbers(self._source.read(place, length), 4, "little")


class GrainSource(MappedSource):
    """The disk of an extent with plain grains."""

    def _read_data(self, place: int, length: int) -> bytes:
        # QEMU ends a file with the last sector that was written, within its last grain: zeros follow.
        kept = max(0, min(length, self._source.size_bytes - place))
        data = self._source.read(place, kept) if kept else b""
        return data if kept == length else data + bytes(length - kept)


class CompressedSource:
    """The disk of a stream-optimized extent: each grain is unpacked whole, the last ones are kept.

    Args:
        source: the extent's file, untrusted.
        header: its checked header.
        tables: of the extent.
        backing: the disk below, None when there is none or it is not at hand.
        parent_name: what the image calls its parent, "" for none.
        name: of the extent, for messages.
    """

    def __init__(
        self,
        source: BlockSource,
        header: Header,
        tables: GrainTables,
        *,
        backing: BlockSource | None,
        parent_name: str,
        name: str,
    ) -> None:
        self._source = source
        self._header = header
        self._tables = tables
        self._backing = backing
        self._parent_name = parent_name
        self._capacity = max(1, MAX_CACHE_BYTES // header.grain_bytes)
        self._cache: dict[int, bytes] = {}
        self.size_bytes = header.size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError as `MappedSource.read` does."""
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        pieces, end = [], offset + length
        while offset < end:
            place, run = self._tables.piece(offset, end - offset)
            if place == BELOW:
                pieces.append(read_below(self._backing, self._parent_name, offset, run, self.name))
            elif place == ZERO:
                pieces.append(bytes(run))
            else:
                grain, within = divmod(offset, self._header.grain_bytes)
                pieces.append(self._grain(grain, place)[within : within + run])
            offset += run
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _grain(self, grain: int, place: int) -> bytes:
        data = self._cache.pop(grain, None)
        if data is None:
            data = self._unpack(grain, place)
            if len(self._cache) >= self._capacity:
                del self._cache[next(iter(self._cache))]
        self._cache[grain] = data  # at the end: the first in the dictionary is the least recently used
        return data

    def _unpack(self, grain: int, place: int) -> bytes:
        size = self._header.grain_bytes
        what = f"{self.name}: the compressed grain {grain} at {place}"
        start = place + layout.GRAIN_MARKER.size
        if start > self._source.size_bytes:
            raise InputError(f"{what} lies beyond the end of the file; {CURE}")
        sector, length = layout.GRAIN_MARKER.unpack(self._source.read(place, layout.GRAIN_MARKER.size))
        if sector * layout.SECTOR_BYTES != grain * size:
            raise InputError(f"{what} bears the marker of another, of sector {sector}; {CURE}")
        if not 0 < length <= 2 * size + layout.SECTOR_BYTES or start + length > self._source.size_bytes:
            raise InputError(f"{what} has {length} bytes, which is out of range; {CURE}")
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(self._source.read(start, length), size)
            # The end of the stream, with its checksum, comes only with more room than the grain takes.
            if len(data) == size and not unpacker.eof:
                data += unpacker.decompress(unpacker.unconsumed_tail, 1)
        except zlib.error as error:
            raise InputError(f"{what} is damaged ({error}); {CURE}") from error
        if not unpacker.eof or len(data) > size:
            raise InputError(f"{what} does not end where a grain does; {CURE}")
        # The last grain of a disk may be cut at the disk's end.
        if len(data) < size and grain * size + len(data) < self.size_bytes:
            raise InputError(f"{what} ends after {len(data)} bytes; {CURE}")
        return data
