"""What an open XFS filesystem refuses, and how it says so."""

import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xfsimages
from xfsimages import open_image

from undercroft.disks import xfs
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.disks.tree import GuestTree
from undercroft.disks.xfs import Xfs, layout
from undercroft.disks.xfs import superblock as superblocks
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")

BLOCK = 1024
SIZE = 300_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("xfs") / "source"
    for folder in ("folder", "other"):
        (source / folder).mkdir(parents=True)
        for number in range(30):
            (source / folder / f"{folder}-{number}").write_text(str(number))
    (source / "little").mkdir()
    (source / "little" / "inner").write_text("inner")
    (source / "file").write_bytes(random.Random(1).randbytes(SIZE))
    (source / "link").symlink_to("folder/folder-1")
    return source


def _made(source: Path, folder: Path, crc: int) -> Path:
    options = ("-m", f"crc={crc}", "-b", f"size={BLOCK}", "-l", "size=6m", "-d", "agcount=2")
    return xfsimages.make_from(source, folder / f"v{4 + crc}", *options, size="34M")


@pytest.fixture(scope="module")
def bases(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {4: _made(source, folder, 0), 5: _made(source, folder, 1)}


@pytest.fixture
def image(bases: dict[int, Path], tmp_path: Path) -> Path:
    return _copy(bases[5], tmp_path / "image")


@pytest.fixture
def image_v4(bases: dict[int, Path], tmp_path: Path) -> Path:
    return _copy(bases[4], tmp_path / "image-v4")


def _copy(base: Path, copy: Path) -> Path:
    xfsimages.run("cp", "--sparse=always", base, copy)
    return copy


def head(image: Path) -> bytes:
    with image.open("rb") as file:
        return file.read(512)


def node_of(filesystem: Xfs, name: bytes) -> int:
    node = filesystem.lookup(filesystem.root, name)
    assert node is not None
    return node


def place_of(filesystem: Xfs, node: int) -> int:
    """Return where an inode lies, in bytes."""
    superblock = filesystem._inodes._blocks.superblock
    group, inner = divmod(node, 1 << superblock.group_log + superblock.block_inodes_log)
    return (group * superblock.group_blocks << superblock.block_log) + (inner << superblock.inode_log)


def change(image: Path, offset: int, size: int, checksum: int, edit: Callable[[bytearray], None]) -> None:
    """Edit a structure of `size` bytes, its checksum set right; `checksum` -1 for none."""
    with image.open("r+b") as file:
        file.seek(offset)
        data = bytearray(file.read(size))
        edit(data)
        if checksum >= 0:
            xfsimages.set_checksum(data, checksum)
        file.seek(offset)
        file.write(data)


def change_inode(image: Path, name: bytes, *edits: tuple[int, bytes]) -> None:
    """Write bytes into an inode of version 3."""
    filesystem = open_image(image)

    def edit(data: bytearray) -> None:
        for at, new in edits:
            data[at : at + len(new)] = new

    change(image, place_of(filesystem, node_of(filesystem, name)), 512, layout.INODE_CHECKSUM_OFFSET, edit)


def change_superblock(image: Path, at: int, new: bytes) -> None:
    def edit(data: bytearray) -> None:
        data[at : at + len(new)] = new

    change(image, 0, 512, layout.SUPERBLOCK_CHECKSUM_OFFSET, edit)


def extent(logical: int, block: int, count: int, *, is_unwritten: bool = False) -> bytes:
    number = is_unwritten << 127 | logical << 73 | block << 21 | count
    return number.to_bytes(16, "big")


def first_block(filesystem: Xfs, name: bytes) -> int:
    """Return the number of a file's first block (that of its place too, in allocation group 0)."""
    fork = filesystem._inodes.get(node_of(filesystem, name)).fork
    return int.from_bytes(fork[:16], "big") >> 21 & (1 << 52) - 1


def test_magic_tells_an_xfs_filesystem() -> None:
    with pytest.raises(InputError, match="magic"):
        xfs.open_filesystem(BytesSource(bytes(1 << 20)))
    with pytest.raises(InputError, match="too small"):
        xfs.open_filesystem(BytesSource(b"XFSB"))


def test_methods_refuse_the_wrong_kind_of_file(image: Path) -> None:
    filesystem = open_image(image)
    file, folder, link = (node_of(filesystem, name) for name in (b"file", b"folder", b"link"))
    assert filesystem.stat(link).kind is FileKind.SYMLINK
    for wrong in (
        lambda: filesystem.readlink(file),
        lambda: list(filesystem.entries(file)),
        lambda: filesystem.lookup(link, b"x"),
        lambda: filesystem.read(folder, 1 << 20),
        lambda: list(filesystem.chunks(link)),
    ):
        with pytest.raises(InputError, match="is asked for"):
            wrong()


def test_parent_and_self_are_found_in_every_form_of_a_directory(image: Path) -> None:
    filesystem = open_image(image)
    for name in (b"folder", b"little"):
        node = node_of(filesystem, name)
        assert filesystem.lookup(node, b"..") == filesystem.root
        assert filesystem.lookup(node, b".") == node
        assert not {b".", b".."} & {entry for entry, _, _ in filesystem.entries(node)}


def test_numbers_out_of_range_and_unused_inodes_are_refused(image: Path) -> None:
    filesystem = open_image(image)
    for node in (-1, 0, 1 << 40, (1 << 64) - 1):
        with pytest.raises(InputError, match="lies outside the filesystem"):
            filesystem.stat(node)
    with pytest.raises(InputError, match="magic"):
        filesystem.stat(1)
    unused = max(node for _, node, _ in filesystem.entries(node_of(filesystem, b"other"))) + 2
    with pytest.raises(InputError, match="not in use"):
        filesystem.stat(unused)


def test_inodes_are_found_up_to_the_end_of_a_group_of_any_length(source: Path, tmp_path: Path) -> None:
    options = ("-m", "crc=0", "-b", f"size={BLOCK}", "-l", "size=6m", "-d", "agsize=17400k")
    filesystem = open_image(xfsimages.make_from(source, tmp_path / "odd", *options, size="34M"))
    superblock = filesystem._inodes._blocks.superblock
    assert superblock.group_blocks == 17400
    behind = superblock.group_blocks << superblock.block_inodes_log
    with pytest.raises(InputError, match="the magic is"):
        filesystem.stat(behind - 1)
    with pytest.raises(InputError, match="lies outside the filesystem"):
        filesystem.stat(behind)


def test_file_over_the_limit_is_refused_before_it_is_read(image: Path) -> None:
    filesystem = open_image(image)
    node = node_of(filesystem, b"file")
    assert len(filesystem.read(node, SIZE)) == SIZE
    with pytest.raises(InputError, match="300000 bytes, the limit is 299999"):
        filesystem.read(node, SIZE - 1)


def _places(image: Path) -> dict[str, int]:
    filesystem = open_image(image)
    folder, file = node_of(filesystem, b"folder"), node_of(filesystem, b"file")
    block = next(filesystem._content.directory_blocks(filesystem._inodes.get(folder)))
    return {
        "directory": block.offset + block.data.index(b"folder-7") + 3,
        "inode": place_of(filesystem, file) + 17,
    }


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("directory", r"^xfs inode \d+: directory block 0: its checksum is"),
        ("inode", r"^xfs inode \d+: its checksum is"),
    ],
)
def test_flipped_bit_in_metadata_is_found_and_named(place: str, message: str, image: Path) -> None:
    _flip(image, _places(image)[place])
    with pytest.raises(InputError, match=message):
        _read_everything(image)


