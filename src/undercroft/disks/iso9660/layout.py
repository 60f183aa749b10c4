"""Numbers and records of ISO 9660, Joliet, SUSP and Rock Ridge.

Follows ECMA-119, the Joliet specification, IEEE P1281 (SUSP 1.12) and P1282 (RRIP 1.12), and where these
leave a choice the kernel's fs/isofs.
"""

from struct import Struct

SECTOR_BYTES = 2048
"""Descriptors fill one each, and no directory record crosses the border of one."""
FIRST_DESCRIPTOR = 16
MAX_DESCRIPTORS = 84
"""Linux looks from sector 16 to 99."""
IDENTIFIER = b"CD001"
PRIMARY, SUPPLEMENTARY, TERMINATOR = 1, 2, 255
BLOCK_SIZES = (512, 1024, 2048)

VOLUME_BLOCKS_OFFSET = 80
ESCAPES_OFFSET = 88
BLOCK_BYTES_OFFSET = 128
ROOT_RECORD_OFFSET = 156
JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")

RECORD = Struct("<BBI4sI4s7sBBB4xB")
"""length, sectors of the extended attribute record, extent (little, big), size (little, big), date, flags,
file unit, interleave gap, length of the name. 33 bytes; name and system use area follow."""
RECORD_BYTES = 33
FLAG_DIRECTORY, FLAG_ASSOCIATED, FLAG_MORE = 0x2, 0x4, 0x80
SELF, PARENT = b"\0", b"\1"

SYSTEM_USE_HEADER_BYTES = 4
XA_BYTES = 14
"""Of a CD-ROM XA record that may stand before the system use fields."""
SP_MAGIC = b"\xbe\xef"
NAME_CONTINUES, NAME_SPECIAL = 0x1, 0x6
LINK_CONTINUES, LINK_HERE, LINK_ABOVE, LINK_ROOT = 0x1, 0x2, 0x4, 0x8
TIME_CREATED, TIME_MODIFIED, TIME_LONG = 0x1, 0x2, 0x80
SHORT_TIME_BYTES, LONG_TIME_BYTES = 7, 17

MAX_CONTINUATIONS = 32
"""Of one file's system use area, as in Linux (RR_MAX_CE_ENTRIES)."""
MAX_CONTINUATION_BYTES = 4096
MAX_SECTIONS = 100
"""Extents of one file, as in Linux: 400 GiB."""
MAX_NAME_BYTES = 254
"""Linux leaves out the part of a name that would reach this."""
MAX_LINK_BYTES = 4095
MAX_DIRECTORY_BYTES = 16 << 20
"""Some 100,000 names with Rock Ridge."""
MAX_CHUNK_BYTES = 1 << 20
DEFAULT_MODE = 0o555
"""Without Rock Ridge everybody may read and execute everything."""
