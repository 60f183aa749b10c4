"""The metadata of a VHDX image: block size, disk size, sector size, the parent's locator."""

import uuid
from dataclasses import dataclass

from undercroft.disks.source import BlockSource
from undercroft.disks.vhdx import layout
from undercroft.disks.vhdx.header import CURE, Region
from undercroft.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the metadata say, within limits.

    Attributes:
        size_bytes: the virtual disk's size.
        block_bytes: of a block, a power of two.
        sector_bytes: 512 or 4096; the unit of a difference's bitmaps.
        fixed: every block is in the file.
        parent_name: as the locator has it, relative where it can be; "" for none.
        parent_ident: the parent's data ID in lower case, "" for none.
    """

    size_bytes: int
    block_bytes: int
    sector_bytes: int
    fixed: bool
    parent_name: str = ""
    parent_ident: str = ""

    @property
    def chunk_ratio(self) -> int:
        """Blocks that one bitmap block stands for; after so many entries of the table comes its own."""
        return layout.SECTORS_PER_BITMAP * self.sector_bytes // self.block_bytes


def read_metadata(source: BlockSource, region: Region, name: str) -> Metadata:
    """Read and check the metadata.

    Raises:
        InputError: malformed, something is missing, a limit is passed.
        UnsupportedError: a required item or a locator is not known here.
    """
    items = _items(source, region, name)
    try:
        parameters = items[layout.ITEM_FILE_PARAMETERS]
        size_bytes = _number(items[layout.ITEM_DISK_SIZE], 8)
        sector_bytes = _number(items[layout.ITEM_LOGICAL_SECTOR], 4)
    except KeyError:
        raise InputError(f"{name}: its metadata lack the size of the disk or of its blocks; {CURE}") from None
    block_bytes, flags = _number(parameters, 4), _number(parameters[4:], 4)
    if not layout.MIN_BLOCK_BYTES <= block_bytes <= layout.MAX_BLOCK_BYTES or block_bytes & (block_bytes - 1):
        raise InputError(f"{name}: blocks of {block_bytes} bytes are out of range; {CURE}")
    if sector_bytes not in (512, 4096):
        raise InputError(f"{name}: sectors of {sector_bytes} bytes are out of range; {CURE}")
    if not 0 < size_bytes <= layout.MAX_SIZE_BYTES or size_bytes % sector_bytes:
        raise InputError(f"{name}: a disk of {size_bytes} bytes is out of range; {CURE}")
    parent = {}
    if flags & layout.HAS_PARENT:
        parent = _locator(items.get(layout.ITEM_PARENT_LOCATOR, b""), name)
    return Metadata(
        size_bytes=size_bytes,
        block_bytes=block_bytes,
        sector_bytes=sector_bytes,
        fixed=bool(flags & 1),
        parent_name=parent.get("relative_path") or parent.get("absolute_win32_path", ""),
        parent_ident=parent.get("parent_linkage", "").strip("{}").lower(),
    )


def _items(source: BlockSource, region: Region, name: str) -> dict[bytes, bytes]:
    """Return the known items by their IDs."""
    if region.size_bytes < layout.REGIONS_BYTES:
        raise InputError(f"{name}: a metadata region of {region.size_bytes} bytes is out of range; {CURE}")
    table = source.read(region.offset, layout.REGIONS_BYTES)
    signature, _, count = layout.METADATA.unpack_from(table)
    if signature != layout.METADATA_SIGNATURE or count > layout.MAX_METADATA_ENTRIES:
        raise InputError(f"{name}: its metadata table is malformed; {CURE}")
    found: dict[bytes, bytes] = {}
    for index in range(count):
        place = layout.METADATA_HEADER_BYTES + index * layout.METADATA_ENTRY.size
        ident, offset, length, flags, _ = layout.METADATA_ENTRY.unpack_from(table, place)
        if ident in found:
            raise InputError(f"{name}: its metadata {uuid.UUID(bytes_le=ident)} are there twice; {CURE}")
        if ident not in layout.KNOWN_ITEMS:
            if flags & layout.METADATA_REQUIRED:
                raise UnsupportedError(f"{name}: its metadata {uuid.UUID(bytes_le=ident)} are not known here")
            continue
        if offset < layout.REGIONS_BYTES or length > layout.MAX_ITEM_BYTES:
            raise InputError(f"{name}: metadata of {length} bytes at {offset} are out of range; {CURE}")
        if offset + length > region.size_bytes:
            raise InputError(f"{name}: metadata at {offset} lie beyond their region; {CURE}")
        found[ident] = source.read(region.offset + offset, length)
    return found


def _number(data: bytes, length: int) -> int:
    return int.from_bytes(data[:length], "little")


def _locator(data: bytes, name: str) -> dict[str, str]:
    """Return what a parent locator says, by its keys. Raises InputError, UnsupportedError."""
    if len(data) < layout.PARENT_LOCATOR.size:
        raise InputError(f"{name}: has a parent and no locator for it; {CURE}")
    kind, _, count = layout.PARENT_LOCATOR.unpack_from(data)
    if kind != layout.LOCATOR_VHDX:
        raise UnsupportedError(f"{name}: its parent is told in a way that is not known here")
    if count > layout.MAX_LOCATOR_ENTRIES:
        raise InputError(f"{name}: {count} words on its parent are over the limit")
    found: dict[str, str] = {}
    for index in range(count):
        place = layout.PARENT_LOCATOR.size + index * layout.LOCATOR_ENTRY.size
        if place + layout.LOCATOR_ENTRY.size > len(data):
            raise InputError(f"{name}: what it says of its parent is cut off; {CURE}")
        key_at, value_at, key_bytes, value_bytes = layout.LOCATOR_ENTRY.unpack_from(data, place)
        if max(key_at + key_bytes, value_at + value_bytes) > len(data):
            raise InputError(f"{name}: what it says of its parent is cut off; {CURE}")
        key = data[key_at : key_at + key_bytes].decode("utf-16-le", "replace")
        found[key] = data[value_at : value_at + value_bytes].decode("utf-16-le", "replace")
    if not (found.get("relative_path") or found.get("absolute_win32_path")) or not found.get(
        "parent_linkage"
    ):
        raise InputError(f"{name}: has a parent and does not name it; {CURE}")
    return found
