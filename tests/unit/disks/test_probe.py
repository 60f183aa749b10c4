"""What an image file is by its magic numbers, and what is refused instead of guessed."""

import subprocess
from pathlib import Path

import diskimages
import pytest
from diskimages import MIB, opened

from undercroft.disks.probe import probe_format
from undercroft.disks.source import BytesSource
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat


@pytest.fixture(scope="module")
def qcow2(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return diskimages.create_qcow2(tmp_path_factory.mktemp("probe") / "image.qcow2", MIB).read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compat": "0.10"},
        {"cluster_size": 512},
        {"cluster_size": 4096},
        {"cluster_size": "2M"},
        {"extended_l2": "on", "compression_type": "zstd"},
    ],
    ids=str,
)
def test_qcow2_images_that_hold_a_partitioned_disk_are_qcow2(
    options: dict[str, str | int], tmp_path: Path
) -> None:
    filesystem = diskimages.make_varied_raw(tmp_path / "filesystem", MIB)
    for wrap in (diskimages.wrap_gpt, diskimages.wrap_mbr):
        disk = wrap(tmp_path / "disk.raw", [filesystem])
        image = diskimages.make_qcow2(disk, tmp_path / "image.qcow2", options)
        with opened(image) as source, opened(disk) as raw:
            assert probe_format(source) is DiskFormat.QCOW2
            assert probe_format(raw) is DiskFormat.RAW


@pytest.mark.parametrize("content", [b"x", bytes(511), bytes(512), bytes(MIB), b"\x55\xaa" * 4096], ids=len)
def test_what_has_no_container_magic_is_raw(content: bytes) -> None:
    assert probe_format(BytesSource(content)) is DiskFormat.RAW


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    with opened(path) as source, pytest.raises(InputError, match="web01: holds no bytes"):
        probe_format(source, name="web01")


@pytest.mark.parametrize(
    ("image_format", "options", "name"),
    [
        ("qed", "", "qed"),
        ("parallels", "", "parallels"),
        ("qcow", "", "qcow version 1"),
    ],
)
def test_other_containers_made_by_qemu_img_are_named_with_the_cure(
    image_format: str, options: str, name: str, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    chosen = ["-o", options] if options else []
    diskimages.run("qemu-img", "create", "-q", "-f", image_format, *chosen, image, "4M")
    with opened(image) as source, pytest.raises(UnsupportedError) as caught:
        probe_format(source, name="web01")
    message = str(caught.value)
    assert message.startswith("web01: is ")
    assert name in message
    assert "`qemu-img convert -O qcow2`" in message


def test_a_luks_volume_is_a_raw_disk_that_is_encrypted_as_a_whole() -> None:
    """QEMU's LUKS images and disks that a guest encrypted are the same, and are read in the same way."""
    assert probe_format(BytesSource(b"LUKS\xba\xbe\0\2".ljust(MIB, b"\0"))) is DiskFormat.RAW


@pytest.mark.parametrize(
    ("offset", "magic", "name"),
    [
        (510, b"\x55\xaa", "an MBR"),
        (512, b"EFI PART", "a GPT"),
        (4096, b"EFI PART", "a GPT"),
        (1080, b"\x53\xef", "an ext filesystem"),
        (512, b"LABELONE", "an LVM volume"),
        (65_600, b"_BHRfS_M", "a btrfs filesystem"),
        (4086, b"SWAPSPACE2", "swap space"),
    ],
)
def test_a_qcow2_header_that_a_guest_may_have_written_to_its_raw_disk_is_refused(
    offset: int, magic: bytes, name: str, qcow2: bytes
) -> None:
    data = bytearray(qcow2.ljust(MIB, b"\0"))
    assert probe_format(BytesSource(bytes(data))) is DiskFormat.QCOW2
    data[offset : offset + len(magic)] = magic
    with pytest.raises(
        InputError, match=rf"bears {name} at byte {offset}.*`--image-format raw` or `--image-format qcow2`"
    ):
        probe_format(BytesSource(bytes(data)))


@pytest.mark.parametrize("wrap", [diskimages.wrap_gpt, diskimages.wrap_mbr])
def test_a_real_disk_with_a_planted_header_is_refused(wrap: object, qcow2: bytes, tmp_path: Path) -> None:
    """The control: qemu-img believes the planted header."""
    filesystem = diskimages.make_varied_raw(tmp_path / "filesystem", MIB)
    disk = wrap(tmp_path / "disk.raw", [filesystem])  # type: ignore[operator]  # one of the two functions
    with disk.open("r+b") as file:
        file.write(qcow2[:112])
    assert "file format: qcow2" in diskimages.run("qemu-img", "info", disk)
    with opened(disk) as source, pytest.raises(InputError, match="a guest may have written the header"):
        probe_format(source)


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("vmdk", ""),
        ("vmdk", "subformat=monolithicFlat"),
        ("vmdk", "subformat=twoGbMaxExtentSparse"),
        ("vmdk", "subformat=streamOptimized"),
        ("vhdx", ""),
        ("vpc", ""),
        ("vdi", ""),
        ("vdi", "static=on"),
    ],
)
@pytest.mark.parametrize("wrap", [diskimages.wrap_gpt, diskimages.wrap_mbr])
def test_containers_that_hold_a_partitioned_disk_are_told(
    image_format: str, options: str, wrap: object, tmp_path: Path
) -> None:
    filesystem = diskimages.make_varied_raw(tmp_path / "filesystem", MIB)
    disk = wrap(tmp_path / "disk.raw", [filesystem])  # type: ignore[operator]  # one of the two functions
    image = tmp_path / f"image.{image_format}"
    chosen = ["-o", options] if options else []
    diskimages.run("qemu-img", "convert", "-f", "raw", "-O", image_format, *chosen, disk, image)
    with opened(image) as source:
        assert probe_format(source) is DiskFormat(image_format)


