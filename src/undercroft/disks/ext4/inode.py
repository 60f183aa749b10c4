"""Inodes: found through their group, verified, decoded.

The table is read in windows of 32 KiB, because a walk asks for neighbours; a bounded number of them is
kept. An inode that is not in use raises, as the kernel answers ESTALE: a directory that names one lies.
"""

from typing import NamedTuple

from crc32c import crc32c

from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.cache import BoundedCache
from undercroft.disks.ext4.checksum import MASK
from undercroft.disks.ext4.groups import GroupTable
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

_WINDOW_BYTES = 32 << 10
_CACHED_WINDOWS = 128
_CACHED_INODES = 1024


class Inode(NamedTuple):
    """A verified inode.

    Attributes:
        node: its number.
        mode, uid, gid, links, size_bytes, modified_at_s: as stat(2) gives them.
        flags: the format's inode flags.
        block: i_block, 60 bytes: extent root, block map, inline data or a short symlink.
        seed: start of the checksums of its directory and extent blocks, None without them.
        raw: all bytes of the inode, for its extended attributes.
    """

    node: int
    mode: int
    uid: int
    gid: int
    links: int
    size_bytes: int
    modified_at_s: int
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
                f"ext inode {self.node}: encrypted by the guest (fscrypt); only the guest has the key"
            )


class InodeTable:
    """All inodes of a filesystem."""

    def __init__(self, source: BlockSource, superblock: Superblock, groups: GroupTable) -> None:
        self._source = source
        self._superblock = superblock
        self._groups = groups
        self._inode_bytes = superblock.inode_bytes
        self._per_group = superblock.inodes_per_group
        self._per_window = min(_WINDOW_BYTES, self._per_group * self._inode_bytes) // self._inode_bytes
        self._windows: BoundedCache[tuple[int, int], bytes] = BoundedCache(_CACHED_WINDOWS)
        self._inodes: BoundedCache[int, Inode] = BoundedCache(_CACHED_INODES)

    def get(self, node: int) -> Inode:
        """Return inode number `node`.

        Raises InputError when it is out of range, not in use, malformed or its checksum is wrong.
        """
        inode = self._inodes.get(node)
        if inode is None:
            inode = self._inodes.put(node, self._decode(node, self._raw(node)))
        return inode

    def _raw(self, node: int) -> bytes:
        if not 0 < node <= self._superblock.inodes:
            raise InputError(f"ext inode {node}: the filesystem has 1 to {self._superblock.inodes}")
        group, index = divmod(node - 1, self._per_group)
        window, index = divmod(index, self._per_window)
        data = self._windows.get((group, window))
        if data is None:
            data = self._windows.put((group, window), self._read_window(group, window))
        return data[index * self._inode_bytes : (index + 1) * self._inode_bytes]

    def _read_window(self, group: int, window: int) -> bytes:
        first = window * self._per_window
        count = min(self._per_window, self._per_group - first)
        offset = self._groups.inode_table(group) * self._superblock.block_bytes + first * self._inode_bytes
        return self._source.read(offset, count * self._inode_bytes)

    def _decode(self, node: int, raw: bytes) -> Inode:
        mode, uid, size, modified, gid, links, flags, block, generation, *high = layout.INODE.unpack_from(raw)
        size_high, uid_high, gid_high, checksum = high
        if not mode or not links:
            raise InputError(f"ext inode {node}: not in use, yet something names it")
        if len(raw) > layout.INODE_EXTRA_OFFSET:
            extra_bytes, checksum_high, modified_extra = layout.INODE_EXTRA.unpack_from(
                raw, layout.INODE_EXTRA_OFFSET
            )
            if extra_bytes > len(raw) - layout.INODE_EXTRA_OFFSET or extra_bytes & 3:
                raise InputError(f"ext inode {node}: extra fields of {extra_bytes} bytes")
            if extra_bytes >= layout.INODE_EXTRA_HAS_MTIME:
                modified += (modified_extra & 3) << 32
        else:
            extra_bytes = checksum_high = 0
        seed = self._superblock.seed
        if seed is not None:
            has_high = extra_bytes >= layout.INODE_EXTRA_HAS_CHECKSUM
            found = checksum | checksum_high << 16 if has_high else checksum
            seed = crc32c(layout.INODE_SEED.pack(node, generation), seed)
            _verify(node, raw, seed, found, has_high)
        if mode & layout.MODE_TYPE in (layout.MODE_REGULAR, layout.MODE_DIRECTORY):
            size |= size_high << 32
        return Inode(
            node,
            mode,
            uid | uid_high << 16,
            gid | gid_high << 16,
            links,
            size,
            modified,
            flags,
            block,
            seed,
            raw,
        )


def _verify(node: int, raw: bytes, seed: int, found: int, has_high: bool) -> None:
    if has_high:
        computed = crc32c(b"".join((raw[:124], b"\0\0", raw[126:130], b"\0\0", raw[132:])), seed) ^ MASK
    else:
        computed = (crc32c(raw[:124] + b"\0\0" + raw[126:], seed) ^ MASK) & 0xFFFF
    if computed != found:
        raise InputError(f"ext inode {node}: its checksum is {found:#x}, its bytes give {computed:#x}")
