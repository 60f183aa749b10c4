"""The small parsers on any bytes: each returns within its limits or raises InputError."""

from contextlib import suppress

import extimages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.disks.ext4 import journal, journal_layout, layout, superblock
from undercroft.disks.ext4.changes import Changes, Run
from undercroft.disks.ext4.content import Content
from undercroft.disks.ext4.directory import DirectoryReader
from undercroft.disks.ext4.fast_commit import whole_commits
from undercroft.disks.ext4.inline import attribute_value
from undercroft.disks.ext4.inode import Inode, decode
from undercroft.disks.ext4.journal_log import JournalSuperblock, Log, revoked_blocks, tags
from undercroft.disks.ext4.superblock import Superblock
from undercroft.disks.filesystem import FileKind, FileStat
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError

BLOCK = 1024
BLOCKS = 64


def _superblock(**changed: object) -> Superblock:
    fields: dict[str, object] = {
        "block_bytes": BLOCK,
        "blocks": BLOCKS,
        "inodes": 1000,
        "first_data_block": 1,
        "blocks_per_group": 8192,
        "inodes_per_group": 1000,
        "groups": 1,
        "inode_bytes": 256,
        "descriptor_bytes": 32,
        "compatible": 0,
        "incompatible": layout.INCOMPAT_FILETYPE,
        "read_only_compatible": 0,
        "uuid": bytes(16),
        "label": b"",
        "journal_inode": 0,
        "journal_device": bytes(16),
        "first_meta_group": 0,
        "backup_groups": (0, 0),
        "seed": None,
        "has_errors": False,
        "copy_group": 0,
    }
    return Superblock(**(fields | changed))  # type: ignore[arg-type] # the fields above have the right types


def _inode(block: bytes, size: int, flags: int = 0, raw: bytes = bytes(256)) -> Inode:
    kind = FileKind.REGULAR
    return Inode(FileStat(12, kind, 0o100644, size, 0, 0, 1, 0), flags, block, None, raw)


def _flipped(image: bytes, flips: list[tuple[int, int]]) -> bytes:
    changed = bytearray(image)
    for place, value in flips:
        changed[place % len(changed)] = value
    return bytes(changed)


FLIPS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=6)


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    options = ("-t", "ext4", "-b", "1024", "-O", "^metadata_csum,64bit")
    return extimages.make(tmp_path_factory.mktemp("sb") / "image", *options).read_bytes()[1024:2048]


@given(flips=FLIPS)
def test_superblock_is_consistent_or_refused(primary: bytes, flips: list[tuple[int, int]]) -> None:
    try:
        found = superblock.parse(_flipped(primary, flips))
    except InputError:
        return
    assert 1024 <= found.block_bytes <= 65536
    assert 128 <= found.inode_bytes <= found.block_bytes
    assert 32 <= found.descriptor_bytes <= found.block_bytes
    assert 0 < found.inodes_per_group <= 8 * found.block_bytes
    assert found.groups * found.inodes_per_group == found.inodes
    assert found.blocks > found.first_data_block


def test_unknown_feature_is_named_by_its_bit(primary: bytes) -> None:
    changed = bytearray(primary)
    changed[96 + 3] |= 0x40
    changed[96] |= 0x01
    with pytest.raises(UnsupportedError, match="compression, bit 0x40000000"):
        superblock.parse(bytes(changed))


def _entry(node: int, name: bytes, length: int = 0, kind: int = 1) -> bytes:
    length = length or 8 + len(name) + 3 & ~3
    return (layout.DIRECTORY_ENTRY.pack(node, length, len(name), kind) + name).ljust(length, b"\0")


def _directory_reader() -> DirectoryReader:
    facts = _superblock()
    return DirectoryReader(Content(BytesSource(bytes(BLOCK * BLOCKS)), facts, Changes()), facts, Changes())


@given(block=st.binary(max_size=256))
def test_any_directory_block_gives_entries_or_input_error(block: bytes) -> None:
    try:
        entries = _directory_reader().parse(block, "here")
    except InputError:
        return
    assert all(name and b"/" not in name and 0 < node <= 1000 for name, node, _ in entries)


