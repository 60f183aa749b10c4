"""What a volume holds, told by the magic numbers of its format.

Guarantees: reads at most 512 KiB of the volume, decides from fixed offsets only, and never says
"blank" unless every sampled block is zero. A volume that bears several magics is reported by the first
one in the order below (containers before filesystems, because a container hides what an earlier
filesystem left behind), and the others are named in `Content.also`.

    >>> detect(source)
    Content(kind='xfs', label='data', uuid='5ee3...')

Offsets follow each format's own documentation; the places of labels and UUIDs are those that libblkid
reads, so that what is found here matches what the guest's fstab names.
"""

import struct
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from undercroft.disks.filesystem import FileSystem
from undercroft.disks.source import BlockSource
from undercroft.errors import UnsupportedError

HEAD_BYTES = 72 << 10
"""Holds all magics but those of ZFS and of RAID members that keep theirs at the end."""

TAIL_BYTES = 128 << 10
"""Holds the superblocks of md 0.90 and 1.0, which lie at most 128 KiB before the end."""

ZFS_UBERBLOCKS_OFFSET = 128 << 10
ZFS_UBERBLOCKS_BYTES = 128 << 10

BLANK_SAMPLES = 32
BLANK_SAMPLE_BYTES = 4096

BLANK = "blank"
UNKNOWN = "unknown"

ESP_TYPES = frozenset({"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"})
"""GPT type and MBR type byte of an EFI system partition."""

BOOT_CODE_TYPES = frozenset(
    {
        "21686148-6449-6e6f-744e-656564454649",  # BIOS boot: GRUB's core image
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b",  # PReP boot
        "41",  # PReP boot in an MBR
        "e3c9e316-0b5c-4db8-817d-f92df00215ae",  # Microsoft reserved: no filesystem by definition
    }
)

NOT_APPLICABLE = {
    "swap": "swap space holds no files",
    "esp": "boot files of the firmware, no packages",
    "bios-boot": "boot loader code, no filesystem",
    BLANK: "every sampled block is zero",
}
"""Contents that cannot hold installed software, with the reason that a report shows."""


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


class _Head:
    """The first bytes of a volume; reads beyond its end give nothing instead of failing."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def has(self, magic: bytes, offset: int) -> bool:
        return self.data.startswith(magic, offset)

    def text(self, offset: int, length: int) -> str:
        raw = self.data[offset : offset + length].split(b"\0", 1)[0]
        return raw.decode("utf-8", "surrogateescape").strip()

    def wide_text(self, offset: int, length: int) -> str:
        # With its mark UTF-16 is decoded by the interpreter itself; "utf-16-le" would import a codec,
        # which a reader in its sandbox cannot.
        raw = b"\xff\xfe" + self.data[offset : offset + length]
        return raw.decode("utf-16", "replace").split("\0", 1)[0].strip()

    def uuid(self, offset: int) -> str:
        raw = self.data[offset : offset + 16]
        return str(uuid.UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""

    def number(self, layout: str, offset: int) -> int:
        if offset + struct.calcsize(layout) > len(self.data):
            return 0
        return int(struct.unpack_from(layout, self.data, offset)[0])


Probe = Callable[[_Head], Content | None]


def detect(source: BlockSource, type_id: str = "") -> Content:
    """Return what the volume holds; `type_id` is its partition type (GPT GUID or MBR hex), lower case.

    Raises:
        InputError: the volume's bytes cannot be read.
    """
    head = _Head(source.read(0, min(HEAD_BYTES, source.size_bytes)))
    found = [content for probe in _PROBES if (content := probe(head))]
    if not found and (tail := _probe_raid_at_end(source)):
        found = [tail]
    if not found and _has_zfs_uberblock(source):
        found = [Content("zfs")]
    if not found:
        return _without_magic(source, type_id)
    first = found[0]
    kind = "esp" if first.kind == "vfat" and type_id in ESP_TYPES else first.kind
    others = tuple(dict.fromkeys(content.kind for content in found[1:] if content.kind != first.kind))
    return Content(kind, first.label, first.uuid, others, first.note)


def open_filesystem(content: Content, source: BlockSource) -> FileSystem:
    """Return a reader for the volume's filesystem.

    Raises:
        UnsupportedError: no reader for this content exists in this version.
        InputError: the filesystem is malformed.
    """
    if content.kind == "ext":
        from undercroft.disks import ext4  # noqa: PLC0415 - a machine without ext does not load it

        return ext4.open_filesystem(source)
    if content.kind == UNKNOWN:
        raise UnsupportedError("no known filesystem or container was recognized")
    raise UnsupportedError(f"{content.kind} is not supported yet")


def _without_magic(source: BlockSource, type_id: str) -> Content:
    if type_id in BOOT_CODE_TYPES:
        return Content("bios-boot")
    return Content(BLANK if _is_blank(source) else UNKNOWN)


def _is_blank(source: BlockSource) -> bool:
    """Sample the start, the end and evenly spread blocks; one byte that is not zero ends it."""
    size = source.size_bytes
    step = max(size // BLANK_SAMPLES, BLANK_SAMPLE_BYTES)
    offsets = [*range(0, size, step), max(0, size - TAIL_BYTES)]
    for offset in offsets:
        wanted = TAIL_BYTES if offset == offsets[-1] else BLANK_SAMPLE_BYTES
        data = source.read(offset, min(wanted, size - offset))
        if data.count(0) != len(data):
            return False
    return source.read(0, min(HEAD_BYTES, size)).count(0) == min(HEAD_BYTES, size)


def _has_zfs_uberblock(source: BlockSource) -> bool:
    """Look for uberblocks of the first label; their spacing depends on the pool's sector size."""
    end = ZFS_UBERBLOCKS_OFFSET + ZFS_UBERBLOCKS_BYTES
    if source.size_bytes < end:
        return False
    data = source.read(ZFS_UBERBLOCKS_OFFSET, ZFS_UBERBLOCKS_BYTES)
    magics = (b"\x0c\xb1\xba\0\0\0\0\0", b"\0\0\0\0\0\xba\xb1\x0c")
    return any(data.startswith(magics, offset) for offset in range(0, len(data), 1024))


