"""Files and folders of an exFAT. A node is where a file's set of entries lies, in entries of 32 bytes.

Names are looked up as Windows does, whatever their case, by the volume's own table of upper case.
"""

import codecs
from collections.abc import Iterator
from struct import unpack_from

from undercroft.disks.cache import BoundedCache
from undercroft.disks.exfat import entries as layout
from undercroft.disks.exfat.boot import Boot, read_boot
from undercroft.disks.exfat.chain import Fat
from undercroft.disks.exfat.entries import ENTRY_BYTES, Entry
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.pieces import mapped_content
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

ROOT = 0
MAX_CHUNK_BYTES = 1 << 20
MAX_DIRECTORY_BYTES = 256 << 20
"""The specification's own limit."""
MAX_UPCASE_BYTES = 128 << 10
CACHED_ENTRIES = 4096
CACHED_FOLDERS = 16
CACHED_NAMES = 20_000
"""A larger folder is searched anew for each name."""
MAX_SPLIT_SETS = 200_000
"""Sets that go on in another cluster, of those that were listed: one for each cluster of a folder."""
_FOLDER_MODE, _FILE_MODE = 0o040755, 0o100755
_UNCHANGED = 0xFFFF


class ExFat:
    """One exFAT.

    Args:
        source: the volume, untrusted.

    Attributes:
        content: "exfat".
        label: the volume label, as the root directory has it.
        uuid: as libblkid prints it.
        notes: what was odd and did no harm.
        problems: why what is read may not be what the guest wrote.
        root: the root directory's node.

    Raises:
        InputError: boot region, root directory or table of upper case are malformed.
    """

    content = "exfat"
    root = ROOT

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self._boot: Boot = read_boot(source)
        self._fat = Fat(source, self._boot)
        self._split: dict[int, bytes] = {}
        self._entries: BoundedCache[int, Entry] = BoundedCache(CACHED_ENTRIES)
        self._folders: BoundedCache[int, dict[bytes, int]] = BoundedCache(CACHED_FOLDERS)
        self._upper: dict[int, int] = {}
        self.label = ""
        self.uuid = f"{self._boot.serial >> 16:04x}-{self._boot.serial & 0xFFFF:04x}"
        self.notes = self._boot.notes
        self._read_root()
        dirty = "exfat the volume is marked dirty: it is read as it stands"
        self.problems = (dirty,) if self._boot.is_dirty else ()

    def stat(self, node: int) -> FileStat:
        """Return the metadata of `node`."""
        if node == ROOT:
            return FileStat(ROOT, FileKind.DIRECTORY, _FOLDER_MODE, 0, 0, 0, 1, 0)
        entry = self._entry(node)
        kind, mode = (FileKind.DIRECTORY, _FOLDER_MODE) if entry.is_folder else (FileKind.REGULAR, _FILE_MODE)
        return FileStat(node, kind, mode, entry.size_bytes, 0, 0, 1, entry.modified_at_s)

    def lookup(self, directory: int, name: bytes) -> int | None:
        """Return the node of `name` in `directory`, whatever its case; None when it is not there."""
        try:
            wide = codecs.utf_16_le_encode(name.decode("utf-8", "surrogatepass"), "surrogatepass")[0]
        except UnicodeDecodeError:
            return None
        wanted = self._folded(wide)
        names = self._folders.get(directory)
        if names is not None:
            return names.get(wanted)
        found, names = None, {}
        for node, entry in self._listed(directory):
            folded = self._folded(entry.name)
            if folded == wanted and found is None:
                found = node
            if len(names) <= CACHED_NAMES:
                names.setdefault(folded, node)
        if len(names) <= CACHED_NAMES:
            self._folders.put(directory, names)
        return found

    def entries(self, directory: int) -> Iterator[tuple[bytes, int, FileKind]]:
        """Yield (name, node, kind), in disk order."""
        for node, entry in self._listed(directory):
            kind = FileKind.DIRECTORY if entry.is_folder else FileKind.REGULAR
            yield layout.shown_name(entry.name), node, kind

    def readlink(self, node: int) -> bytes:
        """Refuse: exFAT has no links."""
        raise UnsupportedError(f"exfat entry {node}: there are no links")

    def chunks(self, node: int, start: int = 0) -> Iterator[bytes]:
        """Yield a file's content from `start` on in pieces of at most 1 MiB."""
        entry = None if node == ROOT else self._entry(node)
        if entry is None or entry.is_folder:
            raise InputError(f"exfat entry {node}: it is no file")
        cluster, size = self._boot.cluster_bytes, entry.size_bytes
        runs = (run for run in self._runs(entry) if (run[0] + run[1]) * cluster > start)

        def read(offset: int, length: int) -> bytes:
            return self._source.read(self._boot.heap_offset + offset - cluster, length)

        # A place of 0 is a hole to it: the first cluster of the heap is its number 1.
        mapped = mapped_content(runs, entry.written_bytes, start, cluster, read, MAX_CHUNK_BYTES)
        yield from mapped
        yield from mapped_content((), size, max(start, entry.written_bytes), cluster, read, MAX_CHUNK_BYTES)

    def read(self, node: int, limit: int) -> bytes:
        """Return a file's whole content. Raises InputError when it is larger than `limit`."""
        size = self.stat(node).size_bytes
        if size > limit:
            raise InputError(f"exfat entry {node}: {size} bytes, the limit is {limit}")
        return b"".join(self.chunks(node))

    def _runs(self, entry: Entry) -> Iterator[tuple[int, int, int]]:
        """Yield (first cluster in the file, how many, their place in the heap from 1)."""
        count = -(-entry.size_bytes // self._boot.cluster_bytes)
        at = 0
        for cluster, length in self._fat.runs(entry.first_cluster, count, is_contiguous=entry.is_contiguous):
            yield at, length, cluster - 1
            at += length

    def _entry(self, node: int) -> Entry:
        return self._entries.get(node) or self._entries.put(node, self._parse(node))

    def _parse(self, node: int) -> Entry:
        """Return the set at a node; one that goes on in another cluster was kept when it was listed."""
        data = self._split.get(node)
        if data is None:
            offset = node * ENTRY_BYTES
            within = (offset - self._boot.heap_offset) % self._boot.cluster_bytes
            last = self._boot.heap_offset + self._boot.clusters * self._boot.cluster_bytes
            if not self._boot.heap_offset <= offset < last:
                raise InputError(f"exfat entry {node}: it lies outside of all clusters")
            data = self._source.read(offset, min(layout.MAX_SET_BYTES, self._boot.cluster_bytes - within))
        if data[0] != layout.FILE or len(data) < layout.set_bytes(data):
            raise InputError(f"exfat entry {node}: it is no file's")
        return layout.parse_set(data[: layout.set_bytes(data)], node * ENTRY_BYTES)

    def _listed(self, directory: int) -> Iterator[tuple[int, Entry]]:
        """Yield (node, entry) of a folder. Raises InputError where a set is cut off or malformed."""
        pending, node, wanted = b"", 0, 0
        for offset, raw in self._raw(directory):
            if pending:
                pending += raw
            elif raw[0] == layout.FILE:
                pending, node, wanted = raw, offset // ENTRY_BYTES, layout.set_bytes(raw)
            if pending and len(pending) == wanted:
                within = (node * ENTRY_BYTES - self._boot.heap_offset) % self._boot.cluster_bytes
                if within + wanted > self._boot.cluster_bytes:
                    self._keep(node, pending)
                yield node, layout.parse_set(pending, node * ENTRY_BYTES)
                pending = b""
        if pending:
            raise InputError(f"exfat entry {node}: its folder ends within its set")

    def _keep(self, node: int, data: bytes) -> None:
        if len(self._split) >= MAX_SPLIT_SETS:
            raise InputError(f"exfat: more than {MAX_SPLIT_SETS} sets of entries in two clusters")
        self._split[node] = data

    def _raw(self, directory: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, 32 bytes) of a folder's entries up to its end."""
        for start, length in self._clusters_of(directory):
            for at in range(start, start + length, MAX_CHUNK_BYTES):
                data = self._source.read(at, min(MAX_CHUNK_BYTES, start + length - at))
                for place in range(0, len(data), ENTRY_BYTES):
                    if not data[place]:
                        return
                    yield at + place, data[place : place + ENTRY_BYTES]

    def _clusters_of(self, directory: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, bytes) of a folder's clusters; the root has no size, and ends with its chain."""
        cluster = self._boot.cluster_bytes
        if directory != ROOT:
            entry = self._entry(directory)
            if not entry.is_folder or entry.size_bytes > MAX_DIRECTORY_BYTES:
                raise InputError(f"exfat entry {directory}: it is no folder, or has {entry.size_bytes} bytes")
            for _, length, place in self._runs(entry):
                yield self._boot.offset(place + 1), length * cluster
            return
        current: int | None = self._boot.root
        seen = set[int]()
        while current is not None:
            if current in seen or (len(seen) + 1) * cluster > MAX_DIRECTORY_BYTES:
                raise InputError(f"exfat root directory: more than {MAX_DIRECTORY_BYTES} bytes, or a circle")
            seen.add(current)
            yield self._boot.offset(current), cluster
            current = self._fat.following(current)

    def _read_root(self) -> None:
        """Read label and table of upper case, which lie among the root's entries."""
        table = None
        for _, raw in self._raw(ROOT):
            if raw[0] == layout.UPCASE and table is None:
                table = layout.parse_table(raw)
            elif raw[0] == layout.LABEL:
                self.label = codecs.utf_16_le_decode(raw[2 : 2 + 2 * min(raw[1], 11)], "replace")[0]
        if table is None:
            raise InputError("exfat root directory: it has no table of upper case")
        checksum, cluster, size = table
        if not 0 < size <= MAX_UPCASE_BYTES or size % 2:
            raise InputError(f"exfat table of upper case: {size} bytes")
        count = -(-size // self._boot.cluster_bytes)
        data = b"".join(
            self._source.read(self._boot.offset(place), length * self._boot.cluster_bytes)
            for place, length in self._fat.runs(cluster, count, is_contiguous=False)
        )[:size]
        self._upper = _upper_case(data, checksum)

    def _folded(self, name: bytes) -> bytes:
        units = unpack_from(f"<{len(name) // 2}H", name)
        return b"".join((self._upper.get(unit, unit)).to_bytes(2, "little") for unit in units)


def _upper_case(data: bytes, checksum: int) -> dict[int, int]:
    """Return what the table maps to something else (section 7.2.5). Raises InputError at a wrong checksum."""
    total = 0
    for byte in data:
        total = ((total >> 1 | total << 31) + byte) & 0xFFFFFFFF
    if total != checksum:
        raise InputError(
            f"exfat table of upper case: its checksum is {checksum:#x}, its bytes give {total:#x}"
        )
    upper: dict[int, int] = {}
    at = 0
    units = iter(unpack_from(f"<{len(data) // 2}H", data))
    for unit in units:
        if unit == _UNCHANGED and (count := next(units, None)) is not None:
            at += count
            continue
        if unit != at and at <= _UNCHANGED:
            upper[at] = unit
        at += 1
    return upper
