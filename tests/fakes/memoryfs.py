"""A filesystem in memory that implements `disks.filesystem.FileSystem`, for tests of what lies above it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.errors import InputError

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Link:
    """A symlink."""

    target: bytes


@dataclass(frozen=True)
class File:
    """A regular file with metadata of its own."""

    content: bytes
    mode: int = 0o644
    modified_at_s: int = 1_700_000_000


@dataclass(frozen=True)
class Broken:
    """A file that stands in its directory, and whose metadata or content cannot be read."""

    reason: str = "checksum of the inode does not match"


@dataclass
class _Node:
    kind: FileKind
    mode: int
    content: bytes = b""
    modified_at_s: int = 1_700_000_000
    children: dict[bytes, int] | None = None
    broken: str = ""


class MemoryFileSystem:
    """Files by path ("etc/fstab"); a path that ends in "/" is an empty directory."""

    def __init__(
        self,
        files: Mapping[str | bytes, bytes | File | Link | Broken],
        content: str = "ext4",
        label: str = "",
        uuid: str = "",
        problems: tuple[str, ...] = (),
        typed_entries: bool = True,
    ) -> None:
        self.content = content
        self.label = label
        self.uuid = uuid
        self.notes: tuple[str, ...] = ()
        self.problems = problems
        self.root = 2
        self.lookups = 0
        self._typed_entries = typed_entries
        self._nodes = {2: _Node(FileKind.DIRECTORY, 0o40755, children={})}
        for path, file in files.items():
            self._add(path.encode() if isinstance(path, str) else path, file)

    def hard_link(self, directory: str, name: bytes, node: int) -> None:
        """Put any node, a directory too, into a directory: what only a malformed disk holds."""
        parent = self._descend(directory.encode().split(b"/"))
        self._children(parent)[name] = node

    def stat(self, node: int) -> FileStat:
        found = self._nodes.get(node)
        if found is None:
            raise InputError(f"inode {node} is out of range")
        if found.broken:
            raise InputError(f"inode {node}: {found.broken}")
        return FileStat(node, found.kind, found.mode, len(found.content), 0, 0, 1, found.modified_at_s)

    def lookup(self, directory: int, name: bytes) -> int | None:
        self.lookups += 1
        return self._children(directory).get(name)

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        for name, node in list(self._children(directory).items()):
            yield name, node, self._nodes[node].kind if self._typed_entries else FileKind.UNKNOWN

    def readlink(self, node: int) -> bytes:
        return self._nodes[node].content

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        content = self._nodes[node].content
        for offset in range(start, len(content), PIECE_BYTES):
            yield content[offset : offset + PIECE_BYTES]

    def read(self, node: int, limit: int) -> bytes:
        content = self._nodes[node].content
        if len(content) > limit:
            raise InputError(f"{len(content)} bytes, the limit is {limit}")
        return content

    def _add(self, path: bytes, file: bytes | File | Link | Broken) -> None:
        *folders, name = path.split(b"/")
        parent = self._descend(folders)
        if not name:
            return
        match file:
            case Link(target):
                node = _Node(FileKind.SYMLINK, 0o120777, target)
            case File(content, mode, modified_at_s):
                node = _Node(FileKind.REGULAR, 0o100000 | mode, content, modified_at_s)
            case Broken(reason):
                node = _Node(FileKind.REGULAR, 0o100644, broken=reason)
            case _:
                node = _Node(FileKind.REGULAR, 0o100644, file)
        self._children(parent)[name] = self._new(node)

    def _descend(self, folders: list[bytes]) -> int:
        node = self.root
        for folder in folders:
            children = self._children(node)
            if folder not in children:
                children[folder] = self._new(_Node(FileKind.DIRECTORY, 0o40755, children={}))
            node = children[folder]
        return node

    def _children(self, node: int) -> dict[bytes, int]:
        children = self._nodes[node].children
        if children is None:
            raise InputError(f"inode {node} is not a directory")
        return children

    def _new(self, node: _Node) -> int:
        number = len(self._nodes) + 10
        self._nodes[number] = node
        return number
