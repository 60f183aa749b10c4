"""Group descriptors: where each group's inode table lies.

Descriptors are read and verified when a group is first asked for, so that opening a filesystem costs the
same whatever its size. Follows ext4's "Block Group Descriptors" and "Meta Block Groups".
"""

from undercroft.disks.cache import BoundedCache
from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.checksum import check, crc16, crc32c, stored
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

_CACHED_GROUPS = 4096


class GroupTable:
    """The inode tables of a filesystem's groups."""

    def __init__(self, source: BlockSource, superblock: Superblock) -> None:
        self._source = source
        self._superblock = superblock
        self._tables: BoundedCache[int, int] = BoundedCache(_CACHED_GROUPS)

    def inode_table(self, group: int) -> int:
        """Return the first block of the inode table of `group`, which must be in range.

        Raises InputError when the descriptor cannot be read, its checksum is wrong, or the table that it
        names lies outside the filesystem.
        """
        table = self._tables.get(group)
        if table is None:
            table = self._tables.put(group, self._read(group))
        return table

    def _read(self, group: int) -> int:
        superblock = self._superblock
        size = superblock.descriptor_bytes
        block, index = divmod(group, superblock.block_bytes // size)
        raw = self._source.read(self._location(block) * superblock.block_bytes + index * size, size)
        self._verify(group, raw)
        table = _u32(raw, layout.DESCRIPTOR_INODE_TABLE_OFFSET)
        if size >= layout.DESCRIPTOR_64BIT_BYTES:
            table |= _u32(raw, layout.DESCRIPTOR_INODE_TABLE_HIGH_OFFSET) << 32
        blocks = -(-superblock.inodes_per_group * superblock.inode_bytes // superblock.block_bytes)
        if table <= superblock.first_data_block or table + blocks > superblock.blocks:
            raise InputError(f"ext group {group}: its inode table at block {table} lies outside")
        return table

    def _location(self, descriptor_block: int) -> int:
        """Return the block that holds descriptor block number `descriptor_block`.

        A backup superblock is followed by its own copy of the descriptors, but for meta groups.
        """
        superblock = self._superblock
        has_meta_groups = superblock.incompatible & layout.INCOMPAT_META_BG
        if not has_meta_groups or descriptor_block < superblock.first_meta_group:
            return self._superblock_block() + 1 + descriptor_block
        group = descriptor_block * (superblock.block_bytes // superblock.descriptor_bytes)
        if group == 0:
            return layout.SUPERBLOCK_OFFSET // superblock.block_bytes + 1
        block = superblock.first_data_block + group * superblock.blocks_per_group
        return block + superblock.has_backup(group)

    def _superblock_block(self) -> int:
        superblock = self._superblock
        if superblock.copy_group:
            return superblock.first_data_block + superblock.copy_group * superblock.blocks_per_group
        return layout.SUPERBLOCK_OFFSET // superblock.block_bytes

    def _verify(self, group: int, raw: bytes) -> None:
        superblock = self._superblock
        what = f"ext group {group}: descriptor"
        offset = layout.DESCRIPTOR_CHECKSUM_OFFSET
        found = int.from_bytes(raw[offset : offset + 2], "little")
        number = layout.UINT32.pack(group)
        if superblock.seed is not None:
            data = number + raw[:offset] + b"\0\0" + raw[offset + 2 :]
            check(found, stored(crc32c(data, superblock.seed)) & 0xFFFF, what)
        elif superblock.read_only_compatible & layout.RO_COMPAT_GDT_CHECKSUM:
            check(found, crc16(superblock.uuid + number + raw[:offset] + raw[offset + 2 :]), what)


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")
