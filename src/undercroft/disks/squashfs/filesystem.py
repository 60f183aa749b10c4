"""Files and folders of a squashfs. A node is an inode's reference: its block's place and its offset there."""

from collections.abc import Iterator
from struct import Struct

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.disks.squashfs import attributes
from undercroft.disks.squashfs.inode import KINDS, NOTHING, Inode, parse
from undercroft.disks.squashfs.metadata import Metadata, Superblock, read_superblock
from undercroft.errors import InputError

MAX_CHUNK_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 8 << 20
"""Some 300,000 names."""
CACHED_DIRECTORIES = 256
CACHED_NAMES = 4096
"""Of a folder that is kept; a larger one is kept alone."""
CACHED_FRAGMENTS = 4
CACHED_BLOCKS = 2
"""Of files: what reads a disk image in pieces comes back to the same one."""
CACHED_NODES = 1024
DATA_UNPACKED = 1 << 24
DATA_BYTES_MASK = DATA_UNPACKED - 1
LISTING_EXTRA_BYTES = 3
"""A folder's size counts "." and "..", which are not in its listing."""

_RUN, _ENTRY = Struct("<III"), Struct("<HhHH")
MAX_NAME_BYTES = 256
MAX_RUN = 256


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
        self._inodes: BoundedCache[int, Inode] = BoundedCache(CACHED_NODES)
        self._folders: BoundedCache[int, dict[bytes, tuple[int, FileKind]]] = BoundedCache(CACHED_DIRECTORIES)
        self._large: tuple[int, dict[bytes, tuple[int, FileKind]]] = (-1, {})
        self._fragments: BoundedCache[int, bytes] = BoundedCache(CACHED_FRAGMENTS)
        self._blocks: BoundedCache[int, bytes] = BoundedCache(CACHED_BLOCKS)
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

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return an attribute of `user.` or `trusted.`, None where there is none. Raises InputError."""
        number = self._inode(node).attributes
        if number == NOTHING:
            return None
        return attributes.value(number, name, self._source, self._superblock, self._metadata)

    def device(self, node: int) -> int:
        """Return the number of a device file, 0 for 0:0. Raises InputError."""
        inode = self._inode(node)
        if inode.stat.kind not in (FileKind.CHARACTER, FileKind.BLOCK):
            raise InputError(f"squashfs inode {node:#x}: it is no device")
        return inode.device

    def _block(self, place: int, size: int, expected: int, node: int) -> bytes:
        length = size & DATA_BYTES_MASK
        if not length:
            return bytes(expected)
        if length > self._superblock.block_bytes or place + length > self._superblock.size_bytes:
            raise InputError(f"squashfs inode {node:#x}: a block of {length} bytes at {place}")
        if size & DATA_UNPACKED:
            data = self._source.read(place, length)
        else:
            data = self._blocks.get(place) or self._blocks.put(
                place, self._metadata.unpack(self._source.read(place, length), self._superblock.block_bytes)
            )
        if len(data) != expected:
            raise InputError(f"squashfs inode {node:#x}: a block of {len(data)} bytes, not {expected}")
        return data

    def _tail(self, inode: Inode, length: int, node: int) -> bytes:
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

    def _inode(self, node: int) -> Inode:
        return self._inodes.get(node) or self._inodes.put(node, parse(node, self._metadata, self._superblock))

    def _folder(self, node: int) -> dict[bytes, tuple[int, FileKind]]:
        found = self._folders.get(node)
        if found is not None:
            return found
        if self._large[0] == node:
            return self._large[1]
        listing = self._list(node)
        if len(listing) <= CACHED_NAMES:
            return self._folders.put(node, listing)
        self._large = (node, listing)
        return listing

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
            yield name, (place << 16 | offset, KINDS[kind] if kind < len(KINDS) else FileKind.UNKNOWN)


def open_filesystem(source: BlockSource) -> Squashfs:
    """Return a reader of the volume's squashfs.

    Raises:
        InputError: it is malformed.
        UnsupportedError: another version or compression.
    """
    return Squashfs(source)
