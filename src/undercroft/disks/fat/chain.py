"""Chains of clusters in the FAT, of 12, 16 or 32 bits each."""

from collections.abc import Iterator

from undercroft.disks.cache import BoundedCache
from undercroft.disks.fat.boot import Boot
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

PAGE_BYTES = 6144
"""A whole number of entries of each width."""
CACHED_PAGES = 256
MAX_RUN = 1 << 16
"""Clusters in one run."""
_END = {12: 0xFF8, 16: 0xFFF8, 32: 0x0FFFFFF8}


class Chains:
    """The FAT of one volume, and its copy."""

    def __init__(self, source: BlockSource, boot: Boot) -> None:
        self._source = source
        self._boot = boot
        self._pages: BoundedCache[int, tuple[bytes, ...]] = BoundedCache(CACHED_PAGES)
        self._per_page = PAGE_BYTES * 8 // boot.bits

    def runs(self, first: int, count: int) -> Iterator[tuple[int, int]]:
        """Yield (first cluster, how many) of a file's `count` clusters, neighbours as one.

        Raises:
            InputError: the chain ends before, leaves the volume, or is damaged; also midway.
        """
        if not count:
            return
        if count > self._boot.clusters:
            raise InputError(f"vfat cluster {first}: {count} clusters of {self._boot.clusters}")
        self._boot.offset(first)
        begin, length, cluster = first, 1, first
        for _ in range(count - 1):
            following = self.following(cluster)
            if following is None:
                raise InputError(f"vfat cluster {first}: its chain has fewer than {count} clusters")
            if following == begin + length and length < MAX_RUN:
                length += 1
            else:
                yield begin, length
                begin, length = following, 1
            cluster = following
        yield begin, length

    def following(self, cluster: int) -> int | None:
        """Return what comes behind a cluster, None at the end of its chain.

        Raises:
            InputError: it leads nowhere, or the FAT's copy says otherwise.
        """
        page, index = divmod(cluster, self._per_page)
        pages = self._pages.get(page)
        if pages is None:
            pages = self._pages.put(page, tuple(self._read(fat, page) for fat in self._boot.fats))
        found = {self._entry(data, index) for data in pages}
        if len(found) > 1:
            raise InputError(f"vfat cluster {cluster}: the FAT and its copy say different things")
        following = found.pop()
        if following >= _END[self._boot.bits]:
            return None
        self._boot.offset(following)
        return following

    def _read(self, fat: int, page: int) -> bytes:
        whole = ((self._boot.clusters + 2) * self._boot.bits + 7) // 8
        start = page * PAGE_BYTES
        return self._source.read(fat + start, min(PAGE_BYTES, whole - start))

    def _entry(self, page: bytes, index: int) -> int:
        bits = self._boot.bits
        start = index * bits // 8
        value = int.from_bytes(page[start : start + (4 if bits == 32 else 2)], "little")
        if bits == 12:
            return value >> 4 if index % 2 else value & 0xFFF
        return value & 0x0FFFFFFF if bits == 32 else value
