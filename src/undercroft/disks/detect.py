"""What a volume holds, told by the magic numbers of its format.

Guarantees: reads at most 512 KiB of the volume, decides from fixed offsets only, and never says
"blank" unless every sampled block is zero. A volume that bears several magics is reported by the first
one in the order of `magics.PROBES` (a container hides what an earlier filesystem left behind), and the
others are named in `Content.also`.

    >>> detect(source)
    Content(kind='xfs', label='data', uuid='5ee3...')
"""

from dataclasses import dataclass

from undercroft.disks.formats import UNKNOWN, open_filesystem
from undercroft.disks.magics import HEAD_BYTES, MD_MAGIC, PROBES, ZFS_MAGICS, Content, Head, probe_md
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

TAIL_BYTES = 128 << 10
"""Holds the superblocks of md 0.90 and 1.0, which lie at most 128 KiB before the end."""

ZFS_UBERBLOCKS_OFFSET = 128 << 10
ZFS_UBERBLOCKS_BYTES = 128 << 10

BLANK_SAMPLES = 32
BLANK_SAMPLE_BYTES = 4096

__all__ = ["BLANK", "NOT_APPLICABLE", "UNKNOWN", "Content", "detect", "open_filesystem"]

BLANK = "blank"

ESP_TYPES = frozenset({"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"})
"""GPT type and MBR type byte of an EFI system partition."""

BOOT_CODE_TYPES = frozenset(
    {
        "21686148-6449-6e6f-744e-656564454649",  # BIOS boot: GRUB's core image
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b",  # PReP boot
        "41",  # PReP boot in an MBR
        "e3c9e316-0b5c-4db8-817d-f92df00215ae",  # Microsoft reserved: no filesystem by definition
        "83bd6b9d-7f41-11dc-be0b-001560b84f0f",  # FreeBSD boot: gptboot or gptzfsboot
    }
)

FREEBSD_SWAP_TYPES = frozenset({"516e7cb5-6ecf-11d6-8ff8-00022d09712b", "bsd:01"})
"""FreeBSD's swap bears no magic: whatever pages lie there are memory, and no filesystem."""

NOT_APPLICABLE = {
    "swap": "swap space holds no files",
    "esp": "boot files of the firmware, no packages",
    "bios-boot": "boot loader code, no filesystem",
    BLANK: "every sampled block is zero",
}
"""Contents that cannot hold installed software, with the reason that a report shows."""


def detect(source: BlockSource, type_id: str = "") -> Content:
    """Return what the volume holds; `type_id` is its partition type (GPT GUID or MBR hex), lower case.

    Raises:
        InputError: the volume's bytes cannot be read.
    """
    head = Head(source.read(0, min(HEAD_BYTES, source.size_bytes)))
    found = [content for probe in PROBES if (content := probe(head))]
    note = ""
    try:
        tail = raid_at_end(source)
    except InputError as error:
        if not found:
            raise
        tail, note = None, f"its end, where a RAID member may say so, could not be read: {error}"
    if tail:
        found.insert(0, tail.content)  # a mirror's member begins as what it mirrors does
    elif not found and any(source.read(place, 4) == MD_MAGIC for place in _raid_places(source)):
        found = [Content("md-raid")]  # its reader says what is wrong with it
    if not found and _has_zfs_uberblock(source):
        found = [Content("zfs")]
    if not found:
        return _without_magic(source, type_id)
    first = found[0]
    kind = "esp" if first.kind == "vfat" and type_id in ESP_TYPES else first.kind
    others = tuple(dict.fromkeys(content.kind for content in found[1:] if content.kind != first.kind))
    return Content(kind, first.label, first.uuid, others, "; ".join(filter(None, (first.note, note))))


def _without_magic(source: BlockSource, type_id: str) -> Content:
    if type_id in BOOT_CODE_TYPES:
        return Content("bios-boot")
    if type_id in FREEBSD_SWAP_TYPES:
        return Content("swap")
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
    return any(data.startswith(ZFS_MAGICS, offset) for offset in range(0, len(data), 1024))


@dataclass(frozen=True, slots=True)
class RaidAtEnd:
    """A member of an md array that keeps its superblock at the end, and where."""

    content: Content
    offset: int


def raid_at_end(source: BlockSource) -> RaidAtEnd | None:
    """Return the member whose sound superblock of md 1.0 or 0.90 lies at the end, None for none.

    1.0 lies 8 KiB before the end, aligned to 4 KiB; 0.90 64 KiB before, aligned to 64 KiB. A checksum tells
    them from bytes that happen to look so, as in libblkid.

    Raises:
        InputError: the volume's bytes cannot be read.
    """
    for offset in _raid_places(source):
        if source.read(offset, 4) == MD_MAGIC and (content := probe_md(source.read(offset, 4096), offset)):
            return RaidAtEnd(content, offset)
    return None


def _raid_places(source: BlockSource) -> tuple[int, ...]:
    size = source.size_bytes
    if size < TAIL_BYTES:
        return ()
    return ((((size >> 9) - 16) & ~7) << 9, (size & ~0xFFFF) - 0x10000)
