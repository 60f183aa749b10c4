"""Compressed blocks of squashfs: zlib, xz and zstd, each within a limit of output and of memory."""

import lzma
import zlib
from collections.abc import Callable, Mapping

from undercroft.disks.btrfs.compression import zstd_library
from undercroft.errors import InputError, UnsupportedError

ZLIB, LZMA, LZO, XZ, LZ4, ZSTD = range(1, 7)
NAMES = {ZLIB: "gzip", LZMA: "lzma", LZO: "lzo", XZ: "xz", LZ4: "lz4", ZSTD: "zstd"}
MAX_XZ_MEMORY_BYTES = 32 << 20
"""Dictionaries are no larger than a block, which is at most 1 MiB."""
MAX_ZSTD_WINDOW_BYTES = 8 << 20

Unpack = Callable[[bytes, int], bytes]


def unpacker(kind: int) -> Unpack:
    """Return what unpacks a block of this compression into at most so many bytes.

    Raises:
        UnsupportedError: it is not read.
    """
    if kind not in _UNPACKERS:
        raise UnsupportedError(f"squashfs: the compression {NAMES.get(kind, kind)} is not supported yet")
    return _UNPACKERS[kind]


def _zlib(packed: bytes, limit: int) -> bytes:
    try:
        stream = zlib.decompressobj()
        return _whole(stream.decompress(packed, limit + 1), limit, ended=stream.eof)
    except zlib.error as error:
        raise InputError(f"squashfs: a gzip block is damaged ({error})") from error


def _xz(packed: bytes, limit: int) -> bytes:
    try:
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, MAX_XZ_MEMORY_BYTES)
        return _whole(stream.decompress(packed, limit + 1), limit, ended=stream.eof)
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"squashfs: an xz block is damaged ({error})") from error


def _zstd(packed: bytes, limit: int) -> bytes:
    try:
        frames = zstd_library.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
        data: bytes = frames.stream_reader(packed).read(limit + 1)
    except zstd_library.ZstdError as error:
        raise InputError(f"squashfs: a zstd block is damaged ({error})") from error
    return _whole(data, limit, ended=bool(data))


def _whole(data: bytes, limit: int, *, ended: bool) -> bytes:
    if len(data) > limit or not ended:
        raise InputError(f"squashfs: a block does not unpack to at most {limit} bytes")
    return data


_UNPACKERS: Mapping[int, Unpack] = {ZLIB: _zlib, XZ: _xz, ZSTD: _zstd}
