"""The UFS reader against makefs: every file of every tree equal; and against GRUB's reader of these images.

Neither this host's kernel nor that of libguestfs knows UFS, so GRUB's is the second reader.
"""

import os
import shutil
from pathlib import Path

import extimages
import pytest
import ufsimages
from diskimages import opened, run
from extimages import View, differences

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.source import BytesSource
from undercroft.disks.ufs import open_filesystem

pytestmark = pytest.mark.skipif(bool(ufsimages.missing()), reason=ufsimages.missing() or "-")

FEATURES = (
    "version=1",
    pytest.param("version=1,bsize=4096,fsize=512", marks=pytest.mark.soak),
    "version=1,bsize=65536,fsize=8192",
    "version=2",
    "version=2,bsize=4096,fsize=512",
    "version=2,bsize=32768,fsize=4096",
    pytest.param("version=2,bsize=65536,fsize=8192", marks=pytest.mark.soak),
    pytest.param("version=2,bsize=16384,fsize=2048,density=2048", marks=pytest.mark.soak),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = extimages.make_tree(tmp_path_factory.mktemp("source") / "tree")
    (root / "link-1000").unlink()  # FreeBSD's limit
    (root / "long-link").symlink_to("x" * 200)
    for length in (119, 120, 121):
        (root / f"link-{length}").symlink_to("y" * length)
    return root


@pytest.fixture(scope="module")
def tree_view(tree: Path) -> View:
    return extimages.see_tree(tree)


@pytest.mark.parametrize("options", FEATURES)
def test_every_file_equals_the_tree_that_makefs_was_given(
    options: str, tree: Path, tree_view: View, tmp_path: Path
) -> None:
    with opened(ufsimages.make(tree, tmp_path / "image", options)) as source:
        content = detect(source)
        assert content.kind == "ufs"
        filesystem = formats.open_filesystem(content, source)
        assert filesystem.content == f"ufs{options[8]}"
        assert differences(extimages.see_image(filesystem), tree_view) == []  # type: ignore[arg-type] # the same protocol


@pytest.mark.parametrize("options", ["version=1", "version=2"])
def test_label_and_uuid_are_those_that_blkid_prints(options: str, tree: Path, tmp_path: Path) -> None:
    image = ufsimages.make(tree, tmp_path / "image", options)
    image.write_bytes(ufsimages.marked(image.read_bytes(), label=b"rootfs"))
    lines = run("blkid", "-p", "-o", "export", image).splitlines()
    known = dict(line.partition("=")[::2] for line in lines)
    with opened(image) as source:
        content, filesystem = detect(source), open_filesystem(source)
    assert content.uuid == filesystem.uuid == known["UUID"]
    assert content.label == filesystem.label == "rootfs"
    assert known.get("LABEL", "rootfs") == "rootfs", "it gives one for UFS2 alone"


@pytest.mark.parametrize("options", ["version=1", "version=2"])
def test_grubs_own_reader_gives_the_same(options: str, tree: Path, tmp_path: Path) -> None:
    if shutil.which("grub-fstest") is None:
        pytest.skip("needs grub-fstest (grub-common)")
    image = ufsimages.make(tree, tmp_path / "image", options)
    with opened(image) as source:
        filesystem = open_filesystem(source)
        for name in ("large", "sparse", "size-4097", "level-0/level-1/level-2/leaf", "hard"):
            out = tmp_path / "out"
            run("grub-fstest", image, "cp", f"(loop0)/{name}", out)
            assert filesystem.read(node_of(filesystem, name), 8 << 20) == out.read_bytes()
        listed = run("grub-fstest", image, "ls", "(loop0)/many/").split()
        names = [name for name, _, _ in filesystem.entries(node_of(filesystem, "many"))]
        assert sorted(listed) == sorted(map(os.fsdecode, names))


def node_of(filesystem: FileSystem, path: str) -> int:
    node: int | None = filesystem.root
    for name in path.encode().split(b"/"):
        assert node is not None
        node = filesystem.lookup(node, name)
    assert node is not None
    return node


def test_a_ufs2_as_newfs_lays_it_out_is_read_with_its_check_hashes(
    tree: Path, tree_view: View, tmp_path: Path
) -> None:
    made = ufsimages.make(tree, tmp_path / "image", "version=2,bsize=65536,fsize=8192").read_bytes()
    image = ufsimages.hashed(ufsimages.as_newfs(made), ufsimages.NEW_PLACE)
    filesystem = open_filesystem(BytesSource(image))
    assert detect(BytesSource(image)).kind == "ufs"
    assert differences(extimages.see_image(filesystem), tree_view) == []  # type: ignore[arg-type] # the same protocol
    if shutil.which("grub-fstest"):
        moved = tmp_path / "moved"
        moved.write_bytes(image)
        assert "large" in run("grub-fstest", moved, "ls", "(loop0)/").split(), "GRUB finds it there too"


def test_a_large_file_is_read_from_any_place(tree: Path, tmp_path: Path) -> None:
    with opened(ufsimages.make(tree, tmp_path / "image", "version=2,bsize=4096,fsize=512")) as source:
        filesystem = open_filesystem(source)
        for name in ("large", "sparse"):
            content = (tree / name).read_bytes()
            node = node_of(filesystem, name)
            size = len(content)
            for start in (0, 1, 4095, 4096, 49_151, 49_152, 1_000_001, size - 1, size, size + 9):
                assert b"".join(filesystem.chunks(node, start)) == content[start:]