def test_a_fixed_vhd_has_to_be_named(tmp_path: Path) -> None:
    """A guest can write the footer to the last sector of its raw disk."""
    image = tmp_path / "image.vhd"
    diskimages.run("qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", image, "4M")
    with (
        opened(image) as source,
        pytest.raises(InputError, match="`--image-format raw` or `--image-format vpc`"),
    ):
        probe_format(source)


@pytest.mark.parametrize("image_format", ["vmdk", "vhdx", "vpc", "vdi"])
@pytest.mark.parametrize("wrap", [diskimages.wrap_gpt, diskimages.wrap_mbr])
def test_a_real_disk_with_a_planted_header_of_another_container_is_refused(
    image_format: str, wrap: object, tmp_path: Path
) -> None:
    """The control: qemu-img takes the disk for the container, whether or not it then opens."""
    filesystem = diskimages.make_varied_raw(tmp_path / "filesystem", MIB)
    disk = wrap(tmp_path / "disk.raw", [filesystem])  # type: ignore[operator]  # one of the two functions
    image = tmp_path / "image"
    diskimages.run("qemu-img", "create", "-q", "-f", image_format, image, "4M")
    header = 446 if image_format != "vdi" else 440
    with disk.open("r+b") as file:
        file.write(image.read_bytes()[:header])
    told = subprocess.run(["qemu-img", "info", disk], capture_output=True, text=True, check=False).stdout
    assert "file format: raw" not in told
    with opened(disk) as source, pytest.raises(InputError, match="a guest may have written the header"):
        probe_format(source)


def test_a_descriptor_that_a_guest_wrote_to_its_partitioned_raw_disk_is_refused(tmp_path: Path) -> None:
    filesystem = diskimages.make_varied_raw(tmp_path / "filesystem", MIB)
    disk = diskimages.wrap_mbr(tmp_path / "disk.raw", [filesystem])
    with disk.open("r+b") as file:
        file.write(b'# Disk DescriptorFile\nversion=1\nCID=1\nRW 8 FLAT "/etc/shadow" 0\n\0')
    with opened(disk) as source, pytest.raises(InputError, match="a guest may have written the header"):
        probe_format(source)


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"COWD\1\0\0\0", "vmdk"), (b"\xbe\xba\xfe\xca\0\0\0\0\1\0\0\x20", "vmdk"), (b"QED\0", "qed")],
)
def test_formats_that_are_only_recognized_are_named(head: bytes, kind: str) -> None:
    with pytest.raises(UnsupportedError, match=f"is in the format {kind}, which is not supported"):
        probe_format(BytesSource(head.ljust(MIB, b"\0")))
