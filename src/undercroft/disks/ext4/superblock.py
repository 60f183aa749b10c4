"""The superblock: geometry and features of the filesystem, checked before anything relies on them.

`parse` returns only values that are consistent with one another and within the format's own limits, so
that the readers that follow need no checks of their own on them. `find` falls back on the backup copies.
"""

from dataclasses import dataclass

from undercroft.disks.ext4 import layout
from undercroft.disks.ext4.checksum import chain_from_stored, check, crc32c, stored
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

_BACKUP_GROUPS = (1, 3, 5, 7)
_BLOCK_BITS = (12, 10, 11, 13, 14, 15, 16)


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a checked superblock says.

    Attributes:
        block_bytes: 1,024 to 65,536.
        blocks, inodes: how many there are; inodes are numbered from 1.
        first_data_block: where group 0 begins.
        blocks_per_group, inodes_per_group, groups: the geometry.
        inode_bytes, descriptor_bytes: sizes on disk.
        compatible, incompatible, read_only_compatible: feature bits.
        uuid, label: as they lie on disk.
        journal_inode: 0 for none.
        journal_device: UUID of an external journal, all zeros for none.
        first_meta_group: descriptor blocks from this one on lie in their own groups (meta_bg).
        backup_groups: which hold backups under sparse_super2.
        seed: start of every crc32c chain, None without metadata_csum.
        has_errors: the guest's kernel noted errors.
        copy_group: the group that this copy was read from, 0 for the primary.
    """

    block_bytes: int
    blocks: int
    inodes: int
    first_data_block: int
    blocks_per_group: int
    inodes_per_group: int
    groups: int
    inode_bytes: int
    descriptor_bytes: int
    compatible: int
    incompatible: int
    read_only_compatible: int
    uuid: bytes
    label: bytes
    journal_inode: int
    journal_device: bytes
    first_meta_group: int
    backup_groups: tuple[int, int]
    seed: int | None
    has_errors: bool
    copy_group: int

    @property
    def content(self) -> str:
        """Return "ext2", "ext3" or "ext4", by the features as blkid decides."""
        old = not self.read_only_compatible & ~layout.EXT3_RO_COMPAT
        if self.compatible & layout.COMPAT_HAS_JOURNAL:
            return "ext3" if old and not self.incompatible & ~layout.EXT3_INCOMPAT else "ext4"
        return "ext2" if old and not self.incompatible & ~layout.EXT2_INCOMPAT else "ext4"

    def has_backup(self, group: int) -> bool:
        """Return whether a copy of the superblock and the descriptors begins `group`."""
        if group == 0:
            return True
        if self.compatible & layout.COMPAT_SPARSE_SUPER2:
            return group in self.backup_groups
        if group == 1 or not self.read_only_compatible & layout.RO_COMPAT_SPARSE_SUPER:
            return True
        return any(_is_power(group, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    power = base
    while power < number:
        power *= base
    return power == number


def has_magic(source: BlockSource) -> bool:
    """Return whether the primary superblock bears ext's magic."""
    if source.size_bytes < layout.SUPERBLOCK_OFFSET + layout.SUPERBLOCK_BYTES:
        return False
    magic = source.read(layout.SUPERBLOCK_OFFSET + layout.MAGIC_OFFSET, 2)
    return int.from_bytes(magic, "little") == layout.MAGIC


def find(source: BlockSource) -> tuple[Superblock, str]:
    """Return the superblock and a note, "" when the primary copy was good.

    Raises:
        UnsupportedError: the filesystem uses a feature that this version cannot read.
        InputError: neither the primary nor a backup at one of the usual places is valid.
    """
    try:
        return parse(source.read(layout.SUPERBLOCK_OFFSET, layout.SUPERBLOCK_BYTES)), ""
    except UnsupportedError:
        raise
    except InputError as error:
        backup = _find_backup(source)
        if backup is None:
            raise
        return backup, f"backup superblock of group {backup.copy_group} used: {error}"


def _find_backup(source: BlockSource) -> Superblock | None:
    for bits in _BLOCK_BITS:
        for group in _BACKUP_GROUPS:
            first_block = group * (8 << bits) + (bits == 10)
            try:
                found = parse(source.read(first_block << bits, layout.SUPERBLOCK_BYTES))
            except InputError:
                continue
            if found.copy_group == group and found.block_bytes == 1 << bits:
                return found
    return None


