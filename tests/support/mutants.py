"""Mutants of disk images: metadata damaged in the ways in which bits rot, copies fail and attackers write.

A family is a base image and the areas of it that hold metadata. The bytes of regular files are left
alone: no checksum covers them, so a change there is a different guest, not a damaged one.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from diskimages import MIB, run

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


@dataclass(frozen=True)
class Family:
    """A base image, what is damaged in it, and what a scan of the whole image says of each state."""

    name: str
    image: bytes
    areas: tuple[tuple[int, int], ...]
    image_format: str


def mutate(family: Family, seed: int) -> bytes:
    """Return the mutant of that number; the same number gives the same mutant."""
    random = Random(f"{family.name}:{seed}")
    image = bytearray(family.image)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        start, length = random.choice(family.areas)
        _damage(image, start, length, random)
    if random.random() < 0.03:
        del image[random.randrange(len(image)) :]
    return bytes(image)


def _damage(image: bytearray, start: int, length: int, random: Random) -> None:
    position = start + random.randrange(length)
    match random.randrange(6):
        case 0:
            image[position] ^= 1 << random.randrange(8)
        case 1:
            image[position] = random.randrange(256)
        case 2:
            size = random.choice((2, 4, 8))
            value = random.choice(INTERESTING) & ((1 << 8 * size) - 1)
            place = position - position % size
            image[place : place + size] = value.to_bytes(size, random.choice(("little", "big")))
        case 3:
            size = min(random.choice((16, 64, 512, 4096)), start + length - position)
            image[position : position + size] = bytes(size)
        case 4:
            size = min(random.choice((8, 64, 1024)), start + length - position)
            other = start + random.randrange(max(1, length - size))
            image[position : position + size] = image[other : other + size]
        case 5:
            size = min(random.choice((4, 32, 256)), start + length - position)
            image[position : position + size] = random.randbytes(size)


def qcow2_areas(image: bytes) -> tuple[tuple[int, int], ...]:
    """Return where header, L1, L2, refcount and snapshot tables lie."""
    bits, l1_entries, l1 = struct.unpack_from(">I12xIQ", image, 20)
    refcounts, refcount_clusters, snapshots, table = struct.unpack_from(">QIIQ", image, 48)
    cluster = 1 << bits
    areas = [(0, 112), (0, 112), (l1, l1_entries * 8), (refcounts, refcount_clusters * cluster)]
    areas += [(entry & 0x00FFFFFFFFFFFE00, cluster) for entry in _entries(image, l1, l1_entries)]
    position = table
    for _ in range(snapshots):
        offset, entries, ident, name = struct.unpack_from(">QIHH", image, position)
        extra = struct.unpack_from(">I", image, position + 36)[0]
        length = 40 + extra + ident + name
        areas += [(position, length), (position, length), (offset, entries * 8)]
        areas += [(entry & 0x00FFFFFFFFFFFE00, cluster) for entry in _entries(image, offset, entries)]
        position += -(-length // 8) * 8
    return tuple((start, length) for start, length in areas if start + length <= len(image) and length)


def _entries(image: bytes, offset: int, count: int) -> Iterator[int]:
    yield from (entry for (entry,) in struct.iter_unpack(">Q", image[offset : offset + count * 8]) if entry)


def partition_areas(image: bytes, table: str) -> tuple[tuple[int, int], ...]:
    """Return where the partition tables of a raw disk lie."""
    if table == "gpt":
        return (
            (446, 66),
            (512, 92),
            (1024, 512),
            (1024, 128),
            (len(image) - 33 * 512, 512),
            (len(image) - 512, 92),
        )
    return ((446, 66), (MIB + 446, 66))


def ext_areas(image: Path, offset: int) -> tuple[tuple[int, int], ...]:
    """Return where the metadata of the ext filesystem at `offset` of a raw disk lies.

    That is every block with content that belongs to no regular file, the journal's included.
    """
    name = f"{image}?offset={offset}"
    block = int(re.search(r"Block size:\s+(\d+)", run("dumpe2fs", "-h", name)).group(1))  # type: ignore[union-attr] # always there
    owned = _file_blocks(name)
    content = image.read_bytes()[offset:]
    areas = []
    for number in range(len(content) // block):
        piece = content[number * block : (number + 1) * block]
        if number not in owned and piece.count(0) != block:
            areas.append((offset + number * block, block))
    superblock = [(offset + 1024, 1024)] * max(1, len(areas) // 10)
    return tuple(areas + superblock)


def _file_blocks(name: str) -> set[int]:
    blocks: set[int] = set()
    pending, seen = ["/"], set()
    while pending:
        folder = pending.pop()
        for line in run("debugfs", "-R", f"ls -p {folder}", name).splitlines():
            fields = line.split("/")
            if len(fields) < 7 or fields[5] in (".", "..") or fields[1] in seen:
                continue
            seen.add(fields[1])
            path = f"{folder.rstrip('/')}/{fields[5]}"
            if fields[2].startswith("04"):
                pending.append(path)
            elif fields[2].startswith("10"):
                blocks.update(int(number) for number in run("debugfs", "-R", f"blocks {path}", name).split())
    return blocks


def sample(families: Sequence[Family], count: int, seed: int) -> Iterator[tuple[Family, int]]:
    """Return `count` mutants as (family, number), the families by turns."""
    for index in range(count):
        yield families[index % len(families)], seed * 1_000_000 + index
