"""The log's replay, on logs written by hand: what counts, what does not, and what is told."""

import random
import shutil
import struct
from pathlib import Path

import pytest
import xfsimages
import xfslogs
from xfsimages import open_image
from xfslogs import COMMIT, CONTINUED, CONTINUES, START, LogFile, buffer, cancelled, operation, transaction

from undercroft.disks.xfs import Xfs, layout
from undercroft.errors import InputError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")

SIZE = 40_960


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a file whose blocks the logs below write, and a folder."""
    folder = tmp_path_factory.mktemp("xfs")
    source = folder / "source"
    (source / "folder").mkdir(parents=True)
    (source / "target").write_bytes(random.Random(5).randbytes(SIZE))
    for number in range(40):
        (source / "folder" / f"file-{number}").write_text(str(number))
    return xfsimages.make_from(source, folder / "base", "-l", "size=6m", "-b", "size=1024", size="20M")


@pytest.fixture
def image(base: Path, tmp_path: Path) -> Path:
    xfsimages.run("cp", "--sparse=always", base, tmp_path / "image")
    return tmp_path / "image"


@pytest.fixture
def log(image: Path) -> LogFile:
    return LogFile(image)


@pytest.fixture
def sector(base: Path) -> int:
    """The first sector of the file's content."""
    return base.read_bytes().index(random.Random(5).randbytes(512)) // 512


def content(filesystem: Xfs) -> bytes:
    node = filesystem.lookup(filesystem.root, b"target")
    assert node is not None
    return filesystem.read(node, SIZE)


def expected(changes: dict[int, bytes]) -> bytes:
    data = bytearray(random.Random(5).randbytes(SIZE))
    for start, piece in changes.items():
        data[start : start + len(piece)] = piece
    return bytes(data)


ONE, TWO, THREE = b"1" * 128, b"2" * 256, b"3" * 1024


def test_dirty_chunks_of_a_committed_transaction_are_laid_over_the_volume(log: LogFile, sector: int) -> None:
    log.add(*transaction(7, buffer(sector, 8, {0: ONE, 1024: TWO}), buffer(sector + 10, 2, {0: THREE})))
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({0: ONE, 1024: TWO, 5120: THREE})
    assert filesystem.notes == ("log replayed: 4 sectors of 1 transactions",)
    assert filesystem.problems == ()


def test_what_is_not_committed_is_left_out(log: LogFile, sector: int) -> None:
    log.add(*transaction(7, buffer(sector, 2, {0: ONE}), is_committed=False))
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({})
    assert filesystem.problems == ()


def test_transactions_interleave_over_records_and_a_region_goes_on_in_the_next(
    log: LogFile, sector: int
) -> None:
    first = transaction(7, buffer(sector, 2, {0: ONE}))
    second = transaction(8, buffer(sector, 2, {0: TWO}), buffer(sector + 4, 2, {0: THREE}))
    never = transaction(9, buffer(sector + 8, 2, {0: ONE}), is_committed=False)
    log.add(*second[:4], *never[:2], operation(8, 0, second[4][12:]))
    form, data = buffer(sector + 6, 2, {0: THREE})
    log.add(*first, *never[2:], second[5])
    log.add(second[6], operation(10, START), *transaction(10)[1:2])
    log.add(operation(10, 0, form), operation(10, CONTINUED, data[:300]))
    log.add(operation(10, CONTINUES | CONTINUED, data[300:500]))
    log.add(operation(10, CONTINUES, data[500:]), operation(10, COMMIT))
    filesystem = open_image(log.image)
    assert filesystem.problems == ()
    # The one that was committed last wins, wherever it began.
    assert content(filesystem) == expected({0: TWO, 2048: THREE, 3072: THREE})