def test_same_flips_in_version_4_are_not_seen(image_v4: Path) -> None:
    """Control: it is the checksum that finds them."""
    before = _read_everything(image_v4)
    for place in _places(image_v4).values():
        _flip(image_v4, place)
    assert _read_everything(image_v4) != before


def _flip(image: Path, place: int) -> None:
    change(image, place, 1, -1, lambda data: data.__setitem__(0, data[0] ^ 0x10))


def _read_everything(image: Path) -> list[object]:
    filesystem = open_image(image)
    found: list[object] = []
    for name in (b"folder", b"other"):
        found += list(filesystem.entries(node_of(filesystem, name)))
    node = node_of(filesystem, b"file")
    return [*found, filesystem.stat(node), filesystem.read(node, 1 << 40)]


def test_block_copied_from_another_directory_is_found(image: Path, image_v4: Path) -> None:
    for each, is_found in ((image, True), (image_v4, False)):
        filesystem = open_image(each)
        nodes = [node_of(filesystem, name) for name in (b"folder", b"other")]
        blocks = [next(filesystem._content.directory_blocks(filesystem._inodes.get(node))) for node in nodes]
        change(
            each,
            blocks[1].offset,
            BLOCK,
            -1,
            lambda data, new=blocks[0].data: data.__setitem__(slice(None), new),
        )
        if is_found:
            with pytest.raises(InputError, match="it says that it belongs to sector"):
                list(open_image(each).entries(nodes[1]))
        else:  # the control: nothing in version 4 tells it
            names = [name for name, _, _ in open_image(each).entries(nodes[1])]
            assert names[0] == b"folder-0"


