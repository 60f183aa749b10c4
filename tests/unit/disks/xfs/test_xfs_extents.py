"""Extents of XFS and their trees, as a guest writes them to mislead: read or refused."""

import random
import shutil
import struct
from pathlib import Path

import pytest
import xfsimages
from xfschanges import (
    BLOCK,
    SIZE,
    change,
    change_inode,
    extent,
    first_block,
    head,
    node_of,
)
from xfsimages import open_image

from undercroft.disks.xfs import layout
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")


def test_content_on_a_realtime_device_is_unsupported_and_its_metadata_is_read(image: Path) -> None:
    change_inode(image, b"file", (90, b"\0\1"))
    filesystem = open_image(image)
    node = node_of(filesystem, b"file")
    assert filesystem.stat(node).size_bytes == SIZE
    with pytest.raises(UnsupportedError, match="realtime device"):
        filesystem.read(node, SIZE)


def test_unwritten_extents_read_as_zeros(image: Path) -> None:
    filesystem = open_image(image)
    block, count = first_block(filesystem, b"file"), -(-SIZE // BLOCK)
    halves = extent(0, block, 100) + extent(100, block + 100, count - 100, is_unwritten=True)
    change_inode(image, b"file", (176, halves), (76, (2).to_bytes(4, "big")))
    expected = random.Random(1).randbytes(SIZE)[: 100 * BLOCK]
    filesystem = open_image(image)
    assert filesystem.read(node_of(filesystem, b"file"), SIZE) == expected.ljust(SIZE, b"\0")


FAR = (1 << 52) - 1


@pytest.mark.parametrize(
    ("extents", "count", "message"),
    [
        ([(0, FAR, 1)], 1, "outside the filesystem"),
        ([(0, 20_000, 1000)], 1, "outside the filesystem"),
        ([(0, 0, 1)], 1, "outside the filesystem"),
        ([(0, 17_300, 300)], 1, "outside the filesystem"),
        ([(0, 64, 0)], 1, "out of order"),
        ([(5, 64, 1), (0, 65, 1)], 2, "out of order"),
        ([(0, 64, 2), (1, 65, 2)], 2, "out of order"),
        ([(0, 64, 1)], 30, "30 in a fork of"),
        ([(0, 64, 1)], (1 << 32) - 1, "in a fork of"),
    ],
)
def test_hostile_extents_are_refused(
    extents: list[tuple[int, int, int]], count: int, message: str, image: Path
) -> None:
    records = b"".join(extent(*each) for each in extents)
    change_inode(image, b"file", (176, records), (76, count.to_bytes(4, "big")))
    filesystem = open_image(image)
    with pytest.raises(InputError, match=rf"^xfs inode \d+: extents: .*{message}"):
        filesystem.read(node_of(filesystem, b"file"), SIZE)


def _tree_block(
    image: Path, number: int, block: int, level: int, entries: list[bytes], count: int = -1
) -> None:
    """Write a block of a tree of extents over block `number` of the file's own content."""
    filesystem = open_image(image)
    owner = node_of(filesystem, b"file")
    data = bytearray(BLOCK)
    struct.pack_into(">4sHHqq", data, 0, b"BMA3", level, len(entries) if count < 0 else count, -1, -1)
    struct.pack_into(">Q8x16sQ", data, 24, block * BLOCK // 512, head(image)[32:48], owner)
    if level:
        room = (BLOCK - 72) // 16
        for index, entry in enumerate(entries):
            data[72 + index * 8 : 80 + index * 8] = entry[:8]
            data[72 + (room + index) * 8 : 80 + (room + index) * 8] = entry[8:]
    else:
        data[72 : 72 + 16 * len(entries)] = b"".join(entries)
    xfsimages.set_checksum(data, 64)
    change(image, block * BLOCK, BLOCK, -1, lambda old: old.__setitem__(slice(None), bytes(data)))
    assert number >= 0


def _root(level: int, *entries: tuple[int, int], count: int = -1) -> list[tuple[int, bytes]]:
    """Return the edits that make an inode one with a tree of extents."""
    room = (512 - 176 - 4) // 16
    root = struct.pack(">HH", level, len(entries) if count < 0 else count)
    keys = b"".join(key.to_bytes(8, "big") for key, _ in entries).ljust(room * 8, b"\0")
    pointers = b"".join(pointer.to_bytes(8, "big") for _, pointer in entries).ljust(room * 8, b"\0")
    return [(5, b"\3"), (82, b"\0"), (176, root + keys + pointers)]


def _pair(key: int, pointer: int) -> bytes:
    return key.to_bytes(8, "big") + pointer.to_bytes(8, "big")


def test_tree_of_two_levels_is_read_and_each_of_its_lies_is_found(image: Path) -> None:
    block = first_block(open_image(image), b"file")
    leaf, node, data = block + 200, block + 201, block
    content = random.Random(1).randbytes(SIZE)

    def answer(*edits: tuple[int, bytes]) -> bytes:
        change_inode(image, b"file", *edits)
        filesystem = open_image(image)
        return filesystem.read(node_of(filesystem, b"file"), SIZE)

    three = (76, (3).to_bytes(4, "big"))
    good = [extent(0, data, 10), extent(10, data + 10, 20), extent(50, data + 50, 50)]
    _tree_block(image, 200, leaf, 0, good)
    _tree_block(image, 201, node, 1, [_pair(0, leaf)])
    expected = bytearray(SIZE)
    for start, stop in ((0, 30), (50, 100)):
        expected[start * BLOCK : stop * BLOCK] = content[start * BLOCK : stop * BLOCK]
    assert answer(*_root(1, (0, leaf)), three) == expected
    assert answer(*_root(2, (0, node)), three) == expected
    lies = {
        "3 in its tree, the inode says 9": [*_root(1, (0, leaf)), (76, (9).to_bytes(4, "big"))],
        "level 1 where level 0 is due": _root(1, (0, node)),
        "level 0 where level 1 is due": _root(2, (0, leaf)),
        "a root of level 9": _root(9, (0, leaf)),
        "a root of level 65535": _root(65535, (0, leaf)),
        "a root of level 0": _root(0, (0, leaf)),
        "are out of order": _root(1, (5, leaf), (5, leaf)),
        "overlaps what came before": _root(1, (0, leaf), (40, leaf)),
        "100 blocks|10 blocks at logical block 0 are out of order": _root(1, (0, leaf), (100, leaf)),
        "60000 entries in a node": _root(1, (0, leaf), count=60_000),
        "0 entries in a node": _root(1, count=0),
        "a node at block .* outside": _root(1, (0, FAR)),
        "magic b'": _root(1, (0, data)),
    }
    for message, edits in lies.items():
        with pytest.raises(InputError, match=message):
            answer(three, *edits)


def test_loops_and_giant_counts_in_a_tree_end(image: Path) -> None:
    block = first_block(open_image(image), b"file") + 200
    # A node that names itself, at every level that its parent may ask for.
    for level, message in ((1, "level 1 where level 0 is due"), (8, "level 8 where level 7 is due")):
        _tree_block(image, 200, block, level, [_pair(0, block)] * 1)
        change_inode(image, b"file", *_root(level + 1 if level < 8 else 8, (0, block)))
        filesystem = open_image(image)
        with pytest.raises(InputError, match=rf"{message}|where level 7 is due"):
            filesystem.read(node_of(filesystem, b"file"), SIZE)
    for level, count in ((0, 0), (0, 65535), (0, 60)):
        _tree_block(image, 200, block, level, [extent(0, block, 1)], count=count)
        change_inode(image, b"file", *_root(1, (0, block)))
        filesystem = open_image(image)
        with pytest.raises(InputError, match=r"entries in a leaf|out of order"):
            filesystem.read(node_of(filesystem, b"file"), SIZE)


def test_giant_file_of_holes_is_refused_by_its_limit_and_read_in_pieces(image: Path) -> None:
    change_inode(image, b"file", (56, ((1 << 63) - 1).to_bytes(8, "big")), (76, bytes(4)))
    filesystem = open_image(image)
    node = node_of(filesystem, b"file")
    with pytest.raises(InputError, match="the limit is"):
        filesystem.read(node, 1 << 40)
    assert next(filesystem.chunks(node)) == bytes(layout.MAX_CHUNK_BYTES)