def test_buffer_that_was_given_back_is_not_replayed_until_it_is_used_again(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    log.add(*transaction(2, buffer(sector + 4, 2, {0: ONE})))
    log.add(*transaction(3, cancelled(sector, 2), cancelled(sector + 4, 2)))
    log.add(*transaction(4, buffer(sector + 4, 2, {256: TWO})))
    filesystem = open_image(log.image)
    assert filesystem.problems == ()
    assert content(filesystem) == expected({2048 + 256: TWO})


def test_control_without_the_giving_back_it_is_replayed(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    assert content(open_image(log.image)) == expected({0: ONE})


@pytest.mark.parametrize("back", [1, 2, 3, 5, 30])
def test_log_that_goes_round_its_end_is_replayed_whole(log: LogFile, sector: int, back: int) -> None:
    log.begin_at(log.blocks - back)
    for number in range(12):
        changes = {0: bytes([number]) * 1024}
        log.add(
            *transaction(number, buffer(sector + 2 * number, 2, changes), buffer(sector + 40, 2, changes))
        )
    assert log.cycle == 3
    filesystem = open_image(log.image)
    assert filesystem.problems == ()
    assert filesystem.notes == ("log replayed: 26 sectors of 12 transactions",)
    changes = {1024 * number: bytes([number]) * 1024 for number in range(12)}
    assert content(filesystem) == expected({**changes, 20480: bytes([11]) * 1024})


@pytest.mark.parametrize(
    ("version", "buffer_bytes", "regions"),
    [(1, 0, 10), (1, 32 << 10, 20), (2, 64 << 10, 50), (2, 256 << 10, 200)],
)
def test_records_of_every_size_are_read(
    log: LogFile, sector: int, version: int, buffer_bytes: int, regions: int
) -> None:
    log.add(
        *transaction(1, *(buffer(sector, 2, {0: bytes([number]) * 1024}) for number in range(regions))),
        version=version,
        buffer_bytes=buffer_bytes,
    )
    filesystem = open_image(log.image)
    assert filesystem.problems == ()
    assert content(filesystem) == expected({0: bytes([regions - 1]) * 1024})


def test_record_that_was_cut_off_ends_the_log_with_a_note(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    place = log.add(*transaction(2, buffer(sector, 8, {0: bytes(4096)})))
    log.put(place + 3, bytes(512 * 20))
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({0: ONE})
    assert filesystem.problems == ()
    assert filesystem.notes[1:] == ("the log's last 3 blocks were cut off while they were written",)


def test_whole_record_behind_one_that_was_cut_off_is_a_problem(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    place = log.add(*transaction(2, buffer(sector, 8, {0: bytes(4096)})))
    log.add(*transaction(3, buffer(sector, 2, {0: ONE})))
    log.put(place + 3, b"damaged!" * 10)
    problems = open_image(log.image).problems
    assert len(problems) == 1
    assert "written to its end, lies behind" in problems[0]


def test_last_record_that_was_written_to_its_end_and_is_wrong_is_a_problem(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    place = log.add(*transaction(2, buffer(sector, 8, {0: bytes(4096)})))
    with log.image.open("r+b") as file:
        file.seek(log.start + (place + 3) * 512 + 100)
        file.write(b"damaged")
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({0: ONE})
    assert f"a record at block {place}, written to its end" in filesystem.problems[0]


@pytest.mark.parametrize("later", [6, 7, 8])
def test_oldest_of_the_records_that_may_be_under_way_ends_the_log_too(
    later: int, log: LogFile, sector: int
) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    place = log.add(*transaction(2, buffer(sector, 2, {512: ONE})))
    for number in range(later):
        log.add(*transaction(3 + number, buffer(sector, 2, {0: TWO})))
    with log.image.open("r+b") as file:
        file.seek(log.start + (place + 1) * 512 + 100)
        file.write(b"!")
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({0: ONE})
    assert len(filesystem.problems) == 1
    assert f"block {place}" in filesystem.problems[0]


def test_damage_in_the_middle_of_the_log_is_a_problem_and_what_precedes_it_is_replayed(
    log: LogFile, sector: int
) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    place = log.add(*transaction(2, buffer(sector, 2, {512: ONE})))
    for number in range(12):
        log.add(*transaction(3 + number, buffer(sector, 2, {0: TWO})))
    with log.image.open("r+b") as file:
        file.seek(log.start + (place + 1) * 512 + 100)
        file.write(b"!")
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({0: ONE})
    assert [
        problem for problem in filesystem.problems if f"the record at block {place}: its checksum" in problem
    ]


def test_record_without_a_checksum_is_damage_in_version_5(log: LogFile, sector: int) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})), has_checksum=False)
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({})
    assert "checksum" in filesystem.problems[0]


def _item(kind: int, *regions: bytes, count: int = 0) -> list[bytes]:
    return [struct.pack("<HH", kind, count or 1 + len(regions)) + bytes(52), *regions]


def _hostile(sector: int) -> dict[str, list[bytes]]:
    far = 1 << 40
    inode = struct.pack("<HHIHHIQ16xqii", 0x123B, 2, 1, 0, 0, 0, 128, sector, 32, 0)
    made = struct.pack("<HH", 0x123F, 1)
    return {
        "a buffer beyond the volume": transaction(1, buffer(far, 2, {0: ONE})),
        "a buffer before the volume": transaction(1, buffer(-4, 2, {0: ONE})),
        "a buffer of 65,535 sectors": transaction(1, buffer(sector, 65535, {0: ONE})),
        "chunks behind a buffer's end": transaction(
            1, [buffer(sector, 2, {})[0][:20] + b"\xff" * 40, ONE * 10]
        ),
        "chunks without their bytes": transaction(
            1, [buffer(sector, 8, {0: ONE, 1024: ONE})[0], ONE, b"short"]
        ),
        "an inode elsewhere": transaction(1, [inode, bytes(176)]),
        "an inode in one region": transaction(1, _item(0x123B)),
        "an inode of a wrong size": transaction(1, [inode[:30], bytes(176)]),
        "a million inodes made": transaction(1, [made + struct.pack(">6I", 0, 8, 1 << 20, 512, 1 << 19, 1)]),
        "inodes made in no group": transaction(1, [made + struct.pack(">6I", 9999, 8, 64, 512, 32, 1)]),
        "inodes made in few bytes": transaction(1, [made]),
        "an unknown item": transaction(1, _item(0x1299)),
        "an item of no regions": transaction(1, [struct.pack("<HH", 0x123C, 0) + bytes(20)]),
        "an item of 65,535 regions": transaction(1, [struct.pack("<HH", 0x123C, 65535) + bytes(20)]),
        "an item that is not whole": transaction(1, buffer(sector, 8, {0: ONE, 512: ONE})[:2]),
        "an item of one byte": transaction(1, [b"x"]),
        "a transaction with another magic": [
            operation(1, START),
            operation(1, 0, b"x" * 16),
            operation(1, COMMIT),
        ],
        "an operation for nobody": [operation(1, START, client=1)],
        "an operation that lies about its length": [struct.pack(">IIBBH", 1, 1 << 31, 0x69, 0, 0)],
        "an operation with unknown flags": [operation(1, START), operation(1, 0xC0, b"x")],
        "5,000 transactions at once": [operation(number, START) for number in range(5000)],
    }


@pytest.mark.parametrize("case", _hostile(0))
def test_hostile_log_is_a_problem_and_the_rest_is_read(case: str, log: LogFile, sector: int) -> None:
    log.add(*transaction(99, buffer(sector + 4, 2, {0: ONE})))
    log.add(*_hostile(sector)[case], buffer_bytes=64 << 10)
    filesystem = open_image(log.image)
    assert len(filesystem.problems) == 1, filesystem.problems
    assert filesystem.problems[0].startswith("log ") or filesystem.problems[0].startswith("log:")
    assert len(list(filesystem.entries(filesystem.root))) == 2


@pytest.mark.parametrize("length", [0, 511, 5000, 256 << 10, (256 << 10) + 1, 1 << 31, (1 << 32) - 1])
def test_record_that_lies_about_its_length_is_found(log: LogFile, sector: int, length: int) -> None:
    log.add(*transaction(99, buffer(sector + 4, 2, {0: ONE})))
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})), length=length)
    filesystem = open_image(log.image)
    # Nothing of a record that is not whole is replayed; at the log's end it counts as cut off.
    assert content(filesystem) in (expected({}), expected({2048: ONE}))
    assert filesystem.problems or "cut off" in filesystem.notes[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"byte_order": 2}, "byte order 2"),
        ({"version": 7}, "of version 7"),
        ({"buffer_bytes": 1 << 20}, "from a buffer of 1048576"),
    ],
)
def test_record_that_cannot_be_read_is_named(
    log: LogFile, sector: int, options: dict[str, object], message: str
) -> None:
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})), **options)
    filesystem = open_image(log.image)
    assert content(filesystem) == expected({})
    assert message in filesystem.problems[0]


