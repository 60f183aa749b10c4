"""Trees of keyed items: blocks read, verified, searched.

Guarantees: each block has its checksum, its own address, the filesystem's UUID, and the level, generation and
first key that its parent says; its keys ascend and its items lie in it, one behind the other. Levels fall on
the way down, so that no walk loops, and keys ascend along a walk, so that none is longer than the tree.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from operator import lt
from typing import NamedTuple

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.chunks import ChunkMap
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.cache import BoundedCache
from undercroft.errors import InputError

_CACHED_BYTES = 16 << 20

Key = tuple[int, int, int]
"""(objectid, type, offset)"""

Item = tuple[Key, bytes]

Slice = tuple[list[tuple[int, int, int, int, int]], bytes]
"""Items of one leaf, as `Node.items`, and its data."""


class Node(NamedTuple):
    """A verified tree block.

    Attributes:
        level: 0 for a leaf.
        generation: of the commit that wrote it.
        owner: the tree that it was written for.
        items: (objectid, type, offset, x, y): the data's place and size in `data` for a leaf, address and
            generation of the child for others.
        data: what follows the header.
    """

    level: int
    generation: int
    owner: int
    items: list[tuple[int, int, int, int, int]]
    data: bytes


_NO_LEAF = Node(0, 0, 0, [], b"")


class NodeReader:
    """Reads the tree blocks of one filesystem."""

    def __init__(self, chunks: ChunkMap, superblock: Superblock) -> None:
        self._chunks = chunks
        self._bytes = superblock.node_bytes
        self._sector = superblock.sector_bytes
        self._fsid = superblock.metadata_fsid
        self._checksum = superblock.checksum
        self._cache: BoundedCache[int, Node] = BoundedCache(max(64, _CACHED_BYTES // self._bytes))

    def node(self, address: int, level: int, generation: int, first: Key | None = None) -> Node:
        """Return the tree block at a logical address.

        `level`, `generation` and `first`, its first key, are what its parent says of it.

        Raises InputError where no copy is what it should be.
        """
        node = self._cache.get(address)
        if node is None:
            node = self._cache.put(address, self._read(address, level, generation))
        if node.level != level or node.generation != generation:
            raise InputError(
                f"btrfs tree block at {address}: level {node.level} and generation {node.generation}, "
                f"its parent says {level} and {generation}"
            )
        if first is not None and (not node.items or node.items[0][:3] != first):
            raise InputError(f"btrfs tree block at {address}: its first key is not what its parent says")
        return node

    def has_rival_copies(self, address: int, level: int, generation: int) -> bool:
        """Return whether sound copies of one tree block differ: devices that were written to apart.

        Each commit writes the root of the root tree anew, so that one shows it for all. Raises InputError.
        """
        found: set[bytes] = set()
        for untrusted in self._chunks.copies(address, self._bytes):
            try:
                node = self._parse(address, untrusted)
            except InputError:
                continue
            if node.level == level and node.generation == generation:
                found.add(untrusted)
        return len(found) > 1

    def _read(self, address: int, level: int, generation: int) -> Node:
        if address & (self._sector - 1):
            raise InputError(f"btrfs tree block at {address}: no multiple of {self._sector}")
        damage: InputError | None = None
        for untrusted in self._chunks.copies(address, self._bytes):
            try:
                node = self._parse(address, untrusted)
            except InputError as error:
                damage = damage or error
                continue
            if node.level == level and node.generation == generation:
                return node
            damage = damage or InputError(
                f"btrfs tree block at {address}: level {node.level} and generation {node.generation}, "
                f"its parent says {level} and {generation}"
            )
        raise damage or InputError(f"btrfs tree block at {address}: it has no copy")

    def _parse(self, address: int, untrusted: bytes) -> Node:
        what = f"btrfs tree block at {address}"
        found, fsid, own, _, _, generation, owner, count, level = layout.HEADER.unpack_from(untrusted)
        size = self._checksum.size_bytes
        computed = self._checksum.digest(untrusted[layout.CHECKSUM_BYTES :])
        if found[:size] != computed:
            raise InputError(f"{what}: its checksum is {found[:size].hex()}, its bytes give {computed.hex()}")
        if fsid != self._fsid or own != address or level > layout.MAX_LEVEL:
            raise InputError(f"{what}: it is of another place or filesystem")
        data = untrusted[layout.HEADER.size :]
        record = layout.POINTER if level else layout.ITEM
        if count > len(data) // record.size or (level and not count):
            raise InputError(f"{what}: {count} items")
        items = list(record.iter_unpack(data[: count * record.size]))
        if not all(map(lt, items, items[1:])):
            raise InputError(f"{what}: its keys do not ascend")
        if not level and items:
            _check_places(items, len(data), what)
        return Node(level, generation, owner, items, data)


def _check_places(items: list[tuple[int, int, int, int, int]], size: int, what: str) -> None:
    ends = [item[3] + item[4] for item in items]
    if (
        ends[0] != size
        or ends[1:] != [item[3] for item in items[:-1]]
        or (items[-1][3] < len(items) * layout.ITEM.size)
    ):
        raise InputError(f"{what}: its items do not lie one behind the other")


class Tree:
    """One tree of a filesystem.

    Args:
        reader: of the filesystem's blocks.
        place: (logical address, level) of its root.
        generation: of its root.
        name: for messages.
    """

    def __init__(self, reader: NodeReader, place: tuple[int, int], generation: int, name: str) -> None:
        self._reader = reader
        self._place = place
        self._generation = generation
        self._name = name
        self._leaf = _NO_LEAF
        self._low: Key = (1, 0, 0)
        self._high: Key = (0, 0, 0)  # nothing lies between them: no leaf is known yet

    def get(self, key: Key) -> bytes | None:
        """Return the data of the item with `key`, None where there is none. Raises InputError."""
        if not self._low <= key <= self._high:
            address, level = self._place
            above = (*key, 1 << 64)
            node = self._reader.node(address, level, self._generation)
            while node.level:
                node = self._child(node, max(bisect_right(node.items, above) - 1, 0))
            self._keep(node)
        items = self._leaf.items
        position = bisect_left(items, key)
        if position < len(items):
            item = items[position]
            if item[:3] == key:
                return self._leaf.data[item[3] : item[3] + item[4]]
        return None

    def _keep(self, leaf: Node) -> None:
        """Look here first the next time."""
        self._leaf = leaf
        if leaf.items:
            self._low, self._high = leaf.items[0][:3], leaf.items[-1][:3]
        else:
            self._low, self._high = (1, 0, 0), (0, 0, 0)

    def last_before(self, key: Key) -> Item | None:
        """Return the last item whose key is not above `key`, None where there is none. Raises InputError."""
        path = self._path(key)
        node, position = path[-1]
        if position < 0:
            return None  # its leaf is the first: a way down never leads above the key but there
        item = node.items[position]
        return item[:3], node.data[item[3] : item[3] + item[4]]

    def items(self, first: Key, last: Key) -> Iterator[Item]:
        """Yield (key, data) of the items from `first` to `last`, both included, ascending.

        Raises InputError; also midway.
        """
        for items, data in self.slices(first, last):
            for objectid, kind, offset, place, size in items:
                yield (objectid, kind, offset), data[place : place + size]

    def slices(self, first: Key, last: Key) -> Iterator[Slice]:
        """Yield the items from `first` to `last` by leaves, for walks that have many. Raises InputError."""
        if self._low <= first and last < self._high:
            yield _slice(self._leaf, first, last)
            return
        path = self._path(first)
        node = path[-1][0]
        self._keep(node)
        while True:
            yield _slice(node, first, last)
            if node.items and node.items[-1][:3] > last:
                return
            following = self._next_leaf(path)
            if following is None:
                return
            if node.items and not node.items[-1][:3] < following.items[0][:3]:
                raise InputError(f"btrfs {self._name}: its leaves do not ascend")
            node = following

    def leaves(self, limit: int) -> Iterator[Node]:
        """Yield all leaves, ascending. Raises InputError; also where there are more than `limit`."""
        path = self._path((0, 0, 0))
        node: Node | None = path[-1][0]
        count = 0
        while node is not None:
            count += 1
            if count > limit:
                raise InputError(f"btrfs {self._name}: more than {limit} leaves")
            yield node
            node = self._next_leaf(path)

    def _path(self, key: Key) -> list[tuple[Node, int]]:
        """Return (node, position) from the root to the leaf where `key` is or would be.

        The position is of the last item that is not above the key; in a leaf it may be -1.
        """
        address, level = self._place
        above = (*key, 1 << 64)
        node = self._reader.node(address, level, self._generation)
        path = []
        while node.level:
            position = max(bisect_right(node.items, above) - 1, 0)
            path.append((node, position))
            node = self._child(node, position)
        path.append((node, bisect_right(node.items, above) - 1))
        return path

    def _next_leaf(self, path: list[tuple[Node, int]]) -> Node | None:
        """Move `path` to the following leaf and return it, None at the end."""
        depth = len(path) - 2
        while depth >= 0 and path[depth][1] + 1 >= len(path[depth][0].items):
            depth -= 1
        if depth < 0:
            return None
        node, position = path[depth]
        del path[depth:]
        position += 1
        while True:
            path.append((node, position))
            node = self._child(node, position)
            position = 0
            if not node.level:
                path.append((node, position))
                return node

    def _child(self, node: Node, position: int) -> Node:
        item = node.items[position]
        return self._reader.node(item[3], node.level - 1, item[4], item[:3])


def _slice(leaf: Node, first: Key, last: Key) -> Slice:
    items = leaf.items
    start = bisect_left(items, first)
    return items[start : bisect_right(items, (*last, 1 << 64), start)], leaf.data
