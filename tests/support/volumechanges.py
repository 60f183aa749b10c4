"""Changes to LVM and md metadata of kept images, with their checksums set right again, as an attacker would.

Offsets and checksums are written here anew, not taken from the readers that are tested.
"""

import re
import struct
import zlib
from collections.abc import Callable, Mapping

import google_crc32c

MDA_MAGIC = b" LVM2 x[5A%r0N*>"
MDA_HEADER_BYTES = 512
SECTOR = 512
THIN_MAGIC = struct.pack("<Q", 27022010)
THIN_BLOCK = 4096
MD_MAGIC = 0xA92B4EFC


def lvm_checksum(data: bytes) -> int:
    """Compute LVM's CRC-32 bit by bit's equal: the common one with another start, not inverted."""
    return zlib.crc32(data, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def areas_of(disk: bytes) -> list[int]:
    """Return where metadata areas begin on a disk."""
    return [match.start() - 4 for match in re.finditer(re.escape(MDA_MAGIC), disk)]


def text_place(disk: bytes, area: int) -> tuple[int, int, int]:
    """Return (offset in the area, length, size of the area) of its committed text."""
    (size,) = struct.unpack_from("<Q", disk, area + 32)
    offset, length = struct.unpack_from("<QQ", disk, area + 40)
    return offset, length, size


def text_of(disk: bytes) -> str:
    """Return the committed text of a disk's first area."""
    area = areas_of(disk)[0]
    offset, length, size = text_place(disk, area)
    ring = disk[area + MDA_HEADER_BYTES : area + size]
    start = offset - MDA_HEADER_BYTES
    return (ring + ring)[start : start + length].rstrip(b"\0").decode()


def with_text(disk: bytes, text: str, place: int | None = None) -> bytes:
    """Return the disk with another text in each of its areas, at `place` of the area where it is given."""
    changed = bytearray(disk)
    raw = text.encode("utf-8", "surrogateescape") + b"\0"
    for area in areas_of(disk):
        offset, _, size = text_place(disk, area)
        offset = place or offset
        first = min(len(raw), size - offset)
        changed[area + offset : area + offset + first] = raw[:first]
        changed[area + MDA_HEADER_BYTES : area + MDA_HEADER_BYTES + len(raw) - first] = raw[first:]
        struct.pack_into("<QQI", changed, area + 40, offset, len(raw), lvm_checksum(raw))
        seal_area(changed, area)
    return bytes(changed)


def edited(disks: Mapping[str, bytes], edit: Callable[[str], str]) -> dict[str, bytes]:
    """Return the disks with their group's text edited in every area. The edit has to change it."""
    changed = {}
    for name, disk in disks.items():
        if areas_of(disk):
            text = text_of(disk)
            assert edit(text) != text
            changed[name] = with_text(disk, edit(text))
        else:
            changed[name] = disk
    return changed


def seal_area(disk: bytearray, area: int) -> None:
    """Set the checksum of a metadata area's header right."""
    checksum = lvm_checksum(bytes(disk[area + 4 : area + MDA_HEADER_BYTES]))
    struct.pack_into("<I", disk, area, checksum)


def seal_lvm(disk: bytearray) -> None:
    """Set all checksums of labels, headers and texts on a disk right, where they can be."""
    whole = bytes(disk)
    for match in re.finditer(b"LABELONE", whole):
        label = match.start()
        if label % SECTOR == 0:
            checksum = lvm_checksum(bytes(disk[label + 20 : label + SECTOR]))
            struct.pack_into("<I", disk, label + 16, checksum)
    for area in areas_of(whole):
        offset, length, size = text_place(whole, area)
        if MDA_HEADER_BYTES <= offset < size and offset + length <= size < 2 << 20:
            text = bytes(disk[area + offset : area + offset + length])
            struct.pack_into("<I", disk, area + 56, lvm_checksum(text))
        seal_area(disk, area)


def seal_thin(disk: bytearray, start: int, length: int, *, superblock: bool = False) -> None:
    """Set the checksums of all superblocks and nodes right in the metadata volume of a thin pool."""
    for block in range(start, start + length, THIN_BLOCK):
        data = bytes(disk[block + 4 : block + THIN_BLOCK])
        if data.strip(b"\0"):
            xor = 160774 if superblock or data[28:36] == THIN_MAGIC else 121107
            struct.pack_into("<I", disk, block, google_crc32c.value(data) ^ 0xFFFFFFFF ^ xor)


def seal_md(disk: bytearray, place: int) -> None:
    """Set the checksum of an md superblock right."""
    version = struct.unpack_from("<I", disk, place + 4)[0]
    if version == 1:
        length = 256 + 2 * min(struct.unpack_from("<I", disk, place + 220)[0], 1920)
        at = 216
    else:
        length, at = 4096, 152
    struct.pack_into("<I", disk, place + at, 0)
    data = bytes(disk[place : place + length]) + bytes(-length % 4)
    total = sum(word for (word,) in struct.iter_unpack("<I", data))
    struct.pack_into("<I", disk, place + at, ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF)


def md_places(disk: bytes) -> list[int]:
    """Return where md superblocks lie on a disk."""
    magic = struct.pack("<I", MD_MAGIC)
    return [match.start() for match in re.finditer(re.escape(magic), disk) if match.start() % SECTOR == 0]


def with_md(disk: bytes, place: int, **fields: tuple[int, str, int]) -> bytes:
    """Return the disk with fields (offset, struct layout, value) of a superblock changed and sealed."""
    changed = bytearray(disk)
    for offset, layout, value in fields.values():
        struct.pack_into(f"<{layout}", changed, place + offset, value)
    seal_md(changed, place)
    return bytes(changed)
