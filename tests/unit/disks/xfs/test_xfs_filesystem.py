"""What an open XFS filesystem refuses, and how it says so."""

import shutil
from pathlib import Path

import pytest
import xfsimages
from xfschanges import (
    BLOCK,
    SIZE,
    change,
    change_superblock,
    flip,
    head,
    node_of,
    place_of,
    read_everything,
)
from xfsimages import open_image

from undercroft.disks import xfs
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource
from undercroft.disks.xfs import layout
from undercroft.disks.xfs import superblock as superblocks
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")


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
    flip(image, _places(image)[place])
    with pytest.raises(InputError, match=message):
        read_everything(image)


def test_same_flips_in_version_4_are_not_seen(image_v4: Path) -> None:
    """Control: it is the checksum that finds them."""
    before = read_everything(image_v4)
    for place in _places(image_v4).values():
        flip(image_v4, place)
    assert read_everything(image_v4) != before


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
    before = read_everything(image)
    flip(image, 90)
    filesystem = open_image(image)
    assert filesystem.notes[0].startswith(
        "superblock of allocation group 1 used: xfs superblock: its checksum"
    )
    assert read_everything(image) == before


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
