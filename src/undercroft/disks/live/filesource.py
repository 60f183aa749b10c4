"""A file of a filesystem as a device, as a loop device makes one.

Guarantees: what is kept is bounded by a count of pieces, so the same reads give the same reads below.
"""

from undercroft.disks.cache import BoundedCache
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.source import check_range
from undercroft.errors import InputError

PIECE_BYTES = 128 << 10
"""What squashfs' blocks have as a rule, and ext4's reader gives at once."""
CACHED_PIECES = 16


class FileSource:
    """A regular file as a block source.

    Args:
        filesystem: that holds it.
        node: of the file.
        name: for messages.

    Raises:
        InputError: it cannot be read.
    """

    __slots__ = ("_filesystem", "_node", "_pieces", "name", "size_bytes")

    def __init__(self, filesystem: FileSystem, node: int, name: str) -> None:
        self._filesystem = filesystem
        self._node = node
        self._pieces: BoundedCache[int, bytes] = BoundedCache(CACHED_PIECES)
        self.name = name
        self.size_bytes = filesystem.stat(node).size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end, and as the reader does."""
        check_range(offset, length, self.size_bytes, self.name)
        first, last = offset // PIECE_BYTES, (offset + max(length, 1) - 1) // PIECE_BYTES
        data = b"".join(self._piece(number) for number in range(first, last + 1))
        start = offset - first * PIECE_BYTES
        return data[start : start + length]

    def _piece(self, number: int) -> bytes:
        found = self._pieces.get(number)
        if found is not None:
            return found
        start = number * PIECE_BYTES
        wanted = min(PIECE_BYTES, self.size_bytes - start)
        parts: list[bytes] = []
        left = wanted
        while left > 0:
            before = left
            for part in self._filesystem.chunks(self._node, start + wanted - left):
                parts.append(part[:left])
                left -= len(parts[-1])
                if left <= 0:
                    break
            if left == before:
                raise InputError(f"{self.name}: its file ends at {start + wanted - left} bytes")
        return self._pieces.put(number, b"".join(parts))
