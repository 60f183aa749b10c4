"""Binary layout of XFS's log: records, operations, items. Follows fs/xfs/libxfs/xfs_log_format.h.

Headers of records are big-endian. Operations' headers too; what they carry is in the byte order of the
machine that wrote it, which a record's header names; only little-endian ones are replayed.
"""

from struct import Struct

BLOCK_BYTES = 512
"""The log is counted in blocks of this size, whatever the filesystem's."""

RECORD = Struct(">I I I I Q Q 4s I I")
"""magic, cycle, version, length, own place, place of the tail, checksum, record before, operations."""
RECORD_FORMAT = Struct(">I 16s I")
"""byte order of the machine, uuid, size of the buffer that it was written from. From offset 300."""
RECORD_FORMAT_OFFSET = 300
RECORD_MAGIC = 0xFEEDBABE
RECORD_CHECKSUM_OFFSET = 32
RECORD_CHECKSUM_OVER = (328, 324)
"""Bytes of the header under the checksum: where 64-bit numbers are aligned to 8 bytes, and where to 4."""
RECORD_VERSIONS = 3
RECORD_VERSION_2 = 2
RECORD_LITTLE_ENDIAN = 1
CYCLES_OFFSET = 44
CYCLES = 64
"""First words of so many of the record's blocks, in whose places the cycle stands; the header holds them."""
EXTENSION_CYCLES_OFFSET = 4
EXTENSION_CHECKSUM_OVER = 260
HEADER_COVERS_BYTES = 32 << 10
"""Bytes of a buffer for which each block of the header has room."""
MAX_RECORD_BYTES = 256 << 10
MAX_RECORDS_IN_FLIGHT = 8
MAX_RECORD_BLOCKS = MAX_RECORD_BYTES // BLOCK_BYTES + MAX_RECORD_BYTES // HEADER_COVERS_BYTES

OPERATION = Struct(">I I B B 2x")
"""transaction, length, client, flags."""
OPERATION_BYTES = 12
CLIENTS = (0x69, 0xAA)
START, COMMIT, CONTINUED, CONTINUES, END, UNMOUNT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20

TRANSACTION_MAGIC = 0x5452414E
TRANSACTION_HEADER_BYTES = 16
ITEM = Struct("<H H")
"""type, number of regions."""

INODE, BUFFER, DQUOT, QUOTA_OFF, CREATE, UNLINKED = 0x123B, 0x123C, 0x123D, 0x123E, 0x123F, 0x1238
EXTENT_FREE_INTENT, REVERSE_MAP_INTENT, REFERENCE_INTENT = 0x1236, 0x1240, 0x1242
MAP_INTENT, ATTRIBUTE_INTENT, EXCHANGE_INTENT = 0x1244, 0x1246, 0x1248
REALTIME_INTENTS = (0x124A, 0x124C, 0x124E)
INTENTS = {
    EXTENT_FREE_INTENT: "free space",
    REVERSE_MAP_INTENT: "reverse map",
    REFERENCE_INTENT: "reference count",
    MAP_INTENT: "file mapping",
    ATTRIBUTE_INTENT: "attribute",
    EXCHANGE_INTENT: "exchange of mappings",
    **dict.fromkeys(REALTIME_INTENTS, "realtime"),
}
"""What was begun, by its item's type; the type after it says that it is done."""
INTENTS_THAT_CHANGE_FILES = (MAP_INTENT, EXCHANGE_INTENT)
INTENT_ID = slice(8, 16)

BUFFER_ITEM = Struct("<H H H H q I")
"""type, regions, flags, length in sectors, first sector, words of the map of dirty chunks."""
BUFFER_CHUNK_BYTES = 128
BUFFER_INODES, BUFFER_CANCEL, BUFFER_QUOTA = 0x1, 0x2, 0x1C
MAX_BUFFER_SECTORS = 128

INODE_ITEM = Struct("<4x I H H 4x Q 16x q i i")
"""fields, size of attributes, size of data, number, first sector of its buffer, its length, place in it."""
INODE_ITEM_PACKED = Struct("<4x I H H Q 16x q i i")
FIELDS_DATA, FIELDS_EXTENTS, FIELDS_ROOT, FIELDS_OWNER = 0x2, 0x4, 0x8, 0x200
FIELDS_DEVICE, FIELDS_ATTRIBUTES, FIELDS_ATTRIBUTE_ROOT = 0x10, 0x1C0, 0x100
INODE_DEVICE_BEFORE_END = 32
"""Where in an item the number of a device file stands, in four bytes, counted from its end."""

CREATE_ITEM = Struct("<H H")
CREATE_FIELDS = Struct(">I I I I I I")
"""group, block in it, inodes, size of an inode, length in blocks, generation. From offset 4, big-endian."""
MAX_CREATE_BYTES = 256 << 10

MAX_REGIONS = 257
MAX_REGION_BYTES = 256 << 10
MAX_PENDING_BYTES = 160 << 20
OPERATION_COST_BYTES = 128
"""Counted for each operation, as what it takes in memory: a kernel's largest transactions have 64 MiB."""
MAX_TRANSACTIONS = 4096
MAX_OPERATIONS = 1 << 23
"""Of one pass over the log: a full one of 512 MiB has some four million."""
MAX_CANCELLED = 1 << 18
MAX_INTENTS = 1 << 18
MAX_REOWNED = 1 << 16
