"""Inodes of UFS1 and UFS2."""

from struct import Struct
from typing import NamedTuple

from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.disks.ufs.superblock import HASH_INODE, POINTERS_IN_INODE, Superblock, check_hash
from undercroft.errors import InputError

DIRECT = 12
_UFS1 = Struct("<HH4xQi4xi12x15iII4xII")
_UFS2 = Struct("<HHII4xQQ8xq40xI")
_POINTERS1, _POINTERS2 = Struct("<15i"), Struct("<15q")
_POINTERS_AT = {1: 40, 2: 112}
_HASH_AT = 244
_SNAPSHOT = 0x00200000
_KINDS = {kind.value: kind for kind in FileKind if kind is not FileKind.UNKNOWN}


class Inode(NamedTuple):
    """One inode.

    Attributes:
        stat: what every filesystem has.
        blocks: sectors of 512 bytes that it holds.
        is_snapshot: whether its content is the filesystem's at an earlier time.
        pointers: 12 blocks of content, and one of each depth of indirect ones; untrusted.
        raw: the bytes of `pointers`, where a short link lies.
    """

    stat: FileStat
    blocks: int
    is_snapshot: bool
    pointers: tuple[int, ...]
    raw: bytes


def read_inode(source: BlockSource, superblock: Superblock, node: int) -> Inode:
    """Return an inode. Raises InputError where it is none, not in use or malformed."""
    data = source.read(superblock.inode_offset(node), superblock.inode_bytes)
    if superblock.hashes & HASH_INODE:
        found, expected = int.from_bytes(data[_HASH_AT : _HASH_AT + 4], "little"), check_hash(data, _HASH_AT)
        if found != expected:
            raise InputError(f"ufs inode {node}: its check hash is {found:#x}, its bytes give {expected:#x}")
    start = _POINTERS_AT[superblock.version]
    if superblock.version == 1:
        mode, links, size, _, modified, *rest = _UFS1.unpack_from(data)
        flags, blocks, uid, gid = rest[POINTERS_IN_INODE:]
        pointers: tuple[int, ...] = _POINTERS1.unpack_from(data, start)
        raw = data[start : start + _POINTERS1.size]
    else:
        mode, links, uid, gid, size, blocks, modified, flags = _UFS2.unpack_from(data)
        pointers = _POINTERS2.unpack_from(data, start)
        raw = data[start : start + _POINTERS2.size]
    if not mode or links < 1:
        raise InputError(f"ufs inode {node}: it is not in use")
    kind = _KINDS.get(mode >> 12, FileKind.UNKNOWN)
    if size > _most_bytes(superblock):
        raise InputError(f"ufs inode {node}: {size} bytes, more than its blocks can hold")
    stat = FileStat(node, kind, mode, size, uid, gid, links, modified)
    return Inode(stat, blocks, bool(flags & _SNAPSHOT), pointers, raw)


def _most_bytes(superblock: Superblock) -> int:
    count = superblock.pointers_per_block
    return (DIRECT + count + count**2 + count**3) * superblock.block_bytes
