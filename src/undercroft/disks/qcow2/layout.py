"""Binary layout of qcow2: structures, bits and limits; no logic.

Follows docs/interop/qcow2.rst of QEMU ("qcow2 Image file format"). All numbers are big-endian. The
limits are QEMU's own where it has one, so that an image that QEMU opens is not refused for its size.
"""

from enum import IntEnum
from struct import Struct
from typing import Final

MAGIC: Final = b"QFI\xfb"

HEADER_V2: Final = Struct(">4sIQIIQIIQQIIQ")
"""magic, version, backing offset, backing size, cluster bits, size, encryption, L1 entries, L1 offset,
refcount table offset, refcount table clusters, snapshots, snapshot table offset."""

HEADER_V3: Final = Struct(">QQQII")
"""Follows HEADER_V2: incompatible, compatible, autoclear features, refcount order, header length."""

HEADER_V3_BYTES: Final = HEADER_V2.size + HEADER_V3.size
COMPRESSION_TYPE_OFFSET: Final = HEADER_V3_BYTES

EXTENSION: Final = Struct(">II")
"""Type and length of a header extension; its data follows, padded to a multiple of 8."""

SNAPSHOT: Final = Struct(">QIHHIIQII")
"""L1 offset, L1 entries, length of the ID and of the name, time in s and ns, guest clock in ns, size of
the VM state, length of the extra data. Extra data, ID and name follow, padded to a multiple of 8."""

SNAPSHOT_EXTRA_STATE: Final = Struct(">Q")
SNAPSHOT_EXTRA_SIZE: Final = Struct(">QQ")
"""The first fields of a snapshot's extra data: 64-bit size of the VM state, size of the virtual disk."""


class Extension(IntEnum):
    """Types of header extension that are read; all others may be ignored by specification."""

    END = 0
    BACKING_FORMAT = 0xE2792ACA
    FEATURE_NAMES = 0x6803F857
    DATA_FILE_NAME = 0x44415441
    ENCRYPTION_HEADER = 0x0537BE77


ENCRYPTION_POINTER: Final = Struct(">QQ")
"""Data of the extension ENCRYPTION_HEADER: offset and length of the LUKS header."""

FEATURE_NAME_BYTES: Final = 48
"""One entry of the feature name table: kind (0: incompatible), bit, 46 bytes of name."""

INCOMPATIBLE_DIRTY: Final = 1 << 0
INCOMPATIBLE_CORRUPT: Final = 1 << 1
INCOMPATIBLE_DATA_FILE: Final = 1 << 2
INCOMPATIBLE_COMPRESSION: Final = 1 << 3
INCOMPATIBLE_EXTENDED_L2: Final = 1 << 4
INCOMPATIBLE_KNOWN: Final = 0b11111

ENCRYPTIONS: Final = ("", "aes", "luks")
"""By the header's number."""

COMPRESSION_ZLIB: Final = 0
COMPRESSION_ZSTD: Final = 1

OFFSET_MASK: Final = 0x00FF_FFFF_FFFF_FE00
"""Bits 9 to 55 of an L1 or L2 entry: where the table or the cluster lies in the file."""

ENTRY_COPIED: Final = 1 << 63
ENTRY_COMPRESSED: Final = 1 << 62
ENTRY_ZERO: Final = 1
ENTRY_RESERVED: Final = 0x3F00_0000_0000_01FE
"""Bits of a standard L2 entry that the specification wants zero."""

L1_RESERVED: Final = 0x7F00_0000_0000_01FF

SUBCLUSTERS: Final = 32
SUBCLUSTERS_ALL_ALLOCATED: Final = 0x0000_0000_FFFF_FFFF
"""Bitmap of an extended L2 entry: bit n says that subcluster n is allocated, bit 32 + n that it is zero."""

SECTOR_BYTES: Final = 512
"""Unit in which a compressed cluster's length is counted."""

MIN_CLUSTER_BITS: Final = 9
MAX_CLUSTER_BITS: Final = 21
MIN_EXTENDED_CLUSTER_BITS: Final = 14
MAX_L1_BYTES: Final = 32 << 20
MAX_BACKING_NAME_BYTES: Final = 1023
MAX_HEADER_BYTES: Final = 64 << 10
"""How much of the header cluster is searched for extensions."""

MAX_SNAPSHOTS: Final = 65_536
MAX_SNAPSHOT_EXTRA_BYTES: Final = 1024
MAX_SNAPSHOT_TABLE_BYTES: Final = 8 << 20
"""Tighter than QEMU's 64 MiB, which only names of a kilobyte each could fill."""
