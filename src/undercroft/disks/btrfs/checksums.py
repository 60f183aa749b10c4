"""The checksums of data: one for each sector, in the checksum tree and in logs that were not replayed yet."""

from collections.abc import Mapping

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import Tree
from undercroft.errors import InputError


class DataChecksums:
    """The checksums of a filesystem's data.

    Attributes:
        logged: logical address -> checksum, of sectors whose checksum a log brought.
    """

    def __init__(self, tree: Tree, superblock: Superblock) -> None:
        self._tree = tree
        self._sector = superblock.sector_bytes
        self._size = superblock.checksum.size_bytes
        self.logged: dict[int, bytes] = {}

    def log(self, logged: Mapping[int, bytes]) -> None:
        """Add what a log says of data: first address -> checksums of the sectors from there on.

        Raises InputError where all logs together say too much; then nothing is added.
        """
        count = sum(map(len, logged.values())) // self._size
        if len(self.logged) + count > layout.MAX_LOG_CHANGES:
            raise InputError(f"btrfs log: more than {layout.MAX_LOG_CHANGES} checksums")
        for address, sums in logged.items():
            for number, start in enumerate(range(0, len(sums) - self._size + 1, self._size)):
                self.logged[address + number * self._sector] = sums[start : start + self._size]

    def of(self, address: int, length: int) -> bytes:
        """Return the checksums of all sectors of a range, one after the other.

        Raises InputError where one is missing: a file without checksums says so itself.
        """
        if self.logged:
            sectors = range(address, address + length, self._sector)
            if any(place in self.logged for place in sectors):
                logged, one = self.logged.get, self._sector
                return b"".join(logged(place) or self._committed(place, one) for place in sectors)
        return self._committed(address, length)

    def _committed(self, address: int, length: int) -> bytes:
        size, sector = self._size, self._sector
        end = address + length
        place = (layout.CHECKSUM_OBJECTS, layout.EXTENT_CSUM)
        before = self._tree.last_before((*place, address))
        first = address
        if before is not None and before[0][:2] == place:
            first = before[0][2]
            skip = (address - first) // sector * size
            if skip + length // sector * size <= len(before[1]):
                return before[1][skip : skip + length // sector * size]
        found = b""
        for key, sums in self._tree.items((*place, first), (*place, end - 1)):
            skip = max(address - key[2], 0) // sector * size
            if skip >= len(sums):
                continue
            if key[2] > address:
                break
            part = sums[skip : skip + (end - address) // sector * size]
            found += part
            address += len(part) // size * sector
        if address < end:
            raise InputError(f"btrfs data at {address}: it has no checksum")
        return found
