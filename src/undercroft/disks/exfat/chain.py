"""Chains of clusters in the FAT of exFAT, and files without one."""

from collections.abc import Iterator
from struct import unpack_from

from undercroft.disks.cache import BoundedCache
from undercroft.disks.exfat.boot import Boot
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

END = 0xFFFFFFFF
PAGE_BYTES = 4096
CACHED_PAGES = 256
MAX_RUN = 1 << 16
"""Clusters in one run."""


class Fat:
    """The FAT in use of one volume."""

    def __init__(self, source: BlockSource, boot: Boot) -> None:
        self._source = source
        self._boot = boot
        self._pages: BoundedCache[int, bytes] = BoundedCache(CACHED_PAGES)

    def runs(self, first: int, count: int, *, is_contiguous: bool) -> Iterator[tuple[int, int]]:
        """Yield (first cluster, how many) of a file's clusters, neighbours as one.

        Args:
            first: untrusted first cluster.
            count: how many there must be.
            is_contiguous: whether they lie side by side, without a chain.

        Raises:
            InputError: the chain ends before, or leaves the volume; also midway.
        """
        if not count:
            return
        if count > self._boot.clusters:
            raise InputError(f"exfat cluster {first}: {count} clusters of {self._boot.clusters}")
        self._boot.offset(first)
        if is_contiguous:
            self._boot.offset(first + count - 1)
            yield first, count
            return
        begin, length = first, 1
        for cluster in self.chain(first, count):
            if cluster == begin + length and length < MAX_RUN:
                length += 1
            else:
                yield begin, length
                begin, length = cluster, 1
        yield begin, length

    def chain(self, first: int, count: int) -> Iterator[int]:
        """Yield the clusters behind `first` until there are `count`. Raises InputError at an early end."""
        cluster = first
        for _ in range(count - 1):
            following = self.following(cluster)
            if following is None:
                raise InputError(f"exfat cluster {first}: its chain has fewer than {count} clusters")
            yield following
            cluster = following

    def following(self, cluster: int) -> int | None:
        """Return what comes behind a cluster, None at the end of its chain. Raises InputError."""
        page, place = divmod(4 * cluster, PAGE_BYTES)
        data = self._pages.get(page)
        if data is None:
            start = self._boot.fat_offset + page * PAGE_BYTES
            length = min(PAGE_BYTES, 4 * (self._boot.clusters + 2) - page * PAGE_BYTES)
            data = self._pages.put(page, self._source.read(start, length))
        (following,) = unpack_from("<I", data, place)
        if following == END:
            return None
        self._boot.offset(following)
        return int(following)
