"""Names of a log: added to directories and taken away, and the links of inodes counted anew."""

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from google_crc32c._crc32c import extend

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.disks.btrfs.directory import Name, find, parse_names
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.tree import Key
from undercroft.errors import InputError

_MASK = 0xFFFFFFFF
_SIZE, _LINKS = slice(16, 24), slice(40, 44)
_TYPES = {0x8: 1, 0x4: 2, 0x2: 3, 0x6: 4, 0x1: 5, 0xC: 6, 0xA: 7}
_DIRECTORY = 0x4


class Reference(NamedTuple):
    """A name of an inode as the inode itself records it."""

    directory: int
    at: int
    name: bytes


class Names:
    """Changes the names of one subvolume as its log says.

    Args:
        tree: the subvolume.
        log: the items of its log.

    Attributes:
        touched: inodes whose links are to be counted.
    """

    def __init__(self, tree: FsTree, log: Mapping[Key, bytes]) -> None:
        self._tree = tree
        self._log = log
        self.touched: set[int] = set()
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        for key, item in log.items():
            if key[1] == layout.DIR_LOG_INDEX:
                self._ranges.setdefault(key[0], []).append((key[2], int.from_bytes(item[:8], "little")))

    def drop_names(self, directory: int, *, is_all: bool = False) -> None:
        """Take away what the log's ranges of a directory cover and the log has not (`replay_dir_deletes`).

        With `is_all` every name goes: the directory itself is gone.
        """
        ranges = [(0, layout.LAST)] if is_all else self._ranges.get(directory, [])
        for start, end in ranges:
            first, last = (directory, layout.DIR_INDEX, start), (directory, layout.DIR_INDEX, end)
            for key, item in self._tree.items(first, last):  # what is taken away meanwhile lies behind
                logged = [] if is_all else self._logged_names(key)
                for entry in parse_names(item, directory):
                    if entry.name not in logged:
                        self._drop(directory, entry)

    def add_name(self, key: Key, item: bytes) -> None:
        """Replay a directory's entry (`replay_one_name`). Raises InputError."""
        directory, _, index = key
        for entry in parse_names(item, directory):
            if entry.location != layout.INODE_ITEM:
                if find(self._tree, directory, entry.name) is None:
                    raise InputError(f"btrfs log: a new name of the subvolume {entry.target}")
                continue
            if self._inode(directory) is None:
                raise InputError(f"btrfs log: names of inode {directory}, which is not there")
            is_there = self._inode(entry.target) is not None
            by_name = find(self._tree, directory, entry.name)
            by_index = self._at_index(directory, index, entry.name)
            matches = []
            for found in (by_name, by_index):
                matches.append(found is not None and self._is_same(found, entry))
                if found is not None and not matches[-1] and is_there:
                    self._drop(directory, found)
            reference = Reference(directory, index, entry.name)
            if all(matches) or self._is_reference_logged(entry.target, reference):
                continue
            if is_there and find(self._tree, directory, entry.name) is None:
                self._add(entry.target, reference, with_reference=True)
                if entry.kind.value != _DIRECTORY:
                    self.touched.add(entry.target)

    def add_references(self, key: Key, item: bytes) -> None:
        """Replay the names that an inode records of itself (`add_inode_ref`). Raises InputError."""
        number = key[0]
        if self._inode(number) is None:
            raise InputError(f"btrfs log: names of inode {number}, which is not there")
        logged = parse_references(key, item)
        for reference in logged:
            if self._inode(reference.directory) is None:
                if key[1] == layout.INODE_REF:
                    return  # its directory was deleted before
                continue
            if reference.directory == number:
                return  # the root directory, which is its own parent
            if not self._is_perfect(number, reference):
                self._clear_way(number, reference)
                self._add(number, reference, with_reference=False)
        old = self._tree.get(key)
        kept = {(reference.directory, reference.name) for reference in logged}
        for reference in parse_references(key, old) if old else ():
            if (reference.directory, reference.name) not in kept:
                self._unlink(number, reference)
        self._tree.put(key, item)

    def count_links(self) -> None:
        """Give each touched inode the links that it has (`fixup_inode_link_counts`). Raises InputError."""
        done: set[int] = set()
        while self.touched:
            number = self.touched.pop()
            inode = self._inode(number)
            if inode is None:
                continue
            links = len(self._references(number))
            if inode[_LINKS] != links.to_bytes(4, "little"):
                self._tree.put(
                    (number, layout.INODE_ITEM, 0),
                    inode[: _LINKS.start] + links.to_bytes(4, "little") + inode[_LINKS.stop :],
                )
            if not links and _kind(inode) == _DIRECTORY and number not in done:
                done.add(number)
                self.drop_names(number, is_all=True)

    def _clear_way(self, number: int, reference: Reference) -> None:
        """Take away what conflicts with a name that is about to be added (`__add_inode_ref`)."""
        directory = reference.directory
        for old in self._references(number, directory):
            if not self._is_reference_logged(number, old):
                self._unlink(number, old)
        at_index = self._at_index(directory, reference.at, reference.name)
        if at_index is not None:
            self._drop(directory, at_index)
        by_name = find(self._tree, directory, reference.name)
        if by_name is not None:
            self._drop(directory, by_name)

    def _drop(self, directory: int, entry: Name) -> None:
        """Take an entry out of a directory, and its reference out of the inode (`drop_one_dir_item`)."""
        if entry.location != layout.INODE_ITEM:
            raise InputError(f"btrfs log: it takes the subvolume {entry.target} out of inode {directory}")
        self.touched.add(entry.target)
        for reference in self._references(entry.target, directory):
            if reference.name == entry.name:
                self._unlink(entry.target, reference)
                return
        self._take_name(directory, entry.name, None)

    def _unlink(self, number: int, reference: Reference) -> None:
        self._take_name(reference.directory, reference.name, reference.at)
        for key in _reference_keys(number, reference):
            item = self._tree.get(key)
            if item is None:
                continue
            old = parse_references(key, item)
            gone = (reference.directory, reference.name)
            left = [each for each in old if (each.directory, each.name) != gone]
            if len(left) < len(old):
                self._tree.put(key, _pack_references(key, left))
        self.touched.add(number)

    def _take_name(self, directory: int, name: bytes, index: int | None) -> None:
        """Take a name out of a directory's two lists, and out of its size."""
        key = (directory, layout.DIR_ITEM, name_hash(name))
        item = self._tree.get(key)
        if item is not None:
            kept = b"".join(part for found, part in _parts(item, directory) if found.name != name)
            if len(kept) < len(item):
                self._tree.put(key, kept or None)
                self._grow(directory, -2 * len(name))
        if index is not None:
            at_index = (directory, layout.DIR_INDEX, index)
            item = self._tree.get(at_index)
            if item is not None and any(found.name == name for found in parse_names(item, directory)):
                self._tree.put(at_index, None)
                return
        first, last = (directory, layout.DIR_INDEX, 0), (directory, layout.DIR_INDEX, layout.LAST)
        for found_key, item in self._tree.items(first, last) if index is None else ():
            if any(found.name == name for found in parse_names(item, directory)):
                self._tree.put(found_key, None)
                return

    def _add(self, number: int, reference: Reference, *, with_reference: bool) -> None:
        """Add a name (`btrfs_add_link`)."""
        inode = self._inode(number)
        if inode is None:
            raise InputError(f"btrfs log: it names inode {number}, which is not there")
        directory, index, name = reference
        entry = layout.DIRECTORY_ENTRY.pack(
            number, layout.INODE_ITEM, 0, 0, 0, len(name), _TYPES.get(_kind(inode), 0)
        )
        by_name = (directory, layout.DIR_ITEM, name_hash(name))
        self._tree.put(by_name, (self._tree.get(by_name) or b"") + entry + name)
        self._tree.put((directory, layout.DIR_INDEX, index), entry + name)
        self._grow(directory, 2 * len(name))
        if with_reference:
            key = (number, layout.INODE_REF, directory)
            old = self._tree.get(key)
            known = parse_references(key, old) if old else []
            self._tree.put(key, _pack_references(key, [*known, reference]))

    def _grow(self, directory: int, count: int) -> None:
        inode = self._inode(directory)
        if inode is None:
            raise InputError(f"btrfs log: names of inode {directory}, which is not there")
        size = min(max(int.from_bytes(inode[_SIZE], "little") + count, 0), layout.LAST)
        key = (directory, layout.INODE_ITEM, 0)
        self._tree.put(key, inode[: _SIZE.start] + size.to_bytes(8, "little") + inode[_SIZE.stop :])

    def _inode(self, number: int) -> bytes | None:
        item = self._tree.get((number, layout.INODE_ITEM, 0))
        if item is not None and len(item) != layout.INODE.size:
            raise InputError(f"btrfs inode {number}: an item of {len(item)} bytes")
        return item

    def _at_index(self, directory: int, index: int, name: bytes) -> Name | None:
        item = self._tree.get((directory, layout.DIR_INDEX, index))
        found = parse_names(item, directory) if item else []
        return next((entry for entry in found if entry.name == name), None)

    def _logged_names(self, key: Key) -> list[bytes]:
        item = self._log.get(key)
        return [entry.name for entry in parse_names(item, key[0])] if item else []

    def _is_perfect(self, number: int, reference: Reference) -> bool:
        by_index = self._at_index(reference.directory, reference.at, reference.name)
        by_name = find(self._tree, reference.directory, reference.name)
        return all(found is not None and found.target == number for found in (by_index, by_name))

    def _is_same(self, found: Name, entry: Name) -> bool:
        return (found.target, found.location, found.kind) == (entry.target, entry.location, entry.kind)

    def _is_reference_logged(self, number: int, reference: Reference) -> bool:
        for key in _reference_keys(number, reference):
            item = self._log.get(key)
            for logged in parse_references(key, item) if item else ():
                if (logged.directory, logged.name) == (reference.directory, reference.name):
                    return True
        return False

    def _references(self, number: int, directory: int | None = None) -> list[Reference]:
        """Return the names that an inode records, those in one directory or all."""
        found: list[Reference] = []
        last = (number, layout.INODE_EXTREF, layout.LAST)
        for key, item in self._tree.items((number, layout.INODE_REF, 0), last):
            found += parse_references(key, item)
        return [each for each in found if directory is None or each.directory == directory]