def _probe_raid_at_end(source: BlockSource) -> Content | None:
    """Metadata 0.90 of md (64 KiB aligned, 64 KiB before the end) and 1.0 (8 KiB before, 4 KiB aligned)."""
    size = source.size_bytes
    if size < TAIL_BYTES:
        return None
    for offset in ((size & ~0xFFFF) - 0x10000, ((size >> 9) - 16 & ~7) << 9):
        if source.read(offset, 4) == _MD_MAGIC:
            return Content("md-raid")
    return None


def _probe_luks(head: _Head) -> Content | None:
    if not head.has(b"LUKS\xba\xbe", 0):
        return None
    version = head.number(">H", 6)
    label = head.text(24, 48) if version == 2 else ""
    return Content(f"luks{version}", label, head.text(168, 40).lower())


def _probe_lvm(head: _Head) -> Content | None:
    for offset in range(0, 2048, 512):
        if head.has(b"LABELONE", offset) and head.has(b"LVM2 001", offset + 24):
            ident = head.text(offset + 32, 32)
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            return Content("lvm2", uuid="-".join(ident[a:b] for a, b in pairwise(cuts)))
    return None


_MD_MAGIC = b"\xfc\x4e\x2b\xa9"


def _probe_raid(head: _Head) -> Content | None:
    for offset in (0, 4096):
        if head.has(_MD_MAGIC, offset) and head.number("<I", offset + 4) == 1:
            return Content("md-raid", head.text(offset + 32, 32), head.uuid(offset + 16))
    return None


def _probe_bitlocker(head: _Head) -> Content | None:
    return Content("bitlocker") if head.has(b"-FVE-FS-", 3) else None


def _probe_bcachefs(head: _Head) -> Content | None:
    magics = (
        bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"),
        bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"),
    )
    if not any(head.has(magic, 4096 + 24) for magic in magics):
        return None
    return Content("bcachefs", head.text(4096 + 72, 32), head.uuid(4096 + 56))


def _probe_ext(head: _Head) -> Content | None:
    if not head.has(b"\x53\xef", 1024 + 56):
        return None
    return Content("ext", head.text(1024 + 120, 16), head.uuid(1024 + 104))


def _probe_xfs(head: _Head) -> Content | None:
    return Content("xfs", head.text(108, 12), head.uuid(32)) if head.has(b"XFSB", 0) else None


def _probe_btrfs(head: _Head) -> Content | None:
    if not head.has(b"_BHRfS_M", 0x10040):
        return None
    return Content("btrfs", head.text(0x10000 + 0x12B, 256), head.uuid(0x10000 + 0x20))


def _probe_f2fs(head: _Head) -> Content | None:
    if not head.has(b"\x10\x20\xf5\xf2", 1024):
        return None
    return Content("f2fs", head.wide_text(1024 + 124, 1024), head.uuid(1024 + 108))


def _probe_swap(head: _Head) -> Content | None:
    """Swap keeps its magic in the last 10 bytes of the first page, whose size is the guest's."""
    suspended = (b"S1SUSPEND\0", b"S2SUSPEND\0", b"ULSUSPEND\0", b"LINHIB0001")
    for page in (4096, 8192, 16384, 65536):
        if head.has(b"SWAPSPACE2", page - 10) or head.has(b"SWAP-SPACE", page - 10):
            return Content("swap", head.text(1024 + 28, 16), head.uuid(1024 + 12))
        if any(head.has(magic, page - 10) for magic in suspended):
            note = "holds a hibernated system: its filesystems may lag behind its memory"
            return Content("swap", head.text(1024 + 28, 16), head.uuid(1024 + 12), note=note)
    return None


def _probe_fat(head: _Head) -> Content | None:
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


def _probe_ntfs(head: _Head) -> Content | None:
    return Content("ntfs", uuid=f"{head.number('<Q', 72):016x}") if head.has(b"NTFS    ", 3) else None


def _probe_exfat(head: _Head) -> Content | None:
    if not head.has(b"EXFAT   ", 3):
        return None
    number = head.number("<I", 100)
    return Content("exfat", uuid=f"{number >> 16:04x}-{number & 0xFFFF:04x}")


def _probe_iso9660(head: _Head) -> Content | None:
    if not head.has(b"CD001", 0x8001):
        return None
    stamp = head.text(0x8000 + 813, 16)
    parts = (stamp[0:4], stamp[4:6], stamp[6:8], stamp[8:10], stamp[10:12], stamp[12:14], stamp[14:16])
    return Content("iso9660", head.text(0x8000 + 40, 32), "-".join(parts) if stamp.isdigit() else "")


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
    ("ufs2", b"\x19\x01\x54\x19", 65536 + 1372),
)
"""Formats that are only named: nothing in a guest's fstab is matched against their labels."""


def _probe_bare(head: _Head) -> Content | None:
    names: Iterator[str] = (name for name, magic, offset in _BARE_MAGICS if head.has(magic, offset))
    name = next(names, None)
    return Content(name) if name else None


_PROBES: tuple[Probe, ...] = (
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
    _probe_iso9660,
    _probe_bare,
)
