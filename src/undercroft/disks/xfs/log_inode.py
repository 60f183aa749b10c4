"""Inodes as the log has them, turned into inodes as they lie on disk.

The log has them in the byte order of the machine that wrote it (little-endian). Follows
xlog_recover_inode_commit_pass2 and xfs_log_dinode_to_disk of the kernel.
"""

from collections.abc import Sequence
from struct import Struct

from undercroft.disks.xfs import checksum, layout
from undercroft.disks.xfs import log_layout as logs
from undercroft.disks.xfs.log_base import place_of_inode
from undercroft.disks.xfs.superblock import Superblock
from undercroft.errors import InputError

_HEAD = "H H B B 2s I I I H H"
_SIZES = "Q Q I"
_TAIL = "B B I H H I I"
_V3 = "4s Q Q Q I 12s Q Q 16s"
_TIMES = {True: "Q Q Q", False: "i i i i i i"}
_COUNTS = {True: "Q", False: "6s H"}
_EXTENTS = {True: "I H", False: "I H"}


def _core(order: str, *, has_big_times: bool, has_many_extents: bool, is_v3: bool) -> Struct:
    parts = [order, _HEAD, _COUNTS[has_many_extents], _TIMES[has_big_times], _SIZES]
    parts += [_EXTENTS[has_many_extents], _TAIL]
    if is_v3:
        # The third time, that of creation, follows the others' form.
        parts.append(_V3 if has_big_times else "4s Q Q Q I 12s i i Q 16s")
    return Struct("".join(parts).replace(" ", ""))


_VARIANTS = [
    (times, extents, v3) for times in (False, True) for extents in (False, True) for v3 in (False, True)
]
_FROM_LOG = {
    key: _core("<", has_big_times=key[0], has_many_extents=key[1], is_v3=key[2]) for key in _VARIANTS
}
_TO_DISK = {key: _core(">", has_big_times=key[0], has_many_extents=key[1], is_v3=key[2]) for key in _VARIANTS}
_FLAGS3 = slice(120, 128)
_FLUSHES = slice(30, 32)
_UNLINKED = 96
_MAX_FLUSHES = 0xFFFF


def replayed_inode(
    raw: bytes,
    regions: Sequence[bytes | bytearray],
    fields: int,
    place: int,
    superblock: Superblock,
    device: int = 0,
) -> bytes | None:
    """Return an inode after the replay, None where the one on disk is newer.

    Args:
        raw: the inode before it.
        regions: the logged core, then the logged forks, the data's first.
        fields: which parts were logged.
        place: of the transaction in the log.
        superblock: of the filesystem.
        device: the number that a device file has, where `fields` say so.

    Raises InputError where the item or the inode is malformed.
    """
    if raw[:2] != layout.INODE_MAGIC.to_bytes(2, "big"):
        raise InputError("there is no inode where one is to be changed")
    if superblock.is_v5 and place_of_inode(raw) > place:
        return None
    core = regions[0]
    size = layout.INODE_V3_BYTES if superblock.is_v5 else layout.INODE_V2_BYTES
    if not superblock.is_v5:  # the chain of unlinked inodes, the last field, is not logged
        core = core[:_UNLINKED] + raw[_UNLINKED:size][::-1] if len(core) >= _UNLINKED else b""
    if len(core) < size or core[:2] != layout.INODE_MAGIC.to_bytes(2, "little"):
        raise InputError(f"an inode of {len(core)} bytes that begins with {bytes(core[:2])!r}")
    if not superblock.is_v5 and _was_flushed_later(raw, core):
        return None
    changed = bytearray(_to_disk(core, superblock.is_v5) + raw[size:])
    if superblock.is_v5:
        changed[112:120] = place.to_bytes(8, "big")
    else:
        changed[_FLUSHES] = b"\0\0"
    end = size + changed[82] * 8 if changed[82] else len(raw)
    if end > len(raw):
        raise InputError(f"attributes at {end} of an inode of {len(raw)} bytes")
    _put_forks(changed, (size, end), regions, fields, device, is_v5=superblock.is_v5)
    if superblock.is_v5:
        return checksum.with_checksum(bytes(changed), layout.INODE_CHECKSUM_OFFSET)
    return bytes(changed)


