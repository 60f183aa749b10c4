"""Inodes: found through their group, verified, decoded.

The table is read in windows of 32 KiB, because a walk asks for neighbours; a bounded number of them is
kept. An inode that is not in use raises, as the kernel answers ESTALE: a directory that names one lies.
"""

from math import gcd
from typing import NamedTuple

from undercroft.disks.cache import BoundedCache
from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.changes import Changes
from undercroft.disks.ext4.checksum import MASK, extend
from undercroft.disks.ext4.groups import GroupTable
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

_WINDOW_BYTES = 32 << 10
_CACHED_WINDOWS = 128
_CACHED_INODES = 1024

_BY_TYPE_BITS = {kind.value: kind for kind in FileKind}
_NO_EXTRA = bytes(layout.INODE.size - layout.INODE_EXTRA_OFFSET)
_unpack = layout.INODE.unpack_from
_pack_seed = layout.INODE_SEED.pack
_KINDS = tuple(_BY_TYPE_BITS.get(bits, FileKind.UNKNOWN) for bits in range(16))


class Inode(NamedTuple):
    """A verified inode.

    Attributes:
        stat: what stat(2) gives.
        flags: the format's inode flags.
        block: i_block, 60 bytes: extent root, block map, inline data or a short symlink.
        seed: start of the checksums of its directory and extent blocks, None without them.
        raw: all bytes of the inode, for its extended attributes.
    """

    stat: FileStat
    flags: int
    block: bytes
    seed: int | None
    raw: bytes

    @property
    def is_inline(self) -> bool:
        """Return whether the content lies in the inode itself."""
        return bool(self.flags & layout.FLAG_INLINE_DATA)

    def check_readable(self) -> None:
        """Raise UnsupportedError when the content is encrypted."""
        if self.flags & layout.FLAG_ENCRYPTED:
            raise UnsupportedError(
                f"ext inode {self.stat.node}: encrypted by the guest (fscrypt); only the guest has the key"
            )


class InodeTable:
    """All inodes of a filesystem."""

    def __init__(
        self, source: BlockSource, superblock: Superblock, groups: GroupTable, changes: Changes
    ) -> None:
        self._source = source
        self._changed = changes.inodes
        self._groups = groups
        self._inodes = superblock.inodes
        self._seed = superblock.seed
        self._block_bytes = superblock.block_bytes
        self._inode_bytes = superblock.inode_bytes
        self._per_group = superblock.inodes_per_group
        # A window never passes the end of its group, so that its number alone finds it.
        self._per_window = gcd(self._per_group, max(1, _WINDOW_BYTES // self._inode_bytes))
        self._windows: BoundedCache[int, bytes] = BoundedCache(_CACHED_WINDOWS)
        self._decoded: BoundedCache[int, Inode] = BoundedCache(_CACHED_INODES)

    def get(self, node: int) -> Inode:
        """Return inode number `node`.

        Raises InputError when it is out of range, not in use, malformed or its checksum is wrong.
        """
        inode = self._decoded.get(node)
        if inode is None:
            is_changed = node in self._changed
            inode = self._decoded.put(node, decode(node, self.raw(node), self._seed, is_trusted=is_changed))
        return inode

    def raw(self, node: int) -> bytes:
        """Return the bytes of inode number `node`, not verified. Raises InputError when out of range."""
        if node in self._changed:
            return self._changed[node]
        if not 0 < node <= self._inodes:
            raise InputError(f"ext inode {node}: the filesystem has 1 to {self._inodes}")
        window, index = divmod(node - 1, self._per_window)
        data = self._windows.get(window)
        if data is None:
            data = self._windows.put(window, self._read_window(window))
        start = index * self._inode_bytes
        return data[start : start + self._inode_bytes]

    def forget(self, node: int) -> None:
        """Decode `node` anew when it is next asked for."""
        self._decoded.drop(node)

    def _read_window(self, window: int) -> bytes:
        group, first = divmod(window * self._per_window, self._per_group)
        offset = self._groups.inode_table(group) * self._block_bytes + first * self._inode_bytes
        return self._source.read(offset, self._per_window * self._inode_bytes)


def decode(node: int, raw: bytes, seed: int | None, *, is_trusted: bool = False) -> Inode:
    """Return inode `node` from its bytes.

    Args:
        node: its number, part of its checksum.
        raw: 128 bytes or more, untrusted.
        seed: the filesystem's seed, None without metadata checksums.
        is_trusted: its checksum was verified as a part of something else.

    Raises InputError when the inode is not in use, malformed, or its checksum is wrong.
    """
    (
        mode, uid, size, modified, gid, links, flags, block, generation, size_high, uid_high, gid_high,
        checksum, extra, checksum_high, modified_extra,
    ) = _unpack(raw if len(raw) > layout.INODE_EXTRA_OFFSET else raw + _NO_EXTRA)  # fmt: skip
    if not mode or not links:
        raise InputError(f"ext inode {node}: not in use, yet something names it")
    if extra:
        if extra > len(raw) - layout.INODE_EXTRA_OFFSET or extra & 3:
            raise InputError(f"ext inode {node}: extra fields of {extra} bytes")
        if extra >= layout.INODE_EXTRA_HAS_MTIME:
            modified += (modified_extra & 3) << 32
        if extra >= layout.INODE_EXTRA_HAS_CHECKSUM:
            checksum |= checksum_high << 16
    if seed is not None:
        seed = extend(seed, _pack_seed(node, generation))
        if not is_trusted:
            _verify(node, raw, seed, checksum, extra >= layout.INODE_EXTRA_HAS_CHECKSUM)
    kind = _KINDS[mode >> 12]
    if kind is FileKind.REGULAR or kind is FileKind.DIRECTORY:
        size |= size_high << 32
    stat = FileStat(node, kind, mode, size, uid | uid_high << 16, gid | gid_high << 16, links, modified)
    return Inode(stat, flags, block, seed, raw)


def _verify(node: int, raw: bytes, seed: int, found: int, has_high: bool) -> None:
    blanked = bytearray(raw)
    blanked[124] = blanked[125] = 0
    if has_high:
        blanked[130] = blanked[131] = 0
    computed: int = extend(seed, bytes(blanked)) ^ MASK
    if not has_high:
        computed &= 0xFFFF
    if computed != found:
        raise InputError(f"ext inode {node}: its checksum is {found:#x}, its bytes give {computed:#x}")
