"""Binary layout of XFS outside its log: offsets, flags, limits. All numbers on disk are big-endian.

Follows "XFS Algorithms & Data Structures" and the kernel's fs/xfs/libxfs/xfs_format.h, xfs_da_format.h.
"""

from struct import Struct
from typing import NamedTuple

SUPERBLOCK = Struct(">4s I Q 16x 16s Q Q 20x I I 4x I H H H H 12s 12x")
"""magic, block size, blocks, uuid, first block of the log, root inode, blocks per allocation group, groups,
blocks of the log, version and features, sector size, inode size, inodes per block, label. From offset 0."""
SUPERBLOCK_LOGS = Struct(">B B B B B x B")
"""log2 of: block size, sector size, inode size, inodes per block, blocks per group; then: mkfs is at work."""
SUPERBLOCK_LOGS_OFFSET = 120
DIRECTORY_LOG_OFFSET = 192
FEATURES2_OFFSET = 200
FEATURES = Struct(">4x I I I")
"""features: compatible (left out), read-only compatible, incompatible, incompatible in the log."""
FEATURES_OFFSET = 208
SUPERBLOCK_CHECKSUM_OFFSET = 224
METADATA_UUID_OFFSET = 248
SUPERBLOCK_BYTES = 512
"""The least sector; all fields that are read lie in it. A checksum covers a whole sector."""
MAGIC = b"XFSB"

VERSION_MASK = 0xF
VERSION_NLINK = 0x0020
VERSION_LOG2 = 0x0400
VERSION_DIRECTORY2 = 0x2000
VERSION_CASEFOLD = 0x4000
VERSION_MORE = 0x8000
FEATURES2_KINDS = 0x200

INCOMPAT_KINDS = 0x1
INCOMPAT_METADATA_UUID = 0x4
INCOMPAT_NEEDS_REPAIR = 0x10
INCOMPAT_NAMES = {
    0x1: "ftype",
    0x2: "sparse inodes",
    0x4: "metadata uuid",
    0x8: "bigtime",
    0x10: "needs repair",
    0x20: "nrext64",
    0x40: "exchange range",
    0x80: "parent",
    0x100: "metadir",
    0x200: "zoned",
    0x400: "zone gaps",
}
INCOMPAT_SUPPORTED = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80
LOG_INCOMPAT_SUPPORTED = 0x1

MIN_BLOCK_LOG = 9
MAX_BLOCK_LOG = 16
MIN_INODE_LOG = 8
MAX_INODE_LOG = 11
MIN_GROUP_BLOCKS = 64
MAX_GROUP_BYTES = 1 << 40
MAX_DIRECTORY_BLOCK_LOG = 16
MAX_SECTOR_LOG = 15

INODE = Struct(">H H B B H I I I 4x Q 8x Q 8x Q 12x I 2x B 7x H 8x")
"""magic, mode, version, format, links (version 1), uid, gid, links, extents (64 bits), mtime, size,
extents (32 bits), place of the attributes, flags. 100 bytes."""
INODE_V3 = Struct(">4s 16x Q 24x Q 16s")
"""checksum (little-endian), flags of version 3, number, uuid. From offset 100."""
INODE_V2_BYTES = 100
INODE_V3_BYTES = 176
INODE_MAGIC = 0x494E
INODE_CHECKSUM_OFFSET = 100

FORMAT_LOCAL = 1
FORMAT_EXTENTS = 2
FORMAT_BTREE = 3

FLAG_REALTIME = 0x1
FLAG3_BIGTIME = 0x8
FLAG3_MANY_EXTENTS = 0x10
BIGTIME_EPOCH_S = -(1 << 31)

EXTENT = Struct(">Q Q")
"""128 bits: unwritten 1, first logical block 54, first block 52, number of blocks 21."""
EXTENT_BYTES = 16

BTREE_ROOT = Struct(">H H")
"""level, records; keys and pointers follow, 8 bytes each, each array with room for all that fit."""
BTREE_ROOT_BYTES = 4
BTREE_BLOCK = Struct(">4s H H")
"""magic, level, records."""
BTREE_MAGIC, BTREE_MAGIC_V5 = b"BMAP", b"BMA3"
BTREE_HEADER_BYTES, BTREE_HEADER_V5_BYTES = 24, 72


class Header(NamedTuple):
    """Where a checked block of version 5 has its checksum, its own address, the uuid and the owner."""

    checksum: int
    address: int
    uuid: int
    owner: int


BTREE_HEADER = Header(64, 24, 40, 56)
DIRECTORY_HEADER = Header(4, 8, 24, 40)
SYMLINK_HEADER = Header(12, 40, 16, 32)
ADDRESS_UNIT_BYTES = 512
"""Blocks of metadata name their own address in these units, whatever the size of a block."""

DIRECTORY_BLOCK_MAGIC, DIRECTORY_BLOCK_MAGIC_V5 = b"XD2B", b"XDB3"
DIRECTORY_DATA_MAGIC, DIRECTORY_DATA_MAGIC_V5 = b"XD2D", b"XDD3"
DIRECTORY_HEADER_BYTES, DIRECTORY_HEADER_V5_BYTES = 16, 64
DIRECTORY_TAIL = Struct(">I I")
"""entries of the index in a single block, those of them that are stale. The last bytes of the block."""
DIRECTORY_INDEX_ENTRY_BYTES = 8
DIRECTORY_FREE_TAG = 0xFFFF
DIRECTORY_DATA_BYTES = 1 << 35
"""Entries lie below this offset of a directory; its index above it."""

SYMLINK_BLOCK = Struct(">4s I I")
"""magic, place of this part in the target, its length."""
SYMLINK_MAGIC = b"XSLM"
SYMLINK_HEADER_BYTES = 56

MAX_TREE_LEVEL = 9
"""XFS_BM_MAXLEVELS of the kernel."""
MAX_TREE_NODES = 1 << 20
MAX_SYMLINK_BYTES = 1024
MAX_DIRECTORY_READ_BYTES = 256 << 20
"""Some five million names."""
MAX_CHUNK_BYTES = 1 << 17
"""A piece that stays in the processor's cache until it is used."""