def test_block_of_another_owner_or_filesystem_is_found(image: Path) -> None:
    filesystem = open_image(image)
    node = node_of(filesystem, b"folder")
    block = next(filesystem._content.directory_blocks(filesystem._inodes.get(node)))
    offset, size = block.offset, len(block.data)
    for at, message in ((47, "belongs to inode"), (30, "UUID of another filesystem")):
        change(image, offset, size, 4, lambda data, at=at: data.__setitem__(at, data[at] ^ 1))
        with pytest.raises(InputError, match=message):
            list(open_image(image).entries(node))
        change(image, offset, size, 4, lambda data, at=at: data.__setitem__(at, data[at] ^ 1))
    assert list(open_image(image).entries(node))


def test_damaged_superblock_is_replaced_by_the_copy_of_the_next_group(image: Path) -> None:
    before = _read_everything(image)
    _flip(image, 90)
    filesystem = open_image(image)
    assert filesystem.notes[0].startswith(
        "superblock of allocation group 1 used: xfs superblock: its checksum"
    )
    assert _read_everything(image) == before


@pytest.mark.parametrize(
    ("bits", "names"),
    [(0x100, "metadir"), (0x200, "zoned"), (0x40000, "bit 0x40000"), (0x300, "metadir, zoned")],
)
def test_unknown_incompatible_feature_is_unsupported_by_name(bits: int, names: str, image: Path) -> None:
    known = int.from_bytes(head(image)[216:220], "big")
    change_superblock(image, 216, (known | bits).to_bytes(4, "big"))
    with pytest.raises(UnsupportedError, match=rf"incompatible feature {names};"):
        open_image(image)


@pytest.mark.parametrize("bits", [0x40, 0x80])
def test_features_that_do_not_concern_reading_are_read(bits: int, image: Path) -> None:
    known = int.from_bytes(head(image)[216:220], "big")
    change_superblock(image, 216, (known | bits).to_bytes(4, "big"))
    assert open_image(image).problems == ()


def test_filesystem_that_waits_for_its_repair_is_read_with_a_problem(image: Path) -> None:
    known = int.from_bytes(head(image)[216:220], "big")
    change_superblock(image, 216, (known | layout.INCOMPAT_NEEDS_REPAIR).to_bytes(4, "big"))
    assert "xfs_repair" in open_image(image).problems[0]


def test_log_elsewhere_or_with_unknown_features_is_a_problem(image: Path) -> None:
    change_superblock(image, 220, (0x80).to_bytes(4, "big"))
    assert "unknown features 0x80" in open_image(image).problems[0]
    change_superblock(image, 220, bytes(4))
    change_superblock(image, 48, bytes(8))
    assert "on another device" in open_image(image).problems[0]
    change_superblock(image, 48, ((1 << 63) + 5).to_bytes(8, "big"))
    assert "outside the filesystem" in open_image(image).problems[0]


def test_volume_that_is_too_small_is_a_problem(image: Path) -> None:
    content = image.read_bytes()
    filesystem = xfs.open_filesystem(BytesSource(content[: len(content) - BLOCK]))
    assert "its volume only" in filesystem.problems[-1]


