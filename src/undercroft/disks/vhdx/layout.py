"""Binary layout of VHDX: structures, identifiers and limits; no logic.

Follows [MS-VHDX] ("Virtual Hard Disk v2 File Format"). All numbers are little-endian.
"""

from struct import Struct
from typing import Final
from uuid import UUID

MIB: Final = 1 << 20
KIB: Final = 1 << 10

FILE_SIGNATURE: Final = b"vhdxfile"

HEADER: Final = Struct("<4sIQ16s16s16sHHIQ")
"""Signature, checksum, sequence number, IDs of the file's and the data's last write and of the log, versions
of log and format, length and offset of the log."""
HEADER_SIGNATURE: Final = b"head"
HEADER_BYTES: Final = 4096
HEADER_OFFSETS: Final = (64 * KIB, 128 * KIB)
VERSION: Final = 1

REGIONS: Final = Struct("<4sIII")
REGION: Final = Struct("<16sQII")
"""ID, offset, length, whether it is required."""
REGIONS_SIGNATURE: Final = b"regi"
REGIONS_BYTES: Final = 64 * KIB
REGIONS_OFFSETS: Final = (192 * KIB, 256 * KIB)
MAX_REGIONS: Final = 2047
REQUIRED: Final = 1

METADATA: Final = Struct("<8sHH")
METADATA_HEADER_BYTES: Final = 32
METADATA_ENTRY: Final = Struct("<16sIIII")
"""ID, offset from the region's start, length, flags, unused."""
METADATA_SIGNATURE: Final = b"metadata"
METADATA_REQUIRED: Final = 1 << 2
MAX_METADATA_ENTRIES: Final = 1023
MAX_ITEM_BYTES: Final = MIB

PARENT_LOCATOR: Final = Struct("<16sHH")
LOCATOR_ENTRY: Final = Struct("<IIHH")
"""Offset and offset, length and length, of a key and of its value."""
MAX_LOCATOR_ENTRIES: Final = 64

LOG_ENTRY: Final = Struct("<4sIIIQII16sQQ")
"""Signature, checksum, length, tail, sequence number, descriptors, unused, ID of the log, length of the file
when it was flushed, and the last one."""
LOG_SIGNATURE: Final = b"loge"
LOG_SECTOR_BYTES: Final = 4096
LOG_ZERO: Final = Struct("<4sIQQQ")
LOG_DATA: Final = Struct("<4s4s8sQQ")
LOG_DESCRIPTOR_BYTES: Final = 32
LOG_DATA_SECTOR: Final = b"data"
MAX_LOG_BYTES: Final = 64 * MIB
"""Hyper-V and QEMU make logs of 1 MiB."""

BAT_STATE_MASK: Final = 7
BAT_RESERVED: Final = 0x00000000000FFFF8
BAT_OFFSET_MASK: Final = 0xFFFFFFFFFFF00000
BLOCK_NOT_PRESENT, BLOCK_UNDEFINED, BLOCK_ZERO, BLOCK_UNMAPPED = 0, 1, 2, 3
BLOCK_PRESENT, BLOCK_PARTLY_PRESENT = 6, 7
SECTORS_PER_BITMAP: Final = 1 << 23
"""A bitmap block of 1 MiB has a bit for each."""

MIN_BLOCK_BYTES: Final = MIB
MAX_BLOCK_BYTES: Final = 256 * MIB
MAX_SIZE_BYTES: Final = 64 << 40


def guid(text: str) -> bytes:
    """Return a GUID as it is stored."""
    return UUID(text).bytes_le


REGION_BAT: Final = guid("2dc27766-f623-4200-9d64-115e9bfd4a08")
REGION_METADATA: Final = guid("8b7ca206-4790-4b9a-b8fe-575f050f886e")

ITEM_FILE_PARAMETERS: Final = guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
ITEM_DISK_SIZE: Final = guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
ITEM_LOGICAL_SECTOR: Final = guid("8141bf1d-a96f-4709-ba47-f233a8faab5f")
ITEM_PHYSICAL_SECTOR: Final = guid("cda348c7-445d-4471-9cc9-e9885251c556")
ITEM_DISK_ID: Final = guid("beca12ab-b2e6-4523-93ef-c309e000c746")
ITEM_PARENT_LOCATOR: Final = guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
KNOWN_ITEMS: Final = (
    ITEM_FILE_PARAMETERS,
    ITEM_DISK_SIZE,
    ITEM_LOGICAL_SECTOR,
    ITEM_PHYSICAL_SECTOR,
    ITEM_DISK_ID,
    ITEM_PARENT_LOCATOR,
)
LOCATOR_VHDX: Final = guid("b04aefb7-d19e-4a81-b789-25b8e9445913")
HAS_PARENT: Final = 1 << 1
