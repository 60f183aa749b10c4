"""Directories: names in the order of their index, and looked up by their hash."""

from collections.abc import Iterator
from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import name_hash
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.filesystem import FileKind
from undercroft.errors import InputError

_KINDS = (
    FileKind.UNKNOWN,
    FileKind.REGULAR,
    FileKind.DIRECTORY,
    FileKind.CHARACTER,
    FileKind.BLOCK,
    FileKind.FIFO,
    FileKind.SOCKET,
    FileKind.SYMLINK,
) + (FileKind.UNKNOWN,) * 120
_unpack = layout.DIRECTORY_ENTRY.unpack_from
_NAME = layout.DIRECTORY_ENTRY.size


class Name(NamedTuple):
    """An entry: the name, what kind of item it leads to (an inode or a subvolume's root), and its id."""

    name: bytes
    kind: FileKind
    location: int
    target: int


def parse_names(untrusted: bytes, directory: int) -> list[Name]:
    """Return the names of an item: one, or all that share a hash. Raises InputError."""
    found = []
    position = 0
    while position < len(untrusted):
        if position + _NAME > len(untrusted):
            raise _malformed(directory, position)
        target, location, _, _, data_bytes, name_bytes, kind = _unpack(untrusted, position)
        end = position + _NAME + name_bytes
        name = untrusted[position + _NAME : end]
        if not 0 < name_bytes <= layout.MAX_NAME_BYTES or data_bytes or end > len(untrusted):
            raise _malformed(directory, position)
        if b"/" in name or b"\0" in name or location not in (layout.INODE_ITEM, layout.ROOT_ITEM):
            raise _malformed(directory, position)
        found.append(Name(name, _KINDS[kind & 127], location, target))
        position = end
    return found


def names(tree: FsTree, directory: int) -> Iterator[tuple[bytes, FileKind, int, int]]:
    """Yield the entries of an inode that is a directory, as `Name`, by their index. Raises InputError."""
    first = (directory, layout.DIR_INDEX, 0)
    kinds = _KINDS
    for items, data in tree.slices(first, (directory, layout.DIR_INDEX, layout.LAST)):
        for _, _, _, place, size in items:
            # As parse_names, for the one name that an index has; a walk does little else.
            if size > _NAME:
                target, location, _, _, data_bytes, name_bytes, kind = _unpack(data, place)
                name = data[place + _NAME : place + size]
                if len(name) == name_bytes <= layout.MAX_NAME_BYTES and location == layout.INODE_ITEM:
                    if data_bytes or b"/" in name or b"\0" in name:
                        raise _malformed(directory, 0)
                    yield name, kinds[kind & 127], location, target
                    continue
            yield from parse_names(data[place : place + size], directory)


def find(tree: FsTree, directory: int, name: bytes) -> Name | None:
    """Return the entry of `name`, None where it is not there. Raises InputError."""
    item = tree.get((directory, layout.DIR_ITEM, name_hash(name)))
    if item is None or name not in item:
        return None
    return next((each for each in parse_names(item, directory) if each.name == name), None)


def _malformed(directory: int, position: int) -> InputError:
    return InputError(f"btrfs inode {directory}: the entry at byte {position} of an item breaks the format")
