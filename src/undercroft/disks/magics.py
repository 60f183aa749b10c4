"""The magic numbers of volume formats, and where each keeps its label and UUID.

Guarantees: a probe reads only the bytes that it is given and never raises. Offsets follow each format's
own documentation; labels and UUIDs are taken from where libblkid takes them, so that what is found here
matches what the guest's fstab names.
"""

import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from undercroft.disks.iso9660.naming import names as iso9660_names

HEAD_BYTES = 72 << 10
"""Holds all magics but those of ZFS and of RAID members that keep theirs at the end."""

MD_MAGIC = b"\xfc\x4e\x2b\xa9"
MD_SUPERBLOCK_BYTES = 4096
ZFS_MAGICS = (b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c")


@dataclass(frozen=True, slots=True)
class Content:
    """What a volume holds.

    Attributes:
        kind: "ext", "xfs", "btrfs", "lvm2", "luks1", "luks2", "swap", "vfat", ..., "blank", "unknown".
        label: the volume label, "" for none or where the format's is not read here.
        uuid: as libblkid prints it, in lower case.
        also: further magics found in the same volume, left by an earlier use or planted.
        note: what a reader of the report should know ("hibernated system").
    """

    kind: str
    label: str = ""
    uuid: str = ""
    also: tuple[str, ...] = ()
    note: str = ""


class Head:
    """The first bytes of a volume; reads beyond its end give nothing instead of failing."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has(self, magic: bytes, offset: int) -> bool:
        """Return whether `magic` stands at `offset`."""
        return self.data.startswith(magic, offset)

    def text(self, offset: int, length: int) -> str:
        """Return the text at `offset` up to its NUL, undecodable bytes as surrogates."""
        raw = self.data[offset : offset + length].split(b"\0", 1)[0]
        return raw.decode("utf-8", "surrogateescape").strip()

    def wide_text(self, offset: int, length: int) -> str:
        """Return the little-endian UTF-16 text at `offset` up to its NUL."""
        # With its mark UTF-16 is decoded by the interpreter itself; "utf-16-le" would import a codec,
        # which a reader in its sandbox cannot.
        raw = b"\xff\xfe" + self.data[offset : offset + length]
        return raw.decode("utf-16", "replace").split("\0", 1)[0].strip()

    def uuid(self, offset: int) -> str:
        """Return the UUID at `offset`, "" where it is all zero."""
        raw = self.data[offset : offset + 16]
        return str(uuid.UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""

    def number(self, layout: str, offset: int) -> int:
        """Return the number at `offset` in the form that `struct` calls `layout`, 0 beyond the end."""
        if offset + struct.calcsize(layout) > len(self.data):
            return 0
        return int(struct.unpack_from(layout, self.data, offset)[0])


Probe = Callable[[Head], Content | None]


def _probe_luks(head: Head) -> Content | None:
    if not head.has(b"LUKS\xba\xbe", 0):
        return None
    version = head.number(">H", 6)
    label = head.text(24, 48) if version == 2 else ""
    return Content(f"luks{version}", label, head.text(168, 40).lower())


def _probe_second_luks(head: Head) -> Content | None:
    """The second header of LUKS2, as cryptsetup finds it where the first one is damaged."""
    for offset in (0x4000, 0x8000, 0x10000):
        if head.has(b"SKUL\xba\xbe\0\2", offset) and head.number(">Q", offset + 256) == offset:
            return Content("luks2", head.text(offset + 24, 48), head.text(offset + 168, 40).lower())
    return None


def _probe_lvm(head: Head) -> Content | None:
    for offset in range(0, 2048, 512):
        if head.has(b"LABELONE", offset) and head.has(b"LVM2 001", offset + 24):
            ident = head.text(offset + 32, 32)
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            return Content("lvm2", uuid="-".join(ident[a:b] for a, b in pairwise(cuts)))
    return None


def probe_md(untrusted: bytes, offset: int) -> Content | None:
    """Return the content of an md member by its superblock, None where it is none or its checksum is wrong.

    Args:
        untrusted: 4 KiB from the superblock on.
        offset: where in the volume it lies; version 1 names its own place.
    """
    head = Head(untrusted)
    if not head.has(MD_MAGIC, 0) or len(untrusted) < MD_SUPERBLOCK_BYTES:
        return None
    if head.number("<I", 4) == 1:
        length = 256 + 2 * head.number("<I", 220)
        place = head.number("<Q", 144) << 9
        if length > len(untrusted) or place != offset or head.number("<I", 216) != md_checksum(head, length):
            return None
        return Content("md-raid", head.text(32, 32), head.uuid(16))
    if head.number("<I", 4) == 0 and head.number("<I", 152) == md_checksum_0(untrusted):
        words = untrusted[20:24] + untrusted[52:64]
        return Content("md-raid", uuid=str(uuid.UUID(bytes=words)))
    return None


def md_checksum(head: Head, length: int) -> int:
    """Return the checksum of a version 1 superblock (mdadm's super1.c, calc_sb_1_csum)."""
    data = head.data[:216] + bytes(4) + head.data[220:length]
    total: int = sum(struct.unpack_from(f"<{length // 4}I", data))
    if length % 4:
        total += int.from_bytes(data[length - 2 : length], "little")
    return ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF


def md_checksum_0(untrusted: bytes) -> int:
    """Return the checksum of a version 0.90 superblock (mdadm's super0.c, calc_sb0_csum)."""
    data = untrusted[:152] + bytes(4) + untrusted[156:MD_SUPERBLOCK_BYTES]
    total: int = sum(struct.unpack(f"<{MD_SUPERBLOCK_BYTES // 4}I", data))
    return ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF


def _probe_raid(head: Head) -> Content | None:
    """1.1 lies at the start, 1.2 at 4 KiB; a broken checksum still names it, and its reader says so."""
    for offset in (0, 4096):
        if head.has(MD_MAGIC, offset) and head.number("<I", offset + 4) == 1:
            return Content("md-raid", head.text(offset + 32, 32), head.uuid(offset + 16))
    return None


def _probe_bitlocker(head: Head) -> Content | None:
    return Content("bitlocker") if head.has(b"-FVE-FS-", 3) else None


def _probe_bcachefs(head: Head) -> Content | None:
    magics = (
        bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"),
        bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"),
    )
    if not any(head.has(magic, 4096 + 24) for magic in magics):
        return None
    return Content("bcachefs", head.text(4096 + 72, 32), head.uuid(4096 + 56))


def _probe_ext(head: Head) -> Content | None:
    if not head.has(b"\x53\xef", 1024 + 56):
        return None
    return Content("ext", head.text(1024 + 120, 16), head.uuid(1024 + 104))


def _probe_xfs(head: Head) -> Content | None:
    return Content("xfs", head.text(108, 12), head.uuid(32)) if head.has(b"XFSB", 0) else None


def _probe_btrfs(head: Head) -> Content | None:
    if not head.has(b"_BHRfS_M", 0x10040):
        return None
    return Content("btrfs", head.text(0x10000 + 0x12B, 256), head.uuid(0x10000 + 0x20))


def _probe_f2fs(head: Head) -> Content | None:
    if not head.has(b"\x10\x20\xf5\xf2", 1024):
        return None
    return Content("f2fs", head.wide_text(1024 + 124, 1024), head.uuid(1024 + 108))


def _probe_swap(head: Head) -> Content | None:
    """Swap keeps its magic in the last 10 bytes of the first page, whose size is the guest's."""
    suspended = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
    for page in (4096, 8192, 16384, 65536):
        if head.has(b"SWAPSPACE2", page - 10) or head.has(b"SWAP-SPACE", page - 10):
            return Content("swap", head.text(1024 + 28, 16), head.uuid(1024 + 12))
        if any(head.has(magic, page - 10) for magic in suspended):
            note = "holds a hibernated system: its filesystems may lag behind its memory"
            return Content("swap", head.text(1024 + 28, 16), head.uuid(1024 + 12), note=note)
    return None


def _probe_fat(head: Head) -> Content | None:
    if not head.has(b"\x55\xaa", 510):
        return None
    for magic, magic_offset, serial, label in ((b"FAT32   ", 82, 67, 71), (b"FAT1", 54, 39, 43)):
        if head.has(magic, magic_offset):
            number = head.number("<I", serial)
            name = head.text(label, 11)
            return Content(
                "vfat", "" if name == "NO NAME" else name, f"{number >> 16:04x}-{number & 0xFFFF:04x}"
            )
    return None


def _probe_ntfs(head: Head) -> Content | None:
    return Content("ntfs", uuid=f"{head.number('<Q', 72):016x}") if head.has(b"NTFS    ", 3) else None


def _probe_exfat(head: Head) -> Content | None:
    if not head.has(b"EXFAT   ", 3):
        return None
    number = head.number("<I", 100)
    return Content("exfat", uuid=f"{number >> 16:04x}-{number & 0xFFFF:04x}")


def _probe_ufs(head: Head) -> Content | None:
    """The superblock at UFS2's place or UFS1's; label and UUID are where libblkid has them."""
    for place in (65536, 8192):
        for layout, number in (("<I", 0x19540119), ("<I", 0x011954), (">I", 0x19540119), (">I", 0x011954)):
            if head.number(layout, place + 1372) == number:
                ident = f"{head.number(layout, place + 144):08x}{head.number(layout, place + 148):08x}"
                return Content("ufs", head.text(place + 680, 32), ident if ident.strip("0") else "")
    return None


def _probe_iso9660(head: Head) -> Content | None:
    if not head.has(b"CD001", 0x8001):
        return None
    return Content("iso9660", *(iso9660_names(head.data) or ()))


_BARE_MAGICS = (
    ("squashfs", b"hsqs", 0),
    ("erofs", b"\xe2\xe1\xf5\xe0", 1024),
    ("apfs", b"NXSB", 32),
    ("refs", b"ReFS\0", 3),
    ("hfsplus", b"H+\0\x04", 1024),
    ("jfs", b"JFS1", 32768),
    ("reiserfs", b"ReIsEr", 65536 + 52),
    ("nilfs2", b"\x34\x34", 1024 + 6),
    ("udf", b"BEA01", 0x8001),
    ("gfs2", b"\x01\x16\x19\x70", 65536),
)
"""Formats that are only named: nothing in a guest's fstab is matched against their labels."""


def _probe_bare(head: Head) -> Content | None:
    names: Iterator[str] = (name for name, magic, offset in _BARE_MAGICS if head.has(magic, offset))
    name = next(names, None)
    return Content(name) if name else None


PROBES: tuple[Probe, ...] = (
    _probe_luks,
    _probe_lvm,
    _probe_raid,
    _probe_bitlocker,
    _probe_bcachefs,
    _probe_ext,
    _probe_xfs,
    _probe_btrfs,
    _probe_f2fs,
    _probe_swap,
    _probe_fat,
    _probe_ntfs,
    _probe_exfat,
    _probe_ufs,
    _probe_iso9660,
    _probe_bare,
    _probe_second_luks,
)
"""Containers first: one hides what an earlier filesystem left behind. LUKS2's second header comes last:
making a filesystem in its place leaves it there."""
