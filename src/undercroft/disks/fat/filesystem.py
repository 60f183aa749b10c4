"""Files and folders of a FAT. A node is where a file's short entry lies, in entries of 32 bytes.

Names are looked up whatever their case, and by their short form too, as Windows and Linux do.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from undercroft.disks.cache import BoundedCache
from undercroft.disks.fat import entries as layout
from undercroft.disks.fat.boot import read_boot
from undercroft.disks.fat.chain import Chains
from undercroft.disks.fat.entries import ENTRY_BYTES, Entry, LongName
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.pieces import mapped_content
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

ROOT = 0
MAX_CHUNK_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 65_536 * ENTRY_BYTES
"""Linux' limit, and the specification's."""
CACHED_ENTRIES = 4096
CACHED_FOLDERS = 4
MAX_KEPT_RUNS = 65_536
"""Of one file, some 10 MiB."""

Run = tuple[int, int, int]

_FOLDER_MODE, _FILE_MODE = 0o040755, 0o100755
_DOTS = (b".", b"..")


class Fat:
    """One FAT.

    Args:
        source: the volume, untrusted.

    Attributes:
        content: "vfat".
        label: as the root directory has it, "" for none.
        uuid: as libblkid prints it.
        notes: whether it was unmounted.
        problems: none.
        root: the root directory's node.

    Raises:
        InputError: boot sector or root directory are malformed.
    """

    content = "vfat"
    root = ROOT
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._boot = read_boot(source)
        self._chains = Chains(source, self._boot)
        self._entries: BoundedCache[int, Entry] = BoundedCache(CACHED_ENTRIES)
        self._last: tuple[tuple[int, int], list[Run]] = ((-1, -1), [])
        self._folders: BoundedCache[int, dict[str, int]] = BoundedCache(CACHED_FOLDERS)
        self.uuid = f"{self._boot.serial >> 16:04x}-{self._boot.serial & 0xFFFF:04x}"
        labels = (raw[:11] for _, raw, _ in self._raw(ROOT) if raw[11] & layout.LABEL)
        self.label = next(labels, b"").rstrip(b" ").decode("utf-8", "surrogateescape")
        # No log: as of an ext2, what a running guest had not written yet is all that may be missing. Where
        # its FATs are in the middle of a change they differ, which is told of each cluster that is followed.
        self.notes = ("marked dirty: it was not unmounted",) if self._boot.is_dirty else ()

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        if node == ROOT:
            return FileStat(ROOT, FileKind.DIRECTORY, _FOLDER_MODE, 0, 0, 0, 1, 0)
        entry = self._entry(node)
        if entry.is_folder:
            return FileStat(node, FileKind.DIRECTORY, _FOLDER_MODE, 0, 0, 0, 1, entry.modified_at_s)
        return FileStat(node, FileKind.REGULAR, _FILE_MODE, entry.size_bytes, 0, 0, 1, entry.modified_at_s)

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, whatever its case; None when it is not there."""
        names = self._folders.get(directory)
        if names is None:
            names = {}
            shorts: dict[str, int] = {}
            for node, entry in self._listed(directory):
                names.setdefault(_folded(entry.name), node)
                shorts.setdefault(_folded(entry.short), node)
            self._folders.put(directory, names := shorts | names)
        return names.get(_folded(name))

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind), in disk order."""
        for node, entry in self._listed(directory):
            yield entry.name, node, FileKind.DIRECTORY if entry.is_folder else FileKind.REGULAR

    def readlink(self, node: int) -> bytes:
        """Refuse: FAT has no links."""
        raise UnsupportedError(f"vfat entry {node}: there are no links")

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a file's content from `start` on in pieces of at most 1 MiB."""
        entry = None if node == ROOT else self._entry(node)
        if entry is None or entry.is_folder:
            raise InputError(f"vfat entry {node}: it is no file")
        cluster = self._boot.cluster_bytes
        runs = (run for run in self._runs(entry) if (run[0] + run[1]) * cluster > start)

        def read(offset: int, length: int) -> bytes:
            return self._source.read(self._boot.heap_offset + offset - cluster, length)

        # A place of 0 is a hole to it: the first cluster of the heap is its number 1.
        yield from mapped_content(runs, entry.size_bytes, start, cluster, read, MAX_CHUNK_BYTES)

    def read(self, node: int, limit: int) -> bytes:
        """Return a file's whole content. Raises InputError when it is larger than `limit`."""
        size = self.stat(node).size_bytes
        if size > limit:
            raise InputError(f"vfat entry {node}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def _runs(self, entry: Entry) -> Iterable[Run]:
        """Return (first cluster in the file, how many, their place in the heap from 1) of all its runs.

        Those of the last file are kept where they are few: an image that is read as a device is asked for
        piece by piece, and its chain has a step for each cluster.
        """
        key = entry.cluster, entry.size_bytes
        if self._last[0] == key:
            return self._last[1]
        runs = self._walk(entry)
        first = list(islice(runs, MAX_KEPT_RUNS + 1))
        if len(first) > MAX_KEPT_RUNS:
            return chain(first, runs)
        self._last = key, first
        return first

    def _walk(self, entry: Entry) -> Iterator[Run]:
        at = 0
        for cluster, length in self._chains.runs(
            entry.cluster, -(-entry.size_bytes // self._boot.cluster_bytes)
        ):
            yield at, length, cluster - 1
            at += length

    def _entry(self, node: int) -> Entry:
        """Return the entry at a node; it bears its short name where it was not listed."""
        found = self._entries.get(node)
        if found is not None:
            return found
        offset, boot = node * ENTRY_BYTES, self._boot
        is_in_root = boot.root_offset <= offset < boot.root_offset + boot.root_bytes
        is_in_heap = boot.heap_offset <= offset < boot.heap_offset + boot.clusters * boot.cluster_bytes
        if not is_in_root and not is_in_heap:
            raise InputError(f"vfat entry {node}: it lies outside of all folders")
        raw = self._source.read(offset, ENTRY_BYTES)
        if raw[0] in (layout.DELETED, layout.END) or raw[11] & layout.LABEL:
            raise InputError(f"vfat entry {node}: it is no file's")
        return self._entries.put(node, layout.parse(raw, b"", offset))

    def _listed(self, directory: int) -> Iterator[tuple[int, Entry]]:
        """Yield (node, entry) of what a folder shows."""
        for offset, raw, long_name in self._raw(directory):
            if raw[11] & layout.LABEL:
                continue
            entry = layout.parse(raw, long_name, offset)
            if entry.short not in _DOTS:
                node = offset // ENTRY_BYTES
                self._entries.put(node, entry)
                yield node, entry

    def _raw(self, directory: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield (offset, 32 bytes, long name) of a folder's entries that are in use, up to its end."""
        name = LongName()
        for start, length in self._places(directory):
            for at in range(start, start + length, MAX_CHUNK_BYTES):
                data = self._source.read(at, min(MAX_CHUNK_BYTES, start + length - at))
                for place in range(0, len(data), ENTRY_BYTES):
                    raw = data[place : place + ENTRY_BYTES]
                    if raw[0] in (layout.END, layout.DELETED):
                        name.check_none(at + place)
                        if raw[0] == layout.END:
                            return
                    elif layout.is_long(raw):
                        name.add(raw, at + place)
                    else:
                        yield at + place, raw, name.take(raw[:11], at + place)

    def _places(self, directory: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, bytes) of a folder's clusters, or of the root of FAT12 and FAT16."""
        if directory == ROOT and self._boot.bits != 32:
            yield self._boot.root_offset, self._boot.root_bytes
            return
        current: int | None = self._boot.root
        if directory != ROOT:
            entry = self._entry(directory)
            if not entry.is_folder:
                raise InputError(f"vfat entry {directory}: it is no folder")
            current = entry.cluster
        seen = set[int]()
        while current is not None:
            if current in seen or len(seen) * self._boot.cluster_bytes > MAX_DIRECTORY_BYTES:
                raise InputError(
                    f"vfat cluster {current}: a folder over {MAX_DIRECTORY_BYTES} bytes, or a circle"
                )
            seen.add(current)
            yield self._boot.offset(current), self._boot.cluster_bytes
            current = self._chains.following(current)


def _folded(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").upper()
