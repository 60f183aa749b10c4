"""Applies fast commits, in their order, to what the log's replay left.

The semantics are those of the replay in fs/ext4/fast_commit.c, as far as reading can see them: names,
inodes and maps; nothing is allocated and no bitmap or checksum is brought up to date.
"""

from collections.abc import Iterable

from undercroft.disks.ext4 import fast_commit, layout
from undercroft.disks.ext4.changes import Changes, replace_range
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.directory import DirectoryReader
from undercroft.disks.ext4.fast_commit import Operation
from undercroft.disks.ext4.inode import InodeTable
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind
from undercroft.errors import InputError, UnsupportedError

_EMPTY_EXTENT_ROOT = layout.EXTENT_HEADER.pack(layout.EXTENT_MAGIC, 0, 4, 0, 0).ljust(60, b"\0")
_BLOCK = slice(40, 100)
_LINKS = slice(26, 28)
_MAX_RUNS = 1 << 20


class FastReplay:
    """Collects changes; the three readers must have been given the same `changes`.

    Args:
        superblock: of the filesystem.
        inodes, content, directories: its readers, which see each change as soon as it is made.
        changes: filled here.
    """

    def __init__(
        self,
        superblock: Superblock,
        inodes: InodeTable,
        content: Content,
        directories: DirectoryReader,
        changes: Changes,
    ) -> None:
        self._superblock = superblock
        self._inodes = inodes
        self._content = content
        self._directories = directories
        self._changes = changes

    def apply(self, operations: Iterable[Operation]) -> None:
        """Apply all operations. Raises InputError at the first that contradicts the filesystem."""
        for operation in operations:
            value = operation.value
            node = int.from_bytes(value[:4], "little")
            if operation.kind == fast_commit.INODE:
                self._inode(node, value[4:])
            elif operation.kind == fast_commit.ADD_RANGE:
                logical, length, high, low = layout.EXTENT.unpack_from(value, 4)
                self._add_range(node, logical, length, high << 32 | low)
            elif operation.kind == fast_commit.DELETE_RANGE:
                logical, length = layout.LOGICAL_RANGE.unpack_from(value, 4)
                replace_range(self._runs(node), logical, length, None)
            else:
                self._name(operation.kind, node, int.from_bytes(value[4:8], "little"), value[8:])

    def _inode(self, node: int, logged: bytes) -> None:
        """Take an inode as logged, but for its map, whose changes are logged as ranges."""
        old = self._inodes.raw(node)
        if len(logged) > len(old):
            raise InputError(f"ext fast commit: inode {node} of {len(logged)} bytes")
        flags = int.from_bytes(logged[32:36], "little")
        block = old[_BLOCK]
        if flags & layout.FLAG_INLINE_DATA:
            block = logged[_BLOCK]
        elif flags & layout.FLAG_EXTENTS and block[:2] != _EMPTY_EXTENT_ROOT[:2]:
            block = _EMPTY_EXTENT_ROOT
        self._replace(node, logged[:40] + block + logged[100:] + old[len(logged) :])

    def _add_range(self, node: int, logical: int, length: int, physical: int) -> None:
        is_unwritten = length > layout.EXTENT_INITIALIZED_MAX
        length -= layout.EXTENT_INITIALIZED_MAX if is_unwritten else 0
        if not self._superblock.first_data_block < physical <= self._superblock.blocks - length or not length:
            raise InputError(f"ext fast commit: inode {node}: {length} blocks at {physical} lie outside")
        runs = self._runs(node)
        replace_range(runs, logical, length, 0 if is_unwritten else physical)
        if len(runs) > _MAX_RUNS:
            raise InputError(f"ext fast commit: inode {node}: more than {_MAX_RUNS} pieces")

    def _runs(self, node: int) -> list[tuple[int, int, int]]:
        """Return the list of the runs of `node`, which may be changed."""
        if node not in self._changes.runs:
            inode = self._inodes.get(node)
            if not inode.flags & (layout.FLAG_EXTENTS | layout.FLAG_INLINE_DATA):
                raise UnsupportedError(f"ext fast commit: inode {node} has no extents")
            runs = []
            # Ranges come before the inode that says that its content is no longer inline.
            for run in () if inode.is_inline else self._content.runs(inode):
                runs.append(run)
                if len(runs) > _MAX_RUNS:
                    raise InputError(f"ext fast commit: inode {node}: more than {_MAX_RUNS} pieces")
            self._changes.runs[node] = runs
        return self._changes.runs[node]

    def _name(self, kind: int, directory: int, node: int, name: bytes) -> None:
        """Create, link or unlink `name`; what is already so stays as it is."""
        parent = self._inodes.get(directory)
        if parent.stat.kind is not FileKind.DIRECTORY or b"/" in name or b"\0" in name:
            raise InputError(f"ext fast commit: {name!r} in inode {directory}")
        names = self._changes.names.setdefault(directory, {})
        found = self._directories.find(parent, name)
        if kind == fast_commit.UNLINK:
            if found == node:
                names[name] = None
            self._count_links(node, -1)
            return
        if kind == fast_commit.CREATE and self._inodes.get(node).stat.kind is FileKind.DIRECTORY:
            self._changes.created.add(node)
        if found is None:
            names[name] = node
            self._count_links(node, 1)

    def _count_links(self, node: int, step: int) -> None:
        raw = self._inodes.raw(node)
        links = max(0, int.from_bytes(raw[_LINKS], "little") + step)
        self._replace(node, raw[:26] + min(links, 0xFFFF).to_bytes(2, "little") + raw[28:])

    def _replace(self, node: int, raw: bytes) -> None:
        self._changes.inodes[node] = raw
        self._inodes.forget(node)
