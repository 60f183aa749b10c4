"""Extended attributes of squashfs: a table of sets, each a list of names and values in metadata.

Follows Linux's fs/squashfs/xattr.c.
"""

from struct import Struct, unpack_from

from undercroft.disks.source import BlockSource
from undercroft.disks.squashfs.metadata import BLOCK_BYTES, Metadata, MetadataReader, Superblock
from undercroft.errors import InputError, UnsupportedError

MAX_SETS = 1 << 24
MAX_PER_FILE = 1024
MAX_VALUE_BYTES = 64 << 10
_NAMESPACES = ((b"user.", 0), (b"trusted.", 1))
_TABLE = Struct("<QII")
_SET = Struct("<QII")
_NAME, _VALUE = Struct("<HH"), Struct("<I")
_IS_ELSEWHERE = 0x100
_KIND_MASK = 0xFF
_REFERENCE_BYTES = 8


def value(
    number: int, name: bytes, source: BlockSource, superblock: Superblock, metadata: Metadata
) -> bytes | None:
    """Return the value of an attribute, None where the set of that number has none of that name.

    Raises:
        UnsupportedError: `name` is in another namespace.
        InputError: the tables are malformed.
    """
    prefix, kind = next(((p, k) for p, k in _NAMESPACES if name.startswith(p)), (b"", -1))
    if kind < 0:
        raise UnsupportedError("squashfs: attributes of other namespaces are not read")
    table = superblock.attribute_table
    if table + _TABLE.size > superblock.size_bytes:
        raise InputError("squashfs: the table of attributes lies outside, and a file has some")
    values, sets, _ = _TABLE.unpack(source.read(table, _TABLE.size))
    if number >= sets or sets > MAX_SETS:
        raise InputError(f"squashfs: attributes {number} of {sets}")
    block, within = divmod(number, BLOCK_BYTES // _SET.size)
    entry = table + _TABLE.size + 8 * block
    (place,) = unpack_from("<Q", source.read(entry, 8))
    reference, count, _ = _SET.unpack(metadata.read(place, within * _SET.size, _SET.size)[0])
    if count > MAX_PER_FILE:
        raise InputError(f"squashfs: {count} attributes of one file, the limit is {MAX_PER_FILE}")
    return _search(metadata, values, reference, count, (kind, name.removeprefix(prefix)))


def _search(
    metadata: Metadata, values: int, reference: int, count: int, wanted: tuple[int, bytes]
) -> bytes | None:
    reader = MetadataReader(metadata, values + (reference >> 16), reference & 0xFFFF)
    for _ in range(count):
        kind, length = reader.take(_NAME)
        name = reader.bytes(length)
        data = _value(reader)
        if (kind & _KIND_MASK, name) != wanted:
            continue
        if not kind & _IS_ELSEWHERE:
            return data
        if len(data) != _REFERENCE_BYTES:
            raise InputError(f"squashfs: an attribute's value lies elsewhere, by {len(data)} bytes")
        (reference,) = unpack_from("<Q", data)
        return _value(MetadataReader(metadata, values + (reference >> 16), reference & 0xFFFF))
    return None


def _value(reader: MetadataReader) -> bytes:
    (length,) = reader.take(_VALUE)
    if length > MAX_VALUE_BYTES:
        raise InputError(f"squashfs: an attribute of {length} bytes, the limit is {MAX_VALUE_BYTES}")
    return reader.bytes(length)
