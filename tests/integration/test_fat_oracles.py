"""The FAT reader against what mtools wrote, and against GRUB's reader of the same images."""

import hashlib
import shutil
from pathlib import Path

import pytest
from diskimages import MIB, make_raw, opened, run
from filetrees import contents_whatever_case

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.fat import open_filesystem
from undercroft.disks.filesystem import FileSystem

FEATURES = (
    ("-F", "12", "-s", "1", "1440K"),
    ("-F", "12", "-s", "8", "12M"),
    ("-F", "16", "-s", "4", "24M"),
    ("-F", "16", "-s", "1", "-S", "1024", "24M"),
    ("-F", "32", "-s", "2", "80M"),
    ("-F", "32", "-s", "8", "-f", "1", "-n", "DATEN", "300M"),
)
NAMES = (
    "a",
    "UPPER.TXT",
    "Mixed Case.text",
    "x" * 13,
    "y" * 26,
    "z" * 195,
    "n" * 200,
    "m" * 255,
    ".dot",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "tree"
    (root / "Folder/inner/deep").mkdir(parents=True)
    (root / "many").mkdir()
    for number in range(150):
        (root / "many" / f"a file of that number: {number}".replace(":", "")).write_bytes(b"%d" % number)
    for name in NAMES:
        (root / name).write_bytes(name.encode() * 40)
    for number, size in enumerate((0, 1, 511, 512, 513, 4096, 70_000, 400_000)):
        content = b"".join(hashlib.sha256(b"%d %d" % (number, at)).digest() for at in range(size // 32 + 1))
        (root / "Folder/inner/deep" / f"size-{size}").write_bytes(content[:size])
    return root


def make(image: Path, options: tuple[str, ...]) -> Path:
    size = options[-1]
    make_raw(image, int(size[:-1]) << (10 if size.endswith("K") else 20))
    run("mkfs.vfat", *options[:-1], image)
    return image


def fill(image: Path, tree: Path) -> Path:
    """Copy the tree with gaps between its clusters, and remove what lay in them."""
    for number in range(20):
        run("mcopy", "-i", image, tree / "many" / f"a file of that number {number}", f"::/gap{number}")
    for number in range(0, 20, 2):
        run("mdel", "-i", image, f"::/gap{number}")
    run("mcopy", "-s", "-i", image, *sorted(tree.iterdir()), "::/")
    run("mdel", "-i", image, *(f"::/gap{number}" for number in range(1, 20, 2)))
    return image


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
    }


def seen(filesystem: FileSystem) -> dict[str, str]:
    return contents_whatever_case(filesystem, str.upper)


@pytest.mark.parametrize("options", FEATURES, ids=" ".join)
def test_every_file_equals_what_mtools_was_given(
    options: tuple[str, ...], tree: Path, tmp_path: Path
) -> None:
    image = fill(make(tmp_path / "image", options), tree)
    with opened(image) as source:
        content = detect(source)
        filesystem = formats.open_filesystem(content, source)
        assert (content.kind, filesystem.content, getattr(filesystem, "problems", None)) == (
            "vfat",
            "vfat",
            (),
        )
        assert seen(filesystem) == contents(tree)
        assert filesystem.label == content.label == ("DATEN" if "-n" in options else "")
    uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", image).strip().lower()
    assert content.uuid == filesystem.uuid == uuid


@pytest.mark.parametrize("options", [FEATURES[1], FEATURES[4]], ids=" ".join)
def test_grubs_own_reader_gives_the_same(options: tuple[str, ...], tree: Path, tmp_path: Path) -> None:
    if shutil.which("grub-fstest") is None:
        pytest.skip("needs grub-fstest (grub-common)")
    image = fill(make(tmp_path / "image", options), tree)
    names = ("Folder/inner/deep/size-400000", "Folder/inner/deep/size-513", "n" * 200, "UPPER.TXT")
    with opened(image) as source:
        ours = seen(open_filesystem(source))
        for name in names:
            run("grub-fstest", image, "cp", f"(loop0)/{name}", tmp_path / "out")
            assert ours[name] == hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest()


def test_a_large_file_is_read_from_any_place(tree: Path, tmp_path: Path) -> None:
    image = fill(make(tmp_path / "image", FEATURES[2]), tree)
    content = (tree / "Folder/inner/deep/size-400000").read_bytes()
    with opened(image) as source:
        filesystem = open_filesystem(source)
        node: int | None = filesystem.root
        for name in (b"folder", b"INNER", b"Deep", b"SIZE-400000"):
            assert node is not None
            node = filesystem.lookup(node, name)
        assert node is not None
        for start in (0, 1, 2047, 2048, 70_000, 399_999, 400_000, 400_009):
            assert b"".join(filesystem.chunks(node, start)) == content[start:]
        assert filesystem.stat(node).size_bytes < MIB
