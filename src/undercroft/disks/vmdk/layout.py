"""Binary layout of vmdk's sparse extents: structures, bits and limits; no logic.

Follows "Virtual Disk Format 5.0" (VMware, 2011). All numbers are little-endian, offsets are in sectors.
"""

from struct import Struct
from typing import Final

MAGIC: Final = b"KDMV"
COWD_MAGIC: Final = b"COWD"
SESPARSE_MAGIC: Final = b"\xbe\xba\xfe\xca\x00\x00\x00\x00"

SECTOR_BYTES: Final = 512

HEADER: Final = Struct("<4sIIQQQQIQQQB4sH")
"""Magic, version, flags, capacity, grain size, offset and size of the descriptor, entries of a grain table,
offsets of the redundant grain directory and of the grain directory, length of all metadata, unclean
shutdown, line ends, compression."""

NEWLINES: Final = b"\n \r\n"
"""A copy through a text mode changes these bytes."""

FLAG_NEWLINES: Final = 1 << 0
FLAG_REDUNDANT: Final = 1 << 1
FLAG_ZERO_GRAINS: Final = 1 << 2
FLAG_COMPRESSED: Final = 1 << 16
FLAG_MARKERS: Final = 1 << 17
KNOWN_FLAGS: Final = FLAG_NEWLINES | FLAG_REDUNDANT | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS

COMPRESSION_DEFLATE: Final = 1
DIRECTORY_AT_END: Final = 0xFFFFFFFFFFFFFFFF
FOOTER_FROM_END: Final = 1024
"""A stream ends with its footer, a copy of the header, and a marker of its end."""

MARKER: Final = Struct("<QII")
"""Of a marker sector: a number, the size of what follows (0), its kind."""
MARKER_END, MARKER_FOOTER = 0, 3

GRAIN_MARKER: Final = Struct("<QI")
"""Before a compressed grain: its first sector in the virtual disk, its compressed length."""

GRAIN_ZERO: Final = 1
"""A grain table's entry for a grain of zeros, where the flag says so."""

MAX_VERSION: Final = 3
MAX_GRAIN_SECTORS: Final = 1 << 15
"""16 MiB. Grains of 64 KiB are what everybody writes."""

MAX_TABLE_ENTRIES: Final = 512
MAX_CAPACITY_SECTORS: Final = 1 << 37
"""64 TiB, more than VMware's largest disk."""
