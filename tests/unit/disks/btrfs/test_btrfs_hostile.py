"""Trees, chunks and extents as an attacker writes them, checksums right: refused, never followed for long."""

from collections.abc import Sequence
from contextlib import suppress

import pytest
from btrfstrees import (
    CRC,
    FOLDER,
    FSID,
    NODE,
    SECTOR,
    SUPERBLOCK,
    UUID,
    Entry,
    chunk_map,
    inner,
    inode_item,
    leaf,
    replayed,
    sealed,
    tree,
)
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.btrfs import chunks, compression, layout, lzo, roots
from undercroft.disks.btrfs.checksum import checksum_of_type, name_hash
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.chunks import Chunk, ChunkMap, Stripe
from undercroft.disks.btrfs.content import Content, parse_extent
from undercroft.disks.btrfs.directory import parse_names
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.inode import Inode
from undercroft.disks.btrfs.lognames import parse_references
from undercroft.disks.btrfs.superblock import parse
from undercroft.disks.btrfs.tree import Tree
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

A, B, C = (256, 1, 0), (257, 1, 0), (258, 1, 0)


def everything(found: Tree) -> list[Entry]:
    return list(found.items((0, 0, 0), (layout.LAST, 255, layout.LAST)))


def test_sound_tree_is_read_in_order() -> None:
    blocks = {
        0: inner(0, 1, [(A, SECTOR, 7), (C, 2 * SECTOR, 7)]),
        SECTOR: leaf(SECTOR, [(A, b"a"), (B, b"b")]),
        2 * SECTOR: leaf(2 * SECTOR, [(C, b"c")]),
    }
    assert everything(tree(blocks, 1)) == [(A, b"a"), (B, b"b"), (C, b"c")]
    assert [tree(blocks, 1).get(key) for key in (A, B, C, (256, 1, 1))] == [b"a", b"b", b"c", None]


