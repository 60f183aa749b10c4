"""GUID partition tables.

A table is used only when the checksums of its header and of its entries match and the header lies where
it says; when the primary fails, the backup is used, with a note. Follows the UEFI specification 2.10,
section 5.3; sectors of 512 and 4,096 bytes.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final
from uuid import UUID

from undercroft.disks.partitions.table import Partition, PartitionTable, clamped, overlap_notes
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

SIGNATURE: Final = b"EFI PART"
SECTOR_SIZES: Final = (512, 4096)

HEADER: Final = Struct("<8sIIIIQQQQ16sQIII")
"""Signature, revision, header length, header checksum, reserved, own sector, other header's sector, first and
last usable sector, disk UUID, entries' sector, number of entries, length of an entry, entries' checksum."""

HEADER_CHECKSUM_OFFSET: Final = 16

ENTRY: Final = Struct("<16s16sQQQ72s")
"""Type, UUID, first sector, last sector (inclusive), attributes, name in UTF-16LE."""

ENTRY_SIZES: Final = (128, 256, 512, 1024, 2048, 4096)
LEGACY_BIOS_BOOTABLE: Final = 1 << 2

MAX_ENTRIES_BYTES: Final = 1 << 20
"""Room for 8,192 partitions; the usual table has 16 KiB."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a header may lie."""

    sector_bytes: int
    sector: int
    is_backup: bool


def has_header(source: BlockSource) -> bool:
    """Whether the signature of a primary header is there, sound or not."""
    return any(_bears_signature(source, size) for size in SECTOR_SIZES)


def read_gpt(source: BlockSource) -> PartitionTable:
    """Read the GPT of a disk whose MBR says that it has one.

    Raises:
        InputError: neither the primary nor the backup table is sound.
    """
    failures: list[str] = []
    for place in _places(source):
        which = "backup" if place.is_backup else "primary"
        try:
            partitions = _read_at(source, place)
        except InputError as error:
            failures.append(f"the {which} GPT {error}")
            continue
        notes = list(failures)
        if place.is_backup:
            notes.append(f"the backup GPT at sector {place.sector} was used, as the primary is not sound")
        return PartitionTable(
            "gpt", partitions, (*notes, *overlap_notes(partitions)), sector_bytes=place.sector_bytes
        )
    reason = "; ".join(failures) or "no GPT header was found at the disk's start or end"
    raise InputError(f"partition table: the MBR announces a GPT, but {reason}; `gdisk` can repair it")


def _places(source: BlockSource) -> Iterator[_Place]:
    """Yield where a header's signature is: primaries, what they name as backup, the disk's end."""
    for size in SECTOR_SIZES:
        if _bears_signature(source, size):
            yield _Place(size, 1, is_backup=False)
            named = HEADER.unpack(source.read(size, HEADER.size))[6]
            if named > 1 and _bears_signature(source, named * size):
                yield _Place(size, named, is_backup=True)
    for size in SECTOR_SIZES:
        last = source.size_bytes // size - 1
        if last > 1 and _bears_signature(source, last * size):
            yield _Place(size, last, is_backup=True)


def _bears_signature(source: BlockSource, offset: int) -> bool:
    return offset + HEADER.size <= source.size_bytes and source.read(offset, len(SIGNATURE)) == SIGNATURE


def _read_at(source: BlockSource, place: _Place) -> tuple[Partition, ...]:
    """Return the partitions of the table at `place`. Raises InputError, half a sentence, where unsound."""
    size = place.sector_bytes
    available = min(size, source.size_bytes - place.sector * size)
    untrusted = source.read(place.sector * size, available)
    fields = HEADER.unpack_from(untrusted)
    _, _, header_bytes, header_checksum, _, own_sector, _, _, _, _, *entries = fields
    if not HEADER.size <= header_bytes <= available:
        raise InputError(f"has a header of {header_bytes} bytes")
    zeroed = (
        untrusted[:HEADER_CHECKSUM_OFFSET] + bytes(4) + untrusted[HEADER_CHECKSUM_OFFSET + 4 : header_bytes]
    )
    if zlib.crc32(zeroed) != header_checksum:
        raise InputError("has a header whose checksum does not match")
    if own_sector != place.sector:
        raise InputError(f"lies at sector {place.sector} but says {own_sector}")
    entries_sector, count, entry_bytes, entries_checksum = entries
    if entry_bytes not in ENTRY_SIZES:
        raise InputError(f"has entries of {entry_bytes} bytes")
    if count * entry_bytes > MAX_ENTRIES_BYTES:
        raise InputError(f"has {count} entries of {entry_bytes} bytes, over the limit of {MAX_ENTRIES_BYTES}")
    start, length = entries_sector * size, count * entry_bytes
    if start + length > source.size_bytes:
        raise InputError(f"has its entries at sector {entries_sector}, beyond the disk's end")
    table = source.read(start, length)
    if zlib.crc32(table) != entries_checksum:
        raise InputError("has entries whose checksum does not match")
    return tuple(_partitions(table, entry_bytes, size, source.size_bytes))


def _partitions(table: bytes, entry_bytes: int, sector_bytes: int, disk_bytes: int) -> Iterator[Partition]:
    for index in range(len(table) // entry_bytes):
        fields = ENTRY.unpack_from(table, index * entry_bytes)
        kind, ident, first, last, attributes, untrusted_name = fields
        if not any(kind):
            continue
        yield clamped(
            index + 1,
            first * sector_bytes,
            (last - first + 1) * sector_bytes,
            disk_bytes,
            type_id=str(UUID(bytes_le=kind)),
            part_uuid=str(UUID(bytes_le=ident)),
            name=untrusted_name.decode("utf-16-le", "replace").split("\0", 1)[0],
            bootable=bool(attributes & LEGACY_BIOS_BOOTABLE),
        )
