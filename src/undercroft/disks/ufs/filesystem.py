"""Files and folders of a UFS. A node is an inode's number."""

from collections.abc import Iterator
from struct import Struct

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.disks.ufs.content import Content
from undercroft.disks.ufs.inode import Inode, read_inode
from undercroft.disks.ufs.superblock import read_superblock
from undercroft.errors import InputError

ROOT = 2
DIRECTORY_BLOCK_BYTES = 512
MAX_DIRECTORY_BYTES = 256 << 20
MAX_LINK_BYTES = 1023
"""FreeBSD's MAXPATHLEN without its NUL."""
CACHED_NODES = 4096
CACHED_FOLDERS = 16
CACHED_NAMES = 20_000
"""A larger folder is searched anew for each name."""

_ENTRY = Struct("<IHBB")
_WHITEOUT = 14
_KINDS = {kind.value: kind for kind in FileKind}

_Entry = tuple[bytes, int, FileKind]


class Ufs:
    """One UFS.

    Args:
        source: the volume, untrusted.

    Attributes:
        content: "ufs1" or "ufs2".
        label: the volume label.
        uuid: as libblkid prints it, "" for none.
        notes: nothing is done on the way.
        problems: why what is read may not be what the guest wrote.
        root: the root's inode.

    Raises:
        InputError: superblock or root are malformed.
        UnsupportedError: of another byte order or age.
    """

    notes: tuple[str, ...] = ()
    root = ROOT

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._superblock = read_superblock(source)
        self._content = Content(source, self._superblock)
        self._inodes: BoundedCache[int, Inode] = BoundedCache(CACHED_NODES)
        self._folders: BoundedCache[int, dict[bytes, int]] = BoundedCache(CACHED_FOLDERS)
        self.content = f"ufs{self._superblock.version}"
        self.label = self._superblock.label
        self.uuid = self._superblock.uuid
        self.problems = self._superblock.problems()
        if self.stat(ROOT).kind is not FileKind.DIRECTORY:
            raise InputError("ufs inode 2: the root is no directory")

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        return self._inode(node).stat

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there."""
        names = self._folders.get(directory)
        if names is not None:
            return names.get(name)
        found, names = None, {}
        for entry, node, _ in self.entries(directory):
            if entry == name:
                found = node if found is None else found
            if len(names) <= CACHED_NAMES:
                names.setdefault(entry, node)
        if len(names) <= CACHED_NAMES:
            self._folders.put(directory, names)
        return found

    def entries(self, directory: int) -> Iterator[_Entry]:
        """Yield (name, node, kind), in disk order."""
        inode = self._inode(directory)
        size = inode.stat.size_bytes
        if inode.stat.kind is not FileKind.DIRECTORY:
            raise InputError(f"ufs inode {directory}: it is no directory")
        if size % DIRECTORY_BLOCK_BYTES or size > MAX_DIRECTORY_BYTES:
            raise InputError(f"ufs inode {directory}: a directory of {size} bytes")
        for chunk in self._content.whole(inode):
            for start in range(0, len(chunk), DIRECTORY_BLOCK_BYTES):
                yield from _listed(chunk[start : start + DIRECTORY_BLOCK_BYTES], directory)

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink."""
        inode = self._inode(node)
        size = inode.stat.size_bytes
        if inode.stat.kind is not FileKind.SYMLINK:
            raise InputError(f"ufs inode {node}: it is no symlink")
        if not 0 < size <= MAX_LINK_BYTES:
            raise InputError(f"ufs inode {node}: a symlink of {size} bytes")
        limit = self._superblock.inline_link_bytes
        is_inline = size < limit if limit else not inode.blocks
        target = inode.raw[:size] if is_inline else b"".join(self._content.chunks(inode))
        if len(target) != size or b"\0" in target:
            raise InputError(f"ufs inode {node}: a symlink of {size} bytes that holds other ones")
        return target

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB."""
        inode = self._inode(node)
        if inode.stat.kind is not FileKind.REGULAR:
            raise InputError(f"ufs inode {node}: it is no regular file")
        return self._content.chunks(inode, start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a file's whole content. Raises InputError when it is larger than `limit`."""
        size = self.stat(node).size_bytes
        if size > limit:
            raise InputError(f"ufs inode {node}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def _inode(self, node: int) -> Inode:
        found = self._inodes.get(node)
        return found or self._inodes.put(node, read_inode(self._source, self._superblock, node))


def _listed(block: bytes, directory: int) -> Iterator[_Entry]:
    """Yield the entries of one block of a directory; none crosses its end."""
    at = 0
    while at < len(block):
        if at + _ENTRY.size > len(block):
            raise InputError(f"ufs inode {directory}: an entry at {at}, the end of a block")
        node, length, kind, name_bytes = _ENTRY.unpack_from(block, at)
        start, end = at + _ENTRY.size, at + length
        if length < _ENTRY.size or length % 4 or end > len(block) or start + name_bytes > end:
            raise InputError(f"ufs inode {directory}: an entry of {length} bytes at {at}")
        name = block[start : start + name_bytes]
        at = end
        if not node or kind == _WHITEOUT or name in (b".", b".."):
            continue
        if not name or b"/" in name or b"\0" in name:
            raise InputError(f"ufs inode {directory}: an entry with an impossible name")
        yield name, node, _KINDS.get(kind, FileKind.UNKNOWN)