def test_log_of_another_filesystem_and_an_empty_one_are_problems(log: LogFile, sector: int) -> None:
    assert "it is empty" in open_image(log.image).problems[0]
    log.uuid = b"someone else's.."
    log.add(*transaction(1, buffer(sector, 2, {0: ONE})))
    assert "belongs to the filesystem" in open_image(log.image).problems[0]


def test_things_begun_and_not_ended_are_told(log: LogFile) -> None:
    free, mapping = (struct.pack("<HHIQ", kind, 1, 1, 77) + bytes(16) for kind in (0x1236, 0x1244))
    log.add(*transaction(1, [free], [mapping]))
    filesystem = open_image(log.image)
    assert "1 changes of where files lie were begun" in filesystem.problems[0]
    assert "free space" in filesystem.notes[-1]
    done = struct.pack("<HHIQ", 0x1245, 1, 0, 77)
    log.add(*transaction(2, [done]))
    filesystem = open_image(log.image)
    assert filesystem.problems == ()
    assert "free space" in filesystem.notes[-1]


def _folder_block(image: Path) -> tuple[Xfs, int, int]:
    filesystem = open_image(image)
    folder = filesystem.lookup(filesystem.root, b"folder")
    assert folder is not None
    block = next(filesystem._content.directory_blocks(filesystem._inodes.get(folder)))
    return filesystem, folder, block.offset


