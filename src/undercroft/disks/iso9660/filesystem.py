"""Files and folders of a disc. A node is where a file's first directory record lies, in bytes.

A directory's is its own record, the first one in its content, wherever it is named from: a loop among
directories leads back to a node that is known.
"""

from collections.abc import Iterator
from typing import NamedTuple

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.iso9660 import layout, rockridge
from undercroft.disks.iso9660.descriptors import read_disc
from undercroft.disks.iso9660.naming import wide_text
from undercroft.disks.iso9660.records import Record, parse
from undercroft.disks.iso9660.rockridge import NOTHING, Posix, Start
from undercroft.disks.pieces import in_pieces
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

CACHED_FOLDERS = 128
CACHED_NAMES = 4096
"""Of a folder that is kept; a larger one is kept alone."""
CACHED_FILES = 1024

Entry = tuple[bytes, int, FileKind]
Listing = dict[bytes, tuple[int, FileKind]]
_BY_TYPE_BITS = {kind.value: kind for kind in FileKind}
_KINDS = tuple(_BY_TYPE_BITS.get(bits, FileKind.UNKNOWN) for bits in range(16))


class _File(NamedTuple):
    """A file: its metadata, its extents as (place in bytes, length), and what Rock Ridge says."""

    stat: FileStat
    sections: tuple[tuple[int, int], ...]
    is_interleaved: bool
    posix: Posix


