"""The format of an image file, by magic numbers, where neither libvirt nor the user has named it.

What no reader exists for raises and names the way to convert it, since reading it as raw would show
nonsense. A container's header on what is also a disk raises too: a guest on a raw disk can write such a
header, and only who set up the machine knows which it is. For the same reason a fixed vhd, which is a raw
disk with a sector behind it, has to be named.
"""

import re
from dataclasses import dataclass
from typing import Final

from undercroft.disks.images import IMAGES, ImageFormat
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat

HEAD_BYTES: Final = 72 << 10
"""Holds all magic numbers below."""

FOOTER_BYTES: Final = 512

_TAR_MAGIC: Final = 257, b"ustar"
_OVF_NAME: Final = re.compile(rb"[^\0]{1,96}\.ovf\0")
"""An archive's first member is its envelope."""

_OVF_TEXT: Final = re.compile(rb"(?:\xef\xbb\xbf)?\s*<[^\0]{0,4096}?<?(?:[A-Za-z]+:)?Envelope[\s>]")


@dataclass(frozen=True, slots=True)
class _Magic:
    """A magic number of what a disk holds, at an offset from its start."""

    format: str
    offset: int
    magic: bytes


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
"""What a guest's disk begins with and leaves room for a container's header in front (XFS and LUKS do not)."""


def probe_format(source: BlockSource, *, name: str = "image") -> DiskFormat:
    """Return which format an image file has.

    Args:
        source: the image file, untrusted.
        name: of the image, for messages.

    Raises:
        InputError: it holds no bytes, or bears the marks of a container and of a disk.
        UnsupportedError: it is another container, or another version of qcow.
    """
    if not source.size_bytes:
        raise InputError(f"{name}: holds no bytes")
    head = source.read(0, min(HEAD_BYTES, source.size_bytes))
    found = _container(head)
    if found is not None:
        return _checked(found, head, name)
    if _is_appliance(head):
        _check_no_disk("ova", head, name)
        return DiskFormat.OVA
    footer = max(0, source.size_bytes - FOOTER_BYTES)
    trailer = source.read(footer, source.size_bytes - footer)
    if trailer.startswith(b"conectix"):
        raise InputError(
            f"{name}: ends as a fixed vhd (vpc) does, which a guest may have written to the last sector of"
            " its raw disk. Say `--image-format raw` or `--image-format vpc`, as the machine is configured"
        )
    if trailer.startswith(b"koly"):
        raise _unsupported("dmg", name)
    return DiskFormat.RAW


def _container(head: bytes) -> ImageFormat | None:
    for known in IMAGES:
        if any(head.startswith(magic, offset) for offset, magic in known.magics):
            return known
    return None


def _checked(found: ImageFormat, head: bytes, name: str) -> DiskFormat:
    """Return the format of a container that is read and is nothing else beside. Raises InputError."""
    if found.format is None:
        raise _unsupported(found.kind, name)
    version = int.from_bytes(head[4:8], "big")
    if found.format is DiskFormat.QCOW2 and version not in (2, 3):
        raise UnsupportedError(
            f"{name}: is qcow version {version}; convert it with `qemu-img convert -O qcow2`, or say"
            " `--image-format raw` where it is a raw disk"
        )
    _check_no_disk(found.kind, head, name)
    return found.format


def _is_appliance(head: bytes) -> bool:
    """Tell whether a file is an OVA archive or an OVF envelope."""
    offset, magic = _TAR_MAGIC
    if head.startswith(magic, offset):
        return bool(_OVF_NAME.match(head))
    return bool(_OVF_TEXT.match(head))


def _check_no_disk(kind: str, head: bytes, name: str) -> None:
    for content in _DISK_CONTENTS:
        if head.startswith(content.magic, content.offset):
            raise InputError(
                f"{name}: begins with a {kind} header but bears {content.format} at byte {content.offset}:"
                " a guest may have written the header to its raw disk. Say `--image-format raw` or"
                f" `--image-format {kind}`, as the machine is configured"
            )


def _unsupported(container: str, name: str) -> UnsupportedError:
    return UnsupportedError(
        f"{name}: is in the format {container}, which is not supported; convert a copy with"
        " `qemu-img convert -O qcow2`, or say `--image-format raw` where it is a raw disk"
    )
