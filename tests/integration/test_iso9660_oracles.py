"""The reader of ISO 9660 against its makers, the kernel and blkid: every file of every tree equal."""

import os
import shutil
from pathlib import Path

import extimages
import pytest
from diskimages import opened, run
from extimages import differences
from isoimages import MAKERS, XORRISO, make_small_tree, make_tree, read

from undercroft.disks import formats
from undercroft.disks.detect import detect

FILESYSTEMS = Path("/proc/filesystems").read_text(encoding="ascii").split()
pytestmark = [
    pytest.mark.skipif(not shutil.which("xorriso"), reason="needs xorriso"),
    pytest.mark.skipif(not shutil.which("genisoimage"), reason="needs genisoimage"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small_tree(tmp_path_factory.mktemp("source") / "small")


@pytest.mark.parametrize("kind", [kind for kind, command in MAKERS.items() if "-R" in command])
def test_with_rock_ridge_every_file_equals_the_tree_that_the_image_was_made_of(
    kind: str, tree: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image.iso"
    long = tree / "link-800"
    if kind != "deep-moved":  # genisoimage hangs with such a link
        long.symlink_to("/some folder/" + "../" * 70 + "x" * 240 + "/./" + "y" * 250)
    run(*MAKERS[kind], "-o", image, tree)
    found, expected = read(image), extimages.see_tree(tree)
    long.unlink(missing_ok=True)
    if "moved" in kind:
        assert found.pop("rr_moved").size == 0  # as the kernel shows it, empty
    assert differences(found, expected) == []


@pytest.mark.parametrize("kind", [kind for kind, command in MAKERS.items() if "-R" not in command])
def test_without_rock_ridge_contents_lie_under_the_names_that_are_left(
    kind: str, small_tree: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image.iso"
    run(*MAKERS[kind], "-o", image, small_tree)
    found = {path: (seen.mode, seen.mtime, seen.content) for path, seen in read(image).items()}
    expected = {}
    for path, seen in extimages.see_tree(small_tree).items():
        mode = seen.mode & ~0o7777 | 0o555
        name = path.replace("ünï", "__n__") if kind == "plain" else path
        expected[name] = (mode, seen.mtime, seen.content)
    assert found == expected


@pytest.mark.skipif("iso9660" not in FILESYSTEMS, reason="the kernel here has no ISO 9660")
@pytest.mark.skipif(bool(extimages.mounting_problem()), reason=extimages.mounting_problem())
@pytest.mark.parametrize("kind", MAKERS)
def test_every_file_equals_what_the_kernel_shows(
    kind: str, tree: Path, small_tree: Path, tmp_path: Path
) -> None:
    image = tmp_path / "image.iso"
    run(*MAKERS[kind], "-o", image, tree if "-R" in MAKERS[kind] else small_tree)
    assert differences(read(image), extimages.see_mounted(image, "ro,iocharset=utf8")) == []


def test_a_large_file_is_read_from_any_place(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    content = os.urandom(3_000_001)
    (tmp_path / "tree" / "large").write_bytes(content)
    run(*XORRISO, "-R", "-o", tmp_path / "image", tmp_path / "tree")
    with opened(tmp_path / "image") as source:
        filesystem = formats.open_filesystem(detect(source), source)
        node = filesystem.lookup(filesystem.root, b"large")
        assert node is not None
        for start in (0, 1, 2047, 2048, 1_000_001, len(content) - 1, len(content), len(content) + 9):
            assert b"".join(filesystem.chunks(node, start)) == content[start:]
