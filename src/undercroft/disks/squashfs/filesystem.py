"""Files and folders of a squashfs. A node is an inode's reference: its block's place and its offset there."""

from array import array
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.disks.squashfs.metadata import Metadata, Superblock, read_superblock
from undercroft.errors import InputError

MAX_CHUNK_BYTES = 1 << 20
MAX_LINK_BYTES = 4095
MAX_DIRECTORY_BYTES = 64 << 20
MAX_BLOCKS = 4 << 20
"""Of one file: 512 GiB in blocks of 128 KiB."""
CACHED_DIRECTORIES = 256
CACHED_FRAGMENTS = 8
CACHED_NODES = 1024
NO_FRAGMENT = 0xFFFFFFFF
DATA_UNPACKED = 1 << 24
DATA_BYTES_MASK = DATA_UNPACKED - 1
LISTING_EXTRA_BYTES = 3
"""A folder's size counts "." and "..", which are not in its listing."""

_HEAD = Struct("<HHHHII")
_DIRECTORY, _LONG_DIRECTORY = Struct("<IIHHI"), Struct("<IIIIHHI")
_FILE, _LONG_FILE = Struct("<IIII"), Struct("<QQQIIII")
_LINK = Struct("<II")
_LINKS = Struct("<I")
_RUN, _ENTRY = Struct("<III"), Struct("<HhHH")
_BASIC_KINDS = 7
_KINDS = (
    FileKind.UNKNOWN,
    FileKind.DIRECTORY,
    FileKind.REGULAR,
    FileKind.SYMLINK,
    FileKind.BLOCK,
    FileKind.CHARACTER,
    FileKind.FIFO,
    FileKind.SOCKET,
)
MAX_NAME_BYTES = 256
MAX_RUN = 256


class _Inode(NamedTuple):
    """An inode's own fields; `place` and `offset` are of its listing, or of a file's fragment."""

    stat: FileStat
    place: int
    offset: int
    fragment: int = NO_FRAGMENT
    sizes: "array[int]" = array("I")
    target: bytes = b""


