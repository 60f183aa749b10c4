"""Directories, symlinks and inodes of XFS, as a guest writes them to mislead: read or refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import xfsimages
from xfschanges import (
    change,
    change_inode,
    extent,
    first_block,
    node_of,
)
from xfsimages import open_image

from undercroft.disks.tree import GuestTree
from undercroft.disks.xfs import layout
from undercroft.errors import InputError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")


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


def test_names_without_regard_to_case_are_folded_as_the_kernel_folds_them(tmp_path: Path) -> None:
    """By ISO 8859-1, whatever the names mean: xfs_ascii_ci_xfrm."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("Plain", "\u00c9", "\u05d7"):  # in UTF-8 c3 89 and d7 97
        (source / name).write_text("x")
    filesystem = open_image(xfsimages.make_from(source, tmp_path / "folded", "-n", "version=ci"))
    found = {name: filesystem.lookup(filesystem.root, name) for name in (b"pLAIN", b"\xe3\x89", b"\xf7\x97")}
    assert [bool(node) for node in found.values()] == [True, True, False]
