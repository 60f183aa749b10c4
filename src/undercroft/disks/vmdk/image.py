"""A vmdk image as a block source: one sparse file, or a descriptor with the extents that it names."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from undercroft.disks.source import MAX_READ_BYTES, BlockSource, SliceSource, check_range
from undercroft.disks.vmdk import descriptor as text
from undercroft.disks.vmdk import layout
from undercroft.disks.vmdk.descriptor import Descriptor
from undercroft.disks.vmdk.sparse import CompressedSource, GrainSource, GrainTables, Header, read_header
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo

MAX_EMBEDDED_BYTES: Final = 64 << 10
"""Of a descriptor inside an image; 10 KiB is what everybody leaves room for."""


def inspect(source: BlockSource, *, name: str = "image") -> ImageInfo:
    """Return an image's own account of itself, from its descriptor and its header.

    `extents` lists each file that it names once, in order; the size of a split image is the descriptor's.

    Raises:
        InputError: header or descriptor are malformed or over a limit.
        UnsupportedError: a version, flag or kind of extent that is not read.
    """
    described, header = _describe(source, name)
    features = (described.create_type,) if described.create_type else ()
    if header is None:
        size_bytes = sum(extent.sectors for extent in described.extents) * layout.SECTOR_BYTES
    else:
        size_bytes = header.size_bytes
        features = (*features, "compressed") if header.compressed else features
    return ImageInfo(
        format=DiskFormat.VMDK,
        size_bytes=size_bytes,
        cluster_bytes=header.grain_bytes if header else 0,
        version=header.version if header else 1,
        backing_name=described.parent_name,
        backing_format="vmdk" if described.parent_name else "",
        features=features,
        extents=() if header else extent_names(described),
        ident=described.cid,
        parent_ident=described.parent_cid,
    )


def open_image(
    source: BlockSource,
    *,
    extents: Sequence[BlockSource] = (),
    backing: BlockSource | None = None,
    name: str = "image",
) -> BlockSource:
    """Open the virtual disk of an image.

    Args:
        source: the image file or the descriptor, untrusted.
        extents: the files that `inspect` names in `extents`, in that order.
        backing: the disk below, None when there is none or it is not at hand.
        name: of the image, for messages.

    Raises:
        InputError: malformed or over a limit; an extent is missing; a parent was given that it does not have.
        UnsupportedError: a version, flag or kind of extent that is not read.
    """
    described, header = _describe(source, name)
    parent_name = described.parent_name
    if backing is not None and not parent_name:
        raise InputError(f"{name}: a backing file was given, but its descriptor names none")
    if header is not None:
        return _sparse(source, header, backing, parent_name, name)
    names = extent_names(described)
    if len(extents) != len(names):
        raise InputError(f"{name}: has {len(names)} extents, and {len(extents)} were given")
    files = dict(zip(names, extents, strict=True))
    parts: list[BlockSource] = []
    start = 0
    for extent in described.extents:
        below = _Below(backing, start) if backing is not None else None
        parts.append(_part(extent, files, below, parent_name, name))
        start += extent.sectors * layout.SECTOR_BYTES
    return JoinedSource(parts, name)


def extent_names(described: Descriptor) -> tuple[str, ...]:
    """Return each file that a descriptor's extents lie in once, in order."""
    return tuple(dict.fromkeys(extent.name for extent in described.extents if extent.name))


