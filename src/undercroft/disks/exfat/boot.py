"""The boot region of exFAT: how large all is, and where it lies; its copy where the first one is damaged."""

from dataclasses import dataclass
from struct import Struct, unpack_from

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

BOOT_BYTES = 512
REGION_SECTORS = 12
NAME = b"EXFAT   "
FIRST_CLUSTER = 2
SECTOR_SHIFTS = range(9, 13)
MAX_CLUSTER_SHIFT = 25
MAX_CLUSTERS = (1 << 32) - 11
DIRTY, SECOND_FAT = 0x2, 0x1

_FIELDS = Struct("<2Q6I2H4B")
"""Partition's place, sectors, FAT's sector and length, heap's sector, clusters, root, serial number,
revision, flags, sector's shift, cluster's shift, FATs, drive."""
_UNCHECKED = (106, 107, 112)
"""Flags and share in use, which change while a volume is mounted."""


@dataclass(frozen=True, slots=True)
class Boot:
    """What of the boot region is used, checked.

    Attributes:
        cluster_bytes: of a cluster.
        clusters: how many there are, the first is number 2.
        heap_offset: where the first lies.
        fat_offset: where the FAT in use lies.
        root: first cluster of the root directory.
        serial: of the volume.
        is_dirty: whether it was not unmounted.
        notes: of the damage of the first region.
    """

    cluster_bytes: int
    clusters: int
    heap_offset: int
    fat_offset: int
    root: int
    serial: int
    is_dirty: bool
    notes: tuple[str, ...] = ()

    def offset(self, cluster: int) -> int:
        """Return where a cluster lies. Raises InputError where there is none of that number."""
        if not FIRST_CLUSTER <= cluster < self.clusters + FIRST_CLUSTER:
            raise InputError(f"exfat cluster {cluster}: there is none")
        return self.heap_offset + (cluster - FIRST_CLUSTER) * self.cluster_bytes


def read_boot(source: BlockSource) -> Boot:
    """Return the boot region. Raises InputError where neither it nor its copy is sound."""
    try:
        return _read_at(source, 0)
    except UnsupportedError:
        raise
    except InputError as error:
        for shift in SECTOR_SHIFTS:
            try:
                return _read_at(source, REGION_SECTORS << shift, (f"{error}: its copy was used",))
            except InputError:
                continue
        raise


def _read_at(source: BlockSource, start: int, notes: tuple[str, ...] = ()) -> Boot:
    head = source.read(start, BOOT_BYTES)
    fields = _FIELDS.unpack_from(head, 64)
    _, sectors, fat, fat_length, heap, clusters, root, serial, revision, flags, *small = fields
    sector_shift, cluster_shift, fats, _ = small
    if head[3:11] != NAME or head[510:512] != b"\x55\xaa" or any(head[11:64]):
        raise InputError("exfat boot sector: it is none")
    if sector_shift not in SECTOR_SHIFTS or sector_shift + cluster_shift > MAX_CLUSTER_SHIFT:
        raise InputError(
            f"exfat boot sector: sectors of 2^{sector_shift}, clusters of 2^{cluster_shift} more"
        )
    if start and start != REGION_SECTORS << sector_shift:
        raise InputError("exfat boot sector: its copy lies elsewhere")
    _check(source.read(start, REGION_SECTORS << sector_shift), 1 << sector_shift)
    if revision >> 8 != 1:
        raise UnsupportedError(f"exfat revision {revision >> 8}.{revision & 0xFF} is not supported yet")
    if fats not in (1, 2) or not 1 <= clusters <= MAX_CLUSTERS:
        raise InputError(f"exfat boot sector: {clusters} clusters, {fats} FATs")
    end = heap + (clusters << cluster_shift)
    fat_sectors = ((clusters + FIRST_CLUSTER) * 4 + (1 << sector_shift) - 1) >> sector_shift
    if fat < 2 * REGION_SECTORS or fat_length < fat_sectors or fat + fats * fat_length > heap:
        raise InputError(
            f"exfat boot sector: {fats} FATs of {fat_length} sectors at {fat}, the heap at {heap}"
        )
    if end > sectors or sectors << sector_shift > source.size_bytes:
        raise InputError(
            f"exfat boot sector: {end} of {sectors} sectors in a volume of {source.size_bytes} bytes"
        )
    if fats == 2 and flags & SECOND_FAT:
        fat += fat_length
    return Boot(
        cluster_bytes=1 << sector_shift + cluster_shift,
        clusters=clusters,
        heap_offset=heap << sector_shift,
        fat_offset=fat << sector_shift,
        root=root,
        serial=serial,
        is_dirty=bool(flags & DIRTY),
        notes=notes,
    )


def _check(region: bytes, sector_bytes: int) -> None:
    """Check the region's checksum, which fills its last sector (section 3.4)."""
    last = len(region) - sector_bytes
    total = 0
    for index, byte in enumerate(region[:last]):
        if index not in _UNCHECKED:
            total = ((total >> 1 | total << 31) + byte) & 0xFFFFFFFF
    (found,) = unpack_from("<I", region, last)
    if found != total:
        raise InputError(f"exfat boot region: its checksum is {found:#x}, its bytes give {total:#x}")
