"""The superblock: geometry and features of the filesystem, checked before anything relies on them.

`parse` returns only values that are consistent with one another and within the format's own limits, so
that the readers that follow need no checks of their own on them. `find` falls back on the copies that begin
the other allocation groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.disks.source import BlockSource
from undercroft.disks.xfs import checksum, layout
from undercroft.errors import InputError, UnsupportedError

_USUAL_GROUPS = 4
"""As mkfs.xfs divides a volume of less than 4 TiB that is no array of disks."""
_USUAL_BLOCK_LOGS = (12, 10, 11, 9, 13, 14, 15, 16)


@dataclass(frozen=True, slots=True)
class Superblock:
    """What a checked superblock says.

    Attributes:
        block_bytes, block_log: size of a block, 512 to 65,536, and its log2.
        blocks: how many there are.
        group_blocks, group_log, groups: blocks of an allocation group, bits of a block's number within
            one, how many groups there are.
        inode_bytes, inode_log: size of an inode, 256 to 2,048, and its log2.
        block_inodes_log: log2 of the inodes in a block.
        directory_block_bytes: size of a directory's block, up to 65,536.
        sector_bytes: what a checksum of the superblock covers.
        uuid, label: as they lie on disk.
        metadata_uuid: what blocks of metadata bear.
        root_inode: of the root directory.
        log_start, log_blocks: first block of the log (0: on another device), its length in blocks.
        is_v5: metadata has checksums and says where it belongs.
        has_kinds: names in directories come with a file's kind.
        is_casefolded: names are looked up without regard to case, byte by byte in ISO 8859-1.
        needs_repair: xfs_repair has to end its work before it can be mounted.
        log_incompatible: features of the log that are in use.
    """

    block_bytes: int
    block_log: int
    blocks: int
    group_blocks: int
    group_log: int
    groups: int
    inode_bytes: int
    inode_log: int
    block_inodes_log: int
    directory_block_bytes: int
    sector_bytes: int
    uuid: bytes
    label: bytes
    metadata_uuid: bytes
    root_inode: int
    log_start: int
    log_blocks: int
    is_v5: bool
    has_kinds: bool
    is_casefolded: bool
    needs_repair: bool
    log_incompatible: int


def find(source: BlockSource) -> tuple[Superblock, str]:
    """Return the superblock and a note, "" when the primary copy was good.

    Raises:
        UnsupportedError: the filesystem uses a feature that this version cannot read.
        InputError: neither the primary nor a copy at one of the likely places is valid.
    """
    untrusted = _read(source, 0)
    try:
        return parse(untrusted), ""
    except UnsupportedError:
        raise
    except InputError as error:
        for offset in _copies(untrusted, source.size_bytes):
            try:
                found = parse(_read(source, offset), is_copy=True)
            except InputError:
                continue
            if found.group_blocks * found.block_bytes == offset:
                return found, f"superblock of allocation group 1 used: {error}"
        raise


def _read(source: BlockSource, offset: int) -> bytes:
    if offset + layout.SUPERBLOCK_BYTES > source.size_bytes:
        raise InputError("xfs superblock: the volume is too small for one")
    return source.read(offset, min(1 << layout.MAX_SECTOR_LOG, source.size_bytes - offset))


def _copies(untrusted: bytes, size_bytes: int) -> Iterator[int]:
    """Yield where group 1 may begin: by the damaged superblock, and by the usual geometries."""
    fields = layout.SUPERBLOCK.unpack_from(untrusted)
    yield fields[1] * fields[6]
    for bits in _USUAL_BLOCK_LOGS:
        yield -(-(size_bytes >> bits) // _USUAL_GROUPS) << bits


def parse(untrusted: bytes, *, is_trusted: bool = False, is_copy: bool = False) -> Superblock:
    """Return the superblock in `untrusted`, a sector or more.

    Args:
        untrusted: 512 bytes or more.
        is_trusted: its checksum needs no look, since it was put together from a log.
        is_copy: of another group than the first; there mkfs leaves the mark that it is at work.

    Raises:
        UnsupportedError: an incompatible feature that this version does not know.
        InputError: no superblock, a wrong checksum, or values that contradict one another.
    """
    (
        magic, block_bytes, blocks, uuid, log_start, root_inode, group_blocks, groups, log_blocks, version,
        sector_bytes, inode_bytes, block_inodes, label,
    ) = layout.SUPERBLOCK.unpack_from(untrusted)  # fmt: skip
    if magic != layout.MAGIC:
        raise InputError(f"xfs superblock: the magic is {magic!r}, not {layout.MAGIC!r}")
    logs = layout.SUPERBLOCK_LOGS.unpack_from(untrusted, layout.SUPERBLOCK_LOGS_OFFSET)
    block_log, sector_log, inode_log, block_inodes_log, group_log, in_progress = logs
    is_v5 = _is_v5(version)
    _check_sizes(block_bytes, block_log, inode_bytes, inode_log, sector_bytes, sector_log)
    _, incompatible, log_incompatible = layout.FEATURES.unpack_from(untrusted, layout.FEATURES_OFFSET)
    if not is_v5:
        incompatible = log_incompatible = 0
    elif not is_trusted:
        place = layout.SUPERBLOCK_CHECKSUM_OFFSET
        checksum.check(untrusted[:sector_bytes], place, "xfs superblock")
    _check_features(incompatible)
    if in_progress and not is_copy:
        raise InputError("xfs superblock: its mkfs or its growth has not ended")
    if block_inodes != 1 << block_inodes_log or block_inodes_log != block_log - inode_log:
        raise InputError(f"xfs superblock: {block_inodes} inodes of {inode_bytes} bytes in {block_bytes}")
    _check_groups(blocks, group_blocks, group_log, groups, block_log)
    has_metadata_uuid = incompatible & layout.INCOMPAT_METADATA_UUID
    place = layout.METADATA_UUID_OFFSET
    return Superblock(
        block_bytes=block_bytes,
        block_log=block_log,
        blocks=blocks,
        group_blocks=group_blocks,
        group_log=group_log,
        groups=groups,
        inode_bytes=inode_bytes,
        inode_log=inode_log,
        block_inodes_log=block_inodes_log,
        directory_block_bytes=_directory_block_bytes(untrusted, block_log),
        sector_bytes=sector_bytes,
        uuid=uuid,
        label=label.split(b"\0")[0],
        metadata_uuid=untrusted[place : place + 16] if has_metadata_uuid else uuid,
        root_inode=root_inode,
        log_start=log_start,
        log_blocks=log_blocks,
        is_v5=is_v5,
        has_kinds=bool(incompatible & layout.INCOMPAT_KINDS) if is_v5 else _has_kinds(untrusted, version),
        is_casefolded=bool(version & layout.VERSION_CASEFOLD),
        needs_repair=bool(incompatible & layout.INCOMPAT_NEEDS_REPAIR),
        log_incompatible=log_incompatible,
    )


def _is_v5(version: int) -> bool:
    number = version & layout.VERSION_MASK
    if number not in (4, 5) or not version & layout.VERSION_DIRECTORY2:
        raise UnsupportedError(f"xfs superblock: version {number} ({version:#06x}); 4 and 5 are read")
    return number == 5


def _directory_block_bytes(untrusted: bytes, block_log: int) -> int:
    log = block_log + untrusted[layout.DIRECTORY_LOG_OFFSET]
    if log > layout.MAX_DIRECTORY_BLOCK_LOG:
        raise InputError(f"xfs superblock: directory blocks of 2^{log} bytes, the limit is 64 KiB")
    return 1 << log


def _has_kinds(untrusted: bytes, version: int) -> bool:
    place = layout.FEATURES2_OFFSET
    features = int.from_bytes(untrusted[place : place + 4], "big")
    return bool(version & layout.VERSION_MORE and features & layout.FEATURES2_KINDS)


def _check_sizes(
    block_bytes: int, block_log: int, inode_bytes: int, inode_log: int, sector_bytes: int, sector_log: int
) -> None:
    if not layout.MIN_BLOCK_LOG <= block_log <= layout.MAX_BLOCK_LOG or block_bytes != 1 << block_log:
        raise InputError(f"xfs superblock: blocks of {block_bytes} bytes (2^{block_log}); 512 to 65536 are")
    if not layout.MIN_INODE_LOG <= inode_log <= layout.MAX_INODE_LOG or inode_bytes != 1 << inode_log:
        raise InputError(f"xfs superblock: inodes of {inode_bytes} bytes (2^{inode_log}); 256 to 2048 are")
    if not layout.MIN_BLOCK_LOG <= sector_log <= layout.MAX_SECTOR_LOG or sector_bytes != 1 << sector_log:
        raise InputError(f"xfs superblock: sectors of {sector_bytes} bytes (2^{sector_log})")
    if inode_log > block_log:
        raise InputError(f"xfs superblock: inodes of {inode_bytes} bytes in blocks of {block_bytes}")


def _check_features(incompatible: int) -> None:
    unknown = incompatible & ~layout.INCOMPAT_SUPPORTED
    if unknown:
        bits = [1 << bit for bit in range(32) if unknown >> bit & 1]
        names = [layout.INCOMPAT_NAMES.get(bit, f"bit {bit:#x}") for bit in bits]
        raise UnsupportedError(
            f"xfs superblock: incompatible feature {', '.join(names)}; this version cannot read it"
        )


def _check_groups(blocks: int, group_blocks: int, group_log: int, groups: int, block_log: int) -> None:
    if group_blocks < layout.MIN_GROUP_BLOCKS or group_blocks << block_log > layout.MAX_GROUP_BYTES:
        raise InputError(f"xfs superblock: allocation groups of {group_blocks} blocks")
    if group_log != (group_blocks - 1).bit_length():
        raise InputError(f"xfs superblock: {group_blocks} blocks of a group numbered with {group_log} bits")
    if not groups or not group_blocks * (groups - 1) < blocks <= group_blocks * groups:
        raise InputError(f"xfs superblock: {blocks} blocks in {groups} groups of {group_blocks}")