@pytest.mark.parametrize(
    ("at", "size", "values"),
    [
        (4, 4, (0, 1, 513, 1 << 17)),  # block size
        (8, 8, (0, 1, 1 << 63)),  # blocks
        (84, 4, (0, 1, 63, 1 << 31)),  # blocks of a group
        (88, 4, (0, 1, 1 << 31)),  # groups
        (100, 2, (0, 3, 6, 15)),  # version
        (102, 2, (0, 256, 513)),  # sector size
        (104, 2, (0, 128, 511, 4096)),  # inode size
        (106, 2, (0, 1, 999)),  # inodes in a block
        (120, 1, (0, 8, 17, 255)),
        (121, 1, (0, 8, 16, 255)),
        (122, 1, (0, 7, 12, 255)),
        (123, 1, (0, 17, 255)),
        (124, 1, (0, 1, 64, 255)),
        (126, 1, (1,)),  # mkfs is at work
        (192, 1, (7, 255)),  # directory blocks
    ],
)
def test_superblock_that_contradicts_itself_is_refused(
    at: int, size: int, values: tuple[int, ...], image: Path
) -> None:
    content = head(image)
    for value in values:
        changed = bytearray(content)
        changed[at : at + size] = value.to_bytes(size, "big")
        if at != 102:
            xfsimages.set_checksum(changed, layout.SUPERBLOCK_CHECKSUM_OFFSET)
        with pytest.raises(InputError, match=r"^xfs superblock: "):
            superblocks.parse(bytes(changed))


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


def _change_folder(image: Path, edit: Callable[[bytearray], None]) -> None:
    filesystem = open_image(image)
    node = node_of(filesystem, b"folder")
    block = next(filesystem._content.directory_blocks(filesystem._inodes.get(node)))
    change(image, block.offset, len(block.data), layout.DIRECTORY_HEADER.checksum, edit)


def _entry(data: bytes, name: bytes) -> int:
    """Return where the entry of `name` begins."""
    return data.index(name) - 9


@pytest.mark.parametrize("node", [0, 1, 1 << 40, (1 << 48) - 1, 5])
def test_entry_that_points_anywhere_is_refused_when_it_is_followed(node: int, image: Path) -> None:
    def edit(data: bytearray) -> None:
        at = _entry(data, b"folder-7")
        data[at : at + 8] = node.to_bytes(8, "big")

    _change_folder(image, edit)
    tree = GuestTree(open_image(image))
    assert tree.read(b"/folder/folder-8", 10) == b"8"
    with pytest.raises(InputError, match=rf"^xfs inode {node}: "):
        tree.stat(b"/folder/folder-7")


def test_folder_in_itself_is_walked_once(image: Path) -> None:
    filesystem = open_image(image)
    root, folder = filesystem.root, node_of(filesystem, b"folder")

    def edit(data: bytearray) -> None:
        for name, node in ((b"folder-7", root), (b"folder-8", folder)):
            at = _entry(data, name)
            data[at : at + 8] = node.to_bytes(8, "big")
            data[at + 9 + len(name)] = 2

    _change_folder(image, edit)
    paths = [path for path, _ in GuestTree(open_image(image)).walk(b"/")]
    assert b"/folder/folder-7" in paths
    assert len(paths) == len(set(paths)) < 200


def test_directory_that_names_one_block_again_and_again_is_refused(image: Path) -> None:
    block = first_block(open_image(image), b"folder")
    change_inode(
        image, b"folder", (176, extent(0, block, 4) + extent(4, block, 4)), (76, (2).to_bytes(4, "big"))
    )
    filesystem = open_image(image)
    with pytest.raises(InputError, match="a directory of 4096 bytes with a block at byte 4096"):
        list(filesystem.entries(node_of(filesystem, b"folder")))
    change_inode(image, b"folder", (56, ((1 << 34) - 4096).to_bytes(8, "big")))
    filesystem = open_image(image)
    with pytest.raises(InputError, match="a directory of 17179865088 bytes, the limit is"):
        filesystem.lookup(node_of(filesystem, b"folder"), b"absent")


@pytest.mark.parametrize(
    "edits", [[(76, bytes(4))], [(56, (8192).to_bytes(8, "big"))], [(56, bytes(8)), (76, bytes(4))]]
)
def test_directory_whose_blocks_end_before_its_size_is_refused_and_not_empty(
    edits: list[tuple[int, bytes]], image: Path
) -> None:
    change_inode(image, b"folder", *edits)
    filesystem = open_image(image)
    folder = node_of(filesystem, b"folder")
    for read in (lambda: list(filesystem.entries(folder)), lambda: filesystem.lookup(folder, b"absent")):
        with pytest.raises(InputError, match=r"its last block ends at byte|magic b'XDB3'"):
            read()


