"""Extents of a log: put into a file's list of extents, in place of what they cover."""

from bisect import bisect_left, insort

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.content import Extent, parse_extent
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.tree import Key

_PLACE_OFFSET = layout.EXTENT.size


def replay_extent(tree: FsTree, key: Key, item: bytes, sector_bytes: int, *, has_no_holes: bool) -> None:
    """Replay one EXTENT_DATA of a log (`replay_one_extent`). Raises InputError where it is malformed."""
    number, _, start = key
    extent = parse_extent(item, f"btrfs log: inode {number}", sector_bytes)
    length = extent.length + -extent.length % sector_bytes
    extents = tree.editable_extents(number)
    position = bisect_left(extents, (start, b""))
    if position < len(extents) and extents[position] == (start, item):
        return
    _drop(extents, start, start + length, number, sector_bytes)
    is_hole = extent.kind != layout.EXTENT_INLINE and not extent.address
    if not (is_hole and has_no_holes):
        tree.spend_extent()
        insort(extents, (start, item))


def truncate(tree: FsTree, number: int, length: int, sector_bytes: int) -> None:
    """Take away what a file has from byte `length` on. Raises InputError."""
    last = None
    for last in tree.extents(number, length):  # noqa: B007 - most files have nothing there
        pass
    if last is None:
        return
    extent = parse_extent(last[1], f"btrfs inode {number}", sector_bytes)
    if last[0] + extent.length > length:
        _drop(tree.editable_extents(number), length, layout.LAST, number, sector_bytes)


def _drop(extents: list[tuple[int, bytes]], start: int, end: int, number: int, sector_bytes: int) -> None:
    """Take `start` to `end` out of an ascending list of extents; one that is cut leaves its other parts."""
    position = max(bisect_left(extents, (start + 1, b"")) - 1, 0)
    while position < len(extents) and extents[position][0] < end:
        place, item = extents[position]
        extent = parse_extent(item, f"btrfs inode {number}", sector_bytes)
        stop = place + extent.length
        if stop <= start:
            position += 1
            continue
        kept = []
        if place < start:
            kept.append((place, _cut(item, extent, 0, start - place)))
        if stop > end:
            kept.append((end, _cut(item, extent, end - place, stop - end)))
        if extent.kind == layout.EXTENT_INLINE and place < start:
            kept = [(place, item)]  # the kernel cuts no inline extent; its file's size hides the rest
        extents[position : position + 1] = kept
        position += len(kept)


def _cut(item: bytes, extent: Extent, skip: int, length: int) -> bytes:
    """Return an extent's item for a part of it."""
    if extent.kind == layout.EXTENT_INLINE:
        return item
    place = layout.EXTENT_PLACE.pack(extent.address, extent.stored, extent.skip + skip, length)
    return item[:_PLACE_OFFSET] + place
