"""Inline data: small files and directories whose content lies in the inode.

The first 60 bytes lie in i_block, the rest is the value of the extended attribute system.data in the same
inode. Follows ext4's "Inline Data" and "Extended Attributes".
"""

from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.inode import Inode
from undercroft.errors import InputError

_DATA_NAME = b"data"


def content(inode: Inode) -> bytes:
    """Return the content of an inline file, `size_bytes` long; what was never stored reads as zeros.

    The kernel does the same: a file that grew by truncation keeps its short value. Raises InputError where
    the size passes what an inode can hold, or the attributes are malformed.
    """
    if inode.stat.size_bytes > len(inode.raw):
        raise InputError(f"ext inode {inode.stat.node}: {inode.stat.size_bytes} bytes of inline data")
    if inode.stat.size_bytes <= layout.INLINE_BYTES:
        return inode.block[: inode.stat.size_bytes]
    return (inode.block + attribute_value(inode)).ljust(inode.stat.size_bytes, b"\0")[: inode.stat.size_bytes]


def directory_regions(inode: Inode) -> tuple[bytes, bytes]:
    """Return the two areas of entries of an inline directory; the first follows the parent's number."""
    return inode.block[4:], attribute_value(inode)


def parent(inode: Inode) -> int:
    """Return the inode number of the parent of an inline directory."""
    return int.from_bytes(inode.block[:4], "little")


def attribute_value(inode: Inode) -> bytes:
    """Return the value of system.data, empty when the inode has no such attribute.

    Raises InputError where the attributes pass the end of the inode.
    """
    raw = inode.raw
    if len(raw) <= layout.INODE_EXTRA_OFFSET:
        return b""
    header = layout.INODE_EXTRA_OFFSET + int.from_bytes(raw[128:130], "little")
    if raw[header : header + 4] != layout.XATTR_MAGIC.to_bytes(4, "little"):
        return b""
    first = offset = header + 4
    while raw[offset : offset + 4].strip(b"\0"):
        if offset + layout.XATTR_ENTRY.size > len(raw):
            raise InputError(f"ext inode {inode.stat.node}: extended attributes pass its end")
        name_bytes, name_index, start, value_inode, length, _ = layout.XATTR_ENTRY.unpack_from(raw, offset)
        name = raw[offset + layout.XATTR_ENTRY.size :][:name_bytes]
        if name_index == layout.XATTR_INDEX_SYSTEM and name == _DATA_NAME:
            if value_inode or first + start + length > len(raw):
                raise InputError(f"ext inode {inode.stat.node}: inline data passes its end")
            return raw[first + start : first + start + length]
        offset += layout.XATTR_ENTRY.size + (name_bytes + 3 & ~3)
    return b""