class Iso9660:
    """Implements `disks.filesystem.FileSystem` and `WithAttributes`.

    Args:
        source: the volume, untrusted.

    Attributes:
        label, uuid: as libblkid prints them.
        notes: which tree is shown.
        problems: that the volume is cut off.
        claimed_bytes: the disc's length; behind it a disk may have room for partitions.
        root: the root's node.

    Raises:
        InputError: descriptors or root are malformed.
    """

    content = "iso9660"

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        disc = read_disc(source)
        self.label, self.uuid = disc.label, disc.uuid
        self._block_bytes = disc.block_bytes
        self._files: BoundedCache[int, _File] = BoundedCache(CACHED_FILES)
        self._folders: BoundedCache[int, Listing] = BoundedCache(CACHED_FOLDERS)
        self._large: tuple[int, Listing] = (-1, {})
        start = rockridge.start_of(self._record(disc.primary).system_use, self._continuation)
        rocks = start is not None and (start.is_announced or disc.joliet is None)
        self._start: Start | None = start if rocks else None
        self._is_wide = not rocks and disc.joliet is not None
        self.root = disc.joliet if self._is_wide and disc.joliet is not None else disc.primary
        if rocks and disc.joliet is not None and not self._folder(disc.primary):
            self._start, self._is_wide, self.root = None, True, disc.joliet  # as Linux does with such discs
        tree = "Rock Ridge" if self._start else "Joliet" if self._is_wide else "plain names"
        self.notes: tuple[str, ...] = (tree,)
        self.claimed_bytes = disc.blocks * disc.block_bytes
        self.problems: tuple[str, ...] = ()
        if self.claimed_bytes > source.size_bytes:
            self.problems = (
                f"the filesystem has {self.claimed_bytes} bytes, its volume only {source.size_bytes}: "
                "what lies beyond cannot be read",
            )
        self._folder(self.root)

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`. Raises InputError."""
        return self._file(node).stat

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, None when it is not there. Raises InputError.

        Joliet's names are found whatever their case, as in Linux.
        """
        names = self._folder(directory)
        found = names.get(name)
        if found is None and self._is_wide:
            folded = _folded(name)
            found = next((entry for known, entry in names.items() if _folded(known) == folded), None)
        return found[0] if found else None

    def entries(self, directory: int) -> Iterator[Entry]:
        """Yield (name, node, kind) in disk order. Raises InputError."""
        for name, (node, kind) in self._folder(directory).items():
            yield name, node, kind

    def readlink(self, node: int) -> bytes:
        """Return the target of a symlink. Raises InputError."""
        file = self._typed(node, FileKind.SYMLINK)
        if not file.posix.target:
            raise InputError(f"iso9660 file {node:#x}: a symlink without a target")
        return file.posix.target

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a regular file's content from `start` on in pieces of at most 1 MiB. Raises InputError."""
        file = self._typed(node, FileKind.REGULAR)
        if file.posix.unpacked_bytes >= 0:
            raise UnsupportedError(
                f"iso9660 file {node:#x}: it is compressed (zisofs), which is not supported"
            )
        if file.is_interleaved:
            raise UnsupportedError(f"iso9660 file {node:#x}: it is interleaved, which is not supported")
        return self._content(node, file, start)

    def read(self, node: int, limit: int) -> bytes:
        """Return a regular file's whole content. Raises InputError when it is larger than `limit`."""
        size = self._typed(node, FileKind.REGULAR).stat.size_bytes
        if size > limit:
            raise InputError(f"iso9660 file {node:#x}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def xattr(self, node: int, name: bytes) -> bytes | None:  # noqa: ARG002 - the protocol's arguments
        """Return None: Linux shows no extended attributes of this format."""
        return None

    def device(self, node: int) -> int:
        """Return the number of a device file, 0 for 0:0. Raises InputError."""
        return self._file(node).posix.device

    def _content(self, node: int, file: _File, start: int) -> Iterator[bytes]:
        for place, length in file.sections:
            if start < length:
                if place + length > self._source.size_bytes:
                    raise InputError(
                        f"iso9660 file {node:#x}: {length} bytes at {place} lie beyond the end of the volume"
                    )
                yield from in_pieces(self._source.read, place + start, length - start, layout.MAX_CHUNK_BYTES)
            start = max(0, start - length)

    def _record(self, place: int) -> Record:
        """Return the record at `place`, which lies in one sector."""
        if not 0 <= place < self._source.size_bytes:
            raise InputError(f"iso9660 record at {place}: it lies beyond the end of the volume")
        room = layout.SECTOR_BYTES - place % layout.SECTOR_BYTES
        data = self._source.read(place, min(room, 255, self._source.size_bytes - place))
        return parse(data, f"iso9660 record at {place}")

    def _continuation(self, block: int, offset: int, length: int) -> bytes:
        place = block * self._block_bytes + offset
        if place + length > self._source.size_bytes:
            raise InputError(f"iso9660: {length} bytes of system use at {place} lie beyond the end")
        return self._source.read(place, length)

    def _posix(self, record: Record, place: int) -> Posix:
        if self._start is None:
            return NOTHING
        area = record.system_use[self._start.skip :]
        return rockridge.posix(area, self._continuation, f"iso9660 record at {place}")

    def _file(self, node: int) -> _File:
        return self._files.get(node) or self._files.put(node, self._parse(node))

    def _parse(self, node: int) -> _File:
        record = self._record(node)
        posix = self._posix(record, node)
        is_directory = bool(record.flags & layout.FLAG_DIRECTORY)
        if is_directory and record.name != layout.SELF:
            raise InputError(f"iso9660 directory at {node}: its first record is not its own")
        if is_directory:
            sections = [(record.block * self._block_bytes, record.size_bytes)]
        else:
            sections = self._sections(record, node)
        mode = posix.mode
        if mode < 0:
            kind = FileKind.DIRECTORY if is_directory else FileKind.REGULAR
            mode = kind.value << 12 | layout.DEFAULT_MODE
        kind = _KINDS[mode >> 12]
        if is_directory is not (kind is FileKind.DIRECTORY):
            raise InputError(f"iso9660 file {node:#x}: its mode {mode:#o} contradicts its record")
        size = sum(length for _, length in sections)
        if kind is FileKind.SYMLINK:
            size = len(posix.target)
        elif posix.unpacked_bytes >= 0:
            size = posix.unpacked_bytes
        modified = record.modified_at_s if posix.modified_at_s is None else posix.modified_at_s
        stat = FileStat(node, kind, mode, size, posix.uid, posix.gid, posix.links, modified)
        return _File(stat, tuple(sections), record.is_interleaved, posix)

    def _sections(self, record: Record, node: int) -> list[tuple[int, int]]:
        """Return the extents of a file whose first record is at `node`; the others follow it."""
        sections = [(record.block * self._block_bytes, record.size_bytes)]
        place = node
        while record.flags & layout.FLAG_MORE:
            if record.size_bytes % self._block_bytes:
                raise InputError(
                    f"iso9660 file {node:#x}: an extent of {record.size_bytes} bytes in its middle"
                )
            if len(sections) >= layout.MAX_SECTIONS:
                raise InputError(f"iso9660 file {node:#x}: more than {layout.MAX_SECTIONS} extents")
            place = self._next_place(place)
            record = self._record(place)
            sections.append((record.block * self._block_bytes, record.size_bytes))
        return sections

    def _next_place(self, place: int) -> int:
        following = place + self._source.read(place, 1)[0]
        ends = following % layout.SECTOR_BYTES == 0 or not self._source.read(following, 1)[0]
        return -(-following // layout.SECTOR_BYTES) * layout.SECTOR_BYTES if ends else following

    def _typed(self, node: int, kind: FileKind) -> _File:
        file = self._file(node)
        if file.stat.kind is not kind:
            found = file.stat.kind.name.lower()
            raise InputError(f"iso9660 file {node:#x}: a {kind.name.lower()} is asked for, it is a {found}")
        return file

    def _folder(self, node: int) -> Listing:
        found = self._folders.get(node)
        if found is not None:
            return found
        if self._large[0] == node:
            return self._large[1]
        listing = self._list(node)
        if len(listing) > CACHED_NAMES:
            self._large = (node, listing)
            return listing
        return self._folders.put(node, listing)

    def _list(self, node: int) -> Listing:
        file = self._typed(node, FileKind.DIRECTORY)
        [(start, length)] = file.sections
        if length > layout.MAX_DIRECTORY_BYTES:
            raise InputError(
                f"iso9660 directory at {node}: {length} bytes, the limit is {layout.MAX_DIRECTORY_BYTES}"
            )
        if start + length > self._source.size_bytes:
            raise InputError(f"iso9660 directory at {node}: it lies beyond the end of the volume")
        return dict(self._named(self._source.read(start, length), start))

    def _named(self, data: bytes, start: int) -> Iterator[tuple[bytes, tuple[int, FileKind]]]:
        """Yield the entries of a directory's content; a file's extents have a record each, and one name."""
        position, first = 0, -1
        while position < len(data):
            length = data[position]
            if not length:
                position = (position // layout.SECTOR_BYTES + 1) * layout.SECTOR_BYTES
                continue
            what = f"iso9660 record at {start + position}"
            if position % layout.SECTOR_BYTES + length > layout.SECTOR_BYTES:
                raise InputError(f"{what}: it passes the end of its sector")
            record = parse(data[position : position + length], what)
            first = position if first < 0 else first
            place, position = start + first, position + length
            if record.flags & layout.FLAG_MORE:
                continue
            first = -1
            if record.name not in (layout.SELF, layout.PARENT) and not record.flags & layout.FLAG_ASSOCIATED:
                posix = self._posix(record, place)
                if not posix.is_relocated:
                    yield self._name(record, posix, what), self._target(record, posix, place)

    def _target(self, record: Record, posix: Posix, place: int) -> tuple[int, FileKind]:
        if posix.directory_block >= 0:
            return posix.directory_block * self._block_bytes, FileKind.DIRECTORY
        if record.flags & layout.FLAG_DIRECTORY:
            return record.block * self._block_bytes, FileKind.DIRECTORY
        return place, _KINDS[posix.mode >> 12] if posix.mode >= 0 else FileKind.REGULAR

    def _name(self, record: Record, posix: Posix, what: str) -> bytes:
        if posix.name:
            return posix.name
        name = _wide_name(record.name) if self._is_wide else _plain_name(record.name)
        if not name or b"/" in name or b"\0" in name or name in (b".", b".."):
            raise InputError(f"{what}: its name is none")
        return name


def _wide_name(untrusted: bytes) -> bytes:
    """Return a Joliet name without its version and the dots at its end, as Linux does."""
    name = wide_text(untrusted).encode("utf-8", "surrogatepass")
    if len(name) > 2 and name.endswith(b";1"):
        name = name[:-2]
    while len(name) >= 2 and name.endswith(b"."):
        name = name[:-1]
    return name


def _plain_name(untrusted: bytes) -> bytes:
    """Return a plain name as Linux maps it: in lower case and without a version of 1."""
    name = untrusted.split(b"\0", 1)[0].lower()
    if name.endswith(b".;1"):
        name = name[:-3]
    elif name.endswith(b";1"):
        name = name[:-2]
    return name.replace(b";", b".").replace(b"/", b".")


def _folded(name: bytes) -> bytes:
    return name.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")


def open_filesystem(source: BlockSource) -> Iso9660:
    """Return a reader of the volume's ISO 9660.

    Raises:
        InputError: it is malformed.
    """
    return Iso9660(source)
