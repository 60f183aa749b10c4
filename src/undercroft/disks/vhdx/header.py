"""The headers and region tables of a VHDX image, checked."""

import uuid
from dataclasses import dataclass
from typing import Final

# Its compiled part by name: the package itself falls back to Python, 400 times slower, without a word.
from google_crc32c._crc32c import extend

from undercroft.disks.source import BlockSource
from undercroft.disks.vhdx import layout
from undercroft.errors import InputError, UnsupportedError

CURE: Final = "`qemu-img check -f vhdx` tells more"
_CHECKSUM: Final = slice(4, 8)


@dataclass(frozen=True, slots=True)
class Header:
    """The current header of two.

    Attributes:
        data_ident: changes with the first write of the guest after an opening.
        log_ident: of the log, b"" for an empty one.
        log_offset, log_bytes: where the log lies.
    """

    data_ident: str
    log_ident: bytes
    log_offset: int
    log_bytes: int


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the file."""

    offset: int
    size_bytes: int


def checksum(data: bytes) -> int:
    """Return the CRC-32C of a structure whose own checksum, at byte 4, counts as zero."""
    return int(extend(0, data[: _CHECKSUM.start] + bytes(4) + data[_CHECKSUM.stop :]))


def is_sound(data: bytes, signature: bytes) -> bool:
    """Tell whether a structure bears its signature and its own checksum."""
    return data.startswith(signature) and checksum(data) == int.from_bytes(data[_CHECKSUM], "little")


def read_header(source: BlockSource, name: str) -> Header:
    """Return the sound header with the higher sequence number.

    Raises:
        InputError: no vhdx image; neither header is sound; a limit is passed.
        UnsupportedError: another version.
    """
    if source.size_bytes < layout.MIB or source.read(0, 8) != layout.FILE_SIGNATURE:
        raise InputError(f"{name}: is no vhdx image")
    found = []
    for offset in layout.HEADER_OFFSETS:
        data = source.read(offset, layout.HEADER_BYTES)
        if is_sound(data, layout.HEADER_SIGNATURE):
            found.append(layout.HEADER.unpack_from(data))
    if not found:
        raise InputError(f"{name}: both of its headers are damaged, the checksums are wrong; {CURE}")
    current = max(found, key=lambda fields: fields[2])
    if len(found) == 2 and found[0][2] == found[1][2] and found[0] != found[1]:
        raise InputError(f"{name}: its two headers are of the same number and differ; {CURE}")
    _, _, _, _, data_ident, log_ident, log_version, version, log_bytes, log_offset = current
    if version != layout.VERSION or (log_version and any(log_ident)):
        raise UnsupportedError(
            f"{name}: vhdx version {version} with log version {log_version} is unsupported"
        )
    if log_offset < layout.MIB or log_offset % layout.MIB or log_bytes % layout.MIB:
        raise InputError(f"{name}: a log of {log_bytes} bytes at {log_offset} is out of range; {CURE}")
    if any(log_ident) and not 0 < log_bytes <= layout.MAX_LOG_BYTES:
        raise InputError(f"{name}: a log of {log_bytes} bytes is over the limit of {layout.MAX_LOG_BYTES}")
    if any(log_ident) and log_offset + log_bytes > source.size_bytes:
        raise InputError(f"{name}: its log at {log_offset} lies beyond the end of the file (truncated?)")
    return Header(
        data_ident=str(uuid.UUID(bytes_le=data_ident)),
        log_ident=log_ident if any(log_ident) else b"",
        log_offset=log_offset,
        log_bytes=log_bytes,
    )


def read_regions(source: BlockSource, name: str) -> tuple[Region, Region]:
    """Return where the block table and the metadata lie, from the first of two tables that is sound.

    Args:
        source: the image file with its log laid over it.
        name: of the image, for messages.

    Raises:
        InputError: neither table is sound; a region is missing, named twice or beyond the file.
        UnsupportedError: a required region is not known here.
    """
    data = b""
    for offset in layout.REGIONS_OFFSETS:
        data = source.read(offset, layout.REGIONS_BYTES)
        if is_sound(data, layout.REGIONS_SIGNATURE):
            break
    else:
        raise InputError(f"{name}: both of its region tables are damaged, the checksums are wrong; {CURE}")
    _, _, count, _ = layout.REGIONS.unpack_from(data)
    if count > layout.MAX_REGIONS:
        raise InputError(f"{name}: {count} regions are over the limit of {layout.MAX_REGIONS}")
    found: dict[bytes, Region] = {}
    for index in range(count):
        place = layout.REGIONS.size + index * layout.REGION.size
        ident, offset, size_bytes, required = layout.REGION.unpack_from(data, place)
        if ident in found:
            raise InputError(f"{name}: its region {uuid.UUID(bytes_le=ident)} is named twice; {CURE}")
        if ident not in (layout.REGION_BAT, layout.REGION_METADATA):
            if required & layout.REQUIRED:
                raise UnsupportedError(f"{name}: its region {uuid.UUID(bytes_le=ident)} is not known here")
            continue
        if offset < layout.MIB or offset % layout.MIB or offset + size_bytes > source.size_bytes:
            raise InputError(f"{name}: a region of {size_bytes} bytes at {offset} is out of range; {CURE}")
        found[ident] = Region(offset, size_bytes)
    try:
        return found[layout.REGION_BAT], found[layout.REGION_METADATA]
    except KeyError:
        raise InputError(f"{name}: its block table or its metadata is missing; {CURE}") from None
