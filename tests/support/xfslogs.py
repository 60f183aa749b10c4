"""Logs of XFS written by hand: records, transactions and items, as a little-endian kernel writes them."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
from xfsimages import log_range

START, COMMIT, CONTINUED, CONTINUES = 0x01, 0x02, 0x04, 0x08
BUFFER, INODE, CREATE = 0x123C, 0x123B, 0x123F
Operation = tuple[int, int, bytes]
"""Transaction, flags, data."""


def operation(transaction: int, flags: int, data: bytes = b"", client: int = 0x69) -> bytes:
    """Return one operation."""
    return struct.pack(">IIBBH", transaction, len(data), client, flags, 0) + data


def transaction(number: int, *items: Sequence[bytes], is_committed: bool = True) -> list[bytes]:
    """Return the operations of a transaction, one for each region of its items."""
    header = struct.pack("<IIiI", 0x5452414E, 42, number, len(items))
    operations = [operation(number, START), operation(number, 0, header)]
    operations += [operation(number, 0, region) for item in items for region in item]
    return [*operations, operation(number, COMMIT)] if is_committed else operations


def buffer(sector: int, sectors: int, changes: dict[int, bytes], flags: int = 0) -> list[bytes]:
    """Return the item of a buffer; `changes` are from a multiple of 128 on, of as many bytes."""
    bits = 0
    for start, data in changes.items():
        assert start % 128 == len(data) % 128 == 0
        bits |= ((1 << len(data) // 128) - 1) << start // 128
    words = -(-sectors * 4 // 32)
    form = struct.pack("<HHHHqI", BUFFER, 1 + len(changes), flags, sectors, sector, words)
    return [form + bits.to_bytes(words * 4, "little"), *(changes[start] for start in sorted(changes))]


def cancelled(sector: int, sectors: int) -> list[bytes]:
    """Return the item that gives a buffer back."""
    return buffer(sector, sectors, {}, flags=2)


def record(
    uuid: bytes,
    position: int,
    operations: Iterable[bytes],
    *,
    cycle: int = 1,
    tail: int = 0,
    tail_cycle: int | None = None,
    version: int = 2,
    buffer_bytes: int = 32 << 10,
    log_blocks: int = 1 << 30,
    byte_order: int = 1,
    length: int | None = None,
    has_checksum: bool = True,
) -> bytes:
    """Return a record with its header; `length` is what it says of its body where that is a lie."""
    listed = list(operations)
    body = bytearray(b"".join(listed))
    covered = len(body)
    body += bytes(-len(body) % 512)
    headers = max(1, -(-buffer_bytes // (32 << 10))) if version == 2 else 1
    header = bytearray(512 * headers)
    tail_place = (cycle if tail_cycle is None else tail_cycle) << 32 | tail
    said = covered if length is None else length
    struct.pack_into(
        ">IIIIQQ", header, 0, 0xFEEDBABE, cycle, version, said, cycle << 32 | position, tail_place
    )
    struct.pack_into(">II", header, 36, 0xFFFFFFFF, len(listed))
    struct.pack_into(">I16sI", header, 300, byte_order, uuid, buffer_bytes)
    for number in range(len(body) // 512):
        block, index = divmod(number, 64)
        at = block * 512 + (4 if block else 44) + index * 4
        header[at : at + 4] = body[number * 512 : number * 512 + 4]
        has_wrapped = position + headers + number >= log_blocks
        body[number * 512 : number * 512 + 4] = (cycle + has_wrapped).to_bytes(4, "big")
    for block in range(1, headers):
        struct.pack_into(">I", header, block * 512, cycle)
    if has_checksum:
        summed = bytes(header[:328]) + b"".join(
            bytes(header[block * 512 : block * 512 + 260]) for block in range(1, headers)
        )
        header[32:36] = google_crc32c.value(summed + bytes(body[:covered])).to_bytes(4, "little")
    return bytes(header + body)


@dataclass
class LogFile:
    """Writes records into the log of an image, one behind the other, from an empty log on."""

    image: Path
    uuid: bytes = b""
    start: int = 0
    blocks: int = 0
    position: int = 0
    cycle: int = 1
    tail: int = 0
    tail_cycle: int = 1
    places: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.start, length = log_range(self.image)
        self.blocks = length // 512
        with self.image.open("r+b") as file:
            file.seek(32)
            self.uuid = file.read(16)
            file.seek(self.start)
            file.write(bytes(length))

    def begin_at(self, position: int, cycle: int = 2) -> None:
        """Have the log begin near its end, in a later round: all before it was written one round earlier."""
        with self.image.open("r+b") as file:
            for block in range(self.blocks):
                file.seek(self.start + block * 512)
                file.write((cycle if block < position else cycle - 1).to_bytes(4, "big"))
        self.position = self.tail = position
        self.cycle = self.tail_cycle = cycle

    def add(self, *operations: bytes, **options: object) -> int:
        """Write a record; return its position."""
        place = self.position
        made = record(
            self.uuid,
            place,
            operations,
            cycle=self.cycle,
            tail=self.tail,
            tail_cycle=self.tail_cycle,
            log_blocks=self.blocks,
            **options,  # type: ignore[arg-type] # as `record` takes them
        )
        self.put(place, made)
        self.position += len(made) // 512
        if self.position >= self.blocks:
            self.position -= self.blocks
            self.cycle += 1
        self.places.append(place)
        return place

    def put(self, position: int, data: bytes) -> None:
        """Write blocks of the log from `position` on, round its end."""
        with self.image.open("r+b") as file:
            for number in range(0, len(data), 512):
                file.seek(self.start + (position + number // 512) % self.blocks * 512)
                file.write(data[number : number + 512])


_WIDTHS = (2, 2, 1, 1, 2, 4, 4, 4, 2, 2)
_WIDTHS_V3 = (4, 8, 8, 8, 4)


def swapped(core: bytes, *, has_big_times: bool, has_many_extents: bool = False) -> bytes:
    """Return an inode's core, 96 or 176 bytes as on disk, with its numbers in the log's byte order."""
    times = (8, 8, 8) if has_big_times else (4,) * 6
    extents = (4, 2)
    widths = [
        *_WIDTHS,
        *((8,) if has_many_extents else (1,) * 6 + (2,)),
        *times,
        8,
        8,
        4,
        *extents,
        1,
        1,
        4,
        2,
        2,
        4,
    ]
    if len(core) > 96:
        widths += [4, *_WIDTHS_V3, *(1,) * 12, *((8,) if has_big_times else (4, 4)), 8, *(1,) * 16]
    out, at = b"", 0
    for width in widths:
        out += core[at : at + width][::-1]
        at += width
    assert at == len(core)
    return out


def inode(node: int, place: int, core: bytes, fields: int, *forks: bytes) -> list[bytes]:
    """Return the item of an inode that lies at byte `place`, in the first 16 sectors of its buffer."""
    start = place - place % 8192
    form = struct.pack(
        "<HHIHHIQ16xqii",
        INODE,
        2 + len(forks),
        fields,
        0,
        len(b"".join(forks)),
        0,
        node,
        start // 512,
        16,
        place - start,
    )
    return [form, core, *forks]
