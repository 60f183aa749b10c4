"""An XFS filesystem, read without mounting it.

>>> filesystem = open_filesystem(source)
>>> filesystem.read(filesystem.lookup(filesystem.root, b"motd"), limit=4096)
"""

from collections.abc import Iterator
from uuid import UUID

from undercroft.disks.filesystem import FileKind, FileStat, check_size, wrong_kind
from undercroft.disks.source import BlockSource
from undercroft.disks.xfs import attributes
from undercroft.disks.xfs import superblock as superblocks
from undercroft.disks.xfs.blocks import Blocks
from undercroft.disks.xfs.content import Content
from undercroft.disks.xfs.directory import DirectoryReader, Entry
from undercroft.disks.xfs.inode import Inode, InodeTable
from undercroft.disks.xfs.replay import Replay, replay
from undercroft.disks.xfs.superblock import Superblock
from undercroft.errors import InputError


def open_filesystem(source: BlockSource) -> "Xfs":
    """Open the filesystem that fills `source`, replaying its log in memory where it needs that.

    A log that cannot be replayed whole is told in `problems`; the rest is still readable.

    Raises:
        UnsupportedError: an incompatible feature that this version cannot read.
        InputError: no valid superblock, or a root directory that cannot be read.
    """
    superblock, note = superblocks.find(source)
    replayed = replay(source, superblock)
    if note:
        replayed.notes.insert(0, note)
    claimed = superblock.blocks * superblock.block_bytes
    if claimed > source.size_bytes:
        replayed.problems.append(
            f"the filesystem has {claimed} bytes, its volume only {source.size_bytes}: "
            "what lies beyond cannot be read"
        )
    if superblock.needs_repair:
        replayed.problems.append(
            "the filesystem waits for the end of an xfs_repair: its guest would not mount it"
        )
    return Xfs(replayed.superblock, replayed)


class Xfs:
    """Implements `disks.filesystem.FileSystem`.

    Attributes:
        problems: why what is read here may not be what the guest would see; empty means none.
    """

    content = "xfs"

    def __init__(self, superblock: Superblock, replayed: Replay) -> None:
        self.label = superblock.label.decode("utf-8", "surrogateescape")
        self.uuid = str(UUID(bytes=superblock.uuid)) if any(superblock.uuid) else ""
        self.root = superblock.root_inode
        blocks = Blocks(replayed.source, superblock, frozenset(replayed.reowned))
        self._blocks = blocks
        self._inodes = InodeTable(blocks)
        self._content = Content(blocks)
        self._directories = DirectoryReader(self._content, blocks)
        self.notes = tuple(replayed.notes)
        self.problems = tuple(replayed.problems)
        self._directory(self.root)

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`. Raises InputError."""
        return self._inodes.get(node).stat

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there. Raises InputError."""
        return self._directories.find(self._directory(directory), name)

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield (name, node, kind) in disk order, without "." and "..". Raises InputError."""
        return self._directories.entries(self._directory(directory))

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink, 1 to 1,024 bytes. Raises InputError."""
        return self._content.target(self._typed(node, FileKind.SYMLINK))

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB. Raises InputError."""
        return self._content.chunks(self._typed(node, FileKind.REGULAR), start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's content. Raises InputError when it is larger than `limit` bytes."""
        inode = self._typed(node, FileKind.REGULAR)
        check_size(inode.stat, limit, f"xfs inode {node}")
        return b"".join(self._content.chunks(inode))

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return an attribute of `user.` or `trusted.`, None where there is none. Raises InputError."""
        return attributes.value(self._inodes.get(node), self._inodes.raw(node), name, self._blocks)

    def device(self, node: int) -> int:
        """Return the number of a device file, 0 for 0:0. Raises InputError."""
        inode = self._inodes.get(node)
        if inode.stat.kind not in (FileKind.CHARACTER, FileKind.BLOCK):
            raise InputError(f"xfs inode {node}: it is no device")
        return int.from_bytes(inode.fork[:4], "big")

    def _directory(self, node: int) -> Inode:
        return self._typed(node, FileKind.DIRECTORY)

    def _typed(self, node: int, kind: FileKind) -> Inode:
        inode = self._inodes.get(node)
        if inode.stat.kind is not kind:
            raise wrong_kind(inode.stat, kind, f"xfs inode {node}")
        return inode
