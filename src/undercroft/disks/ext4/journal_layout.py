"""On-disk layouts of the journal (jbd2): big-endian, no logic.

Follows the kernel's Documentation/filesystems/ext4 ("Journal (jbd2)") and include/linux/jbd2.h.
"""

from struct import Struct

MAGIC = 0xC03B3998
MAGIC_BYTES = MAGIC.to_bytes(4, "big")

HEADER = Struct(">I I I")
"""magic, block type, sequence."""
HEADER_BYTES = 12
DESCRIPTOR = 1
COMMIT = 2
SUPERBLOCK_V1 = 3
SUPERBLOCK_V2 = 4
REVOKE = 5

SUPERBLOCK_HEAD = Struct(">I I 4x I I I I I I I I 4x 16s")
"""magic, block type, block size, length, first log block, sequence, start, error, compatible and
incompatible features, UUID. From offset 0."""
SUPERBLOCK_BYTES = 1024
SUPERBLOCK_CHECKSUM_OFFSET = 252
FAST_COMMIT_BLOCKS_OFFSET = 84
DEFAULT_FAST_COMMIT_BLOCKS = 256

COMPAT_CHECKSUM = 0x1
INCOMPAT_REVOKE = 0x1
INCOMPAT_64BIT = 0x2
INCOMPAT_ASYNC_COMMIT = 0x4
INCOMPAT_CHECKSUM_V2 = 0x8
INCOMPAT_CHECKSUM_V3 = 0x10
INCOMPAT_FAST_COMMIT = 0x20
INCOMPAT_SUPPORTED = 0x3F

TAG = Struct(">I H H")
"""block, checksum (low 16 bits), flags; then block (high) under 64bit."""
TAG_V3 = Struct(">I I I I")
"""block, flags, block (high), checksum."""
TAG_ESCAPED = 0x1
TAG_SAME_UUID = 0x2
TAG_LAST = 0x8
TAG_UUID_BYTES = 16
TAIL_BYTES = 4
"""Checksum that ends descriptor and revoke blocks under checksums of version 2 and 3."""

COMMIT_CHECKSUM = Struct(">B B 2x I")
"""checksum type, checksum size, first word of the checksum. From offset 12."""
COMMIT_CHECKSUM_OFFSET = 12
COMMIT_CHECKSUM_WORD_OFFSET = 16
COMMIT_HEADER_BYTES = 60
COMMIT_SECONDS_OFFSET = 48
COMMIT_CRC32_TYPE = 1
COMMIT_CRC32_BYTES = 4

REVOKE_COUNT = Struct(">I")
"""bytes used in the block, header included. From offset 12."""
REVOKE_HEADER_BYTES = 16

MAX_RUNS = 1 << 16
"""Pieces of the journal's file; mke2fs makes a handful."""
MAX_REPLAYED_BLOCKS = 1 << 19
"""mke2fs makes journals of at most 2^18 blocks unless told otherwise."""
MAX_REVOKED_BLOCKS = 1 << 19
