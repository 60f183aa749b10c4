"""The items of one subvolume: its tree as it is committed, under what the replay of its log changed."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.tree import Item, Key, Slice, Tree
from undercroft.errors import InputError


class FsTree:
    """A subvolume's items. Nothing is changed but by a replay, in memory.

    Args:
        tree: as it is committed.
        room: how many items a log may still change.

    Attributes:
        room: what is left of it.
        get: returns the data of the item with a key, None where there is none; raises InputError.
    """

    def __init__(self, tree: Tree, room: int = layout.MAX_LOG_CHANGES) -> None:
        self._tree = tree
        self._changed: dict[Key, bytes | None] = {}
        self._keys: dict[int, list[Key]] = {}
        self._extents: dict[int, list[tuple[int, bytes]]] = {}
        self.room = room
        self.get = tree.get

    def items(self, first: Key, last: Key) -> Iterator[Item]:
        """Yield the items of one object from `first` to `last`, both included. Raises InputError.

        Extents of files are not among them: `extents` gives those.
        """
        keys = self._keys.get(first[0])
        if not keys:
            return self._tree.items(first, last)
        return self._merged(first, last, keys[bisect_left(keys, first) : bisect_right(keys, last)])

    def slices(self, first: Key, last: Key) -> Iterator[Slice]:
        """Yield what `items` does by leaves, as `Tree.slices`."""
        if first[0] not in self._keys:
            return self._tree.slices(first, last)
        return (([(*key, 0, len(data))], data) for key, data in self.items(first, last))

    def extents(self, node: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (place in the file, item) of a file's extents from the one on that may hold `start`.

        Raises InputError; also midway.
        """
        changed = self._extents.get(node)
        if changed is not None:
            position = max(bisect_left(changed, (start + 1, b"")) - 1, 0)
            yield from changed[position:]
            return
        first = (node, layout.EXTENT_DATA, 0)
        if start:
            before = self._tree.last_before((node, layout.EXTENT_DATA, start))
            if before and before[0] > first:
                first = before[0]
        for key, data in self._tree.items(first, (node, layout.EXTENT_DATA, layout.LAST)):
            yield key[2], data

    def put(self, key: Key, data: bytes | None) -> None:
        """Set an item, or take it away with None. Raises InputError where a log changes too much."""
        if key not in self._changed:
            self._spend(1)
            insort(self._keys.setdefault(key[0], []), key)
        self._changed[key] = data
        self.get = self._get

    def editable_extents(self, node: int) -> list[tuple[int, bytes]]:
        """Return a file's extents to be changed, ascending. Raises InputError as `put` does."""
        found = self._extents.get(node)
        if found is None:
            found = []
            for extent in self.extents(node):
                self._spend(1)
                found.append(extent)
            self._extents[node] = found
        return found

    def spend_extent(self) -> None:
        """Count an extent that a log adds. Raises InputError where it changes too much."""
        self._spend(1)

    def _spend(self, count: int) -> None:
        self.room -= count
        if self.room < 0:
            raise InputError(f"btrfs log: it changes more than {layout.MAX_LOG_CHANGES} items")

    def _get(self, key: Key) -> bytes | None:
        if key in self._changed:
            return self._changed[key]
        return self._tree.get(key)

    def _merged(self, first: Key, last: Key, keys: list[Key]) -> Iterator[Item]:
        changed = self._changed
        position = 0
        for item in self._tree.items(first, last):
            key = item[0]
            while position < len(keys) and keys[position] < key:
                data = changed[keys[position]]
                if data is not None:
                    yield keys[position], data
                position += 1
            if key not in changed:  # else it comes from the changed ones, next
                yield item
        for key in keys[position:]:
            data = changed[key]
            if data is not None:
                yield key, data
