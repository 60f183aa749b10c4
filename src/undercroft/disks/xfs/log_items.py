"""The items of committed transactions, laid over the volume.

Follows fs/xfs/xfs_buf_item_recover.c, xfs_inode_item_recover.c and xfs_icreate_item.c of the kernel. Where a
block on disk is newer than a transaction (version 5 notes the place in the log), it stays as it is. Checksums
are not in the log: an inode gets its own anew, other blocks are known to be changed (`Overlay.is_changed`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from undercroft.disks.xfs import log_layout as logs
from undercroft.disks.xfs.log_base import BaseBlocks
from undercroft.disks.xfs.log_inode import new_inode, replayed_inode
from undercroft.disks.xfs.log_transactions import Item, Region, Transaction
from undercroft.disks.xfs.overlay import SECTOR_BYTES, Overlay
from undercroft.disks.xfs.superblock import Superblock
from undercroft.errors import InputError

_IGNORED = (logs.DQUOT, logs.QUOTA_OFF, logs.UNLINKED)
_INODE_ITEMS = {logs.INODE_ITEM.size: logs.INODE_ITEM, logs.INODE_ITEM_PACKED.size: logs.INODE_ITEM_PACKED}


@dataclass(slots=True)
class Cancelled:
    """Pass 1: buffers that were given back, so that earlier copies of them must not be replayed.

    Attributes:
        buffers: (first sector, length) to how often; an entry ends with the last transaction that says so.
        sectors: their first sectors.
    """

    buffers: Counter[tuple[int, int]] = field(default_factory=Counter)
    sectors: Counter[int] = field(default_factory=Counter)

    def note(self, transaction: Transaction) -> None:
        """Note what `transaction` gives back. Raises InputError at the limit."""
        for item in transaction.items:
            if item.kind == logs.BUFFER:
                _, _, flags, length, sector, _ = _buffer_fields(item)
                if flags & logs.BUFFER_CANCEL:
                    self.buffers[sector, length] += 1
                    self.sectors[sector] += 1
        if len(self.buffers) > logs.MAX_CANCELLED:
            raise InputError(f"xfs log: more than {logs.MAX_CANCELLED} buffers were given back")

    def take(self, sector: int, length: int) -> None:
        """Forget one of the times that a buffer was given back."""
        self.buffers[sector, length] -= 1
        self.sectors[sector] -= 1
        if self.buffers[sector, length] <= 0:
            del self.buffers[sector, length]
        if self.sectors[sector] <= 0:
            del self.sectors[sector]

    def has_within(self, sector: int, length: int) -> bool:
        """Return whether a buffer that begins within a range is given back later."""
        return not self.sectors.keys().isdisjoint(range(sector, sector + length))


class Replayer:
    """Pass 2.

    Attributes:
        reowned: inodes whose blocks bear another owner, since two files exchanged their content.
        undone: what was begun and not ended, (kind of intent, identity).
        refused: how many items could not be replayed; `problems` names one.
        problems: why.
    """

    def __init__(self, overlay: Overlay, superblock: Superblock, cancelled: Cancelled) -> None:
        self.reowned: set[int] = set()
        self.undone: set[tuple[int, bytes]] = set()
        self.refused = 0
        self.problems: list[str] = []
        self._overlay = overlay
        self._superblock = superblock
        self._cancelled = cancelled
        self._base = BaseBlocks(overlay, superblock)

    def replay(self, transaction: Transaction) -> None:
        """Lay a transaction over the volume; what cannot be is told in `problems`."""
        # The kernel's order: buffers, then what lies in them.
        for item in sorted(transaction.items, key=_rank):
            try:
                self._item(item, transaction.place)
            except InputError as error:
                self.refused += 1
                if self.refused == 1:
                    self.problems.append(f"log: an item of type {item.kind:#x} was not replayed: {error}")
        self.problems += self._base.take_problems()

    def _item(self, item: Item, place: int) -> None:
        kind = item.kind
        if kind == logs.BUFFER:
            self._buffer(item, place)
        elif kind == logs.INODE:
            self._inode(item, place)
        elif kind == logs.CREATE:
            self._create(item)
        elif kind in logs.INTENTS:
            self.undone.add((kind, bytes(item.regions[0][logs.INTENT_ID])))
            if len(self.undone) > logs.MAX_INTENTS:
                raise InputError(f"more than {logs.MAX_INTENTS} things were begun at once")
        elif kind - 1 in logs.INTENTS:
            self.undone.discard((kind - 1, bytes(item.regions[0][logs.INTENT_ID])))
        elif kind not in _IGNORED:
            raise InputError("its type is unknown")

    def _buffer(self, item: Item, place: int) -> None:
        _, _, flags, length, sector, words = _buffer_fields(item)
        if flags & logs.BUFFER_CANCEL:
            self._cancelled.take(sector, length)
            return
        # Of an inode's buffer only the chain of unlinked inodes is replayed, which nobody follows here.
        if flags & (logs.BUFFER_QUOTA | logs.BUFFER_INODES) or (sector, length) in self._cancelled.buffers:
            return
        if not 0 < length <= logs.MAX_BUFFER_SECTORS or sector < 0:
            raise InputError(f"a buffer of {length} sectors at {sector}")
        if self._base.is_newer(sector, length, place):
            return
        bits = int.from_bytes(item.regions[0][logs.BUFFER_ITEM.size :][: words * 4], "little")
        if bits >> length * SECTOR_BYTES // logs.BUFFER_CHUNK_BYTES:
            raise InputError(f"a buffer of {length} sectors at {sector} with chunks behind its end")
        for start, region in _dirty(bits, item.regions[1:]):
            self._overlay.write(sector * SECTOR_BYTES + start, region)

    def _inode(self, item: Item, place: int) -> None:
        form = _INODE_ITEMS.get(len(item.regions[0]))
        if form is None or len(item.regions) < 2:
            raise InputError(
                f"an inode in {len(item.regions)} regions, the first of {len(item.regions[0])} bytes"
            )
        fields, _, _, node, sector, length, inner = form.unpack_from(item.regions[0])
        if (sector, length) in self._cancelled.buffers:
            return
        superblock = self._superblock
        offset = sector * SECTOR_BYTES + inner
        if offset != self._place(node):
            raise InputError(f"inode {node} is said to lie at byte {offset}")
        raw = self._overlay.read(offset, superblock.inode_bytes)
        if not self._overlay.is_changed(offset, superblock.inode_bytes):
            self._base.check_inode(node, raw)
        stands = form.size - logs.INODE_DEVICE_BEFORE_END
        device = int.from_bytes(item.regions[0][stands : stands + 4], "little")
        changed = replayed_inode(raw, item.regions[1:], fields, place, superblock, device)
        if changed is not None:
            self._overlay.write(offset, changed)
            if fields & logs.FIELDS_OWNER and len(self.reowned) < logs.MAX_REOWNED:
                self.reowned.add(node)

    def _place(self, node: int) -> int:
        """Return where inode `node` lies in the volume, in bytes."""
        superblock = self._superblock
        group, inner = divmod(node, 1 << superblock.group_log + superblock.block_inodes_log)
        return (group * superblock.group_blocks << superblock.block_log) + (inner << superblock.inode_log)

    def _create(self, item: Item) -> None:
        """Write empty inodes where a chunk of them was made."""
        superblock = self._superblock
        if len(item.regions[0]) < 4 + logs.CREATE_FIELDS.size:
            raise InputError(f"inodes made in {len(item.regions[0])} bytes")
        fields = logs.CREATE_FIELDS.unpack_from(item.regions[0], 4)
        group, block, count, inode_bytes, length, generation = fields
        size = length << superblock.block_log
        place = group * superblock.group_blocks + block
        if (
            group >= superblock.groups
            or not 0 < block <= superblock.group_blocks - length
            or inode_bytes != superblock.inode_bytes
            or not 0 < count * inode_bytes == size <= logs.MAX_CREATE_BYTES
        ):
            raise InputError(
                f"{count} inodes of {inode_bytes} bytes in {length} blocks at {block} of {group}"
            )
        offset = place << superblock.block_log
        if self._cancelled.has_within(offset // SECTOR_BYTES, size // SECTOR_BYTES):
            return
        first = (group << superblock.group_log | block) << superblock.block_inodes_log
        made = (new_inode(number, generation, superblock) for number in range(first, first + count))
        self._overlay.write(offset, b"".join(made))


def _rank(item: Item) -> int:
    if item.kind == logs.BUFFER:
        return 2 if _buffer_fields(item)[2] & logs.BUFFER_CANCEL else 0
    return 0 if item.kind == logs.CREATE else 1


def _buffer_fields(item: Item) -> tuple[int, ...]:
    if len(item.regions[0]) < logs.BUFFER_ITEM.size:
        raise InputError(f"xfs log: a buffer's item of {len(item.regions[0])} bytes")
    fields: tuple[int, ...] = logs.BUFFER_ITEM.unpack_from(item.regions[0])
    return fields


def _dirty(bits: int, regions: Sequence[Region]) -> Iterator[tuple[int, Region]]:
    """Yield (place in the buffer, bytes) of the dirty chunks.

    A run of them is one region, or several: it may be split where a page of memory ends.
    """
    chunk = logs.BUFFER_CHUNK_BYTES
    at = 0
    left = iter(regions)
    while bits >> at:
        at += (bits >> at & -(bits >> at)).bit_length() - 1
        rest = bits >> at
        run = (~rest & rest + 1).bit_length() - 1
        region = next(left, None)
        if region is None or len(region) < chunk:
            raise InputError(f"a run of {run} dirty chunks without its bytes")
        run = min(run, len(region) // chunk)
        yield at * chunk, region[: run * chunk]
        at += run