def _set_folder_block(image: Path, offset: int, *, place: int = 0, is_right: bool = True) -> bytes:
    """Set the place in the log that the folder's block notes; return the block."""
    with image.open("r+b") as file:
        file.seek(offset)
        size = image.read_bytes()[layout.DIRECTORY_LOG_OFFSET]
        block = bytearray(file.read(1024 << size))
        block[16:24] = place.to_bytes(8, "big")
        xfsimages.set_checksum(block, 4)
        if not is_right:
            block[4] ^= 1
        file.seek(offset)
        file.write(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("place", "is_newer"), [(0, False), (1 << 32, True), (9 << 32, True), (2**64 - 1, False)]
)
def test_block_that_is_newer_on_disk_stays(log: LogFile, image: Path, place: int, is_newer: bool) -> None:
    _, folder, offset = _folder_block(image)
    block = _set_folder_block(image, offset, place=place)
    changed = block.replace(b"file-7", b"gone-7")
    chunks = {
        at: changed[at : at + 128]
        for at in range(0, len(block), 128)
        if changed[at : at + 128] != block[at : at + 128]
    }
    log.add(*transaction(1, buffer(offset // 512, len(block) // 512, chunks)))
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert (filesystem.lookup(folder, b"gone-7") is None) == is_newer
    assert (filesystem.lookup(folder, b"file-7") is None) != is_newer


def test_replay_on_top_of_a_damaged_block_is_a_problem(log: LogFile, image: Path) -> None:
    _, _, offset = _folder_block(image)
    block = _set_folder_block(image, offset, is_right=False)
    log.add(*transaction(1, buffer(offset // 512, len(block) // 512, {128: block[128:256]})))
    assert "had a wrong checksum before the replay" in open_image(image).problems[0]
    # Control: with the right one there is none.
    _set_folder_block(image, offset)
    assert open_image(image).problems == ()


def _inode(image: Path) -> tuple[int, int, bytearray]:
    """Return number, place and bytes of the file's inode."""
    filesystem = open_image(image)
    node = filesystem.lookup(filesystem.root, b"target")
    assert node is not None
    superblock = filesystem._inodes._blocks.superblock
    group, inner = divmod(node, 1 << superblock.group_log + superblock.block_inodes_log)
    place = (group * superblock.group_blocks << superblock.block_log) + (inner << superblock.inode_log)
    with image.open("rb") as file:
        file.seek(place)
        return node, place, bytearray(file.read(superblock.inode_bytes))


@pytest.mark.parametrize(
    "options",
    [
        ("-m", "crc=0"),
        ("-m", "bigtime=0"),
        ("-m", "bigtime=1"),
        ("-i", "nrext64=1"),
        ("-m", "bigtime=0", "-i", "nrext64=1"),
    ],
)
def test_core_and_fork_of_an_inode_are_replayed(options: tuple[str, ...], base: Path, tmp_path: Path) -> None:
    image = xfsimages.make_from(
        base.parent / "source", tmp_path / "image", "-l", "size=10m", "-b", "size=1024", *options, size="30M"
    )
    node, place, raw = _inode(image)
    is_v4 = "crc=0" in options
    size, has_many = (96 if is_v4 else 176), "nrext64=1" in options
    raw[2:4] = (0o100751).to_bytes(2, "big")
    raw[8:16] = struct.pack(">II", 70_000, 80_000)
    raw[56:64] = (5000).to_bytes(8, "big")
    raw[40:48] = struct.pack(">iI", -77, 5)
    has_big_times = not is_v4 and "bigtime=0" not in options
    if has_big_times:
        raw[40:48] = ((5_000_000_000 + (1 << 31)) * 10**9 + 5).to_bytes(8, "big")
    first = int.from_bytes(raw[100 if is_v4 else 176 :][:16], "big") >> 21 & (1 << 52) - 1
    fork = (first << 21 | 2).to_bytes(16, "big") + (1 << 127 | 2 << 73 | (first + 2) << 21 | 3).to_bytes(
        16, "big"
    )
    raw[24:32] = (2).to_bytes(8, "big") if has_many else raw[24:32]
    raw[76:80] = bytes(4) if has_many else (2).to_bytes(4, "big")
    core = xfslogs.swapped(bytes(raw[:size]), has_big_times=has_big_times, has_many_extents=has_many)
    log = LogFile(image)
    log.add(*transaction(1, xfslogs.inode(node, place, core, 1 | 4, fork)))
    filesystem = open_image(image)
    assert filesystem.problems == ()
    found = filesystem.stat(node)
    assert (found.mode, found.uid, found.gid, found.size_bytes) == (0o100751, 70_000, 80_000, 5000)
    assert found.modified_at_s == (5_000_000_000 if has_big_times else -77)
    assert filesystem.read(node, SIZE) == expected({})[:2048].ljust(5000, b"\0")


def test_inode_of_version_4_that_was_flushed_later_stays(base: Path, tmp_path: Path) -> None:
    image = xfsimages.make_from(
        base.parent / "source", tmp_path / "image", "-m", "crc=0", "-l", "size=6m", size="20M"
    )
    for on_disk, logged, is_newer in (
        (5, 4, True),
        (5, 5, False),
        (0xFFFF, 3, False),
        (0xFFFF, 0x8000, True),
    ):
        node, place, raw = _inode(image)
        raw[56:64] = (SIZE).to_bytes(8, "big")
        raw[30:32] = on_disk.to_bytes(2, "big")
        with image.open("r+b") as file:
            file.seek(place)
            file.write(raw)
        raw[56:64] = (5000).to_bytes(8, "big")
        raw[30:32] = logged.to_bytes(2, "big")
        log = LogFile(image)
        log.add(
            *transaction(
                1, xfslogs.inode(node, place, xfslogs.swapped(bytes(raw[:96]), has_big_times=False), 1)
            )
        )
        assert open_image(image).stat(node).size_bytes == (SIZE if is_newer else 5000)


@pytest.mark.parametrize(("is_given_back", "message"), [(False, "not in use"), (True, "")])
def test_inodes_that_were_made_are_empty_unless_they_were_given_back(
    is_given_back: bool, message: str, log: LogFile, image: Path
) -> None:
    node, place, _ = _inode(image)
    first = node & ~63
    size = 64 * 512
    start = place - (node - first) * 512
    made = struct.pack("<HH", 0x123F, 1) + struct.pack(">6I", 0, start // 1024, 64, 512, size // 1024, 9)
    log.add(*transaction(1, [made]))
    if is_given_back:
        log.add(*transaction(2, cancelled(start // 512, 16)))
        assert open_image(image).stat(node).size_bytes == SIZE
        return
    # All of the first inodes are empty now, the root directory too.
    with pytest.raises(InputError, match=message):
        open_image(image)
