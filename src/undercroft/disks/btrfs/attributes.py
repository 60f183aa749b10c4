"""Extended attributes: an item for each hash of a name, built like a directory's.

Follows the kernel's fs/btrfs/xattr.c.
"""

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.errors import InputError


def value(tree: FsTree, number: int, name: bytes) -> bytes | None:
    """Return the value of an attribute of an inode, None where it has none of that name.

    Raises InputError where the item is malformed.
    """
    item = tree.get((number, layout.XATTR_ITEM, name_hash(name))) or b""
    position = 0
    while position < len(item):
        begin = position + layout.DIRECTORY_ENTRY.size
        if begin > len(item):
            raise InputError(f"btrfs inode {number}: an attribute is cut off")
        *_, value_bytes, name_bytes, _ = layout.DIRECTORY_ENTRY.unpack_from(item, position)
        position = begin + name_bytes + value_bytes
        if position > len(item):
            raise InputError(f"btrfs inode {number}: an attribute passes its item's end")
        if item[begin : begin + name_bytes] == name:
            return item[begin + name_bytes : position]
    return None
