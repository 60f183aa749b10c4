"""Directory blocks: entries, and the checksums of leaf and index blocks.

A directory is read from end to end; its hash tree is not used, because a search for the name's bytes is
quicker in any directory below some 100,000 names, and nothing then depends on the guest's hashes. Index
blocks look like empty leaves, by design of the format. Follows ext4's "Directory Entries".
"""

from collections.abc import Iterator

from undercroft.disks.ext4 import inline, layout
from undercroft.disks.ext4.changes import Changes
from undercroft.disks.ext4.checksum import check, crc32c, stored
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.inode import Inode
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind
from undercroft.errors import InputError

Entry = tuple[bytes, int, FileKind]

_KINDS = (
    FileKind.UNKNOWN,
    FileKind.REGULAR,
    FileKind.DIRECTORY,
    FileKind.CHARACTER,
    FileKind.BLOCK,
    FileKind.FIFO,
    FileKind.SOCKET,
    FileKind.SYMLINK,
) + (FileKind.UNKNOWN,) * 8
_DOTS = (b".", b"..")
_UNKNOWN_KINDS = (FileKind.UNKNOWN,) * 16


class DirectoryReader:
    """Reads the directories of one filesystem."""

    def __init__(self, content: Content, superblock: Superblock, changes: Changes) -> None:
        self._content = content
        self._changed_names = changes.names
        self._created = changes.created
        self._block_bytes = superblock.block_bytes
        self._inodes = superblock.inodes
        has_kinds = superblock.incompatible & layout.INCOMPAT_FILETYPE
        self._kinds = _KINDS if has_kinds else _UNKNOWN_KINDS

    def entries(self, inode: Inode) -> Iterator[Entry]:
        """Yield (name, inode number, kind) in disk order, without "." and "..".

        Raises:
            UnsupportedError: the names are encrypted.
            InputError: a hole, a wrong checksum, or an entry that breaks the format's rules.
        """
        changed = self._changed_names.get(inode.stat.node, {})
        for block, place in self.blocks(inode):
            for entry in self.parse(block, place):
                if entry[0] not in _DOTS and entry[0] not in changed:
                    yield entry
        for name, node in changed.items():
            if node is not None:
                yield name, node, FileKind.UNKNOWN

    def find(self, inode: Inode, name: bytes) -> int | None:
        """Return the inode number of `name`, None when it is not there. Raises as `entries` does."""
        changed = self._changed_names.get(inode.stat.node)
        if changed and name in changed:
            return changed[name]
        for block, place in self.blocks(inode):
            if name in block:
                for found, node, _ in self.parse(block, place):
                    if found == name:
                        return node
        if inode.is_inline and name == b"..":
            return inline.parent(inode)
        if inode.flags & layout.FLAG_CASEFOLD:
            return self._find_folded(inode, name)
        return None

    def _find_folded(self, inode: Inode, name: bytes) -> int | None:
        folded = _fold(name)
        return next((node for found, node, _ in self.entries(inode) if _fold(found) == folded), None)

    def blocks(self, inode: Inode) -> Iterator[tuple[bytes, str]]:
        """Yield each area of entries, its checksum verified, with a name of its place for messages."""
        inode.check_readable()
        node = inode.stat.node
        if node in self._created:
            return
        if inode.is_inline:
            for number, region in enumerate(inline.directory_regions(inode)):
                yield region, f"ext inode {node}: inline directory area {number}"
            return
        size = self._block_bytes
        if not 0 < inode.stat.size_bytes <= layout.MAX_DIRECTORY_BYTES or inode.stat.size_bytes % size:
            raise InputError(
                f"ext inode {node}: a directory of {inode.stat.size_bytes} bytes; multiples of {size} "
                f"up to {layout.MAX_DIRECTORY_BYTES} are read"
            )
        number = 0
        for chunk in self._content.mapped(inode):
            for offset in range(0, len(chunk), size):
                block = chunk[offset : offset + size]
                place = f"ext inode {node}: directory block {number}"
                if inode.seed is not None:
                    is_indexed = bool(inode.flags & layout.FLAG_INDEXED)
                    _verify(block, inode.seed, place, is_indexed, number == 0)
                yield block, place
                number += 1

    def parse(self, block: bytes, place: str) -> list[Entry]:
        """Return the entries in use in one area, "." and ".." included. Raises InputError."""
        found: list[Entry] = []
        end = len(block)
        inodes = self._inodes
        kinds = self._kinds
        unpack = layout.DIRECTORY_ENTRY.unpack_from
        offset = 0
        while offset + 8 <= end:
            node, length, name_bytes, kind = unpack(block, offset)
            if end == layout.MAX_BLOCK_BYTES and (length & 3 or not length):
                # A length of 64 KiB does not fit 16 bits: the two low bits carry the high ones.
                length = end if length in (0, 65535) else length & 65532 | (length & 3) << 16
            if length < 8 + name_bytes or length & 3 or offset + length > end:
                raise InputError(f"{place}: the entry at byte {offset} has a length of {length}")
            if node:
                name = block[offset + 8 : offset + 8 + name_bytes]
                if node > inodes or not name or b"/" in name or b"\0" in name:
                    raise InputError(f"{place}: the entry at byte {offset} names {name!r}, inode {node}")
                found.append((name, node, kinds[kind & 15]))
            offset += length
        if offset != end:
            raise InputError(f"{place}: {end - offset} bytes after the last entry")
        return found


def _fold(name: bytes) -> str:
    import unicodedata  # noqa: PLC0415 - only for case-insensitive directories, which are rare

    return unicodedata.normalize("NFD", name.decode("utf-8", "surrogateescape")).casefold()


def _verify(block: bytes, seed: int, place: str, is_indexed: bool, is_first: bool) -> None:
    if is_indexed and (is_first or block[4:6] == len(block).to_bytes(3, "little")[:2]):
        _verify_index(block, seed, place, is_first)
        return
    zero, length, zero2, kind, found = layout.DIRECTORY_TAIL.unpack_from(block, len(block) - 12)
    if zero or zero2 or length != layout.DIRECTORY_TAIL_BYTES or kind != layout.DIRECTORY_TAIL_TYPE:
        raise InputError(f"{place}: the checksum is missing")
    check(found, stored(crc32c(block[:-12], seed)), place)


def _verify_index(block: bytes, seed: int, place: str, is_root: bool) -> None:
    offset = layout.INDEX_ROOT_OFFSET if is_root else layout.INDEX_NODE_OFFSET
    limit, count = layout.INDEX_COUNT.unpack_from(block, offset)
    tail = offset + limit * layout.INDEX_ENTRY_BYTES
    if count > limit or tail + 8 > len(block):
        raise InputError(f"{place}: {count} index entries of {limit}")
    end = offset + count * layout.INDEX_ENTRY_BYTES
    data = block[:end] + block[tail : tail + 4] + b"\0\0\0\0"
    found = int.from_bytes(block[tail + 4 : tail + 8], "little")
    check(found, stored(crc32c(data, seed)), place)
