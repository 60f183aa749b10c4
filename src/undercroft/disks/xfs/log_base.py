"""What lies on disk under the log's changes: how new it is, and whether it was whole.

A block of version 5 notes the place in the log up to which it has everything. What is replayed on top of a
block whose own checksum is wrong may stand on damage: that is a problem, since no checksum tells it later.
"""

from typing import NamedTuple

from undercroft.disks.cache import BoundedCache
from undercroft.disks.xfs import checksum, layout
from undercroft.disks.xfs.overlay import SECTOR_BYTES, Overlay
from undercroft.disks.xfs.superblock import Superblock


class _Form(NamedTuple):
    """Where a kind of block notes its place in the log, its uuid, and, where it is checked, all else."""

    place: int
    uuid: int
    header: layout.Header | None = None


_SHORT_TREE = _Form(24, 32)
_FORMS = {
    **dict.fromkeys((b"AB3B", b"AB3C", b"RMB3", b"R3FC", b"FIB3", b"IAB3"), _SHORT_TREE),
    b"BMA3": _Form(32, 40, layout.BTREE_HEADER),
    b"XAGF": _Form(208, 64),
    b"XAGI": _Form(320, 296),
    b"XAFL": _Form(24, 8),
    b"XSLM": _Form(48, 16, layout.SYMLINK_HEADER),
    b"XDB3": _Form(16, 24, layout.DIRECTORY_HEADER),
    b"XDD3": _Form(16, 24, layout.DIRECTORY_HEADER),
    b"XDF3": _Form(16, 24),
    b"XFSB": _Form(240, 32),
}
_INDEX_FORM = _Form(24, 32)
_INDEX_MAGICS = (b"\x3d\xf1", b"\x3d\xff", b"\x3b\xee", b"\x3e\xbe")
_INDEX_MAGIC = slice(8, 10)
_CACHED_PLACES = 1 << 16
_NOWHERE = (0, (1 << 64) - 1)
_INODE_PLACE = slice(112, 120)


class BaseBlocks:
    """Blocks as they are on disk, each looked at when the first change to it comes."""

    def __init__(self, overlay: Overlay, superblock: Superblock) -> None:
        self._overlay = overlay
        self._superblock = superblock
        self._places: BoundedCache[tuple[int, int], int] = BoundedCache(_CACHED_PLACES)
        self._problems: list[str] = []
        self._damaged = 0

    def is_newer(self, sector: int, length: int, place: int) -> bool:
        """Return whether the buffer on disk already has what the log's `place` says."""
        if not self._superblock.is_v5:
            return False
        found = self._places.get((sector, length))
        if found is None:
            found = self._places.put((sector, length), self._look(sector, length))
        return found >= place

    def _look(self, sector: int, length: int) -> int:
        """Return the place that a buffer on disk notes, 0 for none that counts."""
        offset = sector * SECTOR_BYTES
        if self._overlay.is_changed(offset, length * SECTOR_BYTES):
            return 0
        data = self._overlay.read(offset, length * SECTOR_BYTES)
        form = _FORMS.get(data[:4])
        if form is None and data[_INDEX_MAGIC] in _INDEX_MAGICS:
            form = _INDEX_FORM
        superblock = self._superblock
        uuid = superblock.uuid if data[:4] == layout.MAGIC else superblock.metadata_uuid
        if form is None or data[form.uuid : form.uuid + 16] != uuid:
            return 0
        if form.header:
            self._check(data, offset, form.header)
        place = int.from_bytes(data[form.place : form.place + 8], "big")
        return 0 if place in _NOWHERE else place

    def _check(self, data: bytes, offset: int, header: layout.Header) -> None:
        superblock = self._superblock
        is_directory = header is layout.DIRECTORY_HEADER
        if is_directory and len(data) != superblock.directory_block_bytes:
            return  # a part of a block that lies in several pieces
        address = int.from_bytes(data[header.address : header.address + 8], "big")
        if address == offset // SECTOR_BYTES and not checksum.is_right(data, header.checksum):
            self._note(f"the block at byte {offset}")

    def check_inode(self, node: int, raw: bytes) -> None:
        """Note a problem where `raw` is inode `node` of version 5 with a wrong checksum."""
        if not self._superblock.is_v5 or raw[:2] != layout.INODE_MAGIC.to_bytes(2, "big"):
            return
        _, _, number, uuid = layout.INODE_V3.unpack_from(raw, layout.INODE_CHECKSUM_OFFSET)
        is_this = number == node and uuid == self._superblock.metadata_uuid
        if is_this and not checksum.is_right(raw, layout.INODE_CHECKSUM_OFFSET):
            self._note(f"inode {node}")

    def _note(self, what: str) -> None:
        self._damaged += 1
        if self._damaged == 1:
            self._problems.append(
                f"log: {what} had a wrong checksum before the replay: a write that was cut off, or damage"
            )

    def take_problems(self) -> list[str]:
        """Return what was found since the last call."""
        found, self._problems = self._problems, []
        return found


def place_of_inode(raw: bytes) -> int:
    """Return the place in the log that an inode of version 3 notes, 0 for none that counts."""
    place = int.from_bytes(raw[_INODE_PLACE], "big")
    return 0 if place in _NOWHERE else place
