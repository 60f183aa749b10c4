"""Compressed extents: zlib, lzo and zstd, each within a limit of output.

zstandard's compiled part is loaded with this module, since a filtered child can load nothing; by its file,
because the package's own start costs twenty times as much.
"""

import os
import zlib
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, PathFinder
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

from undercroft.disks.btrfs import layout, lzo
from undercroft.errors import InputError, UnsupportedError

ZLIB, LZO, ZSTD = 1, 2, 3
MAX_WINDOW_BYTES = 128 << 10
"""The kernel's limit (ZSTD_BTRFS_MAX_WINDOWLOG)."""


def _load_zstd() -> Any:
    package = PathFinder.find_spec("zstandard")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        for suffix in EXTENSION_SUFFIXES:
            path = os.path.join(folder, "backend_c" + suffix)
            if os.path.exists(path):
                loader = ExtensionFileLoader("zstandard.backend_c", path)
                spec = spec_from_loader("zstandard.backend_c", loader)
                if spec is not None:
                    module = module_from_spec(spec)
                    loader.exec_module(module)
                    return module
    import zstandard  # noqa: PLC0415 - an installation of another shape

    return zstandard


_zstd = _load_zstd()
zstd_library = _zstd
"""Loaded once, for other formats too."""
_frames = _zstd.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)


def decompress(packed: bytes, size: int, kind: int, sector_bytes: int, what: str) -> bytes:
    """Return the `size` bytes that an extent holds; what its stream lacks is zeros, as in the kernel.

    Args:
        packed: untrusted, may be longer than the stream.
        size: bytes, untrusted.
        kind: the extent's compression.
        sector_bytes: the filesystem's.
        what: for messages.

    Raises:
        UnsupportedError: an unknown compression.
        InputError: the stream is damaged.
    """
    if kind not in _NAMES:
        raise UnsupportedError(f"{what}: the compression {kind} is not supported")
    if not 0 < size <= layout.MAX_UNCOMPRESSED_BYTES:
        raise InputError(
            f"{what}: a compressed extent of {size} bytes, the limit is {layout.MAX_UNCOMPRESSED_BYTES}"
        )
    try:
        if kind == LZO:
            data = lzo.decompress_frame(packed, size, sector_bytes)
        else:
            data = (_inflate if kind == ZLIB else _unframe)(packed, size)
    except (zlib.error, _zstd.ZstdError, ValueError) as error:
        raise InputError(f"{what}: its {_NAMES[kind]} stream is damaged ({error})") from error
    return data if len(data) == size else data.ljust(size, b"\0")


def _inflate(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    data = stream.decompress(packed, limit)
    if len(data) < limit and not stream.eof:
        raise ValueError("it ends before its end")
    return data


def _unframe(packed: bytes, limit: int) -> bytes:
    data: bytes = _frames.stream_reader(packed).read(limit)
    if not data:
        raise ValueError("it holds nothing")
    return data


_NAMES = {ZLIB: "zlib", LZO: "lzo", ZSTD: "zstd"}
