"""Inodes of squashfs: a head that all have, then what each kind has, in a short or a long form."""

from array import array
from struct import Struct
from typing import NamedTuple

from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.squashfs.metadata import Metadata, MetadataReader, Superblock
from undercroft.errors import InputError

MAX_LINK_BYTES = 4095
MAX_BLOCKS = 4 << 20
"""Of one file: 512 GiB in blocks of 128 KiB."""
NOTHING = 0xFFFFFFFF
"""The number of a fragment or of attributes where there are none."""

_HEAD = Struct("<HHHHII")
_DIRECTORY, _LONG_DIRECTORY = Struct("<IIHHI"), Struct("<IIIIHHI")
_FILE, _LONG_FILE = Struct("<IIII"), Struct("<QQQIIII")
_LINK, _DEVICE = Struct("<II"), Struct("<II")
_LINKS, _ATTRIBUTES = Struct("<I"), Struct("<I")
_BASIC_KINDS = 7
KINDS = (
    FileKind.UNKNOWN,
    FileKind.DIRECTORY,
    FileKind.REGULAR,
    FileKind.SYMLINK,
    FileKind.BLOCK,
    FileKind.CHARACTER,
    FileKind.FIFO,
    FileKind.SOCKET,
)
_DEVICES = (FileKind.BLOCK, FileKind.CHARACTER)


class Inode(NamedTuple):
    """An inode.

    Attributes:
        stat: what stat(2) gives.
        place, offset: of a folder's listing; of a file its first block, and its place in its fragment.
        fragment: the number of the fragment that holds a file's end.
        sizes: of a file's blocks, with their flag.
        target: of a symlink.
        attributes: their number.
        device: the number of a device file.
    """

    stat: FileStat
    place: int = 0
    offset: int = 0
    fragment: int = NOTHING
    sizes: "array[int]" = array("I")
    target: bytes = b""
    attributes: int = NOTHING
    device: int = 0


def parse(node: int, metadata: Metadata, superblock: Superblock) -> Inode:
    """Return the inode that a reference leads to. Raises InputError where it is malformed."""
    start = superblock.inode_table + (node >> 16)
    if not 0 <= node >> 16 < superblock.directory_table - superblock.inode_table:
        raise InputError(f"squashfs inode {node:#x}: it lies outside the table of inodes")
    raw, place, offset = metadata.read(start, node & 0xFFFF, _HEAD.size)
    number, mode, uid, gid, modified, _ = _HEAD.unpack(raw)
    is_long = number > _BASIC_KINDS
    basic = number - _BASIC_KINDS if is_long else number
    if not 1 <= basic < len(KINDS):
        raise InputError(f"squashfs inode {node:#x}: its kind is {number}")
    kind = KINDS[basic]
    reader = MetadataReader(metadata, place, offset)
    links, size, found = _of_kind(kind, reader, node, superblock.block_bytes, is_long=is_long)
    full_mode = kind.value << 12 | mode & 0o7777
    owner, group = metadata.owner(uid), metadata.owner(gid)
    return found._replace(stat=FileStat(node, kind, full_mode, size, owner, group, links, modified))


_NO_STAT = FileStat(0, FileKind.UNKNOWN, 0, 0, 0, 0, 0, 0)
_EMPTY = Inode(_NO_STAT)


def _of_kind(
    kind: FileKind, reader: MetadataReader, node: int, block_bytes: int, *, is_long: bool
) -> tuple[int, int, Inode]:
    """Return (links, size, what else the inode says)."""
    if kind is FileKind.DIRECTORY:
        return _directory(reader, is_long=is_long)
    if kind is FileKind.REGULAR:
        return _regular(reader, node, block_bytes, is_long=is_long)
    if kind is FileKind.SYMLINK:
        links, size = reader.take(_LINK)
        if size > MAX_LINK_BYTES:
            raise InputError(f"squashfs inode {node:#x}: a symlink of {size} bytes")
        target = reader.bytes(size)
        return links, size, _EMPTY._replace(target=target, attributes=_attributes(reader, is_long=is_long))
    device = 0
    if kind in _DEVICES:
        links, device = reader.take(_DEVICE)
    else:
        (links,) = reader.take(_LINKS)
    return links, 0, _EMPTY._replace(device=device, attributes=_attributes(reader, is_long=is_long))


def _attributes(reader: MetadataReader, *, is_long: bool) -> int:
    return reader.take(_ATTRIBUTES)[0] if is_long else NOTHING


def _directory(reader: MetadataReader, *, is_long: bool) -> tuple[int, int, Inode]:
    attributes = NOTHING
    if is_long:
        links, size, place, _, _, offset, attributes = reader.take(_LONG_DIRECTORY)
    else:
        place, links, size, offset, _ = reader.take(_DIRECTORY)
    return links, size, _EMPTY._replace(place=place, offset=offset, attributes=attributes)


def _regular(reader: MetadataReader, node: int, block_bytes: int, *, is_long: bool) -> tuple[int, int, Inode]:
    links, attributes = 1, NOTHING
    if is_long:
        place, size, _, links, fragment, offset, attributes = reader.take(_LONG_FILE)
    else:
        place, fragment, offset, size = reader.take(_FILE)
    count = size // block_bytes if fragment != NOTHING else -(-size // block_bytes)
    if count > MAX_BLOCKS:
        raise InputError(f"squashfs inode {node:#x}: {count} blocks, the limit is {MAX_BLOCKS}")
    sizes = array("I", reader.bytes(4 * count))
    return links, size, Inode(_NO_STAT, place, offset, fragment, sizes, b"", attributes)
