"""The boot sector of FAT: how large all is, and where it lies."""

from dataclasses import dataclass
from struct import unpack_from

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

BOOT_BYTES = 512
ENTRY_BYTES = 32
FIRST_CLUSTER = 2
SECTOR_SIZES = (512, 1024, 2048, 4096)
MAX_CLUSTERS = {12: 4084, 16: 65_524, 32: 0x0FFFFFF5}
MAX_FATS = 4
_DIRTY_AT = {12: 37, 16: 37, 32: 65}
_SERIAL_AT = {12: 39, 16: 39, 32: 67}
_DIRTY = 1
_NO_MIRROR = 0x80


@dataclass(frozen=True, slots=True)
class Boot:
    """What of the boot sector is used, checked.

    Attributes:
        bits: of a FAT's entry: 12, 16 or 32.
        cluster_bytes: of a cluster.
        clusters: how many there are, the first is number 2.
        heap_offset: where the first lies.
        fats: where the FATs lie that are in use, at most two are looked at.
        root_offset, root_bytes: of the root directory of FAT12 and FAT16; 0 for FAT32.
        root: first cluster of the root directory of FAT32; 0 for the others.
        serial: of the volume.
        is_dirty: whether it was not unmounted.
    """

    bits: int
    cluster_bytes: int
    clusters: int
    heap_offset: int
    fats: tuple[int, ...]
    root_offset: int
    root_bytes: int
    root: int
    serial: int
    is_dirty: bool

    def offset(self, cluster: int) -> int:
        """Return where a cluster lies. Raises InputError where there is none of that number."""
        if not FIRST_CLUSTER <= cluster < self.clusters + FIRST_CLUSTER:
            raise InputError(f"vfat cluster {cluster}: there is none")
        return self.heap_offset + (cluster - FIRST_CLUSTER) * self.cluster_bytes


def read_boot(source: BlockSource) -> Boot:
    """Return the boot sector. Raises InputError where it is malformed or passes the volume's end."""
    head = source.read(0, BOOT_BYTES)
    sector, per_cluster, reserved, count, entries, short_total = unpack_from("<HBHBHH", head, 11)
    (short_length,) = unpack_from("<H", head, 22)
    (long_total, long_length, flags, version, root) = unpack_from("<IIHHI", head, 32)
    if head[510:512] != b"\x55\xaa" or sector not in SECTOR_SIZES:
        raise InputError(f"vfat boot sector: it is none, or has sectors of {sector} bytes")
    if per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128) or not reserved or not 1 <= count <= MAX_FATS:
        raise InputError(
            f"vfat boot sector: clusters of {per_cluster} sectors, {count} FATs behind {reserved}"
        )
    is_32 = not short_length
    length = long_length if is_32 else short_length
    total = short_total or long_total
    root_sectors = -(-entries * ENTRY_BYTES // sector)
    heap = reserved + count * length + root_sectors
    clusters = (total - heap) // per_cluster
    bits = 32 if is_32 else 16 if clusters > MAX_CLUSTERS[12] else 12
    if not 1 <= clusters <= MAX_CLUSTERS[bits] or total * sector > source.size_bytes:
        raise InputError(
            f"vfat boot sector: {clusters} clusters, {total} sectors of {source.size_bytes} bytes"
        )
    if length * sector < ((clusters + FIRST_CLUSTER) * bits + 7) // 8:
        raise InputError(f"vfat boot sector: a FAT of {length} sectors for {clusters} clusters")
    if is_32 and (entries or version):
        raise InputError(f"vfat boot sector: version {version} with a root of {entries} entries")
    if not is_32 and not entries:
        raise InputError("vfat boot sector: a root of 0 entries")
    return Boot(
        bits=bits,
        cluster_bytes=per_cluster * sector,
        clusters=clusters,
        heap_offset=heap * sector,
        fats=tuple(place * sector for place in _in_use(reserved, count, length, flags if is_32 else 0)),
        root_offset=0 if is_32 else (heap - root_sectors) * sector,
        root_bytes=entries * ENTRY_BYTES,
        root=root if is_32 else 0,
        serial=int(unpack_from("<I", head, _SERIAL_AT[bits])[0]),
        is_dirty=bool(head[_DIRTY_AT[bits]] & _DIRTY),
    )


def _in_use(first: int, count: int, length: int, flags: int) -> list[int]:
    """Return the sectors of the first FAT and its copy; of the one in use where they are not kept alike."""
    if flags & _NO_MIRROR:
        active = flags & 0xF
        if active >= count:
            raise InputError(f"vfat boot sector: FAT {active} of {count} is in use")
        return [first + active * length]
    return [first + number * length for number in range(min(count, 2))]
