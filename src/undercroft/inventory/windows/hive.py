"""A registry hive in a guest: keys and values by path.

Guarantees: any bytes give keys and values or `InputError` that begins with "hive"; nothing is followed
beyond the hive's bins, no list is longer than its key says, and a key's name must have the hash that its
parent's list gives it. Where the base block says that a write was not finished, the logs are applied in
memory (`hivelog`), or `problems` says what is missing.

Follows the description of the registry file format by M. Suhanov ("regf").
"""

import codecs
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.guestfile import GuestFile
from undercroft.inventory.windows.hivelog import BASE_BYTES, MAX_OVERLAY_BYTES, PAGE_BYTES, checksum, read_log

MAX_SUBKEYS = 200_000
MAX_VALUES = 20_000
MAX_VALUE_BYTES = 1 << 20
MAX_CELL_BYTES = 1 << 20
MAX_BINS_BYTES = 2 << 30
MAX_CELLS_READ = 1_500_000
"""A server with 40,000 packages in its component store takes 500,000; each takes 3 µs."""

NONE = 0xFFFFFFFF
_SEGMENT_BYTES = 16344
_KEY_BYTES, _VALUE_BYTES = 76, 20
_ASCII_KEY_NAME, _ASCII_VALUE_NAME = 0x20, 0x01
_RESIDENT = 0x80000000
_TEXT_TYPES = (1, 2)
_DWORD, _DWORD_BIG_ENDIAN = 4, 5
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its name, and where its lists lie."""

    name: str
    subkeys: int
    subkey_list: int
    values: int
    value_list: int


class Hive:
    """One hive with its logs.

    Attributes:
        problems: why it may be older than what Windows had written.
    """

    def __init__(self, tree: GuestTree, path: bytes) -> None:
        """Read the base block and, where the hive is dirty, its logs.

        Raises:
            NotFoundError: there is no such file.
            InputError: the base block is malformed.
        """
        self._file = GuestFile(tree, path)
        self.problems: tuple[str, ...] = ()
        self._pages: dict[int, bytes] = {}
        self._cells_read = 0
        base = self._file.read(0, BASE_BYTES)
        if base[:4] != b"regf":
            raise InputError("hive: the file does not begin as a hive does")
        first, second = struct.unpack_from("<2I", base, 4)
        is_whole = checksum(base) == int.from_bytes(base[508:512], "little")
        major, minor, kind, form, root, bins_bytes = struct.unpack_from("<6I", base, 20)
        if major != 1 or not 3 <= minor <= 6 or kind != 0 or form != 1:
            raise InputError(f"hive: version {major}.{minor}, type {kind}, format {form}")
        self._root, self._bins_bytes = root, bins_bytes
        if not is_whole or first != second:
            self._apply_logs(tree, path, second if is_whole else 0)
        if self._bins_bytes > MAX_BINS_BYTES:
            raise InputError(f"hive: bins of {self._bins_bytes} bytes")

    def key(self, path: str) -> Key | None:
        r"""Return the key at a path of names parted by "\", whatever their case; None for a missing one."""
        found: Key | None = self._key(self._root)
        for name in path.split("\\") if path else ():
            if found is None:
                return None
            found = next((key for key in self.subkeys(found) if key.name.upper() == name.upper()), None)
        return found

    def subkeys(self, key: Key) -> Iterator[Key]:
        """Yield the keys below `key` in the list's order. Raises InputError midway."""
        if key.subkeys == 0:
            return
        if key.subkeys > MAX_SUBKEYS:
            raise InputError(f"hive key {key.name[:64]!r}: {key.subkeys} keys below it")
        found = 0
        seen = set[int]()
        for offset, hint in self._listed(key.subkey_list, key.subkeys, nested=True):
            if offset in seen:
                raise InputError(f"hive cell {offset}: a list names it twice")
            seen.add(offset)
            child = self._key(offset)
            if hint is not None and not _fits(child.name, *hint):
                raise InputError(f"hive key {child.name[:64]!r}: its parent's list has another name's hash")
            found += 1
            yield child
        if found != key.subkeys:
            raise InputError(f"hive key {key.name[:64]!r}: {found} keys below it, not {key.subkeys}")

    def values(self, key: Key) -> dict[str, int | str | bytes]:
        """Return the key's values by their names in lower case: numbers, texts, bytes of other types."""
        if key.values == 0:
            return {}
        if key.values > MAX_VALUES:
            raise InputError(f"hive key {key.name[:64]!r}: {key.values} values")
        offsets = struct.unpack_from(f"<{key.values}I", self._cell(key.value_list, 4 * key.values))
        return dict(self._value(offset) for offset in offsets)

    def _apply_logs(self, tree: GuestTree, path: bytes, sequence: int) -> None:
        """Apply the logs from `sequence` on (from their beginning where it is 0, unknown)."""
        entries = []
        problems = []
        for suffix in (b".LOG1", b".LOG2"):
            try:
                entries += read_log(GuestFile(tree, path + suffix))
            except NotFoundError:
                continue
            except InputError as error:
                problems.append(str(error))
        entries.sort(key=lambda entry: entry.sequence)
        applied = size = 0
        expected = sequence
        for entry in entries:
            if entry.sequence < expected:
                continue
            if expected and entry.sequence != expected:
                break
            expected = entry.sequence + 1
            applied += 1
            self._bins_bytes = entry.bins_bytes
            for offset, data in entry.pages:
                for start in range(0, len(data), PAGE_BYTES):
                    self._pages[offset + start] = data[start : start + PAGE_BYTES]
            size = len(self._pages) * PAGE_BYTES
            if size > MAX_OVERLAY_BYTES:
                raise InputError(f"hive log: more than {MAX_OVERLAY_BYTES} bytes of pages")
        if not applied:
            reason = problems[0] if problems else "no log that fits lies beside it"
            self.problems = (f"hive: a write to it was not finished and is not replayed ({reason})",)

    def _key(self, offset: int) -> Key:
        data = self._cell(offset, _KEY_BYTES)
        if data[:2] != b"nk":
            raise InputError(f"hive cell {offset}: no key")
        flags = int.from_bytes(data[2:4], "little")
        subkeys, _, subkey_list, _, values, value_list = struct.unpack_from("<6I", data, 20)
        (length,) = struct.unpack_from("<H", data, 72)
        name = data[_KEY_BYTES : _KEY_BYTES + length]
        if len(name) != length:
            raise InputError(f"hive cell {offset}: a key's name of {length} bytes")
        return Key(_name(name, bool(flags & _ASCII_KEY_NAME)), subkeys, subkey_list, values, value_list)

    def _listed(self, offset: int, most: int, nested: bool) -> Iterator[tuple[int, tuple[bytes, int] | None]]:
        """Yield (key's cell, kind and value of its hash) of a list; a list of lists is followed once."""
        data = self._cell(offset, 4)
        kind, count = data[:2], int.from_bytes(data[2:4], "little")
        width = {b"lf": 8, b"lh": 8, b"li": 4, b"ri": 4}.get(kind, 0)
        if not width or count > most or len(data) < 4 + width * count:
            raise InputError(f"hive cell {offset}: a list {kind!r} of {count} keys, where {most} are at most")
        for number in range(count):
            at = 4 + width * number
            (target,) = struct.unpack_from("<I", data, at)
            if kind != b"ri":
                hint = int.from_bytes(data[at + 4 : at + 8], "little")
                yield target, (kind, hint) if width == 8 else None
            elif nested:
                yield from self._listed(target, most, nested=False)
            else:
                raise InputError(f"hive cell {offset}: lists of lists of lists")

    def _value(self, offset: int) -> tuple[str, int | str | bytes]:
        data = self._cell(offset, _VALUE_BYTES)
        if data[:2] != b"vk":
            raise InputError(f"hive cell {offset}: no value")
        length, size, place, kind, flags = struct.unpack_from("<HIIIH", data, 2)
        name = data[_VALUE_BYTES : _VALUE_BYTES + length]
        if len(name) != length:
            raise InputError(f"hive cell {offset}: a value's name of {length} bytes")
        if size & _RESIDENT:
            content = data[8 : 8 + min(4, size & ~_RESIDENT)]
        else:
            content = self._content(place, size) if size else b""
        return _name(name, bool(flags & _ASCII_VALUE_NAME)).lower(), _typed(kind, content)

    def _content(self, offset: int, size: int) -> bytes:
        """Return a value's bytes, in one cell or in several segments (big data)."""
        if size > MAX_VALUE_BYTES:
            return b""  # nothing that is asked for is as long
        if size <= _SEGMENT_BYTES:
            return self._cell(offset, size)[:size]
        head = self._cell(offset, 8)
        if head[:2] != b"db":
            return self._cell(offset, size)[:size]  # hives before version 1.4 have no segments
        count, places = struct.unpack_from("<HI", head, 2)
        if count != -(-size // _SEGMENT_BYTES):
            raise InputError(f"hive cell {offset}: {count} segments for {size} bytes")
        data = bytearray()
        for place in struct.unpack_from(f"<{count}I", self._cell(places, 4 * count)):
            wanted = min(_SEGMENT_BYTES, size - len(data))
            data += self._cell(place, wanted)[:wanted]
        return bytes(data)

    def _cell(self, offset: int, least: int) -> bytes:
        """Return a cell's content. Raises InputError where it is free, or shorter than `least` bytes."""
        self._cells_read += 1
        if self._cells_read > MAX_CELLS_READ:
            raise InputError(f"hive: more than {MAX_CELLS_READ} cells were asked for")
        if offset % 8 or offset >= self._bins_bytes:
            raise InputError(f"hive cell {offset}: it lies outside of the bins")
        size = -int.from_bytes(self._bins(offset, 4), "little", signed=True)
        if not least + 4 <= size <= MAX_CELL_BYTES + 4 or size % 8:
            raise InputError(f"hive cell {offset}: {size} bytes, where {least} are needed")
        return self._bins(offset + 4, size - 4)

    def _bins(self, offset: int, length: int) -> bytes:
        """Return a range of the bins, pages of the log in place of the file's."""
        if offset + length > self._bins_bytes:
            raise InputError(f"hive: bytes {offset} to {offset + length} lie beyond {self._bins_bytes}")
        if not self._pages:
            return self._file.read(PAGE_BYTES + offset, length)
        data = bytearray()
        while len(data) < length:
            page, start = divmod(offset + len(data), PAGE_BYTES)
            wanted = min(PAGE_BYTES - start, length - len(data))
            found = self._pages.get(page * PAGE_BYTES)
            if found is None:
                data += self._file.read(PAGE_BYTES + page * PAGE_BYTES + start, wanted)
            else:
                data += found[start : start + wanted]
        return bytes(data)


def _name(untrusted: bytes, is_ascii: bool) -> str:
    return untrusted.decode("latin-1") if is_ascii else _wide(untrusted)


def _wide(untrusted: bytes) -> str:
    """Return little-endian UTF-16 as a string; by the interpreter itself, since a codec would be imported."""
    return codecs.utf_16_le_decode(untrusted[: len(untrusted) & ~1], "replace")[0]


def _fits(name: str, kind: bytes, hint: int) -> bool:
    """Tell whether a name has the hash of its entry; of letters beyond ASCII it is not asked."""
    if not name.isascii():
        return True
    if kind == b"lf":
        return hint == int.from_bytes(name[:4].encode("ascii").ljust(4, b"\0"), "little")
    found = 0
    for char in name.upper():
        found = (found * 37 + ord(char)) & _MASK
    return found == hint


def _typed(kind: int, content: bytes) -> int | str | bytes:
    if kind in _TEXT_TYPES:
        return _wide(content).split("\0", 1)[0]
    if kind in (_DWORD, _DWORD_BIG_ENDIAN) and len(content) == 4:
        return int.from_bytes(content, "little" if kind == _DWORD else "big")
    return content
