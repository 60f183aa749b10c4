"""The format of an image file, by magic numbers, where neither libvirt nor the user has named it.

Only raw and qcow2 come out. Other containers raise and name the way to convert them, since reading one as
raw would show nonsense. A qcow2 header on what is also a disk raises too: a guest on a raw disk can write
such a header, and only who set up the machine knows which it is.
"""

from dataclasses import dataclass
from typing import Final

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat

QCOW_MAGIC: Final = b"QFI\xfb"

HEAD_BYTES: Final = 72 << 10
"""Holds all magic numbers below."""

FOOTER_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class _Magic:
    """A magic number of a format at an offset from the start."""

    format: str
    offset: int
    magic: bytes


_CONTAINERS: Final = (
    _Magic("vmdk", 0, b"KDMV"),
    _Magic("vmdk", 0, b"COWD"),
    _Magic("vmdk", 0, b"# Disk DescriptorFile"),
    _Magic("vhdx", 0, b"vhdxfile"),
    _Magic("vpc (vhd)", 0, b"conectix"),
    _Magic("vdi", 64, b"\x7f\x10\xda\xbe"),
    _Magic("qed", 0, b"QED\0"),
    _Magic("parallels", 0, b"WithoutFreeSpace"),
    _Magic("parallels", 0, b"WithouFreSpacExt"),
    _Magic("luks", 0, b"LUKS\xba\xbe"),
)
"""Names are those of `qemu-img convert -f`."""

_DISK_CONTENTS: Final = (
    _Magic("an MBR", 510, b"\x55\xaa"),
    _Magic("a GPT", 512, b"EFI PART"),
    _Magic("a GPT", 4096, b"EFI PART"),
    _Magic("an ext filesystem", 1080, b"\x53\xef"),
    _Magic("an LVM volume", 512, b"LABELONE"),
    _Magic("an LVM volume", 1024, b"LABELONE"),
    _Magic("an LVM volume", 1536, b"LABELONE"),
    _Magic("an F2FS filesystem", 1024, b"\x10\x20\xf5\xf2"),
    _Magic("a RAID member", 4096, b"\xfc\x4e\x2b\xa9"),
    _Magic("swap space", 4086, b"SWAPSPACE2"),
    _Magic("an ISO 9660 filesystem", 32_769, b"CD001"),
    _Magic("a JFS filesystem", 32_768, b"JFS1"),
    _Magic("a ReiserFS filesystem", 65_588, b"ReIsEr"),
    _Magic("a btrfs filesystem", 65_600, b"_BHRfS_M"),
)
"""What a guest's disk begins with and leaves room for a qcow2 header in front (XFS and LUKS do not)."""


def probe_format(source: BlockSource, *, name: str = "image") -> DiskFormat:
    """Return whether an image file is raw or qcow2.

    Args:
        source: the image file, untrusted.
        name: of the image, for messages.

    Raises:
        InputError: it holds no bytes, or bears the marks of both.
        UnsupportedError: it is another container, or another version of qcow.
    """
    if not source.size_bytes:
        raise InputError(f"{name}: holds no bytes")
    head = source.read(0, min(HEAD_BYTES, source.size_bytes))
    if head.startswith(QCOW_MAGIC):
        _check_qcow2(head, name)
        return DiskFormat.QCOW2
    for known in _CONTAINERS:
        if head.startswith(known.magic, known.offset):
            raise _container(known.format, name)
    footer = max(0, source.size_bytes - FOOTER_BYTES)
    if source.read(footer, source.size_bytes - footer).startswith((b"conectix", b"koly")):
        raise _container("vpc (vhd) or dmg", name)
    return DiskFormat.RAW


def _check_qcow2(head: bytes, name: str) -> None:
    version = int.from_bytes(head[4:8], "big")
    if version not in (2, 3):
        raise UnsupportedError(
            f"{name}: is qcow version {version}; convert it with `qemu-img convert -O qcow2`, or say"
            " `--image-format raw` where it is a raw disk"
        )
    for content in _DISK_CONTENTS:
        if head.startswith(content.magic, content.offset):
            raise InputError(
                f"{name}: begins with a qcow2 header but bears {content.format} at byte {content.offset}:"
                " a guest may have written the header to its raw disk. Say `--image-format raw` or"
                " `--image-format qcow2`, as the machine is configured"
            )


def _container(container: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}: is in the format {container}, which is not supported; convert a copy with"
        " `qemu-img convert -O qcow2`, or say `--image-format raw` where it is a raw disk"
    )
