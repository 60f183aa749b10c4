"""The names in a directory of NTFS, by its index ($I30): a B-tree of $FILE_NAME keys.

The Sleuth Kit's own listing looks for deleted files too, and reads the whole file table for it before it
lists the first directory: hundreds of megabytes of a real Windows. Here the attributes are read through it,
and the tree is walked as ntfs-3g's dir.c does: the root in $INDEX_ROOT, its children in $INDEX_ALLOCATION,
each with the update sequence that tells a half-written sector. Each block is entered once.
"""

import codecs
import struct
from collections.abc import Callable, Iterator

from undercroft.disks.filesystem import FileKind
from undercroft.errors import InputError

MAX_BLOCKS = 100_000
MAX_ENTRIES = 1_000_000

_SECTOR_BYTES = 512
_NODE = struct.Struct("<4I")
_ENTRY = struct.Struct("<QHHI")
_HAS_CHILD, _IS_LAST = 1, 2
_KEY_BYTES = 66
_DOS_ONLY = 2
_DIRECTORY_FLAG = 0x10000000
_NODE_MASK = (1 << 48) - 1
_BLOCK_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

ReadBlocks = Callable[[int, int], bytes]
"""Gives a range (offset, length) of $INDEX_ALLOCATION."""


def list_index(
    root: bytes, allocation_bytes: int, read: ReadBlocks, cluster_bytes: int
) -> Iterator[tuple[bytes, int, FileKind]]:
    """Yield (name, node, kind) of a directory in the order of its tree.

    Args:
        root: untrusted content of $INDEX_ROOT.
        allocation_bytes: length of $INDEX_ALLOCATION, 0 for none.
        read: reads from it.
        cluster_bytes: of the volume; blocks are counted in clusters, or in sectors where they are smaller.

    Raises:
        InputError: the index is malformed, or passes a limit; also midway.
    """
    if len(root) < 32:
        raise InputError(f"ntfs index: a root of {len(root)} bytes")
    kind, _, block_bytes = struct.unpack_from("<3I", root)
    if kind != 0x30 or block_bytes not in _BLOCK_SIZES:
        raise InputError(f"ntfs index: of attribute {kind:#x} with blocks of {block_bytes} bytes")
    unit = cluster_bytes if cluster_bytes <= block_bytes else _SECTOR_BYTES
    pending = [_entries(root, 16)]
    seen = set[int]()
    count = 0
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        child, listed = entry
        if listed is not None:
            count += 1
            if count > MAX_ENTRIES:
                raise InputError(f"ntfs index: more than {MAX_ENTRIES} entries")
            yield listed
        if child is not None:
            offset = child * unit
            if offset in seen or len(seen) >= MAX_BLOCKS or offset + block_bytes > allocation_bytes:
                raise InputError(f"ntfs index block {child}: it lies outside, or stands in two places")
            seen.add(offset)
            pending.append(_entries(_block(read(offset, block_bytes), child), 24))


def _block(untrusted: bytes, number: int) -> bytes:
    """Return an index block with its sectors' ends in place. Raises InputError where one was torn."""
    if untrusted[:4] != b"INDX" or int.from_bytes(untrusted[16:24], "little") != number:
        raise InputError(f"ntfs index block {number}: it is none")
    offset, count = struct.unpack_from("<2H", untrusted, 4)
    if count != len(untrusted) // _SECTOR_BYTES + 1 or offset + 2 * count > _SECTOR_BYTES:
        raise InputError(f"ntfs index block {number}: an update sequence of {count} at {offset}")
    sequence = untrusted[offset : offset + 2]
    block = bytearray(untrusted)
    for sector in range(1, count):
        end = sector * _SECTOR_BYTES
        if untrusted[end - 2 : end] != sequence:
            raise InputError(f"ntfs index block {number}: its sectors are of different writes")
        block[end - 2 : end] = untrusted[offset + 2 * sector : offset + 2 * sector + 2]
    return bytes(block)


def _entries(block: bytes, header: int) -> Iterator[tuple[int | None, tuple[bytes, int, FileKind] | None]]:
    """Yield (child block, entry) of a node; the smaller lie in the child. Refuse a node without an end."""
    first, used, _, _ = _NODE.unpack_from(block, header)
    at, end = header + first, header + used
    if end > len(block) or first < _NODE.size:
        raise InputError(f"ntfs index: a node of {used} bytes in {len(block)}")
    while at + _ENTRY.size <= end:
        reference, length, key_bytes, flags = _ENTRY.unpack_from(block, at)
        if length < _ENTRY.size or length % 8 or at + length > end or key_bytes > length - _ENTRY.size:
            raise InputError(f"ntfs index: an entry of {length} bytes with a key of {key_bytes}")
        child = int.from_bytes(block[at + length - 8 : at + length], "little") if flags & _HAS_CHILD else None
        if flags & _IS_LAST:
            yield child, None
            return
        yield child, _named(block[at + _ENTRY.size : at + _ENTRY.size + key_bytes], reference & _NODE_MASK)
        at += length
    raise InputError("ntfs index: a node without an end")


def _named(key: bytes, node: int) -> tuple[bytes, int, FileKind] | None:
    """Return what a $FILE_NAME names; None for the short name of a file that has a long one."""
    if len(key) < _KEY_BYTES:
        raise InputError(f"ntfs index: a key of {len(key)} bytes")
    (flags,) = struct.unpack_from("<I", key, 56)
    length, namespace = key[64], key[65]
    name = key[_KEY_BYTES : _KEY_BYTES + 2 * length]
    if len(name) != 2 * length or not length or namespace > 3:
        raise InputError(f"ntfs index: a name of {length} characters in a key of {len(key)} bytes")
    if namespace == _DOS_ONLY:
        return None
    text = codecs.utf_16_le_decode(name, "surrogatepass")[0].encode("utf-8", "surrogatepass")
    return text, node, FileKind.DIRECTORY if flags & _DIRECTORY_FLAG else FileKind.UNKNOWN
