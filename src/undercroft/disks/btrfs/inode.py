"""Inodes: found in their subvolume's tree, checked, decoded."""

from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.errors import InputError

_BY_TYPE_BITS = {kind.value: kind for kind in FileKind}
_KINDS = tuple(_BY_TYPE_BITS.get(bits, FileKind.UNKNOWN) for bits in range(16))
_unpack = layout.INODE.unpack_from


class Inode(NamedTuple):
    """A checked inode: what stat(2) gives, and the format's flags."""

    stat: FileStat
    flags: int


def decode(node: int, number: int, untrusted: bytes, *, is_orphan: bool = False) -> Inode:
    """Return an inode from its item.

    Args:
        node: by which the reader's caller knows it.
        number: its number in its subvolume, for messages.
        untrusted: its item.
        is_orphan: one without a name is no damage.

    Raises InputError where it is malformed or not in use.
    """
    if len(untrusted) != layout.INODE.size:
        raise InputError(f"btrfs inode {number}: an item of {len(untrusted)} bytes")
    _generation, size, links, uid, gid, mode, _device, flags, modified, _ = _unpack(untrusted)
    if size >= 1 << 63 or mode >= 1 << 16:
        raise InputError(f"btrfs inode {number}: a size of {size} and a mode of {mode:#o}")
    if not links and not is_orphan:
        raise InputError(f"btrfs inode {number}: not in use, yet something names it")
    return Inode(FileStat(node, _KINDS[mode >> 12], mode, size, uid, gid, links, modified), flags)
