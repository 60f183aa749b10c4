"""Inodes: found by their number alone, verified, decoded.

An inode's number says where it lies: allocation group, block in it, place in the block. Inodes are read in
windows of up to 32 KiB, the size in which the kernel allocates them, and a bounded number of windows is
kept. An inode that is not in use raises, as the kernel answers ESTALE: a directory that names one lies.
"""

from typing import NamedTuple

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.xfs import checksum, layout
from undercroft.disks.xfs.blocks import Blocks
from undercroft.errors import InputError

_WINDOW_LOG = 15
_CACHED_WINDOWS = 128
_CACHED_INODES = 1024

_BY_TYPE_BITS = {kind.value: kind for kind in FileKind}
_KINDS = tuple(_BY_TYPE_BITS.get(bits, FileKind.UNKNOWN) for bits in range(16))
_unpack = layout.INODE.unpack_from
_unpack_v3 = layout.INODE_V3.unpack_from


class Inode(NamedTuple):
    """A verified inode.

    Attributes:
        stat: what stat(2) gives; of a directory that has blocks, `size_bytes` is where its entries end.
        format: where its content is, one of `layout.FORMAT_...`.
        fork: the data fork: the content itself, extents, or the root of a tree of extents.
        extents: how many extents the content has, wherever they are.
        is_realtime: its content lies on another device.
    """

    stat: FileStat
    format: int
    fork: bytes
    extents: int
    is_realtime: bool


class InodeTable:
    """All inodes of a filesystem."""

    def __init__(self, blocks: Blocks) -> None:
        superblock = blocks.superblock
        self._blocks = blocks
        self._uuid = superblock.metadata_uuid if superblock.is_v5 else None
        self._inode_log = superblock.inode_log
        self._block_inodes_log = superblock.block_inodes_log
        self._block_log = superblock.block_log
        self._window_blocks_log = max(0, _WINDOW_LOG - superblock.block_log)
        self._windows: BoundedCache[int, tuple[int, bytes]] = BoundedCache(_CACHED_WINDOWS)
        self._decoded: BoundedCache[int, Inode] = BoundedCache(_CACHED_INODES)

    def get(self, node: int) -> Inode:
        """Return inode number `node`.

        Raises InputError when it is out of range, not in use, malformed or its checksum is wrong.
        """
        return self._decoded.get(node) or self._decoded.put(node, decode(node, self.raw(node), self._uuid))

    def raw(self, node: int) -> bytes:
        """Return the bytes of inode number `node`, not verified. Raises InputError when out of range."""
        if node <= 0:
            raise self._outside(node)
        number = node >> self._block_inodes_log + self._window_blocks_log
        window = self._windows.get(number)
        if window is None:
            window = self._windows.put(number, self._read_window(number, node))
        first, data = window
        start = (node << self._inode_log) - (first << self._block_log)
        raw = data[start : start + (1 << self._inode_log)]
        if not raw:
            raise self._outside(node)
        return raw

    def _read_window(self, number: int, node: int) -> tuple[int, bytes]:
        """Return a window's first block, by number, and its bytes: fewer where an allocation group ends."""
        first = number << self._window_blocks_log
        count = 1 << self._window_blocks_log
        while (place := self._blocks.linear(first, count)) < 0:
            count -= 1
            if not count:
                raise self._outside(node)
        return first, self._blocks.read(place << self._block_log, count << self._block_log)

    @staticmethod
    def _outside(node: int) -> InputError:
        return InputError(f"xfs inode {node}: it lies outside the filesystem")


def decode(node: int, raw: bytes, uuid: bytes | None) -> Inode:
    """Return inode `node` from its bytes.

    Args:
        node: its number.
        raw: 256 bytes or more, untrusted.
        uuid: of the filesystem's metadata; None for version 4, whose inodes have no checksums.

    Raises InputError when the inode is not in use, malformed, or its checksum is wrong.
    """
    (
        magic, mode, version, form, old_links, uid, gid, links, many_extents, modified, size, extents,
        attributes, flags,
    ) = _unpack(raw)  # fmt: skip
    if magic != layout.INODE_MAGIC:
        raise InputError(f"xfs inode {node}: the magic is {magic:#06x}, not {layout.INODE_MAGIC:#06x}")
    start = layout.INODE_V2_BYTES
    flags3 = 0
    if uuid is not None:
        start = layout.INODE_V3_BYTES
        flags3 = _check_v3(node, raw, version, uuid)
    elif version == 1:
        links = old_links
    elif version != 2:
        raise InputError(f"xfs inode {node}: version {version} in a filesystem of version 4")
    if not mode or not links:
        raise InputError(f"xfs inode {node}: not in use, yet something names it")
    end = start + attributes * 8 if attributes else len(raw)
    if end > len(raw) or size >> 63:
        raise InputError(f"xfs inode {node}: {size} bytes, attributes at {end}")
    if flags3 & layout.FLAG3_MANY_EXTENTS:
        extents = many_extents
    if flags3 & layout.FLAG3_BIGTIME:
        modified_s = modified // 1_000_000_000 + layout.BIGTIME_EPOCH_S
    else:
        modified_s = (modified >> 32 ^ 0x80000000) - 0x80000000
    stat = FileStat(node, _KINDS[mode >> 12], mode, size, uid, gid, links, modified_s)
    return Inode(stat, form, raw[start:end], extents, bool(flags & layout.FLAG_REALTIME))


def _check_v3(node: int, raw: bytes, version: int, uuid: bytes) -> int:
    """Return the flags of version 3. Raises InputError unless the inode is this one, and whole."""
    if version != 3:
        raise InputError(f"xfs inode {node}: version {version} in a filesystem of version 5")
    place = layout.INODE_CHECKSUM_OFFSET
    checksum.check(raw, place, f"xfs inode {node}")
    _, flags, number, own_uuid = _unpack_v3(raw, place)
    if number != node or own_uuid != uuid:
        raise InputError(f"xfs inode {node}: it says that it is inode {number} of {own_uuid.hex()}")
    return int(flags)