class Squashfs:
    """One squashfs.

    Args:
        source: the volume, untrusted.

    Attributes:
        content: "squashfs".
        label: the format has none.
        uuid: the format has none.
        notes: nothing is done on the way.
        problems: none.
        root: the root's reference.

    Raises:
        InputError: superblock or root are malformed.
        UnsupportedError: another version or compression.
    """

    content = "squashfs"
    label = ""
    uuid = ""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._superblock: Superblock = read_superblock(source)
        self._metadata = Metadata(source, self._superblock)
        self._inodes: BoundedCache[int, _Inode] = BoundedCache(CACHED_NODES)
        self._folders: BoundedCache[int, dict[bytes, tuple[int, FileKind]]] = BoundedCache(CACHED_DIRECTORIES)
        self._fragments: BoundedCache[int, bytes] = BoundedCache(CACHED_FRAGMENTS)
        self.root = self._superblock.root
        if self.stat(self.root).kind is not FileKind.DIRECTORY:
            raise InputError("squashfs: its root is no directory")

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        return self._inode(node).stat

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there."""
        found = self._folder(directory).get(name)
        return found[0] if found else None

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind), in disk order."""
        for name, (node, kind) in self._folder(directory).items():
            yield name, node, kind

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink."""
        inode = self._inode(node)
        if inode.stat.kind is not FileKind.SYMLINK:
            raise InputError(f"squashfs inode {node:#x}: it is no symlink")
        return inode.target

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB."""
        inode = self._inode(node)
        if inode.stat.kind is not FileKind.REGULAR:
            raise InputError(f"squashfs inode {node:#x}: it is no regular file")
        block, position = self._superblock.block_bytes, start - start % self._superblock.block_bytes
        place = inode.place + sum(size & DATA_BYTES_MASK for size in inode.sizes[: start // block])
        for size in inode.sizes[start // block :]:
            expected = min(block, inode.stat.size_bytes - position)
            yield self._block(place, size, expected, node)[max(0, start - position) :]
            place, position = place + (size & DATA_BYTES_MASK), position + expected
        if position < inode.stat.size_bytes and start < inode.stat.size_bytes:
            yield self._tail(inode, inode.stat.size_bytes - position, node)[max(0, start - position) :]

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's whole content. Raises InputError when it is larger than `limit`."""
        size = self.stat(node).size_bytes
        if size > limit:
            raise InputError(f"squashfs inode {node:#x}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def _block(self, place: int, size: int, expected: int, node: int) -> bytes:
        length = size & DATA_BYTES_MASK
        if not length:
            return bytes(expected)
        if length > self._superblock.block_bytes or place + length > self._superblock.size_bytes:
            raise InputError(f"squashfs inode {node:#x}: a block of {length} bytes at {place}")
        data = self._source.read(place, length)
        if not size & DATA_UNPACKED:
            data = self._metadata.unpack(data, self._superblock.block_bytes)
        if len(data) != expected:
            raise InputError(f"squashfs inode {node:#x}: a block of {len(data)} bytes, not {expected}")
        return data

    def _tail(self, inode: _Inode, length: int, node: int) -> bytes:
        data = self._fragments.get(inode.fragment)
        if data is None:
            place, size = self._metadata.fragment(inode.fragment)
            packed = size & DATA_BYTES_MASK
            if packed > self._superblock.block_bytes or place + packed > self._superblock.size_bytes:
                raise InputError(f"squashfs fragment {inode.fragment}: {packed} bytes at {place}")
            data = self._source.read(place, packed)
            if not size & DATA_UNPACKED:
                data = self._metadata.unpack(data, self._superblock.block_bytes)
            self._fragments.put(inode.fragment, data)
        tail = data[inode.offset : inode.offset + length]
        if len(tail) != length:
            raise InputError(f"squashfs inode {node:#x}: its last {length} bytes lie beyond their fragment")
        return tail

    def _inode(self, node: int) -> _Inode:
        return self._inodes.get(node) or self._inodes.put(node, self._parse(node))

    def _parse(self, node: int) -> _Inode:
        start = self._superblock.inode_table + (node >> 16)
        if not 0 <= node >> 16 < self._superblock.directory_table - self._superblock.inode_table:
            raise InputError(f"squashfs inode {node:#x}: it lies outside the table of inodes")
        raw, place, offset = self._metadata.read(start, node & 0xFFFF, _HEAD.size)
        kind, mode, uid, gid, modified, _ = _HEAD.unpack(raw)
        basic = kind - _BASIC_KINDS if kind > _BASIC_KINDS else kind
        if not 1 <= basic < len(_KINDS):
            raise InputError(f"squashfs inode {node:#x}: its kind is {kind}")
        reader = _InodeReader(self._metadata, place, offset)
        file_kind = _KINDS[basic]
        is_long = kind > _BASIC_KINDS
        links, size, rest = 1, 0, (0, 0)
        fragment, sizes, target = NO_FRAGMENT, array("I"), b""
        if file_kind is FileKind.DIRECTORY:
            links, size, rest = _directory(reader, is_long=is_long)
        elif file_kind is FileKind.REGULAR:
            links, size, rest, fragment, sizes = self._regular(reader, node, is_long=is_long)
        elif file_kind is FileKind.SYMLINK:
            links, size = reader.take(_LINK)
            if size > MAX_LINK_BYTES:
                raise InputError(f"squashfs inode {node:#x}: a symlink of {size} bytes")
            target = reader.bytes(size)
        else:
            (links,) = reader.take(_LINKS)
        owner, group = self._metadata.owner(uid), self._metadata.owner(gid)
        full_mode = file_kind.value << 12 | mode & 0o7777
        stat = FileStat(node, file_kind, full_mode, size, owner, group, links, modified)
        return _Inode(stat, *rest, fragment, sizes, target)

    def _regular(
        self, reader: "_InodeReader", node: int, *, is_long: bool
    ) -> tuple[int, int, tuple[int, int], int, "array[int]"]:
        if is_long:
            place, size, _, links, fragment, offset, _ = reader.take(_LONG_FILE)
        else:
            place, fragment, offset, size = reader.take(_FILE)
            links = 1
        block = self._superblock.block_bytes
        count = size // block if fragment != NO_FRAGMENT else -(-size // block)
        if count > MAX_BLOCKS:
            raise InputError(f"squashfs inode {node:#x}: {count} blocks, the limit is {MAX_BLOCKS}")
        sizes = array("I", reader.bytes(4 * count))
        return links, size, (place, offset), fragment, sizes

    def _folder(self, node: int) -> dict[bytes, tuple[int, FileKind]]:
        return self._folders.get(node) or self._folders.put(node, self._list(node))

    def _list(self, node: int) -> dict[bytes, tuple[int, FileKind]]:
        inode = self._inode(node)
        if inode.stat.kind is not FileKind.DIRECTORY:
            raise InputError(f"squashfs inode {node:#x}: it is no directory")
        length = inode.stat.size_bytes - LISTING_EXTRA_BYTES
        if length <= 0:
            return {}
        if length > MAX_DIRECTORY_BYTES:
            raise InputError(
                f"squashfs directory {node:#x}: {length} bytes, the limit is {MAX_DIRECTORY_BYTES}"
            )
        start = self._superblock.directory_table + inode.place
        data = self._metadata.read(start, inode.offset, length)[0]
        return dict(_parse_listing(data, node))


class _InodeReader:
    """Takes one structure after the other from where an inode's head ends."""

    def __init__(self, metadata: Metadata, place: int, offset: int) -> None:
        self._metadata = metadata
        self._at = (place, offset)

    def bytes(self, length: int) -> bytes:
        data, *at = self._metadata.read(*self._at, length)
        self._at = (at[0], at[1])
        return data

    def take(self, layout: Struct) -> tuple[int, ...]:
        return layout.unpack(self.bytes(layout.size))


def _directory(reader: _InodeReader, *, is_long: bool) -> tuple[int, int, tuple[int, int]]:
    """Return (links, size, (place, offset of its listing))."""
    if is_long:
        links, size, place, _, _, offset, _ = reader.take(_LONG_DIRECTORY)
    else:
        place, links, size, offset, _ = reader.take(_DIRECTORY)
    return links, size, (place, offset)


def _parse_listing(data: bytes, node: int) -> Iterator[tuple[bytes, tuple[int, FileKind]]]:
    """Yield the entries of a listing: runs that share a block of inodes."""
    position = 0
    while position < len(data):
        if position + _RUN.size > len(data):
            raise InputError(f"squashfs directory {node:#x}: it ends within a run")
        count, place, _ = _RUN.unpack_from(data, position)
        position += _RUN.size
        if count >= MAX_RUN:
            raise InputError(f"squashfs directory {node:#x}: a run of {count + 1} entries")
        for _ in range(count + 1):
            if position + _ENTRY.size > len(data):
                raise InputError(f"squashfs directory {node:#x}: it ends within a run")
            offset, _, kind, length = _ENTRY.unpack_from(data, position)
            position += _ENTRY.size
            name = data[position : position + length + 1]
            position += length + 1
            if len(name) != length + 1 or length >= MAX_NAME_BYTES or b"/" in name or b"\0" in name:
                raise InputError(f"squashfs directory {node:#x}: a name of {length + 1} bytes, or no name")
            yield name, (place << 16 | offset, _KINDS[kind] if kind < len(_KINDS) else FileKind.UNKNOWN)


def open_filesystem(source: BlockSource) -> Squashfs:
    """Return a reader of the volume's squashfs.

    Raises:
        InputError: it is malformed.
        UnsupportedError: another version or compression.
    """
    return Squashfs(source)
