"""Extended attributes of the namespaces user and trusted: in the inode, or in blocks of their own.

Follows xfs_attr_sf.h and xfs_da_format.h. Blocks are gone through one by one, without their index: there are
few, and a block that is none of attributes is passed over.
"""

from struct import Struct

from undercroft.disks.xfs import layout
from undercroft.disks.xfs.blocks import Blocks
from undercroft.disks.xfs.extents import Extents
from undercroft.disks.xfs.inode import Inode
from undercroft.errors import InputError, UnsupportedError

MAX_BLOCKS = 256
_NAMESPACES = ((b"user.", 0), (b"trusted.", 2))
_FLAGS = 0x2 | 0x4 | 0x8
"""ROOT, SECURE and PARENT: what is none of them is user's."""
_IS_LOCAL, _IS_INCOMPLETE = 0x1, 0x80
_FORK_PLACE, _FORMAT_PLACE = 82, 83
_LEAF_HEADER = layout.Header(12, 16, 32, 48)
_MAGIC_PLACE, _MAGICS = 8, {0xFBEE: (12, 32), 0x3BEE: (56, 80)}
"""Of a block of attributes: where the count of its entries stands, and where they begin."""
_ENTRY = Struct(">4xHBx")


def value(inode: Inode, raw: bytes, name: bytes, blocks: Blocks) -> bytes | None:
    """Return the value of an attribute of `inode`, None where it has none of that name.

    Args:
        inode: checked.
        raw: all of its bytes.
        name: with its namespace.
        blocks: of the filesystem.

    Raises:
        UnsupportedError: the value lies in blocks of its own, or `name` is in another namespace.
        InputError: the attributes are malformed, or a checksum is wrong.
    """
    node = inode.stat.node
    prefix, flags = next(((p, f) for p, f in _NAMESPACES if name.startswith(p)), (b"", -1))
    if flags < 0:
        raise UnsupportedError(f"xfs inode {node}: attributes of other namespaces are not read")
    wanted = flags, name.removeprefix(prefix)
    if not raw[_FORK_PLACE]:
        return None
    start = layout.INODE_V3_BYTES if blocks.superblock.is_v5 else layout.INODE_V2_BYTES
    fork = raw[start + raw[_FORK_PLACE] * 8 :]
    if raw[_FORMAT_PLACE] == layout.FORMAT_LOCAL:
        return _in_inode(fork, wanted, node)
    count = len(fork) // layout.EXTENT_BYTES
    if raw[_FORMAT_PLACE] == layout.FORMAT_EXTENTS:
        count = int.from_bytes(raw[76:80] if _has_many(raw, blocks) else raw[80:82], "big")
    fake = inode._replace(format=raw[_FORMAT_PLACE], fork=fork, extents=count, is_realtime=False)
    return _in_blocks(fake, wanted, blocks)


def _has_many(raw: bytes, blocks: Blocks) -> bool:
    flags = int.from_bytes(raw[120:128], "big") if blocks.superblock.is_v5 else 0
    return bool(flags & layout.FLAG3_MANY_EXTENTS)


def _in_inode(fork: bytes, wanted: tuple[int, bytes], node: int) -> bytes | None:
    total, count = int.from_bytes(fork[:2], "big"), fork[2] if len(fork) > 2 else 0
    if total > len(fork):
        raise InputError(f"xfs inode {node}: attributes of {total} bytes in a fork of {len(fork)}")
    position = 4
    for _ in range(count):
        if position + 3 > total:
            raise InputError(f"xfs inode {node}: attributes pass their end")
        name_bytes, value_bytes, flags = fork[position : position + 3]
        begin = position + 3 + name_bytes
        position = begin + value_bytes
        if position > total:
            raise InputError(f"xfs inode {node}: an attribute passes its end")
        if (flags & _FLAGS, fork[begin - name_bytes : begin]) == wanted:
            return fork[begin:position]
    return None


def _in_blocks(fake: Inode, wanted: tuple[int, bytes], blocks: Blocks) -> bytes | None:
    size, seen = blocks.superblock.block_bytes, 0
    for _, count, place in Extents(blocks).runs(fake):
        for number in range(count):
            seen += 1
            if seen > MAX_BLOCKS:
                raise UnsupportedError(
                    f"xfs inode {fake.stat.node}: more than {MAX_BLOCKS} blocks of attributes are not read"
                )
            offset = (place + number) * size
            data = blocks.read(offset, size) if place else b""
            if int.from_bytes(data[_MAGIC_PLACE : _MAGIC_PLACE + 2], "big") not in _MAGICS:
                continue
            what = f"xfs inode {fake.stat.node}: attributes"
            is_changed = blocks.is_changed(offset, size)
            blocks.check(data, _LEAF_HEADER, offset, fake.stat.node, what, is_changed)
            found = _in_leaf(data, wanted, what)
            if found is not None:
                return found
    return None


def _in_leaf(data: bytes, wanted: tuple[int, bytes], what: str) -> bytes | None:
    count_place, entries = _MAGICS[int.from_bytes(data[_MAGIC_PLACE : _MAGIC_PLACE + 2], "big")]
    count = int.from_bytes(data[count_place : count_place + 2], "big")
    if entries + count * _ENTRY.size > len(data):
        raise InputError(f"{what}: {count} in one block")
    for number in range(count):
        place, flags = _ENTRY.unpack_from(data, entries + number * _ENTRY.size)
        is_local = flags & _IS_LOCAL
        header = 3 if is_local else 9
        if place + header > len(data):
            raise InputError(f"{what}: one lies at byte {place} of a block")
        name_bytes = data[place + header - 1]
        begin = place + header + name_bytes
        if (flags & _FLAGS, data[place + header : begin]) != wanted or flags & _IS_INCOMPLETE:
            continue
        if not is_local:
            raise UnsupportedError(f"{what}: a value in blocks of its own is not read")
        end = begin + int.from_bytes(data[place : place + 2], "big")
        if end > len(data):
            raise InputError(f"{what}: one passes the end of its block")
        return data[begin:end]
    return None