def _put_forks(
    changed: bytearray,
    places: tuple[int, int],
    regions: Sequence[bytes | bytearray],
    fields: int,
    device: int,
    *,
    is_v5: bool,
) -> None:
    """Put what was logged of the forks in their places: the data's at the first, attributes at the second."""
    start, end = places
    rest = regions[1:]
    if fields & (logs.FIELDS_DATA | logs.FIELDS_EXTENTS | logs.FIELDS_ROOT):
        _put_fork(changed, start, end, rest[:1], is_v5=is_v5, is_root=bool(fields & logs.FIELDS_ROOT))
        rest = rest[1:]
    elif fields & logs.FIELDS_DEVICE:
        changed[start : start + 4] = device.to_bytes(4, "big")
    if fields & logs.FIELDS_ATTRIBUTES:
        is_root = bool(fields & logs.FIELDS_ATTRIBUTE_ROOT)
        _put_fork(changed, end, len(changed), rest[:1], is_v5=is_v5, is_root=is_root)


def _put_fork(
    changed: bytearray,
    start: int,
    end: int,
    regions: Sequence[bytes | bytearray],
    *,
    is_v5: bool,
    is_root: bool,
) -> None:
    if not regions:
        raise InputError("a fork was changed, its bytes are missing")
    fork = bytes(regions[0])
    if is_root:
        fork = _root_to_disk(fork, end - start, is_v5)
    if len(fork) > end - start:
        raise InputError(f"{len(fork)} bytes for a fork of {end - start}")
    changed[start : start + len(fork)] = fork


def _was_flushed_later(raw: bytes, core: bytes | bytearray) -> bool:
    """Return whether the inode of version 4 on disk counts more flushes; the counter wraps."""
    on_disk, logged = int.from_bytes(raw[_FLUSHES], "big"), int.from_bytes(core[_FLUSHES], "little")
    return logged < on_disk and not (on_disk == _MAX_FLUSHES and logged < _MAX_FLUSHES >> 1)


def _to_disk(core: bytes | bytearray, is_v5: bool) -> bytes:
    flags3 = int.from_bytes(core[_FLAGS3], "little") if is_v5 else 0
    key = (bool(flags3 & layout.FLAG3_BIGTIME), bool(flags3 & layout.FLAG3_MANY_EXTENTS), is_v5)
    return _TO_DISK[key].pack(*_FROM_LOG[key].unpack_from(core))


def _root_to_disk(root: bytes, room_bytes: int, is_v5: bool) -> bytes:
    """Return the root of a tree of extents as an inode holds it, from how it is in memory."""
    header = layout.BTREE_HEADER_V5_BYTES if is_v5 else layout.BTREE_HEADER_BYTES
    if len(root) < header:
        raise InputError(f"the root of a tree in {len(root)} bytes")
    _, level, count = layout.BTREE_BLOCK.unpack_from(root)
    logged, room = (len(root) - header) // 16, (room_bytes - layout.BTREE_ROOT_BYTES) // 16
    if not level or not 0 < count <= min(logged, room):
        raise InputError(f"the root of a tree of level {level} with {count} entries, room for {room}")
    keys = root[header : header + count * 8]
    pointers = root[header + logged * 8 :][: count * 8]
    return layout.BTREE_ROOT.pack(level, count) + keys.ljust(room * 8, b"\0") + pointers


def new_inode(number: int, generation: int, superblock: Superblock) -> bytes:
    """Return an inode of version 3 that is not in use yet."""
    raw = bytearray(superblock.inode_bytes)
    raw[0:2] = layout.INODE_MAGIC.to_bytes(2, "big")
    raw[4] = 3
    raw[92:100] = generation.to_bytes(4, "big") + b"\xff\xff\xff\xff"
    raw[152:176] = number.to_bytes(8, "big") + superblock.metadata_uuid
    return checksum.with_checksum(bytes(raw), layout.INODE_CHECKSUM_OFFSET)
