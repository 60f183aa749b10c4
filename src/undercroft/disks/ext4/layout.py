"""On-disk layouts of ext2, ext3 and ext4: offsets, structures, flags and limits; no logic.

Follows the kernel's Documentation/filesystems/ext4 ("Data Structures and Algorithms") and
fs/ext4/ext4.h. Everything is little-endian; the journal is not and has `journal_layout`.
"""

from struct import Struct

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK_BYTES = 1024
MAGIC = 0xEF53
MAGIC_OFFSET = 56
CHECKSUM_OFFSET = 1020

SUPERBLOCK_HEAD = Struct("<I I 12x I I I I I I 12x H H 12x I I 8x H H I I I 16s 16s")
"""inodes, blocks (low), first data block, log block size, log cluster size, blocks, clusters and inodes
per group, magic, state, creator, revision, inode size, group of this copy, compatible, incompatible and
read-only compatible features, UUID, label. From offset 0."""
JOURNAL_INODE = Struct("<16s I I")
"""UUID of the journal device, journal inode, journal device number."""
JOURNAL_INODE_OFFSET = 208
DESCRIPTOR_SIZE_OFFSET = 254
FIRST_META_GROUP_OFFSET = 260
BLOCKS_HIGH_OFFSET = 336
BACKUP_GROUPS = Struct("<I I")
BACKUP_GROUPS_OFFSET = 588
CHECKSUM_SEED_OFFSET = 624
UINT32 = Struct("<I")
UINT16 = Struct("<H")

GOOD_OLD_REVISION = 0
GOOD_OLD_INODE_BYTES = 128
CREATOR_LINUX = 0
STATE_ERRORS = 0x2

COMPAT_HAS_JOURNAL = 0x4
COMPAT_SPARSE_SUPER2 = 0x200

INCOMPAT_FILETYPE = 0x2
INCOMPAT_RECOVER = 0x4
INCOMPAT_JOURNAL_DEVICE = 0x8
INCOMPAT_META_BG = 0x10
INCOMPAT_EXTENTS = 0x40
INCOMPAT_64BIT = 0x80
INCOMPAT_MMP = 0x100
INCOMPAT_FLEX_BG = 0x200
INCOMPAT_EA_INODE = 0x400
INCOMPAT_DIRDATA = 0x1000
INCOMPAT_CHECKSUM_SEED = 0x2000
INCOMPAT_LARGE_DIRECTORY = 0x4000
INCOMPAT_INLINE_DATA = 0x8000
INCOMPAT_ENCRYPT = 0x10000
INCOMPAT_CASEFOLD = 0x20000
INCOMPAT_SUPPORTED = (
    INCOMPAT_FILETYPE
    | INCOMPAT_RECOVER
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | INCOMPAT_MMP
    | INCOMPAT_FLEX_BG
    | INCOMPAT_EA_INODE
    | INCOMPAT_DIRDATA
    | INCOMPAT_CHECKSUM_SEED
    | INCOMPAT_LARGE_DIRECTORY
    | INCOMPAT_INLINE_DATA
    | INCOMPAT_ENCRYPT
    | INCOMPAT_CASEFOLD
)
INCOMPAT_UNSUPPORTED_NAMES = {0x1: "compression", INCOMPAT_JOURNAL_DEVICE: "journal_dev"}

RO_COMPAT_SPARSE_SUPER = 0x1
RO_COMPAT_LARGE_FILE = 0x2
RO_COMPAT_BTREE_DIRECTORY = 0x4
RO_COMPAT_GDT_CHECKSUM = 0x10
RO_COMPAT_BIGALLOC = 0x200
RO_COMPAT_METADATA_CHECKSUM = 0x400

EXT3_RO_COMPAT = RO_COMPAT_SPARSE_SUPER | RO_COMPAT_LARGE_FILE | RO_COMPAT_BTREE_DIRECTORY
EXT2_INCOMPAT = INCOMPAT_FILETYPE | INCOMPAT_META_BG
EXT3_INCOMPAT = EXT2_INCOMPAT | INCOMPAT_RECOVER

DESCRIPTOR_BYTES = 32
DESCRIPTOR_64BIT_BYTES = 64
DESCRIPTOR_INODE_TABLE_OFFSET = 8
DESCRIPTOR_CHECKSUM_OFFSET = 30
DESCRIPTOR_INODE_TABLE_HIGH_OFFSET = 40

INODE = Struct("<H H I 8x i 4x H H 4x I 4x 60s I 4x I 8x H H H 2x H H 4x I")
"""mode, uid, size, mtime, gid, links, flags, i_block, generation, size (high), uid (high), gid (high),
checksum (low), extra size, checksum (high), mtime (extra). From offset 0; what follows the checksum exists
in inodes of 256 bytes and more, as far as the extra size says."""
INODE_EXTRA_OFFSET = 128
INODE_EXTRA_HAS_CHECKSUM = 4
INODE_EXTRA_HAS_MTIME = 12
INODE_SEED = Struct("<I I")
"""number, generation: what the checksums of an inode and of its blocks begin with."""
ROOT_INODE = 2
INLINE_BYTES = 60

FLAG_ENCRYPTED = 0x800
FLAG_INDEXED = 0x1000
FLAG_EXTENTS = 0x80000
FLAG_INLINE_DATA = 0x10000000
FLAG_CASEFOLD = 0x40000000

EXTENT_HEADER = Struct("<H H H H I")
"""magic, entries, maximum, depth, generation."""
EXTENT_HEADER_BYTES = 12
EXTENT = Struct("<I H H I")
"""first logical block, length, physical block (high), physical block (low)."""
EXTENT_INDEX = Struct("<I I H 2x")
"""first logical block, child block (low), child block (high)."""
EXTENT_BYTES = 12
LOGICAL_RANGE = Struct("<I I")
"""first logical block, number of blocks: a range that a fast commit removes."""
EXTENT_MAGIC = 0xF30A
EXTENT_INITIALIZED_MAX = 32768

DIRECTORY_ENTRY = Struct("<I H B B")
"""inode, record length, name length, file type (bits above the fourth: Lustre's dirdata)."""
DIRECTORY_TAIL = Struct("<I H B B I")
"""zero, 12, zero, 0xDE, checksum: the last entry of a checksummed block."""
DIRECTORY_TAIL_BYTES = 12
DIRECTORY_TAIL_TYPE = 0xDE
INDEX_ROOT_OFFSET = 32
INDEX_NODE_OFFSET = 8
INDEX_ENTRY_BYTES = 8
INDEX_COUNT = Struct("<H H")
"""limit, count: in place of the first index entry's hash."""

XATTR_MAGIC = 0xEA020000
XATTR_ENTRY = Struct("<B B H I I I")
"""name length, name index, value offset, value inode, value size, hash."""
XATTR_INDEX_SYSTEM = 7

MAX_BLOCK_BYTES = 65536
MAX_EXTENT_DEPTH = 5
MAX_EXTENT_NODES = 1 << 20
"""Blocks of one extent tree: 350 million extents of 4 KiB blocks."""
MAX_SYMLINK_BYTES = 4095
MAX_DIRECTORY_BYTES = 256 << 20
"""Some five million names; the kernel's own limit without large_dir is ten million."""
MAX_CHUNK_BYTES = 1 << 17
"""A piece that stays in the processor's cache until it is used."""