def parse_references(key: Key, untrusted: bytes) -> list[Reference]:
    """Return the names of an INODE_REF or INODE_EXTREF item. Raises InputError."""
    is_extended = key[1] == layout.INODE_EXTREF
    record = layout.EXTREF if is_extended else layout.REF
    found = []
    position = 0
    while position < len(untrusted):
        if position + record.size > len(untrusted):
            raise InputError(f"btrfs inode {key[0]}: a name that ends too early")
        fields = record.unpack_from(untrusted, position)
        start = position + record.size
        position = start + fields[-1]
        if position > len(untrusted) or not fields[-1]:
            raise InputError(f"btrfs inode {key[0]}: a name of {fields[-1]} bytes")
        directory = fields[0] if is_extended else key[2]
        found.append(Reference(directory, fields[-2], untrusted[start:position]))
    return found


def _pack_references(key: Key, references: list[Reference]) -> bytes | None:
    parts = []
    for directory, index, name in references:
        if key[1] == layout.INODE_EXTREF:
            parts.append(layout.EXTREF.pack(directory, index, len(name)) + name)
        else:
            parts.append(layout.REF.pack(index, len(name)) + name)
    return b"".join(parts) or None


def _reference_keys(number: int, reference: Reference) -> tuple[Key, Key]:
    hashed: int = extend(reference.directory & _MASK ^ _MASK, reference.name)
    return (
        (number, layout.INODE_REF, reference.directory),
        (number, layout.INODE_EXTREF, hashed ^ _MASK),
    )


def _parts(item: bytes, directory: int) -> list[tuple[Name, bytes]]:
    """Return the names of a DIR_ITEM with their bytes."""
    names = parse_names(item, directory)
    ends = [0]
    for name in names:
        ends.append(ends[-1] + layout.DIRECTORY_ENTRY.size + len(name.name))
    return [(name, item[start:end]) for name, (start, end) in zip(names, pairwise(ends), strict=True)]


def _kind(inode: bytes) -> int:
    mode: int = layout.INODE.unpack(inode)[5]
    return mode >> 12 & 15
