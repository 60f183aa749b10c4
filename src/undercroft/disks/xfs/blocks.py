"""Blocks of one filesystem: where they lie, and whether a block of metadata is what it should be.

A block's number has the allocation group in its upper bits. A block of version 5 says its own address, the
filesystem it belongs to and its owner, under a checksum: what was copied there from elsewhere is found too.
"""

from undercroft.disks.source import BlockSource
from undercroft.disks.xfs import checksum, layout
from undercroft.disks.xfs.overlay import Overlay
from undercroft.disks.xfs.superblock import Superblock
from undercroft.errors import InputError


class Blocks:
    """Reads blocks.

    Args:
        source: the volume, with the log's changes laid over it where there are any.
        superblock: its geometry.
        reowned: inodes whose blocks still bear the owner from before a defragmentation that is in the log.
    """

    def __init__(
        self, source: BlockSource, superblock: Superblock, reowned: frozenset[int] = frozenset()
    ) -> None:
        self.source = source
        self.superblock = superblock
        self._overlay = source if isinstance(source, Overlay) else None
        self._reowned = reowned
        self._group_log = superblock.group_log
        self._group_mask = (1 << superblock.group_log) - 1
        self._group_blocks = superblock.group_blocks
        self._blocks = superblock.blocks
        self._uuid = superblock.metadata_uuid
        self.read = source.read

    def linear(self, block: int, count: int) -> int:
        """Return the place of `count` blocks from number `block` on, in blocks from the volume's start.

        -1 where they do not lie within one allocation group, and within the filesystem.
        """
        inner = block & self._group_mask
        place: int = (block >> self._group_log) * self._group_blocks + inner
        return place if inner + count <= self._group_blocks and place + count <= self._blocks else -1

    def is_changed(self, offset: int, length: int) -> bool:
        """Return whether the log changed any of these bytes: then a checksum over them is old."""
        return self._overlay is not None and self._overlay.is_changed(offset, length)

    def check(
        self, block: bytes, header: layout.Header, offset: int, owner: int, place: str, is_changed: bool
    ) -> None:
        """Raise InputError unless `block`, which begins at byte `offset` of the volume, is one of `owner`'s.

        Version 4 has nothing to check. What the log changed has no checksum.
        """
        if not self.superblock.is_v5:
            return
        if not is_changed:
            checksum.check(block, header.checksum, place)
        address = int.from_bytes(block[header.address : header.address + 8], "big")
        found = int.from_bytes(block[header.owner : header.owner + 8], "big")
        if address != offset // layout.ADDRESS_UNIT_BYTES:
            raise InputError(f"{place}: it says that it belongs to sector {address}, not {offset // 512}")
        if block[header.uuid : header.uuid + 16] != self._uuid:
            raise InputError(f"{place}: it bears the UUID of another filesystem")
        if found != owner and owner not in self._reowned:
            raise InputError(f"{place}: it says that it belongs to inode {found}")
