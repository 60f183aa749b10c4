"""Extended attributes: an item for each hash of a name, built like a directory's.

Follows the kernel's fs/btrfs/xattr.c. A log's attributes are not replayed: what of an inode that it changed
is asked for is unknown.
"""

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.errors import InputError, UnsupportedError


def value(tree: FsTree, number: int, name: bytes) -> bytes | None:
    """Return the value of an attribute of an inode, None where it has none of that name.

    Raises:
        UnsupportedError: the log changed that inode.
        InputError: the item is malformed.
    """
    if tree.is_changed(number):
        raise UnsupportedError(f"btrfs inode {number}: its attributes in the log are not read")
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
