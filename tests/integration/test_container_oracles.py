"""Images of VMware, Hyper-V and VirtualBox read as `qemu-img convert` reads them, byte for byte."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import containerimages
import diskimages
import pytest
from containerimages import QEMU_IMAGES, set_vmdk_cid
from diskimages import MIB, assert_reads_as, opened

from undercroft.disks.images import Beside, inspect, open_image
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat

SIZE_BYTES = 6 * MIB + 3 * 512


@contextmanager
def disk_of(image: Path, kind: str, backing: BlockSource | None = None) -> Iterator[BlockSource]:
    """Open an image with the extents that it names beside it."""
    image_format = DiskFormat(QEMU_IMAGES[kind][0])
    with ExitStack() as stack:
        source = stack.enter_context(opened(image))
        names = inspect(image_format, source).extents
        extents = [stack.enter_context(opened(image.parent / name)) for name in names]
        yield open_image(image_format, source, Beside(backing=backing, extents=extents))


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diskimages.make_varied_raw(tmp_path_factory.mktemp("raw") / "varied.raw", SIZE_BYTES)


def converted(image: Path, kind: str, raw: Path) -> bytes:
    """Return the disk as qemu-img reads it."""
    diskimages.run("qemu-img", "convert", "-f", QEMU_IMAGES[kind][0], "-O", "raw", image, raw)
    return raw.read_bytes()


@pytest.mark.parametrize("kind", QEMU_IMAGES)
def test_an_image_reads_as_qemu_img_converts_it(kind: str, raw: Path, tmp_path: Path) -> None:
    image = containerimages.make(kind, raw, tmp_path / f"image.{containerimages.suffix(kind)}")
    expected = converted(image, kind, tmp_path / "expected.raw")
    assert expected[:SIZE_BYTES] == raw.read_bytes()
    with disk_of(image, kind) as disk:
        assert_reads_as(disk, expected)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind in {"vmdk", "vhdx"} else pytest.mark.soak)
        for kind in QEMU_IMAGES
        if "stream" not in kind
    ],
)
def test_writes_and_zeros_of_all_sizes_read_as_qemu_img_converts_them(kind: str, tmp_path: Path) -> None:
    image_format, options = QEMU_IMAGES[kind]
    image = tmp_path / f"image.{containerimages.suffix(kind)}"
    chosen = ["-o", ",".join(f"{key}={value}" for key, value in options.items())] if options else []
    diskimages.run("qemu-img", "create", "-q", "-f", image_format, *chosen, image, "14M")
    random, commands = Random(kind), []
    for number in range(60):
        offset = random.randrange(12 * MIB // 512) * 512
        length = random.choice((512, 4096, 66_048, 262_144, MIB))
        verb = "write -z" if random.random() < 0.2 else f"write -P {number + 1}"
        commands += ["-c", f"{verb} {offset} {length}"]
    diskimages.run("qemu-io", "-f", image_format, *commands, image)
    expected = converted(image, kind, tmp_path / "expected.raw")
    with disk_of(image, kind) as disk:
        assert_reads_as(disk, expected)


@pytest.mark.parametrize("kind", ["vmdk", "vmdk-split", "vhd-size", "vhdx", "vdi"])
def test_a_sparse_disk_of_many_gigabytes_reads_as_qemu_img_converts_it(kind: str, tmp_path: Path) -> None:
    image_format, options = QEMU_IMAGES[kind]
    image = tmp_path / f"image.{containerimages.suffix(kind)}"
    chosen = ["-o", ",".join(f"{key}={value}" for key, value in options.items())] if options else []
    size = 5 * 1024 * MIB + 512 * 7
    diskimages.run("qemu-img", "create", "-q", "-f", image_format, *chosen, image, str(size))
    places = {0: 1, 2047 * MIB + 1023 * 1024: 2, 3 * 1024 * MIB - 512: 3, size - 1024: 4}
    commands = [part for at, byte in places.items() for part in ("-c", f"write -P {byte} {at} 1024")]
    diskimages.run("qemu-io", "-f", image_format, *commands, image)
    raw = tmp_path / "expected.raw"
    diskimages.run("qemu-img", "convert", "-f", image_format, "-O", "raw", image, raw)
    with disk_of(image, kind) as disk, raw.open("rb") as expected:
        assert disk.size_bytes == os.path.getsize(raw)
        for at, byte in places.items():
            start = max(0, at - MIB)
            length = min(2 * MIB, disk.size_bytes - start)
            expected.seek(start)
            assert disk.read(start, length) == expected.read(length)
            assert disk.read(at, 1024) == bytes([byte]) * 1024


def test_a_vmdk_overlay_reads_as_qemu_img_converts_it(raw: Path, tmp_path: Path) -> None:
    base = containerimages.make("vmdk", raw, tmp_path / "base.vmdk")
    top = tmp_path / "top.vmdk"
    diskimages.run("qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", top)
    diskimages.run("qemu-io", "-f", "vmdk", "-c", "write -P 9 100k 3000k", "-c", "write -P 8 5M 512", top)
    expected = converted(top, "vmdk", tmp_path / "expected.raw")
    with disk_of(base, "vmdk") as below, disk_of(top, "vmdk", below) as disk, opened(top) as source:
        assert_reads_as(disk, expected)
        info = inspect(DiskFormat.VMDK, source)
        with opened(base) as base_source:
            assert info.parent_ident == inspect(DiskFormat.VMDK, base_source).ident
        assert (info.backing_name, info.backing_format) == (str(base), "vmdk")


LINES = {
    "two": "{a}\n{b}",
    "read-only": 'RDONLY 8 FLAT "a" 0\n{b}',
    "zeros before": "RW 8 ZERO\n{b}",
    "zeros with a name": 'RW 8 ZERO "" 0\n{b}',
    "another white space before": "\v{a}\n{b}",
    "another white space within": 'RW\f8 FLAT "a" 0\n{b}',
    "on two lines": 'RW\n8 FLAT "a" 0\n{b}',
    "a sign": 'RW +8 FLAT "a" 0\n{b}',
    "something behind it": "{a} more\n{b}",
    "a line end within": "{b}\r\r{a}",
    "a comment": "#{a}\n{b}",
    "in lower case": 'rw 8 FLAT "a" 0\n{b}',
    "as of VMFS": 'RW 8 VMFS "a"\n{b}',
    "far apart": 'RW \t  8   FLAT   "a" 0\n{b}',
}


@pytest.mark.parametrize("case", LINES)
def test_a_descriptor_gives_the_disk_that_qemu_gives_or_none(case: str, tmp_path: Path) -> None:
    """Who hands in an image chooses its lines: what is judged must be what QEMU would start."""
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() * 8 * 512)
    head = '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="twoGbMaxExtentFlat"\n'
    lines = LINES[case].format(a='RW 8 FLAT "a" 0', b='RW 8 FLAT "b" 0')
    image = tmp_path / "image.vmdk"
    image.write_text(f"{head}{lines}\n", newline="")
    expected = converted(image, "vmdk-flat", tmp_path / "expected.raw")
    try:
        with disk_of(image, "vmdk-flat") as disk:
            found = disk.read(0, disk.size_bytes)
    except InputError:
        assert case not in {"two", "a comment", "in lower case", "as of VMFS", "far apart"}
    else:
        assert found == expected


HINTS = {
    "no parent's number": b'parentFileNameHint="base.vmdk"',
    "a comment": b'# parentFileNameHint="base.vmdk"',
    "in a word": b'xparentFileNameHint="base.vmdk"',
    "twice": b'#parentFileNameHint="base.vmdk"\nparentFileNameHint=""',
    "elsewhere": b"",
}


@pytest.mark.parametrize("case", HINTS)
def test_a_parent_that_qemu_would_read_is_never_taken_for_zeros(case: str, tmp_path: Path) -> None:
    """QEMU looks for the word, at the second sector, whatever parentCID and the header say."""
    diskimages.run("qemu-img", "create", "-q", "-f", "vmdk", tmp_path / "base.vmdk", "1M")
    diskimages.run("qemu-io", "-f", "vmdk", "-c", "write -P 0x41 0 64k", tmp_path / "base.vmdk")
    set_vmdk_cid(tmp_path / "base.vmdk", b"ffffffff")
    image = tmp_path / "image.vmdk"
    option = ("-b", "base.vmdk", "-F", "vmdk")
    diskimages.run("qemu-img", "create", "-q", "-f", "vmdk", *option, image)
    data = bytearray(image.read_bytes())
    text = bytes(data[512 : data.index(0, 512)])
    if case == "elsewhere":
        place = -(-len(data) // 512)
        data += text.replace(b'parentFileNameHint="base.vmdk"\n', b"").ljust(10240, b"\0")
        data[28:36] = place.to_bytes(8, "little")
    else:
        text = text.replace(b'parentFileNameHint="base.vmdk"', HINTS[case])
        data[512 : 512 + len(text)] = text
    image.write_bytes(data)
    assert converted(image, "vmdk", tmp_path / "expected.raw")[:4] == b"AAAA"
    with pytest.raises(InputError, match=r"parent|where it belongs"), disk_of(image, "vmdk"):
        pass


def test_a_vdi_with_bytes_before_its_blocks_is_refused_since_qemu_reads_others(
    raw: Path, tmp_path: Path
) -> None:
    image = containerimages.make("vdi", raw, tmp_path / "image.vdi")
    data = bytearray(image.read_bytes())
    data[380:384] = (512).to_bytes(4, "little")
    image.write_bytes(data + bytes(MIB))
    assert converted(image, "vdi", tmp_path / "expected.raw")[:SIZE_BYTES] == raw.read_bytes()
    with pytest.raises(InputError, match="512 bytes before each block"), disk_of(image, "vdi"):
        pass


def test_a_stream_with_a_footer_reads_as_qemu_img_converts_it(raw: Path, tmp_path: Path) -> None:
    image = tmp_path / "stream.vmdk"
    image.write_bytes(containerimages.stream_with_footer(raw.read_bytes()))
    expected = converted(image, "vmdk-stream", tmp_path / "expected.raw")
    assert expected == raw.read_bytes()
    with disk_of(image, "vmdk-stream") as disk:
        assert_reads_as(disk, expected)


def test_a_vhdx_whose_log_is_needed_reads_as_qemu_img_repairs_it(tmp_path: Path) -> None:
    image = tmp_path / "image.vhdx"
    diskimages.run("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", image, "48M")
    for number, offset in enumerate(("0", "20M", "40M"), start=1):
        diskimages.run("qemu-io", "-f", "vhdx", "-c", f"write -P {number} {offset} 200k", image)
    assert containerimages.make_log_needed(image)
    with disk_of(image, "vhdx") as disk, opened(image) as source:
        assert "log-replayed" in inspect(DiskFormat.VHDX, source).features
        found = disk.read(0, disk.size_bytes)
    copy = tmp_path / "copy.vhdx"
    copy.write_bytes(image.read_bytes())
    diskimages.run("qemu-img", "check", "-q", "-f", "vhdx", "-r", "all", copy)
    assert found == converted(copy, "vhdx", tmp_path / "expected.raw")
    assert found[40 * MIB] == 3