def _lies() -> dict[str, Callable[[bytearray], None]]:
    def at_entry(offset: int, new: bytes) -> Callable[[bytearray], None]:
        def edit(data: bytearray) -> None:
            at = _entry(data, b"folder-7") + offset
            data[at : at + len(new)] = new

        return edit

    return {
        "names b''": at_entry(8, b"\0"),
        "does not end|names|free space|after the last": at_entry(8, b"\xff"),
        r"names b'fol\\x00": at_entry(12, b"\0"),
        "names b'fol/": at_entry(12, b"/"),
        "free space at byte .* has 0 bytes": at_entry(0, b"\xff\xff\0\0"),
        "free space at byte .* has 65528 bytes": at_entry(0, b"\xff\xff\xff\xf8"),
        "does not end 24 bytes further": at_entry(22, b"\0\1"),
        "an index of 4294967295 entries": lambda data: data.__setitem__(slice(-8, -4), b"\xff" * 4),
        "magic b'XDD2'": lambda data: data.__setitem__(slice(0, 4), b"XDD2"),
    }


@pytest.mark.parametrize("message", _lies())
def test_hostile_directory_block_is_refused(message: str, image: Path) -> None:
    _change_folder(image, _lies()[message])
    filesystem = open_image(image)
    with pytest.raises(InputError, match=message):
        list(filesystem.entries(node_of(filesystem, b"folder")))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([(56, (400).to_bytes(8, "big"))], "400 bytes in a fork of"),
        ([(56, (3).to_bytes(8, "big"))], "3 bytes in a fork of"),
        ([(176, b"\xff")], "the entry at byte"),
        ([(176, b"\0")], "bytes after the last entry"),
        ([(177, b"\1")], "the entry at byte|after the last entry"),
        ([(182, b"\xff")], "the entry at byte"),
        ([(182, b"\0")], "the entry at byte"),
        ([(186, b"/")], "the entry at byte"),
    ],
)
def test_hostile_directory_in_the_inode_is_refused(
    edits: list[tuple[int, bytes]], message: str, image: Path
) -> None:
    change_inode(image, b"little", *edits)
    filesystem = open_image(image)
    with pytest.raises(InputError, match=message):
        list(filesystem.entries(node_of(filesystem, b"little")))


@pytest.mark.parametrize("size", [0, 1025, (1 << 63) - 1])
def test_symlink_of_a_size_that_no_kernel_makes_is_refused(size: int, image: Path) -> None:
    change_inode(image, b"link", (56, size.to_bytes(8, "big")))
    filesystem = open_image(image)
    with pytest.raises(InputError, match=f"a symlink of {size} bytes"):
        filesystem.readlink(node_of(filesystem, b"link"))


def test_symlink_longer_than_its_inode_or_with_a_nul_is_refused(image: Path) -> None:
    change_inode(image, b"link", (56, (600).to_bytes(8, "big")))
    filesystem = open_image(image)
    with pytest.raises(InputError, match="a symlink of 600 bytes with a target of"):
        filesystem.readlink(node_of(filesystem, b"link"))
    change_inode(image, b"link", (56, (15).to_bytes(8, "big")), (180, b"\0"))
    with pytest.raises(InputError, match="a symlink of 15 bytes"):
        open_image(image).readlink(node_of(filesystem, b"link"))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([(0, b"XX")], "the magic is"),
        ([(2, b"\0\0")], "not in use"),
        ([(16, bytes(4))], "not in use"),
        ([(4, b"\2")], "version 2 in a filesystem of version 5"),
        ([(5, b"\0")], "of format 0"),
        ([(5, b"\1")], "of format 1"),
        ([(56, b"\xff" * 8)], "18446744073709551615 bytes"),
        ([(82, b"\xff")], "attributes at 2216"),
        ([(159, b"\xee")], "it says that it is inode"),
        ([(160, b"\xee" * 16)], "it says that it is inode"),
    ],
)
def test_hostile_inode_is_refused(edits: list[tuple[int, bytes]], message: str, image: Path) -> None:
    change_inode(image, b"file", *edits)
    filesystem = open_image(image)
    with pytest.raises(InputError, match=message):
        filesystem.read(node_of(filesystem, b"file"), 1 << 63)


def test_giant_file_of_holes_is_refused_by_its_limit_and_read_in_pieces(image: Path) -> None:
    change_inode(image, b"file", (56, ((1 << 63) - 1).to_bytes(8, "big")), (76, bytes(4)))
    filesystem = open_image(image)
    node = node_of(filesystem, b"file")
    with pytest.raises(InputError, match="the limit is"):
        filesystem.read(node, 1 << 40)
    assert next(filesystem.chunks(node)) == bytes(layout.MAX_CHUNK_BYTES)
