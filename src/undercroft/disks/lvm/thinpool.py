"""The metadata of a thin pool: which block of the pool each block of a thin volume is.

Guarantees: reads blocks of 4 KiB inside the metadata volume, each checked by its checksum and its own place;
trees are walked down at most `MAX_LEVELS`, so no loop ends a read; memory is bounded by the cache of nodes.
Any bytes give values or `InputError` that begins with "lvm thin pool". What is read is the last committed
transaction, as the kernel reads it after a crash. Follows Linux's drivers/md/dm-thin-metadata.c and
drivers/md/persistent-data/dm-btree-internal.h.
"""

from bisect import bisect_right
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

from google_crc32c._crc32c import extend  # its compiled part by name, as in disks.ext4.checksum

from undercroft.disks.cache import BoundedCache
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

BLOCK_BYTES = 4096
MAX_LEVELS = 10
"""Eight levels of 126 entries hold more than a pool can."""
MAX_CACHED_NODES = 256
"""One node of 254 entries takes some 20 KiB of memory."""
MIN_DATA_SECTORS, MAX_DATA_SECTORS = 128, 2 << 20

_SUPERBLOCK = Struct("<IIQ16sQIIQQ128s128sQQIIQIII")
_NODE = Struct("<IIQIIII")
_MAGIC = 27022010
_SUPERBLOCK_XOR, _NODE_XOR = 160774, 121107
_INTERNAL, _LEAF = 1, 2
_NEEDS_CHECK = 1
_TIME_BITS = 24


class Node(NamedTuple):
    """A node of a tree: its keys in order, a value for each, and whether these are blocks of nodes."""

    keys: tuple[int, ...]
    values: tuple[int, ...]
    internal: bool


class ThinPool:
    """The metadata of one pool.

    Args:
        source: the metadata volume, untrusted.
        name: of the pool, for error messages.

    Attributes:
        data_block_bytes: the pool's unit of allocation.
        transaction: as its superblock counts; LVM counts along.
        needs_check: whether the kernel found damage in it and stopped writing.

    Raises:
        InputError: the superblock is malformed.
    """

    def __init__(self, source: BlockSource, name: str) -> None:
        self._source = source
        self.name = name
        self._nodes: BoundedCache[tuple[int, int], Node] = BoundedCache(MAX_CACHED_NODES)
        data = self._block(0, _SUPERBLOCK_XOR, "superblock")
        fields = _SUPERBLOCK.unpack_from(data)
        (_, flags, place, _, magic, version, _, self.transaction, _, _, _, mappings, details) = fields[:13]
        sectors, metadata_sectors, _, _, _, incompatible = fields[13:]
        if magic != _MAGIC or place or metadata_sectors != BLOCK_BYTES >> 9:
            raise InputError(f"lvm thin pool {name}: its superblock is of another kind")
        if version not in (1, 2) or incompatible:
            raise UnsupportedError(
                f"lvm thin pool {name}: version {version} with features {incompatible:#x} is not supported"
            )
        if not MIN_DATA_SECTORS <= sectors <= MAX_DATA_SECTORS or sectors % MIN_DATA_SECTORS:
            raise InputError(f"lvm thin pool {name}: blocks of {sectors} sectors")
        self.needs_check = bool(flags & _NEEDS_CHECK)
        self.data_block_bytes = sectors * 512
        self._mappings = mappings
        self._details = details

    def root_of(self, device_id: int) -> int:
        """Return the root of a thin volume's tree. Raises InputError: the pool has no such volume."""
        root = self._find(self._mappings, device_id)
        if root is None or not self._knows(device_id):
            raise InputError(f"lvm thin pool {self.name}: it has no volume {device_id}")
        return root

    def block_of(self, root: int, block: int) -> int | None:
        """Return the data block that holds a thin volume's block, None for one never written."""
        value = self._find(root, block)
        return None if value is None else value >> _TIME_BITS

    def _knows(self, device_id: int) -> bool:
        """Whether the tree of details has it too; its values are 24 bytes, of which none is needed."""
        return self._find(self._details, device_id, 24) is not None

    def _find(self, root: int, key: int, value_bytes: int = 8) -> int | None:
        place = root
        for _ in range(MAX_LEVELS):
            node = self._nodes.get((place, value_bytes)) or self._node(place, value_bytes)
            index = bisect_right(node.keys, key) - 1
            if index < 0:
                return None
            if not node.internal:
                return node.values[index] if node.keys[index] == key else None
            place = node.values[index]
        raise InputError(f"lvm thin pool {self.name}: a tree at block {root} is deeper than {MAX_LEVELS}")

    def _node(self, place: int, value_bytes: int) -> Node:
        data = self._block(place, _NODE_XOR, "tree")
        _, flags, own, count, capacity, size, _ = _NODE.unpack_from(data)
        what = f"lvm thin pool {self.name}: the tree at block {place}"
        expected = 8 if flags == _INTERNAL else value_bytes
        if own != place or flags not in (_INTERNAL, _LEAF) or size != expected:
            raise InputError(f"{what} has another place, kind or size of values")
        if count > capacity or _NODE.size + capacity * (8 + size) > BLOCK_BYTES:
            raise InputError(f"{what} has {count} of {capacity} entries, which do not fit")
        keys = Struct(f"<{count}Q").unpack_from(data, _NODE.size)
        if any(later <= earlier for earlier, later in pairwise(keys)):
            raise InputError(f"{what} has keys out of order")
        start = _NODE.size + 8 * capacity
        values = Struct("<" + f"Q{size - 8}x" * count).unpack_from(data, start)
        return self._nodes.put((place, value_bytes), Node(keys, values, flags == _INTERNAL))

    def _block(self, place: int, xor: int, what: str) -> bytes:
        if (place + 1) * BLOCK_BYTES > self._source.size_bytes:
            raise InputError(f"lvm thin pool {self.name}: {what} block {place} lies beyond its metadata")
        data = self._source.read(place * BLOCK_BYTES, BLOCK_BYTES)
        found = int.from_bytes(data[:4], "little")
        computed = int(extend(0, data[4:])) ^ 0xFFFFFFFF ^ xor
        if found != computed:
            raise InputError(
                f"lvm thin pool {self.name}: the checksum of {what} block {place} is {found:#x}, its bytes"
                f" give {computed:#x}"
            )
        return data
