"""An LVM2 physical volume: its label, its areas, and the newest text that they hold.

Guarantees: untrusted bytes give values within the limits below or `InputError` that begins with "lvm".
Label, metadata header and text have checksums, and each is checked. Follows LVM2's lib/format_text/layout.h
and lib/label/label.c.
"""

import zlib
from dataclasses import dataclass
from struct import Struct

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

SECTOR_BYTES = 512
LABEL_SECTORS = 4
MAX_METADATA_BYTES = 8 << 20
"""Of one text; the areas of lvm2 are 1 MiB unless somebody asked for more. 4,096 volumes take 2 MiB."""
MAX_AREAS = 16

_LABEL = Struct("<8sQII8s")
_CHECKED_FROM = 20
_PV_HEADER = Struct("<32sQ")
_LOCATION = Struct("<QQ")
_EXTENSION = Struct("<II")
"""Version and flags, behind the lists of areas."""
_USED_VERSION, _USED = 2, 1
_MDA_HEADER = Struct("<I16sIQQ")
_RAW_LOCATION = Struct("<QQII")
_MDA_HEADER_BYTES = 512
_MDA_MAGIC = b" LVM2 x[5A%r0N*>"
_IGNORED = 1
_CRC_START = 0xF597A6CF


@dataclass(frozen=True, slots=True)
class Label:
    """What a physical volume says of itself.

    Attributes:
        uuid: 32 characters, without hyphens.
        areas: (offset, size) in bytes of its metadata areas; () where the set keeps them elsewhere.
        is_used: whether a group uses it, whoever describes that group.
    """

    uuid: str
    areas: tuple[tuple[int, int], ...]
    is_used: bool


def checksum(data: bytes) -> int:
    """Return LVM's CRC-32: the common one with a start of its own, not inverted at the end."""
    return zlib.crc32(data, _CRC_START ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def read_label(source: BlockSource) -> Label:
    """Return the label of a physical volume, from the first four sectors.

    Raises:
        InputError: there is none whose checksum is right, or its areas are malformed.
    """
    problem = "lvm label: there is none"
    for sector in range(LABEL_SECTORS):
        if (sector + 1) * SECTOR_BYTES > source.size_bytes:
            break
        data = source.read(sector * SECTOR_BYTES, SECTOR_BYTES)
        ident, number, found, offset, kind = _LABEL.unpack_from(data)
        if ident != b"LABELONE" or kind != b"LVM2 001":
            continue
        computed = checksum(data[_CHECKED_FROM:])
        if found != computed or number != sector:
            problem = f"lvm label: its checksum is {found:#x}, its bytes give {computed:#x}"
            continue
        return _parse_header(data, offset)
    raise InputError(problem)


def _parse_header(data: bytes, offset: int) -> Label:
    if offset < _LABEL.size or offset + _PV_HEADER.size > len(data):
        raise InputError(f"lvm label: its header at {offset} lies beyond the sector")
    ident, _ = _PV_HEADER.unpack_from(data, offset)
    try:
        uuid = ident.decode("ascii")
    except UnicodeDecodeError:
        raise InputError("lvm label: its UUID is no text") from None
    position = offset + _PV_HEADER.size
    lists: list[list[tuple[int, int]]] = []
    for _ in range(2):  # data areas, then metadata areas, each ended by zeros
        found: list[tuple[int, int]] = []
        while True:
            if position + _LOCATION.size > len(data) or len(found) > MAX_AREAS:
                raise InputError("lvm label: its lists of areas do not end")
            area = _LOCATION.unpack_from(data, position)
            position += _LOCATION.size
            if not area[0]:
                break
            found.append(area)
        lists.append(found)
    areas = tuple(lists[1])
    version, flags = _EXTENSION.unpack_from(data.ljust(position + _EXTENSION.size, b"\0"), position)
    # Labels of older versions do not say; one without areas was made so for a group.
    is_used = bool(flags & _USED) if version >= _USED_VERSION else not areas
    return Label(uuid, areas, is_used)


def read_text(source: BlockSource, area: tuple[int, int]) -> bytes:
    """Return the committed text of a metadata area, b"" where there is none (an orphan, an unused copy).

    Args:
        source: the physical volume.
        area: (offset, size) as its label has it, untrusted.

    Raises:
        InputError: the area lies beyond the volume, or header or text are malformed.
    """
    offset, size = area
    what = f"lvm metadata area at {offset}"
    if offset + _MDA_HEADER_BYTES > source.size_bytes:
        raise InputError(f"{what}: it lies beyond the volume's end at {source.size_bytes}")
    data = source.read(offset, _MDA_HEADER_BYTES)
    found, magic, version, start, own_size = _MDA_HEADER.unpack_from(data)
    computed = checksum(data[4:])
    if found != computed:
        raise InputError(f"{what}: its checksum is {found:#x}, its bytes give {computed:#x}")
    if magic != _MDA_MAGIC or version != 1 or start != offset:
        raise InputError(f"{what}: its header is of another kind or place")
    place, length, text_checksum, flags = _RAW_LOCATION.unpack_from(data, _MDA_HEADER.size)
    size = own_size or size
    if not place or flags & _IGNORED:
        return b""
    if length > min(MAX_METADATA_BYTES, size - _MDA_HEADER_BYTES) or not _MDA_HEADER_BYTES <= place < size:
        raise InputError(f"{what}: a text of {length} bytes at {place} does not fit into its {size} bytes")
    first = min(length, size - place)
    text = source.read(offset + place, first)
    if first < length:  # the area is a ring
        text += source.read(offset + _MDA_HEADER_BYTES, length - first)
    computed = checksum(text)
    if text_checksum != computed:
        raise InputError(f"{what}: its text's checksum is {text_checksum:#x}, its bytes give {computed:#x}")
    return text.rstrip(b"\0")