def parse(untrusted: bytes) -> Superblock:
    """Return the superblock in `untrusted`, 1,024 bytes.

    Raises:
        UnsupportedError: an incompatible feature that this version does not know.
        InputError: no superblock, a wrong checksum, or values that contradict one another.
    """
    fields = layout.SUPERBLOCK_HEAD.unpack_from(untrusted)
    inodes, blocks_low, first_data_block, block_bits, cluster_bits = fields[:5]
    blocks_per_group, clusters_per_group, inodes_per_group, magic, state = fields[5:10]
    creator, revision, inode_bytes, copy_group = fields[10:14]
    compatible, incompatible, read_only_compatible, uuid, label = fields[14:]
    if magic != layout.MAGIC:
        raise InputError(f"ext superblock: the magic is {magic:#06x}, not {layout.MAGIC:#06x}")
    _check_checksum(untrusted, read_only_compatible)
    _check_features(incompatible)
    has_64bit = incompatible & layout.INCOMPAT_64BIT
    blocks = blocks_low | (_u32(untrusted, layout.BLOCKS_HIGH_OFFSET) << 32 if has_64bit else 0)
    if revision == layout.GOOD_OLD_REVISION:
        inode_bytes = layout.GOOD_OLD_INODE_BYTES
    _check_sizes(block_bits, cluster_bits, inode_bytes, read_only_compatible)
    block_bytes = 1024 << block_bits
    _check_group(block_bytes, blocks_per_group, clusters_per_group, cluster_bits - block_bits)
    groups = _groups(blocks, first_data_block, blocks_per_group, block_bytes)
    _check_inodes(inodes, inodes_per_group, inode_bytes, groups, block_bytes)
    journal_device, journal_inode, _ = layout.JOURNAL_INODE.unpack_from(
        untrusted, layout.JOURNAL_INODE_OFFSET
    )
    return Superblock(
        block_bytes=block_bytes,
        blocks=blocks,
        inodes=inodes,
        first_data_block=first_data_block,
        blocks_per_group=blocks_per_group,
        inodes_per_group=inodes_per_group,
        groups=groups,
        inode_bytes=inode_bytes,
        descriptor_bytes=_descriptor_bytes(untrusted, incompatible, block_bytes),
        compatible=compatible,
        incompatible=incompatible,
        read_only_compatible=read_only_compatible,
        uuid=uuid,
        label=label.split(b"\0")[0],
        journal_inode=journal_inode if compatible & layout.COMPAT_HAS_JOURNAL else 0,
        journal_device=journal_device,
        first_meta_group=_u32(untrusted, layout.FIRST_META_GROUP_OFFSET),
        backup_groups=layout.BACKUP_GROUPS.unpack_from(untrusted, layout.BACKUP_GROUPS_OFFSET),
        seed=_seed(untrusted, uuid, creator, incompatible, read_only_compatible),
        has_errors=bool(state & layout.STATE_ERRORS),
        copy_group=copy_group,
    )


def _u32(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")


def _check_checksum(untrusted: bytes, read_only_compatible: int) -> None:
    if read_only_compatible & layout.RO_COMPAT_METADATA_CHECKSUM:
        computed = stored(crc32c(untrusted[: layout.CHECKSUM_OFFSET]))
        check(_u32(untrusted, layout.CHECKSUM_OFFSET), computed, "ext superblock")


def _check_features(incompatible: int) -> None:
    unknown = incompatible & ~layout.INCOMPAT_SUPPORTED
    if unknown:
        bits = [1 << bit for bit in range(32) if unknown >> bit & 1]
        names = [layout.INCOMPAT_UNSUPPORTED_NAMES.get(bit, f"bit {bit:#x}") for bit in bits]
        raise UnsupportedError(
            f"ext superblock: incompatible feature {', '.join(names)}; this version cannot read it"
        )


def _check_sizes(block_bits: int, cluster_bits: int, inode_bytes: int, read_only_compatible: int) -> None:
    if block_bits > 6:
        raise InputError(f"ext superblock: a block size of 2^{10 + block_bits}, the limit is 64 KiB")
    has_clusters = read_only_compatible & layout.RO_COMPAT_BIGALLOC
    if cluster_bits > 20 if has_clusters else cluster_bits != block_bits:
        raise InputError(f"ext superblock: a cluster size of 2^{10 + cluster_bits} does not fit its features")
    if cluster_bits < block_bits:
        raise InputError(f"ext superblock: clusters of 2^{10 + cluster_bits} bytes are smaller than blocks")
    if inode_bytes < 128 or inode_bytes & (inode_bytes - 1) or inode_bytes > 1024 << block_bits:
        raise InputError(f"ext superblock: an inode size of {inode_bytes} bytes")


def _check_group(block_bytes: int, blocks: int, clusters: int, ratio_bits: int) -> None:
    if not 0 < clusters <= 8 * block_bytes or blocks != clusters << ratio_bits:
        raise InputError(f"ext superblock: groups of {blocks} blocks in {clusters} clusters")


def _groups(blocks: int, first_data_block: int, blocks_per_group: int, block_bytes: int) -> int:
    if first_data_block > (block_bytes == 1024) or blocks <= first_data_block:
        raise InputError(f"ext superblock: {blocks} blocks from {first_data_block} on")
    groups = -(-(blocks - first_data_block) // blocks_per_group)
    if groups >= 1 << 32:
        raise InputError(f"ext superblock: {groups} groups, the format has fewer than 2^32")
    return groups


def _check_inodes(inodes: int, per_group: int, inode_bytes: int, groups: int, block_bytes: int) -> None:
    if not block_bytes // inode_bytes <= per_group <= 8 * block_bytes or inodes != per_group * groups:
        raise InputError(f"ext superblock: {inodes} inodes in {groups} groups of {per_group}")


def _descriptor_bytes(untrusted: bytes, incompatible: int, block_bytes: int) -> int:
    if not incompatible & layout.INCOMPAT_64BIT:
        return layout.DESCRIPTOR_BYTES
    (size,) = layout.UINT16.unpack_from(untrusted, layout.DESCRIPTOR_SIZE_OFFSET)
    if not layout.DESCRIPTOR_64BIT_BYTES <= size <= block_bytes or size & (size - 1):
        raise InputError(f"ext superblock: group descriptors of {size} bytes")
    return int(size)


def _seed(
    untrusted: bytes, uuid: bytes, creator: int, incompatible: int, read_only_compatible: int
) -> int | None:
    if not read_only_compatible & layout.RO_COMPAT_METADATA_CHECKSUM or creator != layout.CREATOR_LINUX:
        return None
    if incompatible & layout.INCOMPAT_CHECKSUM_SEED:
        return chain_from_stored(_u32(untrusted, layout.CHECKSUM_SEED_OFFSET))
    return int(crc32c(uuid))
