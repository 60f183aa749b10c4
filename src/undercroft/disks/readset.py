"""What an answer rests on: every byte that was read of a machine's disks, recorded and proven again.

The argument, on which the cache of the fleet stands. The reader (`disks.machine`, `inventory.collect`) is
deterministic: it has no clock, no randomness, no other input than the disks' names, their sizes, why some
are unread, and the bytes that its sources give; what it keeps is bounded by counts, never by time or by
memory. The first range that it asks for depends on names and sizes alone, the next one on these and on the
bytes of the first, and so on. Where names, sizes and all recorded bytes are the same, the same reader
therefore asks for the same ranges and gives the same answer, whatever the rest of the disk holds, and
whatever format or chain it lies in. The digest covers which readers they were (`undercroft.readers`): others
may ask for more, and find more in the same bytes.

Guarantees: no set of reads is given for what cannot be proven. A read that failed, or more reads or bytes
than the limits, end the recording; the answer itself stands.

    >>> recorder = Recorder([("vda", source)])
    >>> answer = collect(open_machine(recorder.disks))
    >>> reads = recorder.finish()
    >>> replay([("vda", later_source)], reads.numbers) == reads.digest
"""

import hashlib
import json
from collections.abc import Sequence

from undercroft.disks.source import BlockSource
from undercroft.disks.volumes import UnreadDisk
from undercroft.errors import InputError
from undercroft.model.job import ProvenReads
from undercroft.version import VERSION

MAX_READS = 4000
"""A Debian server's inventory takes some hundreds; the largest set has to fit into one request."""

MAX_BYTES = 128 << 20
"""A machine whose package lists have to be searched reads 30 MiB."""

MAX_KEPT_BYTES = 16 << 20
"""Of data that is kept to compare the second read of a range with."""

PIECE_BYTES = 1 << 20
UNREAD_SIZE = -1

Disks = Sequence[tuple[str, BlockSource | UnreadDisk]]


class Recorder:
    """Records the reads of one answer.

    A range that is read twice is recorded once, as long as it is known to have given the same bytes.

    Args:
        disks: (name, source) in the machine's order.
        readers: which readers these are, by the host's word.

    Attributes:
        disks: the same disks, to be read in their place.
    """

    def __init__(self, disks: Disks, readers: str = "") -> None:
        self._sizes = tuple(_size(disk) for _name, disk in disks)
        self._digest = hashlib.sha256(_preamble(disks, readers))
        self._reads: list[tuple[int, int, int]] = []
        self._bytes = 0
        self._kept: dict[tuple[int, int, int], bytes] = {}
        self._kept_bytes = 0
        self._provable = True
        self.disks: list[tuple[str, BlockSource | UnreadDisk]] = [
            (name, disk if isinstance(disk, UnreadDisk) else _RecordedSource(self, number, disk))
            for number, (name, disk) in enumerate(disks)
        ]

    def add(self, disk: int, offset: int, data: bytes) -> None:
        """Take over one read."""
        length = len(data)
        key = (disk, offset, length)
        known = self._kept.get(key)
        if known is not None:
            if known != data:
                self.give_up()  # the disk changes under the read: no later read can prove this answer
            return
        if not self._provable:
            return
        self._reads.append(key)
        self._digest.update(data)
        self._bytes += length
        if self._kept_bytes + length <= MAX_KEPT_BYTES:
            self._kept[key] = data
            self._kept_bytes += length
        if self._bytes > MAX_BYTES or len(self._reads) > 2 * MAX_READS:
            self.give_up()

    def give_up(self) -> None:
        """End the recording: what is read cannot be proven."""
        self._provable = False
        self._kept.clear()

    def finish(self) -> ProvenReads | None:
        """Return what was read, ranges that join as one; None where it cannot be proven."""
        merged: list[int] = []
        end = (UNREAD_SIZE, 0)
        for disk, offset, length in self._reads:
            if (disk, offset) == end:
                merged[-1] += length
            else:
                merged += (disk, offset, length)
            end = (disk, offset + length)
        if not self._provable or len(merged) > 3 * MAX_READS:
            return None
        return ProvenReads(tuple(merged), self._sizes, self._digest.hexdigest())


class _RecordedSource:
    """A disk whose reads are recorded. The layers below it (formats, chains) are not its matter."""

    __slots__ = ("_disk", "_recorder", "_source", "size_bytes")

    def __init__(self, recorder: Recorder, disk: int, source: BlockSource) -> None:
        self._recorder = recorder
        self._disk = disk
        self._source = source
        self.size_bytes = source.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError as the disk does; nothing is proven then."""
        try:
            data = self._source.read(offset, length)
        except BaseException:
            self._recorder.give_up()
            raise
        self._recorder.add(self._disk, offset, data)
        return data


def replay_sets(disks: Disks, sets: Sequence[ProvenReads], readers: str = "") -> tuple[str, ...]:
    """Read one recorded set after the other until one has the digest that is expected of it.

    Returns:
        The digest of each set that was tried, "" for one that cannot be read on these disks.
    """
    digests = []
    for recorded in sets:
        try:
            digests.append(replay(disks, recorded.numbers, readers))
        except InputError:
            digests.append("")
        if digests[-1] == recorded.digest:
            break
    return tuple(digests)


def replay(disks: Disks, numbers: Sequence[int], readers: str = "") -> str:
    """Read the same ranges again, in order, and return the digest that `ReadSet.digest` is compared with.

    Args:
        disks: the machine as it is now; another number or size of disks gives another digest.
        numbers: `ProvenReads.numbers`, from the host.
        readers: as in `Recorder`.

    Raises:
        InputError: a range cannot be read, or the limits are passed. The answer is then not proven.
    """
    reads = list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))
    if len(reads) > MAX_READS or sum(length for _disk, _offset, length in reads) > MAX_BYTES:
        raise InputError(f"a set of {len(reads)} reads is over the limit of {MAX_READS} or {MAX_BYTES} bytes")
    digest = hashlib.sha256(_preamble(disks, readers))
    for number, offset, length in reads:
        disk = disks[number][1] if 0 <= number < len(disks) else None
        if disk is None or isinstance(disk, UnreadDisk):
            raise InputError(f"disk {number} of the recorded reads is not there or unread")
        for start in range(offset, offset + length, PIECE_BYTES):
            digest.update(disk.read(start, min(PIECE_BYTES, offset + length - start)))
    return digest.hexdigest()


def _size(disk: BlockSource | UnreadDisk) -> int:
    return UNREAD_SIZE if isinstance(disk, UnreadDisk) else disk.size_bytes


def _preamble(disks: Disks, readers: str) -> bytes:
    """Return what else the answer depends on; JSON ends by itself, so nothing that follows can be part."""
    named = [
        [
            name,
            _size(disk),
            [disk.reason, disk.size_bytes, disk.content] if isinstance(disk, UnreadDisk) else [],
        ]
        for name, disk in disks
    ]
    return json.dumps([VERSION, readers, named], separators=(",", ":")).encode("ascii")