HOSTILE = {
    "a block that is its own child": (1, {0: inner(0, 1, [(A, 0, 7)])}, "its parent says"),
    "a child of the same level": (
        1,
        {0: inner(0, 1, [(A, SECTOR, 7)]), SECTOR: inner(SECTOR, 1, [(A, 0, 7)])},
        "its parent says",
    ),
    "a child twice under different keys": (
        1,
        {0: inner(0, 1, [(A, SECTOR, 7), (B, SECTOR, 7)]), SECTOR: leaf(SECTOR, [(A, b"a")])},
        "first key",
    ),
    "a child of an older generation": (
        1,
        {0: inner(0, 1, [(A, SECTOR, 7)]), SECTOR: leaf(SECTOR, [(A, b"a")], generation=6)},
        "its parent says 0 and 7",
    ),
    "leaves that overlap": (
        1,
        {
            0: inner(0, 1, [(A, SECTOR, 7), (B, 2 * SECTOR, 7)]),
            SECTOR: leaf(SECTOR, [(A, b"a"), (C, b"c")]),
            2 * SECTOR: leaf(2 * SECTOR, [(B, b"b")]),
        },
        "its leaves do not ascend",
    ),
    "keys that descend": (0, {0: leaf(0, [(B, b"b"), (A, b"a")])}, "keys do not ascend"),
    "a key twice": (0, {0: leaf(0, [(A, b"b"), (A, b"a")])}, "keys do not ascend|one behind the other"),
    "an empty inner block": (1, {0: inner(0, 1, [])}, "0 items"),
    "more items than fit": (0, {0: sealed(0, 7, 5000, 0, bytes(NODE - layout.HEADER.size))}, "5000 items"),
    "data in the heads": (
        0,
        {0: sealed(0, 7, 1, 0, layout.ITEM.pack(*A, 0, NODE - 101).ljust(NODE - 101, b"\0"))},
        "one behind the other",
    ),
    "data beyond the block": (
        0,
        {0: sealed(0, 7, 1, 0, layout.ITEM.pack(*A, 1 << 31, 1 << 31).ljust(NODE - 101, b"\0"))},
        "one behind the other",
    ),
    "a level of 200": (0, {0: sealed(0, 7, 1, 200, bytes(NODE - layout.HEADER.size))}, "another place"),
    "a block of another address": (0, {0: leaf(SECTOR, [(A, b"a")])}, "another place"),
    "an address in no chunk": (1, {0: inner(0, 1, [(A, 1 << 60, 7)])}, "lies in no chunk"),
    "an address between sectors": (1, {0: inner(0, 1, [(A, 512, 7)])}, "no multiple of 4096"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tree_is_refused(name: str) -> None:
    level, blocks, message = HOSTILE[name]
    with pytest.raises(InputError, match=message):
        everything(tree(blocks, level))


CHUNK = layout.CHUNK.pack(1 << 20, 2, layout.STRIPE_BYTES, 1, SECTOR, SECTOR, SECTOR, 1, 0)
STRIPE = layout.STRIPE.pack(1, 0, UUID)


def chunk(**changes: int) -> bytes:
    fields = {"length": 1 << 20, "stripe": layout.STRIPE_BYTES, "kind": 1, "count": 1, "sub": 0} | changes
    head = layout.CHUNK.pack(
        fields["length"], 2, fields["stripe"], fields["kind"], 0, 0, 0, fields["count"], fields["sub"]
    )
    return head + STRIPE * fields.get("given", fields["count"])


@pytest.mark.parametrize(
    "item",
    [
        b"",
        CHUNK,
        chunk(length=0),
        chunk(length=4097),
        chunk(length=(1 << 64) - SECTOR),
        chunk(stripe=0),
        chunk(stripe=1 << 20),
        chunk(count=0),
        chunk(count=2, given=1),
        chunk(count=2),
        chunk(kind=1 | layout.RAID1),
        chunk(kind=1 | layout.RAID1 | layout.RAID0, count=2),
        chunk(kind=1 | layout.RAID10, count=3, sub=2),
        chunk(kind=1 | layout.RAID10, count=4),
        chunk(kind=1 | layout.RAID6, count=2),
        chunk(kind=1 << 40),
        chunk(count=60_000, given=1),
    ],
)
def test_hostile_chunk_is_refused(item: bytes) -> None:
    with pytest.raises(InputError):
        chunks.parse_chunk(1 << 20, item, SECTOR)


def test_chunks_that_overlap_are_refused_and_one_that_is_told_twice_is_not() -> None:
    found = chunk_map({})
    found.add(Chunk(0, 1 << 20, 0, (Stripe(1, 0, UUID),)))
    for start in (SECTOR, (1 << 20) - SECTOR):
        with pytest.raises(InputError, match="overlaps"):
            found.add(Chunk(start, 1 << 20, 0, (Stripe(1, 0, UUID),)))
    found.add(Chunk(2 << 20, 1 << 20, 0, (Stripe(1, 0, UUID),)))
    with pytest.raises(InputError, match="overlaps"):
        found.add(Chunk((1 << 20) + SECTOR, 1 << 20, 0, (Stripe(1, 0, UUID),)))


@pytest.mark.parametrize("place", [1 << 20, (1 << 64) - SECTOR])
def test_stripe_beyond_its_device_is_refused_when_it_is_read(place: int) -> None:
    found = ChunkMap({1: (BytesSource(bytes(1 << 20)), UUID)})
    found.add(Chunk(0, 1 << 20, 0, (Stripe(1, place, UUID),)))
    with pytest.raises(InputError, match="beyond its end"):
        found.plain(0, SECTOR)


def test_missing_device_is_named_and_a_copy_elsewhere_makes_up_for_it() -> None:
    found = ChunkMap({1: (BytesSource(b"x" * (1 << 20)), UUID)})
    found.add(Chunk(0, 1 << 20, layout.RAID1, (Stripe(2, 0, UUID), Stripe(1, 0, UUID))))
    found.add(Chunk(1 << 20, 1 << 20, 0, (Stripe(2, 0, UUID),)))
    assert found.plain(0, 4) == b"xxxx"
    assert found.missing_devices() == [2]
    with pytest.raises(InputError, match="btrfs device 2 is missing"):
        found.plain(1 << 20, 4)


def test_device_of_the_same_number_and_another_uuid_is_not_the_one_that_a_chunk_lies_on() -> None:
    found = ChunkMap(
        {1: (BytesSource(b"x" * (1 << 20)), b"o" * 16), 2: (BytesSource(b"y" * (1 << 20)), UUID)}
    )
    found.add(Chunk(0, 1 << 20, layout.RAID1, (Stripe(1, 0, UUID), Stripe(2, 0, UUID))))
    found.add(Chunk(1 << 20, 1 << 20, 0, (Stripe(1, 0, UUID),)))
    assert found.plain(0, 4) == b"yyyy"
    assert found.missing_devices() == [1]
    with pytest.raises(InputError, match="btrfs device 1 is missing"):
        found.plain(1 << 20, 4)


def regular(address: int, stored: int, skip: int, length: int, unpacked: int = 0, kind: int = 0) -> bytes:
    head = layout.EXTENT.pack(7, unpacked or stored, kind, 0, 0, layout.EXTENT_REGULAR)
    return head + layout.EXTENT_PLACE.pack(address, stored, skip, length)


@pytest.mark.parametrize(
    "item",
    [
        b"",
        regular(SECTOR, SECTOR, 0, 0),
        regular(SECTOR, SECTOR, 0, 2 * SECTOR),
        regular(SECTOR, SECTOR, SECTOR, SECTOR),
        regular(SECTOR, SECTOR, (1 << 64) - SECTOR, SECTOR),
        regular(0, SECTOR, (1 << 64) - SECTOR, SECTOR),
        regular(SECTOR + 1, SECTOR, 0, SECTOR),
        regular(SECTOR, 1 << 40, 0, SECTOR, SECTOR, compression.ZLIB),
        regular(SECTOR, SECTOR, 0, 1 << 30, SECTOR, compression.ZSTD),
        layout.EXTENT.pack(7, 1 << 40, 0, 0, 0, layout.EXTENT_INLINE) + b"short",
        layout.EXTENT.pack(7, 4, 0, 1, 0, layout.EXTENT_INLINE) + b"keys",
        layout.EXTENT.pack(7, 4, 0, 0, 0, 3) + b"keys",
    ],
)
def test_hostile_extent_is_refused(item: bytes) -> None:
    with pytest.raises(InputError):
        parse_extent(item, "btrfs inode 257", SECTOR)


def content_of(items: Sequence[tuple[int, bytes]], size: int, flags: int = 1) -> bytes:
    entries = [((257, layout.EXTENT_DATA, place), item) for place, item in items]
    files = FsTree(tree({0: leaf(0, entries)}, 0))
    sums = DataChecksums(tree({0: leaf(0, [])}, 0), SUPERBLOCK)
    inode = Inode(FileStat(257, FileKind.REGULAR, 0o100644, size, 0, 0, 1, 0), flags)
    content = Content(chunk_map({SECTOR: b"data" * 1024}), sums, SUPERBLOCK)
    return b"".join(content.chunks(files, 257, inode))


def test_extents_that_overlap_are_refused() -> None:
    items = [(0, regular(SECTOR, 2 * SECTOR, 0, 2 * SECTOR)), (SECTOR, regular(SECTOR, SECTOR, 0, SECTOR))]
    with pytest.raises(InputError, match="overlap"):
        content_of(items, 2 * SECTOR)


def test_inline_extent_behind_the_start_is_refused() -> None:
    inline = layout.EXTENT.pack(7, 4, 0, 0, 0, layout.EXTENT_INLINE) + b"text"
    assert content_of([(0, inline)], 3) == b"tex"
    with pytest.raises(InputError, match="overlap"):
        content_of([(SECTOR, inline)], 2 * SECTOR)


def test_data_whose_checksum_was_taken_away_is_refused() -> None:
    items = [(0, regular(SECTOR, SECTOR, 0, SECTOR))]
    assert content_of(items, 8) == b"datadata"  # the file says that it has no checksums
    with pytest.raises(InputError, match="it has no checksum"):
        content_of(items, 8, flags=0)


@pytest.mark.parametrize("kind", [compression.ZLIB, compression.ZSTD, compression.LZO])
def test_bomb_gives_no_more_than_its_extent_says_and_a_bigger_extent_is_refused(kind: int) -> None:
    packed = bomb(kind)
    assert len(compression.decompress(packed, 5000, kind, SECTOR, "btrfs")) == 5000
    for size in (0, (128 << 10) + 1, 1 << 60):
        with pytest.raises(InputError, match="the limit is"):
            compression.decompress(packed, size, kind, SECTOR, "btrfs")


def bomb(kind: int) -> bytes:
    if kind == compression.ZLIB:
        import zlib  # noqa: PLC0415

        return zlib.compress(bytes(50 << 20))
    if kind == compression.ZSTD:
        import zstandard  # noqa: PLC0415

        return zstandard.ZstdCompressor().compress(bytes(120 << 10))
    # One literal, then a match of 4,095 bytes one back: LZO's longest lengths are runs of zeros.
    block = b"\x12\x00" + b"\x20" + b"\0" * 15 + bytes([4095 - 2 - 31 - 15 * 255]) + b"\0\0" + b"\x11\0\0"
    segment = len(block).to_bytes(4, "little") + block
    return (4 + 40 * len(segment)).to_bytes(4, "little") + segment * 40


def test_lzo_match_that_passes_the_limit_or_the_start_is_refused() -> None:
    zeros = b"\x12\x00\x20" + b"\0" * 200_000 + b"\x01\0\0\x11\0\0"
    with pytest.raises(ValueError, match="LZO match"):
        lzo.decompress(zeros, SECTOR)
    with pytest.raises(ValueError, match="LZO match"):
        lzo.decompress(b"\x12\x00\x40\xff", SECTOR)


def test_logs_of_all_subvolumes_together_change_no_more_than_the_limit() -> None:
    """Each alone is within it; of a guest's thousands of subvolumes each may have a log."""
    bases = {number: [(FOLDER, inode_item(0o040755))] for number in (256, 257, 258)}
    names = [((number, layout.INODE_ITEM, 0), inode_item(0o100644)) for number in (300, 301, 302)]
    found = {room: replayed(bases, dict.fromkeys(bases, names), room) for room in (5, 6, 9)}
    assert [sorted(each.trees) for each in found.values()] == [[258], [257, 258], [256, 257, 258]]
    assert "in subvolume 256: btrfs log: it changes more than" in found[6].problems[0]
    assert found[9].problems == []


def test_log_that_adds_a_name_to_a_folder_of_the_largest_size_is_replayed() -> None:
    name = layout.DIRECTORY_ENTRY.pack(300, layout.INODE_ITEM, 0, 7, 0, 1, 1) + b"x"
    log = [
        ((layout.FIRST_FREE, layout.DIR_INDEX, 2), name),
        ((300, layout.INODE_ITEM, 0), inode_item(0o100644)),
        ((300, layout.INODE_REF, layout.FIRST_FREE), layout.REF.pack(2, 1) + b"x"),
    ]
    found = replayed({256: [(FOLDER, inode_item(0o040755, size=(1 << 64) - 1))]}, {256: log}, 100)
    assert found.problems == []
    assert found.trees[256].get((layout.FIRST_FREE, layout.DIR_INDEX, 2))


@given(st.binary(max_size=400), st.sampled_from([compression.ZLIB, compression.LZO, compression.ZSTD]))
def test_garbage_unpacks_or_is_refused(packed: bytes, kind: int) -> None:
    with suppress(InputError):
        assert len(compression.decompress(packed, 8192, kind, SECTOR, "btrfs")) == 8192


@given(st.binary(max_size=300))
def test_garbage_in_lzo_gives_bytes_within_the_limit_or_a_value_error(packed: bytes) -> None:
    for untrusted in (packed, b"\x12\x41" + packed):
        with suppress(ValueError):
            assert len(lzo.decompress(untrusted, 500)) <= 500


@given(st.binary(max_size=600))
def test_garbage_in_any_item_is_read_or_refused(untrusted: bytes) -> None:
    for read in (
        lambda: parse_names(untrusted, 256),
        lambda: parse_references((257, layout.INODE_REF, 256), untrusted),
        lambda: parse_references((257, layout.INODE_EXTREF, 256), untrusted),
        lambda: roots.parse_root(256, untrusted),
        lambda: parse_extent(untrusted, "btrfs", SECTOR),
        lambda: chunks.parse_chunk(0, untrusted, SECTOR),
    ):
        with suppress(InputError):
            read()


def superblock(**changes: int) -> bytes:
    fields = {
        "features": 0,
        "sector": SECTOR,
        "node": 16384,
        "devices": 1,
        "kind": 0,
        "chunks": 0,
        "level": 0,
    }
    fields |= changes
    head = layout.SUPERBLOCK.pack(
        bytes(32), FSID, 65536, 1, layout.MAGIC, 7, 1 << 20, 1 << 20, 0, 1 << 30, 0, 6, fields["devices"],
        fields["sector"], fields["node"], fields["node"], SECTOR, 7, 0, fields["features"], fields["kind"],
        fields["level"], 0, 0,
    )  # fmt: skip
    block = bytearray(head.ljust(4096, b"\0"))

    block[layout.SYSTEM_CHUNKS_SIZE_OFFSET : layout.SYSTEM_CHUNKS_SIZE_OFFSET + 4] = fields[
        "chunks"
    ].to_bytes(4, "little")
    block[:32] = CRC.digest(bytes(block[32:])).ljust(32, b"\0")
    return bytes(block)


def test_sound_superblock_is_read() -> None:
    assert parse(superblock(), 65536).node_bytes == 16384


@pytest.mark.parametrize(
    "changes",
    [
        {"sector": 0},
        {"sector": 512},
        {"sector": 12288},
        {"node": 1 << 20},
        {"node": 2048},
        {"sector": 16384, "node": 4096},
        {"devices": 0},
        {"devices": 1 << 40},
        {"chunks": 2049},
        {"level": 8},
    ],
)
def test_hostile_superblock_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InputError):
        parse(superblock(**changes), 65536)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"features": 1 << 12}, "zoned devices"),
        ({"features": 1 << 13}, "extent tree v2"),
        ({"features": 1 << 14}, "the RAID stripe tree"),
        ({"features": 1 << 50}, "features 0x4000000000000"),
        ({"kind": 9}, "checksums of type 9"),
    ],
)
def test_feature_that_cannot_be_read_is_named(changes: dict[str, int], name: str) -> None:
    with pytest.raises(UnsupportedError, match=name):
        parse(superblock(**changes), 65536)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (0, "839206e3"),
        (1, "99e9d85137db46ef"),
        (2, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (3, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"),
    ],
)
def test_checksums_are_those_of_their_specifications(kind: int, expected: str) -> None:
    data = b"123456789" if kind == 0 else b""
    assert checksum_of_type(kind).digest(data).hex() == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a", 0xD24EC4F1A98C6E5B),
        (b"abc", 0x44BC2CF5AD770999),
        (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1),
    ],
)
def test_xxhash64_gives_the_published_values(data: bytes, expected: int) -> None:
    assert checksum_of_type(1).digest(data) == expected.to_bytes(8, "little")


def test_name_of_the_default_subvolume_has_the_hash_that_the_kernel_knows() -> None:
    assert name_hash(b"default") == 0x8DBFC2D2
