"""qcow2 images of every kind read as qemu-img converts them, byte for byte."""

from contextlib import ExitStack
from pathlib import Path
from random import Random

import diskimages
import pytest
from diskimages import MIB, assert_reads_as, opened, read_in_steps

from undercroft.disks import qcow2
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat

SIZE_BYTES = 6 * MIB + 3 * 512

FORMATS: dict[str, tuple[dict[str, str | int], bool]] = {
    "v2": ({"compat": "0.10"}, False),
    "v2, zlib, 512-byte clusters": ({"compat": "0.10", "cluster_size": 512}, True),
    "v3": ({}, False),
    "v3, zlib": ({}, True),
    "v3, zstd": ({"compression_type": "zstd"}, True),
    "v3, zstd, 4k clusters": ({"compression_type": "zstd", "cluster_size": 4096}, True),
    "512-byte clusters": ({"cluster_size": 512}, False),
    "4k clusters": ({"cluster_size": 4096}, False),
    "2M clusters": ({"cluster_size": "2M"}, False),
    "2M clusters, zlib": ({"cluster_size": "2M"}, True),
    "extended L2": ({"extended_l2": "on"}, False),
    "extended L2, 16k clusters": ({"extended_l2": "on", "cluster_size": "16k"}, False),
    "extended L2, zstd": ({"extended_l2": "on", "compression_type": "zstd"}, True),
    "preallocated metadata": ({"preallocation": "metadata"}, False),
    "preallocated whole": ({"preallocation": "full", "cluster_size": 4096}, False),
    "one-bit refcounts": ({"refcount_bits": 1}, False),
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diskimages.make_varied_raw(tmp_path_factory.mktemp("raw") / "varied.raw", SIZE_BYTES)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_reads_as_its_source(kind: str, raw: Path, tmp_path: Path) -> None:
    options, compressed = FORMATS[kind]
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", options, compressed=compressed)
    with opened(image) as source:
        assert_reads_as(qcow2.open_image(source), raw.read_bytes())


@pytest.mark.parametrize("data_file_raw", ["on", "off"])
def test_an_image_with_an_external_data_file_reads_as_its_source(
    data_file_raw: str, raw: Path, tmp_path: Path
) -> None:
    data_file = tmp_path / "clusters.bin"
    options: dict[str, str | int] = {"data_file": str(data_file), "data_file_raw": data_file_raw}
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", options)
    with opened(image) as source, opened(data_file) as data:
        info = qcow2.inspect(source)
        assert (info.has_data_file, info.data_file_name) == (True, str(data_file))
        assert "data-file" in info.features
        assert_reads_as(qcow2.open_image(source, data_file=data), raw.read_bytes())


@pytest.mark.parametrize("options", [{}, {"extended_l2": "on"}, {"cluster_size": 512}], ids=str)
def test_writes_zeros_and_discards_of_all_sizes_read_as_qemu_converts_them(
    options: dict[str, str | int], raw: Path, tmp_path: Path
) -> None:
    base = diskimages.make_qcow2(raw, tmp_path / "base.qcow2")
    image = diskimages.create_qcow2(tmp_path / "image.qcow2", SIZE_BYTES, options, backing=base)
    random, commands = Random(7), []
    for _ in range(60):
        command = random.choice(("write -P 170", "write -P 85", "write -z", "write -z -u", "discard"))
        offset = random.randrange(SIZE_BYTES // 512 - 600) * 512
        commands.append(f"{command} {offset} {random.choice((512, 2048, 4096, 65_536, 300_032))}")
    diskimages.qemu_io(image, *commands)
    expected = diskimages.to_raw(image, tmp_path / "expected.raw").read_bytes()
    with opened(image) as source, opened(base) as base_source:
        assert_reads_as(qcow2.open_image(source, backing=qcow2.open_image(base_source)), expected)


def test_a_chain_of_three_with_different_clusters_and_sizes_reads_as_qemu_converts_it(
    raw: Path, tmp_path: Path
) -> None:
    base = diskimages.make_qcow2(raw, tmp_path / "base.qcow2", {"cluster_size": "2M"}, compressed=True)
    larger = diskimages.create_qcow2(
        tmp_path / "larger.qcow2", SIZE_BYTES + 5 * MIB, {"cluster_size": 4096}, backing=base
    )
    smaller = diskimages.create_qcow2(
        tmp_path / "smaller.qcow2", SIZE_BYTES - MIB, {"extended_l2": "on"}, backing=larger
    )
    diskimages.qemu_io(larger, "write -P 1 1M 10k", f"write -P 2 {SIZE_BYTES + MIB} 64k", "write -z 3M 200k")
    diskimages.qemu_io(smaller, "write -P 3 1030k 2k", "write -P 4 4M 512")
    for top, chain in ((larger, (larger, base)), (smaller, (smaller, larger, base))):
        expected = diskimages.to_raw(top, tmp_path / "expected.raw").read_bytes()
        with ExitStack() as stack:
            disk = None
            for layer in reversed(chain):
                disk = qcow2.open_image(stack.enter_context(opened(layer)), backing=disk)
            assert disk is not None
            assert_reads_as(disk, expected)


def test_an_overlay_of_a_raw_file_reads_zeros_past_the_end_of_its_backing(raw: Path, tmp_path: Path) -> None:
    image = diskimages.create_qcow2(
        tmp_path / "image.qcow2", SIZE_BYTES + MIB, backing=raw, backing_format="raw"
    )
    with opened(image) as source, opened(raw) as backing:
        assert_reads_as(qcow2.open_image(source, backing=backing), raw.read_bytes() + bytes(MIB))


def test_the_header_is_told_as_qemu_img_tells_it(raw: Path, tmp_path: Path) -> None:
    image = diskimages.make_qcow2(
        raw,
        tmp_path / "image.qcow2",
        {"extended_l2": "on", "compression_type": "zstd"},
        backing=raw,
        backing_format="raw",
    )
    with opened(image) as source:
        info = qcow2.inspect(source)
    assert (info.format, info.version, info.size_bytes) == (DiskFormat.QCOW2, 3, SIZE_BYTES)
    assert (info.cluster_bytes, info.features) == (65_536, ("zstd", "extended-l2"))
    assert (info.backing_name, info.backing_format) == (str(raw), "raw")
    assert (info.has_data_file, info.encryption, info.snapshots) == (False, "", ())


def test_an_image_that_qemu_left_dirty_reads_and_says_so(tmp_path: Path) -> None:
    image = diskimages.create_qcow2(tmp_path / "image.qcow2", MIB, {"lazy_refcounts": "on"})
    with pytest.raises(AssertionError):  # qemu-io kills itself
        diskimages.qemu_io(image, "write -P 9 0 128k", "flush", "sigraise 9")
    with opened(image) as source:
        assert qcow2.inspect(source).features == ("dirty",)
        assert qcow2.open_image(source).read(0, MIB) == b"\x09" * (128 << 10) + bytes(MIB - (128 << 10))


@pytest.mark.parametrize(
    ("encryption", "refused"),
    [
        ("luks", "web01: luks1: it is encrypted, and no key was given"),
        ("aes", "is encrypted by qcow2.s old method"),
    ],
)
def test_an_encrypted_image_is_told_and_refused(encryption: str, refused: str, tmp_path: Path) -> None:
    image = tmp_path / "image.qcow2"
    if encryption == "luks":
        diskimages.create_luks_qcow2(image, MIB)
    else:
        secret = ("--object", "secret,id=key,data=only-a-test")
        options = ("-o", "encrypt.format=aes,encrypt.key-secret=key")
        diskimages.run("qemu-img", "create", "-q", "-f", "qcow2", *secret, *options, image, "1M")
    with opened(image) as source:
        assert qcow2.inspect(source).encryption == encryption
        with pytest.raises(UnsupportedError, match=f"web01: {refused}"):
            qcow2.open_image(source, name="web01")


def test_data_of_a_backing_file_that_nobody_gave_raises_and_is_never_zeros(raw: Path, tmp_path: Path) -> None:
    image = diskimages.create_qcow2(tmp_path / "image.qcow2", SIZE_BYTES, backing=raw, backing_format="raw")
    diskimages.qemu_io(image, "write -P 6 64k 64k", "write -z 128k 64k")
    with opened(image) as source:
        disk = qcow2.open_image(source, name="web01.qcow2")
        assert disk.read(65_536, 131_072) == b"\x06" * 65_536 + bytes(65_536)
        with pytest.raises(InputError) as caught:
            disk.read(0, 512)
    message = str(caught.value)
    assert message.startswith("web01.qcow2: ")
    assert repr(str(raw)) in message
    assert "`--backing FILE`" in message


def test_data_of_a_data_file_that_nobody_gave_raises_and_is_never_zeros(raw: Path, tmp_path: Path) -> None:
    options: dict[str, str | int] = {"data_file": str(tmp_path / "clusters.bin")}
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2", options)
    with (
        opened(image) as source,
        pytest.raises(InputError, match=r"clusters\.bin'; name it with `--data-file"),
    ):
        read_in_steps(qcow2.open_image(source), MIB)


def test_a_backing_or_data_file_that_the_image_does_not_have_is_refused(raw: Path, tmp_path: Path) -> None:
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2")
    with opened(image) as source, opened(raw) as other:
        with pytest.raises(InputError, match="its header names none"):
            qcow2.open_image(source, backing=other)
        with pytest.raises(InputError, match="lie in the image itself"):
            qcow2.open_image(source, data_file=other)


def test_a_read_past_the_end_of_the_virtual_disk_raises(raw: Path, tmp_path: Path) -> None:
    image = diskimages.make_qcow2(raw, tmp_path / "image.qcow2")
    with opened(image) as source:
        disk = qcow2.open_image(source)
        for offset, length in ((SIZE_BYTES, 1), (SIZE_BYTES - 511, 512), (-1, 4), (0, -1), (0, 1 << 40)):
            with pytest.raises(InputError):
                disk.read(offset, length)
        assert disk.read(SIZE_BYTES, 0) == b""