@given(
    st.lists(
        st.tuples(st.integers(1, 1000), st.binary(min_size=1, max_size=40), st.integers(0, 7)), max_size=15
    )
)
def test_entries_that_follow_the_rules_come_out_as_they_went_in(
    entries: list[tuple[int, bytes, int]],
) -> None:
    entries = [(node, name.translate(None, b"/\0") or b"x", kind) for node, name, kind in entries]
    block = b"".join(_entry(node, name, 0, kind) for node, name, kind in entries)
    block += _entry(0, b"", 64)
    found = _directory_reader().parse(block, "here")
    assert [(node, name) for name, node, _ in found] == [(node, name) for node, name, _ in entries]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (_entry(5, b"a/b"), "names b'a/b'"),
        (_entry(5, b"a\0b"), "names"),
        (_entry(1001, b"beyond"), "inode 1001"),
        (_entry(5, b""), "names b''"),
        (_entry(5, b"longer", 8), "length of 8"),
        (_entry(5, b"past", 128), "length of 128"),
        (layout.DIRECTORY_ENTRY.pack(5, 0, 1, 1), "length of 0"),
    ],
)
def test_entry_that_breaks_the_rules_is_refused_with_its_place(entry: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _directory_reader().parse(entry[:64], "here")


@given(block=st.binary(min_size=60, max_size=60), size=st.integers(0, 1 << 40), start=st.integers(0, 1 << 33))
def test_any_extent_root_gives_ascending_runs_or_input_error(block: bytes, size: int, start: int) -> None:
    header = layout.EXTENT_HEADER.pack(layout.EXTENT_MAGIC, block[0] % 5, 4, block[1] % 3, 0)
    _check_runs(_inode(header + block[12:], size, layout.FLAG_EXTENTS), start, block * 300)


@given(block=st.binary(min_size=60, max_size=60), size=st.integers(0, 1 << 34), start=st.integers(0, 1 << 25))
def test_any_block_map_gives_ascending_runs_or_input_error(block: bytes, size: int, start: int) -> None:
    pointers = b"".join(bytes((byte % (BLOCKS + 2), 0, 0, 0)) for byte in block[:15])
    _check_runs(_inode(pointers, size), start, b"".join(bytes((byte % 70, 0, 0, 0)) for byte in block) * 80)


def _check_runs(inode: Inode, start: int, noise: bytes) -> None:
    volume = noise.ljust(BLOCK * BLOCKS, b"\0")[: BLOCK * BLOCKS]
    last = 0
    with suppress(InputError):
        for count, (logical, length, physical) in enumerate(
            Content(BytesSource(volume), _superblock(), Changes()).runs(inode, start)
        ):
            assert logical >= last
            assert logical + length > start
            assert physical == 0 or 1 < physical <= BLOCKS - length
            last = logical + length
            if count > 2000:
                break


@given(raw=st.binary(min_size=256, max_size=256))
def test_any_inode_is_decoded_or_refused(raw: bytes) -> None:
    with suppress(InputError):
        attribute_value(decode(12, raw, None))


JOURNAL_BLOCKS = 48


def _journal(body: bytes, incompatible: int = 0) -> tuple[BytesSource, list[Run]]:
    head = bytearray(BLOCK)
    journal_layout.SUPERBLOCK_HEAD.pack_into(
        head, 0, journal_layout.MAGIC, 4, BLOCK, JOURNAL_BLOCKS, 1, 7, 1, 0, 0, incompatible, bytes(16)
    )
    volume = bytes(BLOCK) + bytes(head) + body
    return BytesSource(volume.ljust(BLOCK * BLOCKS, b"\0")), [(0, JOURNAL_BLOCKS, 1)]


def _header(kind: int, sequence: int, body: bytes = b"") -> bytes:
    return (journal_layout.HEADER.pack(journal_layout.MAGIC, kind, sequence) + body).ljust(BLOCK, b"\0")


TAGS = st.lists(st.tuples(st.integers(0, 80), st.sampled_from([0, 1, 2, 3, 8, 10])), max_size=6)
RECORDS = st.one_of(
    st.tuples(st.just(journal_layout.DESCRIPTOR), TAGS),
    st.tuples(st.just(journal_layout.REVOKE), TAGS),
    st.tuples(st.just(journal_layout.COMMIT), TAGS),
    st.tuples(st.just(9), TAGS),
)


@given(
    records=st.lists(RECORDS, max_size=20),
    sequences=st.lists(st.integers(6, 10), min_size=20, max_size=20),
    incompatible=st.sampled_from([0, 1, 3, 0x20]),
    flips=FLIPS,
)
@settings(max_examples=200)
def test_any_log_is_recovered_or_refused(
    records: list[tuple[int, list[tuple[int, int]]]],
    sequences: list[int],
    incompatible: int,
    flips: list[tuple[int, int]],
) -> None:
    blocks = []
    for (kind, listed), sequence in zip(records, sorted(sequences), strict=False):
        if kind == journal_layout.REVOKE:
            body = (16 + 4 * len(listed)).to_bytes(4, "big")
            body += b"".join(block.to_bytes(4, "big") for block, _ in listed)
        else:
            body = b"".join(journal_layout.TAG.pack(block, 0, flags) for block, flags in listed)
        blocks.append(_header(kind, sequence, body))
    source, runs = _journal(_flipped(b"".join(blocks) or bytes(BLOCK), flips), incompatible)
    try:
        log = Log(source, BLOCK, runs, JOURNAL_BLOCKS)
        recovery = journal.recover(log, BLOCKS)
        whole_commits(log, recovery.next_sequence)
    except InputError:
        return
    assert all(block < BLOCKS for block in recovery.replayed)
    assert recovery.escaped <= recovery.replayed.keys()


def test_log_that_runs_in_a_circle_is_refused() -> None:
    ring = _header(journal_layout.REVOKE, 7, (16).to_bytes(4, "big")) * JOURNAL_BLOCKS
    source, runs = _journal(ring)
    log = Log(source, BLOCK, runs, JOURNAL_BLOCKS)
    with pytest.raises(InputError, match="has no end"):
        journal.recover(log, BLOCKS)


def test_revoke_covers_its_own_and_earlier_transactions_only() -> None:
    def data(sequence: int) -> bytes:
        tag = journal_layout.TAG.pack(20, 0, journal_layout.TAG_LAST | journal_layout.TAG_SAME_UUID)
        return _header(journal_layout.DESCRIPTOR, sequence, tag) + bytes([sequence]) * BLOCK

    def revoke(sequence: int) -> bytes:
        body = (20).to_bytes(4, "big") + (20).to_bytes(4, "big")
        return _header(journal_layout.REVOKE, sequence, body)

    def commit(sequence: int) -> bytes:
        return _header(journal_layout.COMMIT, sequence)

    def recovered(body: bytes) -> dict[int, int]:
        source, runs = _journal(body)
        return journal.recover(Log(source, BLOCK, runs, JOURNAL_BLOCKS), BLOCKS).replayed

    assert recovered(data(7) + commit(7)) == {20: 3 * BLOCK}
    assert recovered(data(7) + revoke(7) + commit(7)) == {}
    assert recovered(data(7) + commit(7) + revoke(8) + commit(8)) == {}
    assert recovered(data(7) + commit(7) + revoke(8)) == {20: 3 * BLOCK}
    assert recovered(revoke(7) + commit(7) + data(8) + commit(8)) == {20: 5 * BLOCK}


@given(block=st.binary(min_size=BLOCK, max_size=BLOCK), incompatible=st.sampled_from([0, 2, 8, 10, 16, 18]))
@settings(max_examples=50)
def test_any_control_block_lists_within_its_size(block: bytes, incompatible: int) -> None:
    facts = JournalSuperblock(
        length=JOURNAL_BLOCKS,
        first=1,
        end=JOURNAL_BLOCKS,
        sequence=1,
        start=1,
        error=0,
        has_commit_crc32=False,
        has_async_commits=False,
        has_64bit=bool(incompatible & 2),
        has_tags_v3=bool(incompatible & 16),
        has_fast_commits=False,
        seed=1 if incompatible & 24 else None,
    )
    assert len(tags(block, facts)) <= BLOCK // facts.tag_bytes
    with suppress(InputError):
        assert len(revoked_blocks(block, facts)) <= BLOCK // 4
