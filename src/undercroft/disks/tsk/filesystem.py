"""A filesystem of The Sleuth Kit behind `disks.filesystem.FileSystem`.

Names are looked up as Windows does, whatever their case. Of NTFS only what Windows shows is shown: no
deleted files, no alternate streams. A file that Windows compressed as a whole (WOF) or that stands for one
elsewhere (a reparse point) is refused when it is read: its plain content would be zeros.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BlockSource
from undercroft.disks.tsk.binding import Library, constants
from undercroft.disks.tsk.ntfsindex import list_index
from undercroft.disks.tsk.ntfslog import log_is_clean
from undercroft.errors import InputError, UnsupportedError

PIECE_BYTES = 1 << 20
MAX_ENTRIES = 1_000_000
MAX_NAME_BYTES = 1024
MAX_FOLDERS_KEPT = 32
MAX_INDEX_ROOT_BYTES = 64 << 10

_NTFS_LOG_NODE, _NTFS_VOLUME_NODE = 2, 3
_NTFS_VOLUME_INFORMATION = 0x70
_NTFS_REPARSE = 0xC0
_NTFS_INDEX_ROOT, _NTFS_INDEX_ALLOCATION = 0x90, 0xA0
_NEVER_IN_NAMES = frozenset(b"/:\0")
_DIRTY = 0x0001
_LOG_BYTES = 4 * 4096
_HIBERNATED = b"hiberfil.sys"
_HIBERNATION_MAGICS = (b"hibr", b"HIBR")

_Names = dict[bytes, tuple[bytes, int, FileKind]]


def open_volume(source: BlockSource) -> "TskFileSystem":
    """Return a reader of the NTFS in `source`. Raises as `tsk.open_filesystem`."""
    return TskFileSystem(Library(source))


class TskFileSystem:
    """NTFS; see `disks.filesystem.FileSystem`.

    Attributes:
        problems: why what is read may be older than what the guest had written.
    """

    content = "ntfs"

    def __init__(self, library: Library) -> None:
        self._library = library
        self.label = self.uuid = ""
        self.notes: tuple[str, ...] = ()
        self.root = int(library.ask(lambda: library.handle.info.root_inum))
        self._folders: OrderedDict[int, _Names] = OrderedDict()
        self.problems = tuple(self._state())

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        meta = self._meta(self._open(node), node)
        kind = self._kind(meta)
        mode = (int(meta.mode) & 0o7777) | (kind.value << 12)
        size = int(meta.size) if kind is FileKind.REGULAR else 0
        if size < 0:
            raise InputError(f"ntfs file {node}: {size} bytes")
        return FileStat(
            node, kind, mode, size, int(meta.uid), int(meta.gid), int(meta.nlink), int(meta.mtime)
        )

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, whatever its case; None when it is not there."""
        found = self._names(directory).get(name.lower())
        return found[1] if found else None

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind)."""
        yield from self._names(directory).values()

    def readlink(self, node: int) -> bytes:
        """Refuse: links of Windows are reparse points, which are not followed."""
        raise UnsupportedError(f"ntfs file {node}: its link is not followed")

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a file's content from `start` on in pieces of at most 1 MiB."""
        file, size = self._regular(node)
        offset = start
        while offset < size:
            wanted = min(PIECE_BYTES, size - offset)
            piece = self._library.ask(lambda at=offset, length=wanted: file.read_random(at, length))  # type: ignore[misc] # bound at once
            if not isinstance(piece, bytes) or len(piece) != wanted:
                raise InputError(f"ntfs file {node}: {wanted} bytes at {offset} could not be read")
            yield piece
            offset += wanted

    def read(self, node: int, limit: int) -> bytes:
        """Return a file's whole content. Raises InputError when it is larger than `limit`."""
        size = self.stat(node).size_bytes
        if size > limit:
            raise InputError(f"ntfs file {node}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def _open(self, node: int) -> Any:
        handle = self._library.handle
        if not 0 <= node <= int(handle.info.last_inum):
            raise InputError(f"ntfs file {node}: out of range")
        return self._library.ask(lambda: handle.open_meta(inode=node))

    def _meta(self, file: Any, node: int) -> Any:
        meta = self._library.ask(lambda: file.info.meta)
        if meta is None or not int(meta.flags) & int(constants.TSK_FS_META_FLAG_ALLOC):
            raise InputError(f"ntfs file {node}: it is not in use")
        return meta

    def _kind(self, meta: Any) -> FileKind:
        if meta.type == constants.TSK_FS_META_TYPE_DIR:
            return FileKind.DIRECTORY
        return FileKind.REGULAR if meta.type == constants.TSK_FS_META_TYPE_REG else FileKind.UNKNOWN

    def _regular(self, node: int) -> tuple[Any, int]:
        """Return (file, size). Raises InputError for anything else, and for a reparse point."""
        file = self._open(node)
        meta = self._meta(file, node)
        if self._kind(meta) is not FileKind.REGULAR:
            raise InputError(f"ntfs file {node}: no regular file")
        if self._attribute(file, _NTFS_REPARSE):
            raise UnsupportedError(
                f"ntfs file {node}: a reparse point, whose content lies elsewhere or compressed"
            )
        return file, int(meta.size)

    def _names(self, directory: int) -> _Names:
        found = self._folders.get(directory)
        if found is not None:
            self._folders.move_to_end(directory)
            return found
        names: _Names = {}
        file = self._open(directory)
        if self._kind(self._meta(file, directory)) is not FileKind.DIRECTORY:
            raise InputError(f"ntfs file {directory}: no directory")
        for listed in self._index(file, directory):
            if len(names) >= MAX_ENTRIES:
                raise InputError(f"ntfs file {directory}: more than {MAX_ENTRIES} entries")
            names.setdefault(listed[0].lower(), listed)
        self._folders[directory] = names
        if len(self._folders) > MAX_FOLDERS_KEPT:
            self._folders.popitem(last=False)
        return names

    def _index(self, file: Any, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield what is in a directory, by its own index."""
        root = self._attribute(file, _NTFS_INDEX_ROOT)
        if root is None:
            raise InputError(f"ntfs file {directory}: a directory without an index")
        blocks = self._attribute(file, _NTFS_INDEX_ALLOCATION)

        def read(one: Any, offset: int, length: int) -> bytes:
            found = self._library.ask(lambda: file.read_random(offset, length, one.info.type, one.info.id))
            if not isinstance(found, bytes) or len(found) != length:
                raise InputError(f"ntfs file {directory}: {length} bytes of its index could not be read")
            return found

        size = min(int(root.info.size), MAX_INDEX_ROOT_BYTES)
        for listed in list_index(
            read(root, 0, size),
            int(blocks.info.size) if blocks else 0,
            lambda offset, length: read(blocks, offset, length),
            int(self._library.handle.info.block_size),
        ):
            if _is_shown(listed[0]):
                yield listed

    def _attribute(self, file: Any, wanted: int) -> Any | None:
        attributes = self._library.ask(lambda: list(file))
        return next((one for one in attributes if int(one.info.type) == wanted), None)

    def _state(self) -> Iterator[str]:
        """Yield why the volume may not be what the guest had written."""
        try:
            volume = self._open(_NTFS_VOLUME_NODE)
            found = self._attribute(volume, _NTFS_VOLUME_INFORMATION)
            flags = self._library.ask(
                lambda: volume.read_random(0, 12, found.info.type, found.info.id) if found else b""
            )
            if len(flags) < 12 or int.from_bytes(flags[10:12], "little") & _DIRTY:
                yield "ntfs the volume is marked dirty: it is read as it stands"
            log = self._open(_NTFS_LOG_NODE)
            length = min(_LOG_BYTES, int(log.info.meta.size))
            if not log_is_clean(self._library.ask(lambda: log.read_random(0, length))):
                yield "ntfs the log is not clean and is not replayed: the volume is read as it stands"
            sleeper = self.lookup(self.root, _HIBERNATED)
            if sleeper is not None and next(self.chunks(sleeper), b"")[:4] in _HIBERNATION_MAGICS:
                yield "ntfs Windows is hibernated: what it holds in memory is not on the disk"
        except InputError as error:
            yield str(error)


def _is_shown(name: bytes) -> bool:
    """Tell whether a name can be one that Windows shows; the root directory names itself."""
    return name not in {b"", b".", b".."} and not set(name) & _NEVER_IN_NAMES and len(name) <= MAX_NAME_BYTES
