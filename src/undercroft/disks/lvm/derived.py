"""Devices that the kernel derives from others by a table on disk: thin volumes and classic snapshots.

Guarantees: a read gives exactly what it was asked for or raises `InputError`; what was never written comes
from the origin, or as zeros where there is none. Follows Linux's drivers/md/dm-thin.c and
drivers/md/dm-snap-persistent.c.
"""

from struct import Struct

from undercroft.disks.lvm.thinpool import ThinPool
from undercroft.disks.source import BlockSource, check_range
from undercroft.errors import InputError

MAX_EXCEPTIONS = 1 << 20
"""Of one snapshot: 4 GiB of changes in chunks of 4 KiB, more in those of larger snapshots."""

_COW_HEADER = Struct("<IIII")
_COW_MAGIC = 0x70416E53
_EXCEPTION = Struct("<QQ")
_COW_VERSION = 1
MAX_CHUNK_SECTORS = 1 << 15


class ThinSource:
    """A thin volume.

    Args:
        pool: the metadata of its pool.
        data: the pool's data volume.
        device_id: of the volume in the pool.
        size_bytes: as LVM has it.
        origin: what is seen where nothing was written (an external origin), None for zeros.
        name: for error messages.

    Raises:
        InputError: the pool does not know it.
    """

    __slots__ = ("_block", "_data", "_origin", "_pool", "_root", "name", "size_bytes")

    def __init__(
        self,
        pool: ThinPool,
        data: BlockSource,
        device_id: int,
        size_bytes: int,
        origin: BlockSource | None,
        name: str,
    ) -> None:
        self._pool = pool
        self._data = data
        self._origin = origin
        self._root = pool.root_of(device_id)
        self._block = pool.data_block_bytes
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and by a malformed tree."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._block)
            size = min(length, self._block - within)
            place = self._pool.block_of(self._root, number)
            if place is None:
                found.append(_below(self._origin, offset, size))
            else:
                found.append(self._data.read(place * self._block + within, size))
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)


def _below(origin: BlockSource | None, offset: int, length: int) -> bytes:
    """Return what an origin, which may be shorter, shows."""
    if origin is None or offset >= origin.size_bytes:
        return bytes(length)
    size = min(length, origin.size_bytes - offset)
    return origin.read(offset, size) + bytes(length - size)


class SnapshotSource:
    """A classic snapshot: its origin, with the chunks that the store has kept or taken in their place.

    Args:
        origin: the volume that it was taken of.
        store: its store of exceptions, untrusted.
        name: for error messages.

    Raises:
        InputError: the store is malformed, or the kernel has given the snapshot up (it ran full).
    """

    __slots__ = ("_chunk", "_exceptions", "_origin", "_store", "name", "size_bytes")

    def __init__(self, origin: BlockSource, store: BlockSource, name: str) -> None:
        magic, valid, version, sectors = _COW_HEADER.unpack(store.read(0, _COW_HEADER.size))
        if magic != _COW_MAGIC or version != _COW_VERSION:
            raise InputError(f"{name}: its store has no header of a snapshot")
        if not valid:
            raise InputError(f"{name}: its store ran full, and the kernel gave the snapshot up")
        if not 8 <= sectors <= MAX_CHUNK_SECTORS or sectors & (sectors - 1):
            raise InputError(f"{name}: chunks of {sectors} sectors")
        self._origin = origin
        self._store = store
        self._chunk = sectors * 512
        self.name = name
        self.size_bytes = origin.size_bytes
        self._exceptions = self._read_exceptions()

    def _read_exceptions(self) -> dict[int, int]:
        """Read the areas of exceptions, each a chunk before the chunks that it speaks of."""
        found: dict[int, int] = {}
        per_area = self._chunk // _EXCEPTION.size
        chunks = self._store.size_bytes // self._chunk
        for place in range(1, chunks, per_area + 1):
            for old, new in _EXCEPTION.iter_unpack(self._store.read(place * self._chunk, self._chunk)):
                if not new:
                    return found
                if new >= chunks:
                    raise InputError(f"{self.name}: its store speaks of chunk {new}, and has {chunks}")
                found[old] = new
            if len(found) > MAX_EXCEPTIONS:
                raise InputError(f"{self.name}: more than {MAX_EXCEPTIONS} chunks have changed")
        return found

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the parts do."""
        check_range(offset, length, self.size_bytes, self.name)
        found: list[bytes] = []
        while length:
            number, within = divmod(offset, self._chunk)
            size = min(length, self._chunk - within)
            place = self._exceptions.get(number)
            if place is None:
                found.append(self._origin.read(offset, size))
            else:
                found.append(self._store.read(place * self._chunk + within, size))
            offset, length = offset + size, length - size
        return found[0] if len(found) == 1 else b"".join(found)
