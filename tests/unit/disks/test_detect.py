"""Volumes are recognized by their magic, and labels and UUIDs agree with blkid's."""

from pathlib import Path

import pytest
from diskimages import MIB, make_raw, opened, run
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.detect import BLANK, UNKNOWN, Content, detect, open_filesystem
from undercroft.disks.source import BytesSource
from undercroft.errors import UnsupportedError

ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"

MAKERS = {
    "ext4": (("mke2fs", "-q", "-F", "-L", "root disk", "{}"), 16, "ext"),
    "xfs": (("mkfs.xfs", "-q", "-L", "data", "{}"), 320, "xfs"),
    "btrfs": (("mkfs.btrfs", "-q", "-L", "data disk", "{}"), 128, "btrfs"),
    "f2fs": (("mkfs.f2fs", "-q", "-l", "flash", "{}"), 64, "f2fs"),
    "vfat32": (("mkfs.vfat", "-F", "32", "-n", "EFIBOOT", "{}"), 64, "vfat"),
    "vfat16": (("mkfs.vfat", "-F", "16", "{}"), 16, "vfat"),
    "exfat": (("mkfs.exfat", "{}"), 16, "exfat"),
    "swap": (("mkswap", "-q", "-L", "swp", "{}"), 4, "swap"),
    "swap of 64 KiB pages": (("mkswap", "-q", "-p", "65536", "{}"), 4, "swap"),
    "luks1": (
        ("cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "{}", "-"),
        8, "luks1",
    ),
    "luks2": (
        ("cryptsetup", "-q", "luksFormat", "--type", "luks2", "--label", "vault", "--pbkdf", "pbkdf2",
         "--pbkdf-force-iterations", "1000", "{}", "-"), 32, "luks2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MAKERS)
def test_what_a_tool_made_is_recognized_as_blkid_does(what: str, tmp_path: Path) -> None:
    command, size_mib, kind = MAKERS[what]
    image = make_raw(tmp_path / "volume", size_mib * MIB)
    run(*(part.format(image) for part in command), stdin="only-a-test")
    known = dict(
        line.partition("=")[::2] for line in run("blkid", "-p", "-o", "export", image).splitlines() if line
    )
    with opened(image) as source:
        content = detect(source)
    assert content.kind == kind
    assert content.uuid == known.get("UUID", "").lower() != ""
    assert content.label == known.get("LABEL", "").replace("\\ ", " ")


def test_a_squashfs_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    run("mksquashfs", tmp_path / "tree", tmp_path / "image", "-quiet", "-no-progress")
    with opened(tmp_path / "image") as source:
        assert detect(source).kind == "squashfs"


def placed(size_bytes: int, **magics: tuple[int, bytes]) -> BytesSource:
    data = bytearray(size_bytes)
    for offset, magic in magics.values():
        data[offset : offset + len(magic)] = magic
    return BytesSource(bytes(data))


@pytest.mark.parametrize(
    ("kind", "offset", "magic"),
    [
        ("lvm2", 512, b"LABELONE" + bytes(16) + b"LVM2 001" + b"a" * 32),
        ("md-raid", 4096, b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
        ("md-raid", MIB - (64 << 10), b"\xfc\x4e\x2b\xa9\0\0\0\0"),
        ("md-raid", MIB - (8 << 10), b"\xfc\x4e\x2b\xa9\x01\0\0\0"),
        ("zfs", (128 << 10) + 4096, b"\x0c\xb1\xba\0\0\0\0\0"),
        ("bitlocker", 3, b"-FVE-FS-"),
        ("bcachefs", 4096 + 24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")),
    ],
)
def test_what_no_tool_here_makes_is_recognized_by_its_magic(kind: str, offset: int, magic: bytes) -> None:
    content = detect(placed(MIB, magic=(offset, magic)))
    assert content.kind == kind
    with pytest.raises(UnsupportedError, match=f"{kind} is not supported yet"):
        open_filesystem(content, placed(MIB))


def test_an_ntfs_and_a_disc_are_recognized_by_their_magic() -> None:
    assert detect(placed(MIB, magic=(3, b"NTFS    "))).kind == "ntfs"
    assert detect(placed(MIB, magic=(0x8001, b"CD001"))).kind == "iso9660"


def test_a_fat_on_an_efi_partition_is_an_esp() -> None:
    source = placed(MIB, end=(510, b"\x55\xaa"), magic=(82, b"FAT32   "), serial=(67, b"\x34\x12\xcd\xab"))
    assert detect(source) == Content("vfat", "", "abcd-1234")
    assert detect(source, ESP).kind == "esp"
    assert detect(source, "ef").kind == "esp"


def test_a_second_magic_is_told() -> None:
    source = placed(MIB, ext=(1080, b"\x53\xef"), ntfs=(3, b"NTFS    "), swap=(4086, b"SWAPSPACE2"))
    assert (detect(source).kind, detect(source).also) == ("ext", ("swap", "ntfs"))
    luks = placed(MIB, ext=(1080, b"\x53\xef"), luks=(0, b"LUKS\xba\xbe\0\x02"))
    assert (detect(luks).kind, detect(luks).also) == ("luks2", ("ext",))


def test_a_hibernated_system_is_told() -> None:
    content = detect(placed(MIB, swap=(4086, b"S1SUSPEND\0")))
    assert content.kind == "swap"
    assert "hibernated" in content.note


@pytest.mark.parametrize("size_bytes", [512, 4096, 70_000, 10 * MIB])
def test_zeros_are_blank_and_one_byte_at_the_start_or_the_end_is_not(size_bytes: int) -> None:
    assert detect(placed(size_bytes)).kind == BLANK
    assert detect(placed(size_bytes, mark=(0, b"\1"))).kind == UNKNOWN
    assert detect(placed(size_bytes, mark=(size_bytes - 1, b"\1"))).kind == UNKNOWN
    assert detect(placed(size_bytes), BIOS_BOOT).kind == "bios-boot"
    assert detect(placed(size_bytes, mark=(0, b"\1")), BIOS_BOOT).kind == "bios-boot"


def test_the_type_of_a_partition_hides_no_filesystem() -> None:
    assert detect(placed(MIB, ext=(1080, b"\x53\xef")), BIOS_BOOT).kind == "ext"


def test_an_unknown_content_is_unsupported_not_empty() -> None:
    with pytest.raises(UnsupportedError, match="no known filesystem"):
        open_filesystem(Content(UNKNOWN), placed(512))


@given(st.binary(max_size=5000), st.sampled_from([0, 1000, 4000, 0x8000, 0x10000]))
def test_any_bytes_are_something(data: bytes, offset: int) -> None:
    detect(BytesSource(bytes(offset) + data))