def _describe(source: BlockSource, name: str) -> tuple[Descriptor, Header | None]:
    """Return what an image's descriptor says, and the header of one that is a sparse file of its own.

    A sparse file's descriptor names itself as its extent, as it was called once: that counts for nothing.
    """
    start = source.read(0, min(source.size_bytes, len(text.MAGIC)))
    if start == text.MAGIC:
        if source.size_bytes > text.MAX_DESCRIPTOR_BYTES:
            raise InputError(f"{name}: a vmdk descriptor of over {text.MAX_DESCRIPTOR_BYTES} bytes")
        described = text.parse(source.read(0, source.size_bytes), name)
        if not described.extents:
            raise InputError(f"{name}: its descriptor has no extents")
        return described, None
    header = read_header(source, name)
    offset, length = header.descriptor
    if length > MAX_EMBEDDED_BYTES or offset + length > source.size_bytes:
        raise InputError(f"{name}: a descriptor of {length} bytes at {offset} is out of range")
    embedded = source.read(offset, length) if offset else b""
    if not embedded.strip(b"\0"):
        raise InputError(
            f"{name}: has no descriptor, as the parts of a split image have none; name the file that has it"
        )
    # QEMU reads it there, whatever the header says, and on to the first zero byte.
    if offset != layout.SECTOR_BYTES or b"\0" not in embedded:
        raise InputError(f"{name}: its descriptor at {offset} is not where it belongs, or has no end")
    described = text.parse(embedded, name)
    sectors = sum(extent.sectors for extent in described.extents)
    if sectors * layout.SECTOR_BYTES != header.size_bytes:
        raise InputError(
            f"{name}: its header says {header.size_bytes} bytes, and its descriptor {sectors} sectors"
        )
    return described, header


def _sparse(
    source: BlockSource, header: Header, backing: BlockSource | None, parent_name: str, name: str
) -> BlockSource:
    tables = GrainTables(source, header, name)
    if header.compressed:
        return CompressedSource(source, header, tables, backing=backing, parent_name=parent_name, name=name)
    return GrainSource(
        source, header.size_bytes, tables.piece, backing=backing, parent_name=parent_name, name=name
    )


def _part(
    extent: text.Extent,
    files: dict[str, BlockSource],
    below: "_Below | None",
    parent_name: str,
    name: str,
) -> BlockSource:
    """Return one extent as a source of its size. Raises InputError."""
    size_bytes = extent.sectors * layout.SECTOR_BYTES
    if extent.kind == text.ZERO:
        return _Zeros(size_bytes)
    file = files[extent.name]
    what = f"{name}: extent {extent.name!r}"
    if extent.kind == text.FLAT:
        return SliceSource(file, extent.start_sector * layout.SECTOR_BYTES, size_bytes, what)
    header = read_header(file, what)
    if header.size_bytes != size_bytes:
        raise InputError(
            f"{what} holds {header.size_bytes} bytes of the disk, and its descriptor says {size_bytes}"
        )
    return _sparse(file, header, below, parent_name, what)


class _Below:
    """The parent's bytes from where an extent begins, zeros past its end."""

    def __init__(self, backing: BlockSource, start: int) -> None:
        self._backing = backing
        self._start = start
        self.size_bytes = max(0, backing.size_bytes - start)

    def read(self, offset: int, length: int) -> bytes:
        """Return what lies there. Raises InputError as the parent does."""
        return self._backing.read(self._start + offset, length)


class _Zeros:
    """An extent without a file."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return zeros. Raises InputError beyond the end."""
        check_range(offset, length, self.size_bytes, "extent")
        return bytes(length)


class JoinedSource:
    """Sources one behind the other.

    Args:
        parts: at least one.
        name: for messages.
    """

    __slots__ = ("_ends", "_parts", "name", "size_bytes")

    def __init__(self, parts: Sequence[BlockSource], name: str) -> None:
        self._parts = [part for part in parts if part.size_bytes]
        self._ends = list(accumulate(part.size_bytes for part in self._parts))
        self.size_bytes = self._ends[-1] if self._ends else 0
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        index = bisect_right(self._ends, offset)
        pieces = []
        while length:
            part = self._parts[index]
            within = offset - (self._ends[index] - part.size_bytes)
            taken = min(length, part.size_bytes - within)
            pieces.append(part.read(within, taken))
            offset, length, index = offset + taken, length - taken, index + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
