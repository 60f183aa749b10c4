"""The squashfs reader against mksquashfs: every file of every tree equal, with each compression."""

import hashlib
import os
from pathlib import Path

import extimages
import pytest
from diskimages import opened, run
from extimages import View, differences

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.squashfs import Squashfs, open_filesystem
from undercroft.errors import InputError, UnsupportedError

FEATURES = (
    "-comp gzip",
    "-comp xz",
    "-comp zstd",
    "-comp gzip -b 4096",
    "-comp zstd -b 1048576",
    "-comp gzip -noI -noD -noF",
    "-comp gzip -no-fragments",
    "-comp zstd -always-use-fragments -b 16384",
    "-comp xz -no-duplicates -b 8192 -Xbcj x86",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = extimages.make_tree(tmp_path_factory.mktemp("source") / "tree")
    os.utime(root / "size-59", (1, 1))  # times before 1970 are none in this format
    (root / "crowd").mkdir()
    for number in range(1500):
        (root / "crowd" / f"name-{number:05}").write_bytes(b"%d" % number)
    return root


@pytest.fixture(scope="module")
def tree_view(tree: Path) -> View:
    return extimages.see_tree(tree)


def make(tree: Path, image: Path, options: str) -> Path:
    run("mksquashfs", tree, image, "-quiet", "-no-progress", "-processors", "1", *options.split())
    return image


@pytest.mark.parametrize("options", FEATURES)
def test_every_file_equals_the_tree_that_mksquashfs_was_given(
    options: str, tree: Path, tree_view: View, tmp_path: Path
) -> None:
    with opened(make(tree, tmp_path / "image", options)) as source:
        content = detect(source)
        assert content.kind == "squashfs"
        filesystem = formats.open_filesystem(content, source)
        assert isinstance(filesystem, Squashfs)
        assert differences(extimages.see_image(filesystem), tree_view) == []  # type: ignore[arg-type] # the same protocol


@pytest.mark.parametrize("kind", ["lzo", "lz4", "lzma"])
def test_other_compressions_are_named(kind: str, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(b"x")
    with (
        opened(make(tmp_path / "tree", tmp_path / "image", f"-comp {kind}")) as source,
        pytest.raises(UnsupportedError, match=f"the compression {kind} is not supported"),
    ):
        open_filesystem(source)


def test_a_large_file_is_read_from_any_place(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(60_000)) + bytes(700_000)
    (tmp_path / "tree" / "large").write_bytes(content)
    with opened(make(tmp_path / "tree", tmp_path / "image", "-comp gzip -b 65536")) as source:
        filesystem = open_filesystem(source)
        node = filesystem.lookup(filesystem.root, b"large")
        assert node is not None
        for start in (0, 1, 65_535, 65_536, 1_000_001, len(content) - 1, len(content), len(content) + 9):
            assert b"".join(filesystem.chunks(node, start)) == content[start:]
        with pytest.raises(InputError, match="the limit is 10"):
            filesystem.read(node, 10)
