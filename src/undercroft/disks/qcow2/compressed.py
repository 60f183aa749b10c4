"""Compressed clusters of a qcow2 image: deflate without header, or zstd.

A cluster decompresses to exactly the cluster's size or raises; what a stream holds beyond that is never
decompressed, so a small cluster cannot blow up memory. Follows "Compressed Clusters Descriptor" of the
specification.
"""

import zlib
from collections.abc import Callable
from typing import Final

from undercroft.disks.qcow2 import layout
from undercroft.disks.qcow2.header import CURE, Header
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

MAX_CACHE_BYTES: Final = 8 << 20
MAX_CACHED_CLUSTERS: Final = 512
"""Decompressed clusters that one image keeps: four of 2 MiB, else small reads would unpack them anew."""

MAX_ZSTD_WINDOW_BYTES: Final = 8 << 20
"""Window of zstd level 19; QEMU writes 2 MiB at most, since no cluster is larger."""

_DEFLATE_WINDOW_BITS: Final = -12


class CompressedClusters:
    """Decompresses clusters of one image and keeps the last ones.

    Args:
        source: the image file, untrusted.
        header: its checked header.
        name: of the image, for messages.
    """

    __slots__ = ("_cache", "_capacity", "_cluster_bytes", "_decompress", "_name", "_offset_bits", "_source")

    def __init__(self, source: BlockSource, header: Header, name: str) -> None:
        self._source = source
        self._name = name
        self._cluster_bytes = header.cluster_bytes
        self._offset_bits = 62 - (header.cluster_bits - 8)
        self._capacity = min(MAX_CACHED_CLUSTERS, MAX_CACHE_BYTES >> header.cluster_bits)
        self._cache: dict[int, bytes] = {}
        self._decompress = _zstd() if header.zstd else _inflate

    def cluster(self, entry: int) -> bytes:
        """Return the decompressed cluster of a compressed L2 entry.

        Raises:
            InputError: it lies beyond the file, or is damaged.
        """
        data = self._cache.pop(entry, None)
        if data is None:
            data = self._read(entry)
            if len(self._cache) >= self._capacity:
                del self._cache[next(iter(self._cache))]
        self._cache[entry] = data  # at the end: the first in the dictionary is the least recently used
        return data

    def _read(self, entry: int) -> bytes:
        offset = entry & ((1 << self._offset_bits) - 1)
        more_sectors = (entry & (layout.ENTRY_COMPRESSED - 1)) >> self._offset_bits
        end = (offset // layout.SECTOR_BYTES + more_sectors + 1) * layout.SECTOR_BYTES
        if offset >= self._source.size_bytes:
            raise InputError(
                f"{self._name}: a compressed cluster at {offset} lies beyond the end of the file; {CURE}"
            )
        packed = self._source.read(offset, min(end, self._source.size_bytes) - offset)
        try:
            data = self._decompress(packed, self._cluster_bytes)
        except (zlib.error, ValueError) as error:
            raise InputError(
                f"{self._name}: the compressed cluster at {offset} is damaged ({error}); {CURE}"
            ) from error
        if len(data) != self._cluster_bytes:
            raise InputError(
                f"{self._name}: the compressed cluster at {offset} ends after {len(data)} bytes; {CURE}"
            )
        return data


def _inflate(packed: bytes, limit: int) -> bytes:
    return zlib.decompressobj(_DEFLATE_WINDOW_BITS).decompress(packed, limit)


def _zstd() -> Callable[[bytes, int], bytes]:
    """Return a function that decompresses at most `limit` bytes, or raises ValueError.

    The one-shot calls of zstandard allocate whatever the frame claims; a stream reads up to a limit.
    """
    import zstandard  # noqa: PLC0415 - only images with zstd clusters pay for it

    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)

    def decompress(packed: bytes, limit: int) -> bytes:
        try:
            return decompressor.stream_reader(packed).read(limit)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from error

    return decompress
