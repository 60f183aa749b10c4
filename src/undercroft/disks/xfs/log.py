"""The log as a ring of blocks of 512 bytes, and the records in it.

Of each block of a record the first word is the number of the round (the cycle) in which it was written; what
stood there is kept in the record's header. That is how the end of what was written is found.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from google_crc32c._crc32c import extend

from undercroft.disks.source import BlockSource
from undercroft.disks.xfs import log_layout as layout
from undercroft.errors import InputError, UnsupportedError

_WORDS = Struct(">I I 504x").iter_unpack


class Record(NamedTuple):
    """The header of a record.

    Attributes:
        position: its first block in the log.
        cycle, version, length: as it says; `length` is of its body, in bytes.
        place: cycle and position that it says are its own, as one number that grows with the log.
        tail: position of the oldest record that was needed when it was written.
        checksum: as it says, 0 for none.
        operations: how many it holds.
        header_blocks, body_blocks: how long it is.
    """

    position: int
    cycle: int
    version: int
    length: int
    place: int
    tail: int
    checksum: int
    operations: int
    header_blocks: int
    body_blocks: int

    @property
    def blocks(self) -> int:
        """Blocks of header and body."""
        return self.header_blocks + self.body_blocks


class Log:
    """The log of one filesystem.

    Args:
        source: the volume.
        offset: where the log begins, in bytes.
        blocks: its length in blocks of 512 bytes, at least two.
        uuid: of the filesystem.
        has_checksums: every record must have one, as in version 5.
    """

    def __init__(
        self, source: BlockSource, offset: int, blocks: int, uuid: bytes, *, has_checksums: bool
    ) -> None:
        self._has_checksums = has_checksums
        self._source = source
        self._offset = offset
        self.blocks = blocks
        self._uuid = uuid

    def read(self, position: int, count: int) -> bytes:
        """Return `count` blocks from `position` on, round the end of the ring. Raises InputError."""
        position %= self.blocks
        first = min(count, self.blocks - position)
        size = layout.BLOCK_BYTES
        data = self._source.read(self._offset + position * size, first * size)
        if first < count:
            data += self._source.read(self._offset, (count - first) * size)
        return data

    def cycles(self, position: int, count: int) -> list[int]:
        """Return the cycles of `count` blocks from `position` on."""
        magic = layout.RECORD_MAGIC
        data = self.read(position, count)
        return [second if first == magic else first for first, second in _WORDS(data)]

    def cycle(self, position: int) -> int:
        """Return the cycle in which the block at `position` was written, 0 for never."""
        return self.cycles(position, 1)[0]

    def record_at(self, position: int) -> Record:
        """Return the record whose header is at `position`.

        Raises:
            UnsupportedError: a machine of the other byte order wrote it.
            InputError: there is none, or it is malformed.
        """
        data = self.read(position, 1)
        magic, cycle, version, length, place, tail, checksum, _, operations = layout.RECORD.unpack_from(data)
        if magic != layout.RECORD_MAGIC:
            raise InputError(f"xfs log: no record at block {position % self.blocks}")
        order, uuid, size = layout.RECORD_FORMAT.unpack_from(data, layout.RECORD_FORMAT_OFFSET)
        where = f"xfs log: the record at block {position % self.blocks}"
        if not version or version & ~layout.RECORD_VERSIONS:
            raise InputError(f"{where} is of version {version}")
        if uuid != self._uuid:
            raise InputError(f"{where} belongs to the filesystem {uuid.hex()}")
        if order != layout.RECORD_LITTLE_ENDIAN:
            raise UnsupportedError(f"{where} was written in byte order {order}; only little-endian is read")
        if length > layout.MAX_RECORD_BYTES or size > layout.MAX_RECORD_BYTES:
            raise InputError(f"{where} has {length} bytes from a buffer of {size}")
        headers = -(-size // layout.HEADER_COVERS_BYTES) if version & layout.RECORD_VERSION_2 and size else 1
        body = -(-length // layout.BLOCK_BYTES)
        if headers + body > self.blocks or body > headers * layout.CYCLES or operations > length:
            raise InputError(f"{where} has {length} bytes with {operations} operations")
        return Record(
            position % self.blocks, cycle, version, length, place, (tail & 0xFFFFFFFF) % self.blocks,
            int.from_bytes(checksum, "little"), operations, headers, body,
        )  # fmt: skip

    def body(self, record: Record, *, may_lack_checksum: bool = False) -> bytearray:
        """Return a record's body as it was before it was written.

        Raises InputError where a block is of another round, or the checksum is wrong.
        """
        size = layout.BLOCK_BYTES
        data = self.read(record.position, record.blocks)
        header, body = data[: record.header_blocks * size], bytearray(data[record.header_blocks * size :])
        where = f"xfs log: the record at block {record.position}"
        self._check_cycles(record, body, where)
        is_checked = record.checksum or (self._has_checksums and not may_lack_checksum)
        if is_checked and record.checksum not in _checksums(header, bytes(body[: record.length])):
            raise InputError(f"{where}: its checksum {record.checksum:#x} is not that of its bytes")
        for number in range(record.body_blocks):
            block, index = divmod(number, layout.CYCLES)
            start = block * size + (layout.EXTENSION_CYCLES_OFFSET if block else layout.CYCLES_OFFSET)
            word = header[start + index * 4 : start + index * 4 + 4]
            body[number * size : number * size + 4] = word
        del body[record.length :]
        return body

    def is_written(self, record: Record) -> bool:
        """Return whether each block of a record bears its cycle: it was written to its end, if wrongly."""
        start = record.header_blocks * layout.BLOCK_BYTES
        try:
            self._check_cycles(record, bytearray(self.read(record.position, record.blocks)[start:]), "")
        except InputError:
            return False
        return True

    def _check_cycles(self, record: Record, body: bytearray, where: str) -> None:
        first = record.position + record.header_blocks
        for number in range(record.body_blocks):
            has_wrapped = first + number >= self.blocks
            expected = next_cycle(record.cycle) if has_wrapped else record.cycle
            start = number * layout.BLOCK_BYTES
            if int.from_bytes(body[start : start + 4], "big") != expected:
                raise InputError(f"{where}: its block {number} was not written with it")


def next_cycle(cycle: int) -> int:
    """Return the cycle after `cycle`; none is the magic of a record."""
    following = cycle + 1 & 0xFFFFFFFF
    return following + 1 if following == layout.RECORD_MAGIC else following


def _checksums(header: bytes, body: bytes) -> Iterator[int]:
    """Yield what a record's checksum may be.

    Kernels differ in which blocks of its header are under it: all, or those that its length needs.
    """
    place, size = layout.RECORD_CHECKSUM_OFFSET, layout.BLOCK_BYTES
    needed = max(1, -(-len(body) // layout.HEADER_COVERS_BYTES)) * size
    for covered in layout.RECORD_CHECKSUM_OVER:
        start = extend(extend(extend(0, header[:place]), bytes(4)), header[place + 4 : covered])
        for end in dict.fromkeys((needed, len(header))):
            value = start
            for extension in range(size, end, size):
                value = extend(value, header[extension : extension + layout.EXTENSION_CHECKSUM_OVER])
            yield extend(value, body)
