"""Directories in all their forms: in the inode, in one block, in blocks with an index of any height.

A directory is read from end to end; its index by hashes is not used, because a search for the name's bytes
is quicker in any directory below some 100,000 names, and nothing then depends on the guest's hashes. The
four forms differ only in their index, and in where the entries of a block end.
"""

from collections.abc import Iterator
from struct import Struct

from undercroft.disks.filesystem import FileKind
from undercroft.disks.xfs import layout
from undercroft.disks.xfs.blocks import Blocks
from undercroft.disks.xfs.content import Content, DirectoryBlock
from undercroft.disks.xfs.inode import Inode
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
) + (FileKind.UNKNOWN,) * 248
_DOTS = (b".", b"..")
_FOLDED = bytes(
    byte + 32 if 0x41 <= byte <= 0x5A or (0xC0 <= byte <= 0xDE and byte != 0xD7) else byte
    for byte in range(256)
)
"""Capital letters of ISO 8859-1 to small ones (xfs_ascii_ci_xfrm)."""
_HEADS = Struct(">Q").unpack_from
_LEAST_ENTRY_BYTES = 16
_LEAST_FREE_BYTES = 8


class DirectoryReader:
    """Reads the directories of one filesystem."""

    def __init__(self, content: Content, blocks: Blocks) -> None:
        self._content = content
        self._blocks = blocks
        superblock = blocks.superblock
        self._has_kinds = superblock.has_kinds
        self._is_casefolded = superblock.is_casefolded
        self._block_bytes = superblock.directory_block_bytes
        is_v5 = superblock.is_v5
        self._header_bytes = layout.DIRECTORY_HEADER_V5_BYTES if is_v5 else layout.DIRECTORY_HEADER_BYTES
        self._single_magic = layout.DIRECTORY_BLOCK_MAGIC_V5 if is_v5 else layout.DIRECTORY_BLOCK_MAGIC
        self._data_magic = layout.DIRECTORY_DATA_MAGIC_V5 if is_v5 else layout.DIRECTORY_DATA_MAGIC

    def entries(self, inode: Inode) -> Iterator[Entry]:
        """Yield (name, inode number, kind) in disk order, without "." and "..".

        Raises InputError at a wrong checksum, or an entry that breaks the format's rules.
        """
        for area in self._areas(inode):
            for entry in area:
                if entry[0] not in _DOTS:
                    yield entry

    def find(self, inode: Inode, name: bytes) -> int | None:
        """Return the inode number of `name`, None when it is not there. Raises as `entries` does."""
        if inode.format == layout.FORMAT_LOCAL:
            found = next((node for other, node, _ in self._short(inode) if other == name), None)
        else:
            found = self._find_in_blocks(inode, name)
        if found is None and self._is_casefolded:
            folded = name.translate(_FOLDED)
            return next(
                (node for other, node, _ in self.entries(inode) if other.translate(_FOLDED) == folded), None
            )
        return found

    def _find_in_blocks(self, inode: Inode, name: bytes) -> int | None:
        for block in self._content.directory_blocks(inode):
            if name in block.data:
                for found, node, _ in self._block(inode, block):
                    if found == name:
                        return node
        return None

    def _areas(self, inode: Inode) -> Iterator[list[Entry]]:
        if inode.format == layout.FORMAT_LOCAL:
            yield self._short(inode)
            return
        for block in self._content.directory_blocks(inode):
            yield self._block(inode, block)

    def _short(self, inode: Inode) -> list[Entry]:
        """Return the entries of a directory that lies in its inode, and ".."; "." is not stored."""
        place = f"xfs inode {inode.stat.node}: directory in the inode"
        data = inode.fork[: inode.stat.size_bytes]
        if len(data) != inode.stat.size_bytes or len(data) < 6:
            raise InputError(f"{place}: {inode.stat.size_bytes} bytes in a fork of {len(inode.fork)}")
        count, wide = data[0], data[1]
        number_bytes = 8 if wide else 4
        rest = self._has_kinds + number_bytes
        offset = 2 + number_bytes
        found: list[Entry] = [
            (b".", inode.stat.node, FileKind.DIRECTORY),
            (b"..", int.from_bytes(data[2:offset], "big"), FileKind.DIRECTORY),
        ]
        for _ in range(count):
            length = data[offset] if offset < len(data) else 0
            name = data[offset + 3 : offset + 3 + length]
            end = offset + 3 + length + rest
            if end > len(data) or not name or b"/" in name or b"\0" in name:
                raise InputError(f"{place}: the entry at byte {offset} is {name!r}, of {length} bytes")
            kind = _KINDS[data[offset + 3 + length]] if self._has_kinds else FileKind.UNKNOWN
            found.append((name, int.from_bytes(data[end - number_bytes : end], "big"), kind))
            offset = end
        if offset != len(data):
            raise InputError(f"{place}: {len(data) - offset} bytes after the last entry")
        return found

    def _block(self, inode: Inode, found: DirectoryBlock) -> list[Entry]:
        """Return the entries of one block, verified."""
        node, block = inode.stat.node, found.data
        place = f"xfs inode {node}: directory block {found.begin // self._block_bytes}"
        is_single = inode.stat.size_bytes == self._block_bytes and block[:4] == self._single_magic
        if not is_single and block[:4] != self._data_magic:
            raise InputError(f"{place}: magic {block[:4]!r}, not {self._data_magic!r}")
        self._blocks.check(block, layout.DIRECTORY_HEADER, found.offset, node, place, found.is_changed)
        end = len(block)
        if is_single:
            count, _ = layout.DIRECTORY_TAIL.unpack_from(block, end - layout.DIRECTORY_TAIL.size)
            end -= layout.DIRECTORY_TAIL.size + count * layout.DIRECTORY_INDEX_ENTRY_BYTES
            if end < self._header_bytes:
                raise InputError(f"{place}: an index of {count} entries")
        return self._parse(block, end, place)

    def _parse(self, block: bytes, end: int, place: str) -> list[Entry]:
        """Return the entries in use up to `end`, "." and ".." included. Raises InputError."""
        found: list[Entry] = []
        has_kinds, kinds, unknown = self._has_kinds, _KINDS, FileKind.UNKNOWN
        rest = 18 + has_kinds  # number, length, tag, a kind, and seven to round up
        offset = self._header_bytes
        while offset < end:
            (node,) = _HEADS(block, offset)
            if node >> 48 == layout.DIRECTORY_FREE_TAG:
                length = node >> 32 & 0xFFFF
                if length < _LEAST_FREE_BYTES or length & 7 or offset + length > end:
                    raise InputError(f"{place}: the free space at byte {offset} has {length} bytes")
            else:
                if offset + _LEAST_ENTRY_BYTES > end:
                    raise InputError(f"{place}: {end - offset} bytes after the last entry")
                name_end = offset + 9 + block[offset + 8]
                length = block[offset + 8] + rest & ~7
                name = block[offset + 9 : name_end]
                if offset + length > end or not name or b"/" in name or b"\0" in name:
                    raise InputError(f"{place}: the entry at byte {offset} names {name!r}, inode {node}")
                found.append((name, node, kinds[block[name_end]] if has_kinds else unknown))
            if block[offset + length - 2 : offset + length] != offset.to_bytes(2, "big"):
                raise InputError(f"{place}: what begins at byte {offset} does not end {length} bytes further")
            offset += length
        return found
