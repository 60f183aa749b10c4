"""The reader of ISO 9660 against its makers, the kernel and blkid: every file of every tree equal."""

import os
import shutil
from pathlib import Path

import extimages
import pytest
from diskimages import opened, run
from extimages import View, differences

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.iso9660 import Iso9660

FILESYSTEMS = Path("/proc/filesystems").read_text(encoding="ascii").split()
pytestmark = [
    pytest.mark.skipif(not shutil.which("xorriso"), reason="needs xorriso"),
    pytest.mark.skipif(not shutil.which("genisoimage"), reason="needs genisoimage"),
]

XORRISO = ("xorriso", "-as", "mkisofs", "-quiet")
GENISOIMAGE = ("genisoimage", "-quiet")
MAKERS = {
    "rock-ridge": (*XORRISO, "-R", "-V", "Debian 12 live"),
    "rock-ridge-joliet": (*XORRISO, "-R", "-J", "-joliet-long", "-V", "A_LABEL_THAT_IS_LONGER_THAN_16"),
    "deep-moved": (*GENISOIMAGE, "-R", "-V", "DEEP"),
    "joliet": (*GENISOIMAGE, "-input-charset", "utf-8", "-J", "-joliet-long", "-D", "-V", "Mixed Case Label"),
    "plain": (*GENISOIMAGE, "-iso-level", "1", "-D", "-V", "PLAIN"),
    "plain-4": (*GENISOIMAGE, "-iso-level", "4", "-D", "-V", "four"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Rock Ridge cannot say is left out: a slash at a target's end, a name that Linux cuts off."""
    root = extimages.make_tree(tmp_path_factory.mktemp("source") / "tree")
    for name in ("link-60", "link-1000", f"names/{'x' * 255}"):  # genisoimage writes links of 1,000 wrong
        (root / name).unlink()
    (root / "names" / ("z" * 240)).write_text("long")
    return root


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names that differ within what Joliet and plain names have room for."""
    root = tmp_path_factory.mktemp("source") / "small"
    for number in range(200):
        path = root / f"dir{number % 5}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number * number * 40)
    (root / "wide").mkdir()
    (root / "wide" / "ünï").write_text("wide")
    for path in root.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_001))
    (root / "noext").write_text("x")
    return root


def read(image: Path) -> View:
    with opened(image) as source:
        content = detect(source)
        assert content.kind == "iso9660"
        filesystem = formats.open_filesystem(content, source)
        assert isinstance(filesystem, Iso9660)
        assert filesystem.problems == ()
        probed = [line.replace("\\", "") for line in run("blkid", "-p", "-o", "export", image).splitlines()]
        assert f"LABEL={content.label}" in probed
        assert f"UUID={content.uuid}" in probed
        assert (filesystem.label, filesystem.uuid) == (content.label, content.uuid)
        return extimages.see_image(filesystem)  # type: ignore[arg-type] # the same protocol


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
