"""What an open filesystem refuses, and how it says so."""

import os
import random
from pathlib import Path

import pytest
from extimages import make, open_image, run

from undercroft.disks import ext4
from undercroft.disks.ext4 import layout
from undercroft.disks.filesystem import FileKind
from undercroft.disks.source import BytesSource, DescriptorSource
from undercroft.errors import InputError, UnsupportedError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "folder").mkdir(parents=True)
    (folder / "folder" / "inner").write_text("inner")
    (folder / "file").write_bytes(random.Random(1).randbytes(300_000))
    (folder / "link").symlink_to("folder/inner")
    with (folder / "scattered").open("wb") as file:
        for number in range(20):
            file.seek(number * 16384)
            file.write(b"scattered")
    return folder


@pytest.fixture
def image(source: Path, tmp_path: Path) -> Path:
    return make(tmp_path / "image", "-t", "ext4", "-b", "1024", tree=source)


def _node(filesystem: ext4.Ext4, name: bytes) -> int:
    node = filesystem.lookup(filesystem.root, name)
    assert node is not None
    return node


def _damage(image: Path, offset: int) -> None:
    content = bytearray(image.read_bytes())
    content[offset] ^= 0x10
    image.write_bytes(content)


def _block_of(image: Path, path: str) -> int:
    return int(run("debugfs", "-R", f"blocks {path}", image).split()[0])


def test_magic_tells_an_ext_filesystem(image: Path) -> None:
    assert ext4.is_ext(BytesSource(image.read_bytes()))
    assert not ext4.is_ext(BytesSource(bytes(1 << 20)))
    assert not ext4.is_ext(BytesSource(b"short"))
    with pytest.raises(InputError, match="magic"):
        ext4.open_filesystem(BytesSource(bytes(1 << 20)))


def test_methods_refuse_the_wrong_kind_of_file(image: Path) -> None:
    filesystem = open_image(image)
    file, folder, link = (_node(filesystem, name) for name in (b"file", b"folder", b"link"))
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


@pytest.mark.parametrize("behind", [0, 1, 5_000])
def test_nothing_lies_behind_the_end_of_a_file(image: Path, behind: int) -> None:
    filesystem = open_image(image)
    assert list(filesystem.chunks(_node(filesystem, b"file"), 300_000 + behind)) == []


def test_numbers_out_of_range_and_unused_inodes_are_refused(image: Path) -> None:
    filesystem = open_image(image)
    for node in (-1, 0, 1 << 40):
        with pytest.raises(InputError, match="the filesystem has 1 to"):
            filesystem.stat(node)
    with pytest.raises(InputError, match="not in use"):
        filesystem.stat(2000)


def test_file_over_the_limit_is_refused_before_it_is_read(image: Path) -> None:
    filesystem = open_image(image)
    node = _node(filesystem, b"file")
    assert len(filesystem.read(node, 300_000)) == 300_000
    with pytest.raises(InputError, match="300000 bytes, the limit is 299999"):
        filesystem.read(node, 299_999)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("directory", r"inode \d+: directory block 0: its checksum"),
        ("extents", r"inode \d+: extent tree: the checksum of block \d+"),
        ("inode", r"inode \d+: its checksum"),
        ("group", r"group 0: descriptor: its checksum"),
    ],
)
def test_flipped_bit_in_metadata_is_found_and_named(place: str, message: str, image: Path) -> None:
    filesystem = open_image(image)
    node = _node(filesystem, b"scattered")
    table = filesystem._inodes._groups.inode_table(0) * 1024
    child = layout.EXTENT_INDEX.unpack_from(filesystem._inodes.get(node).block, 12)[1]
    offsets = {
        "directory": _block_of(image, "/folder") * 1024 + 30,
        "extents": child * 1024 + 20,
        "inode": table + (node - 1) * 256 + 17,
        "group": 2048 + 12,
    }
    _damage(image, offsets[place])
    with pytest.raises(InputError, match=message):
        _read_everything(image)


def _read_everything(image: Path) -> None:
    filesystem = open_image(image)
    list(filesystem.entries(_node(filesystem, b"folder")))
    filesystem.read(_node(filesystem, b"scattered"), 1 << 20)


def test_same_flips_without_checksums_are_not_seen(source: Path, tmp_path: Path) -> None:
    """Control: it is the checksum that finds them."""
    image = make(tmp_path / "plain", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", tree=source)
    content = bytearray(image.read_bytes())
    place = content.index(b"inner", _block_of(image, "/folder") * 1024)
    content[place] ^= 0x10
    image.write_bytes(content)
    filesystem = open_image(image)
    assert [name for name, _, _ in filesystem.entries(_node(filesystem, b"folder"))] == [b"ynner"]


def test_encrypted_content_is_unsupported_with_its_inode(image: Path) -> None:
    script = "".join(
        f"sif /{name} flags 0x{flags:x}\n" for name, flags in [("file", 0x80800), ("folder", 0x80800)]
    )
    run("debugfs", "-w", "-f", "-", image, stdin=script)
    filesystem = open_image(image)
    file, folder = _node(filesystem, b"file"), _node(filesystem, b"folder")
    assert filesystem.stat(file).size_bytes == 300_000
    for read in (lambda: filesystem.read(file, 1 << 20), lambda: list(filesystem.entries(folder))):
        with pytest.raises(UnsupportedError, match=r"inode \d+: encrypted"):
            read()
    with pytest.raises(UnsupportedError, match="encrypted"):
        filesystem.lookup(folder, b"inner")


def test_case_insensitive_directory_finds_other_spellings(tmp_path: Path) -> None:
    (tmp_path / "source" / "folder").mkdir(parents=True)
    (tmp_path / "source" / "folder" / "Straße").touch()
    image = make(tmp_path / "image", "-t", "ext4", "-O", "casefold", tree=tmp_path / "source")
    assert open_image(image).lookup(_node(open_image(image), b"folder"), b"STRASSE") is None
    run("debugfs", "-w", "-R", "sif /folder flags 0x40080000", image)
    filesystem = open_image(image)
    folder = _node(filesystem, b"folder")
    assert filesystem.lookup(folder, "Straße".encode()) == filesystem.lookup(folder, b"STRASSE")
    assert filesystem.lookup(folder, b"STRASSE") is not None
    assert filesystem.lookup(folder, b"absent") is None


def test_volume_shorter_than_its_filesystem_is_a_problem(image: Path) -> None:
    content = image.read_bytes()
    filesystem = ext4.open_filesystem(BytesSource(content[: len(content) // 2]))
    assert "its volume only" in filesystem.problems[0]
    assert filesystem.lookup(filesystem.root, b"file") is not None


def test_filesystem_that_its_kernel_marked_broken_carries_a_note(image: Path) -> None:
    run("debugfs", "-w", "-R", "ssv state 3", image)
    assert "marked the filesystem as having errors" in open_image(image).notes[0]


def test_opening_reads_little_whatever_the_size(tmp_path: Path) -> None:
    image = make(tmp_path / "huge", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", size="2T")
    source = CountingSource(image)
    filesystem = ext4.open_filesystem(source)
    assert [name for name, _, _ in filesystem.entries(filesystem.root)] == [b"lost+found"]
    assert source.read_bytes < 100_000
    os.close(source.descriptor)


class CountingSource(DescriptorSource):
    def __init__(self, image: Path) -> None:
        self.descriptor = os.open(image, os.O_RDONLY)
        super().__init__(self.descriptor, image.stat().st_size)
        self.read_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read(offset, length)
