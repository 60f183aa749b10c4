"""Numbers and records of btrfs' on-disk format; all integers are little-endian.

Source: the kernel's include/uapi/linux/btrfs_tree.h and the "On-disk Format" pages of btrfs' documentation.
"""

from struct import Struct

MAGIC = b"_BHRfS_M"
SUPERBLOCK_BYTES = 4096
SUPERBLOCKS = (64 << 10, 64 << 20, 256 << 30)
"""Where the superblock and its mirrors lie."""
CHECKSUM_BYTES = 32

# objectids
ROOT_TREE, EXTENT_TREE, CHUNK_TREE, DEVICE_TREE, FS_TREE, ROOT_DIRECTORY, CHECKSUM_TREE = range(1, 8)
FIRST_FREE, LAST_FREE = 256, (1 << 64) - 256
CHUNK_OBJECTS = 256
CHECKSUM_OBJECTS = (1 << 64) - 10
LOG_OBJECTS = (1 << 64) - 6
LAST = (1 << 64) - 1

# key types
INODE_ITEM, INODE_REF, INODE_EXTREF, XATTR_ITEM = 1, 12, 13, 24
DIR_LOG_ITEM, DIR_LOG_INDEX, DIR_ITEM, DIR_INDEX = 60, 72, 84, 96
EXTENT_DATA, EXTENT_CSUM = 108, 128
ROOT_ITEM, ROOT_BACKREF, ROOT_REF = 132, 144, 156
DEV_ITEM, CHUNK_ITEM = 216, 228

# incompatible features
HAS_MIXED_BACKREFS, HAS_DEFAULT_SUBVOLUME, HAS_MIXED_GROUPS = 1, 1 << 1, 1 << 2
HAS_LZO, HAS_ZSTD, HAS_BIG_METADATA, HAS_EXTENDED_REFS = 1 << 3, 1 << 4, 1 << 5, 1 << 6
HAS_RAID56, HAS_SKINNY_METADATA, HAS_NO_HOLES, HAS_METADATA_UUID = 1 << 7, 1 << 8, 1 << 9, 1 << 10
HAS_RAID1C34, HAS_SIMPLE_QUOTA = 1 << 11, 1 << 16
READABLE_FEATURES = (
    HAS_MIXED_BACKREFS | HAS_DEFAULT_SUBVOLUME | HAS_MIXED_GROUPS | HAS_LZO | HAS_ZSTD | HAS_BIG_METADATA
    | HAS_EXTENDED_REFS | HAS_RAID56 | HAS_SKINNY_METADATA | HAS_NO_HOLES | HAS_METADATA_UUID | HAS_RAID1C34
    | HAS_SIMPLE_QUOTA
)  # fmt: skip
UNREADABLE_FEATURES = {
    1 << 12: "zoned devices",
    1 << 13: "extent tree v2",
    1 << 14: "the RAID stripe tree",
    1 << 17: "the remap tree",
}
SUPER_IS_SEEDING = 1 << 32

# chunk types
RAID0, RAID1, DUP, RAID10, RAID5, RAID6, RAID1C3, RAID1C4 = (1 << bit for bit in range(3, 11))
PROFILES = RAID0 | RAID1 | DUP | RAID10 | RAID5 | RAID6 | RAID1C3 | RAID1C4
STRIPE_BYTES = 64 << 10

# of inodes, roots and extents
INODE_NO_CHECKSUMS = 1
ROOT_READ_ONLY, ROOT_DEAD = 1, 1 << 48
EXTENT_INLINE, EXTENT_REGULAR, EXTENT_PREALLOCATED = range(3)

# limits
MAX_LEVEL = 7
MIN_NODE_BYTES, MAX_NODE_BYTES = 4096, 64 << 10
MAX_DEVICES = 1024
MAX_CHUNKS = 100_000
"""100 TB in chunks of 1 GiB."""
MAX_STRIPES = 1024
MAX_UNCOMPRESSED_BYTES = 128 << 10
"""The most that one compressed extent holds (BTRFS_MAX_UNCOMPRESSED), compressed too."""
MAX_CHUNK_BYTES = 1 << 20
MAX_SYMLINK_BYTES = 4095
MAX_NAME_BYTES = 255
MAX_SUBVOLUMES = 10_000
"""Of which snapshots are the most: snapper and timeshift keep some dozens."""
MAX_SUBVOLUME_DEPTH = 64
MAX_LOG_NODES = 4096
"""64 MiB of log in nodes of 16 KiB; a kernel commits long before."""
MAX_LOG_CHANGES = 400_000

SUPERBLOCK = Struct("<32s16sQQ8sQQQQ8x4Q4I4xQ8xQQHBBB")
"""checksum, fsid, bytenr, flags, magic, generation, root, chunk root, log root, total bytes, bytes used,
root directory, devices, sector, node, leaf, stripe bytes, chunk root generation, read-only compatible and
incompatible features, checksum type, levels of the root, chunk and log tree."""
DEVICE_OFFSET = 0xC9
DEVICE = Struct("<QQQIIIQQQIBB16s16s")
"""id, bytes, bytes used, alignment, width, sector, type, generation, start, group, seek speed, bandwidth, the
UUIDs of the device and its filesystem."""
LABEL = slice(0x12B, 0x22B)
METADATA_UUID = slice(0x23B, 0x24B)
SYSTEM_CHUNKS_SIZE_OFFSET = 0xA0
SYSTEM_CHUNKS_OFFSET, SYSTEM_CHUNKS_BYTES = 0x32B, 2048

HEADER = Struct("<32s16sQQ16sQQIB")
"""checksum, fsid, logical address, flags, chunk tree's UUID, generation, owner, items, level."""
KEY = Struct("<QBQ")
ITEM = Struct("<QBQII")
"""key, offset of the data behind the header, size."""
POINTER = Struct("<QBQQQ")
"""key, logical address, generation."""

CHUNK = Struct("<QQQQIIIHH")
"""bytes, owner, stripe bytes, type, alignment, width, sector, stripes, sub-stripes."""
STRIPE = Struct("<QQ16s")
"""device, offset there, its UUID."""

INODE = Struct("<Q8xQ16xIIIIQQ64xqI12x")
"""generation, bytes, links, user, group, mode, device, flags, modified seconds and nanoseconds."""
DIRECTORY_ENTRY = Struct("<QBQQHHB")
"""key of the location, transaction, bytes of data, bytes of name, type."""
REF = Struct("<QH")
"""index in the directory, bytes of name."""
EXTREF = Struct("<QQH")
"""directory, index there, bytes of name."""
EXTENT = Struct("<QQBBHB")
"""generation, uncompressed bytes, compression, encryption, other encoding, type."""
EXTENT_PLACE = Struct("<QQQQ")
"""logical address (0: a hole), bytes there, offset in the uncompressed bytes, bytes of the file."""
ROOT = Struct("<160xQQQQQQQI17xBB")
"""generation, root directory, logical address, limit, bytes used, last snapshot, flags, references,
level of a drop, level."""
ROOT_UUIDS = Struct("<Q16s16s16s32xQIQI")
"""Behind ROOT: generation, UUIDs of itself, its parent and what it was received from, change and creation."""
ROOT_LINK = Struct("<QQH")
"""directory, sequence, bytes of name."""
