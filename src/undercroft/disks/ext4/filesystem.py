"""An ext2, ext3 or ext4 filesystem, read without mounting it.

>>> filesystem = open_filesystem(source)
>>> filesystem.read(filesystem.lookup(filesystem.root, b"motd"), limit=4096)
"""

from collections.abc import Iterator
from uuid import UUID

from undercroft.disks.ext4 import attributes, inline, layout
from undercroft.disks.ext4 import superblock as superblocks
from undercroft.disks.ext4.changes import Changes
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.directory import DirectoryReader, Entry
from undercroft.disks.ext4.fast_replay import FastReplay
from undercroft.disks.ext4.groups import GroupTable
from undercroft.disks.ext4.inode import Inode, InodeTable
from undercroft.disks.ext4.replay import Replay, replay
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind, FileStat, check_size, wrong_kind
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


def is_ext(source: BlockSource) -> bool:
    """Return whether the primary superblock bears ext's magic. Raises InputError."""
    return superblocks.has_magic(source)


def open_filesystem(source: BlockSource) -> "Ext4":
    """Open the filesystem that fills `source`, replaying its journal in memory where it needs that.

    A journal that cannot be replayed whole is told in `problems`; the rest is still readable.

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
    if replayed.source is not source:
        superblock, note = superblocks.find(replayed.source)
        if note and note not in replayed.notes:
            replayed.notes.append(note)
    if superblock.has_errors:
        replayed.notes.append("the guest's kernel marked the filesystem as having errors")
    return Ext4(superblock, replayed)


class Ext4:
    """Implements `disks.filesystem.FileSystem`.

    Attributes:
        problems: why what is read here may not be what the guest would see; empty means none.
    """

    root = layout.ROOT_INODE

    def __init__(self, superblock: Superblock, replayed: Replay) -> None:
        self.content = superblock.content
        self.label = superblock.label.decode("utf-8", "surrogateescape")
        self.uuid = str(UUID(bytes=superblock.uuid)) if any(superblock.uuid) else ""
        source = replayed.source
        changes = Changes()
        self._inodes = InodeTable(source, superblock, GroupTable(source, superblock), changes)
        self._content = Content(source, superblock, changes)
        self._directories = DirectoryReader(self._content, superblock, changes)
        if replayed.operations:
            readers = self._inodes, self._content, self._directories
            _replay_fast_commits(replayed, FastReplay(superblock, *readers, changes))
        self.notes = tuple(replayed.notes)
        self.problems = tuple(replayed.problems)
        self._source, self._superblock = source, superblock
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
        """Return the target of a symlink, 1 to 4,095 bytes. Raises InputError."""
        inode = self._typed(node, FileKind.SYMLINK)
        size = inode.stat.size_bytes
        if not 0 < size <= layout.MAX_SYMLINK_BYTES:
            raise InputError(f"ext inode {node}: a symlink of {size} bytes")
        inode.check_readable()
        if size < layout.INLINE_BYTES and not inode.flags & (layout.FLAG_EXTENTS | layout.FLAG_INLINE_DATA):
            target = inode.block[:size]
        elif inode.is_inline:
            target = inline.content(inode)
        else:
            target = b"".join(self._content.chunks(inode))
        if b"\0" in target:
            raise InputError(f"ext inode {node}: a symlink with a NUL in its target")
        return target

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB. Raises InputError."""
        return self._content.chunks(self._typed(node, FileKind.REGULAR), start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's content. Raises InputError when it is larger than `limit` bytes."""
        inode = self._typed(node, FileKind.REGULAR)
        check_size(inode.stat, limit, f"ext inode {node}")
        return b"".join(self._content.chunks(inode))

    def xattr(self, node: int, name: bytes) -> bytes | None:
        """Return an attribute of `user.` or `trusted.`, None where there is none. Raises InputError."""
        return attributes.value(self._inodes.get(node), name, self._source, self._superblock)

    def device(self, node: int) -> int:
        """Return the number of a device file, 0 for 0:0. Raises InputError."""
        inode = self._inodes.get(node)
        if inode.stat.kind not in (FileKind.CHARACTER, FileKind.BLOCK):
            raise InputError(f"ext inode {node}: it is no device")
        return int.from_bytes(inode.block[:8], "little")

    def _directory(self, node: int) -> Inode:
        return self._typed(node, FileKind.DIRECTORY)

    def _typed(self, node: int, kind: FileKind) -> Inode:
        inode = self._inodes.get(node)
        if inode.stat.kind is not kind:
            raise wrong_kind(inode.stat, kind, f"ext inode {node}")
        return inode


def _replay_fast_commits(replayed: Replay, fast_replay: FastReplay) -> None:
    try:
        fast_replay.apply(replayed.operations)
    except InputError as error:
        replayed.problems.append(f"fast commits not replayed whole: {error}")
    else:
        replayed.notes.append(f"fast commits replayed: {len(replayed.operations)} operations")
