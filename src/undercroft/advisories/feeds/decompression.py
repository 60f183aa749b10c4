"""Compressed streams of untrusted bytes: gzip, xz, zstd and bzip2, decompressed piece by piece within limits.

A bomb stops at the caller's limit, no piece unfolds to more than memory takes, no stream makes its
decompressor allocate a larger window than `MAX_WINDOW_BYTES`, and one that was cut off never passes for
whole (zstandard's own stream reader takes that for the end).
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import zstandard

from undercroft.errors import InputError

_CHUNK_BYTES = 1 << 16
_MAGIC_BYTES = 6


class Frame(Protocol):
    """One gzip member, xz stream, zstd frame or bzip2 stream being decompressed; a file may hold several."""

    @property
    def eof(self) -> bool:
        """Whether its end has been reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows its end."""
        ...

    def decompress(self, data: bytes, /) -> bytes:
        """Return what `data` stands for."""
        ...


@dataclass(frozen=True, slots=True)
class Compression:
    """How one compression is recognised and read.

    Attributes:
        magic: first bytes of a frame.
        piece_bytes: how much is decompressed at a time, so that what comes out of it fits into memory:
            at most 1,032 times as much for gzip, 7,000 times for xz, 44,000 times for zstd, 46,000 for bzip2.
        frame: starts a new frame.
        error: what its library raises for damaged data.
    """

    magic: bytes
    piece_bytes: int
    frame: Callable[[], Frame]
    error: type[Exception]


MAX_WINDOW_BYTES = 128 << 20
"""Memory that a stream may make its decompressor allocate; `xz -9` and `zstd --ultra -22` need no more."""


def _zstd_frame() -> Frame:
    return zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()


def _xz_frame() -> Frame:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES)


def _gzip_frame() -> Frame:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


COMPRESSIONS = (
    Compression(b"\x1f\x8b", 8192, _gzip_frame, zlib.error),
    Compression(b"\xfd7zXZ\x00", 4096, _xz_frame, lzma.LZMAError),
    Compression(b"\x28\xb5\x2f\xfd", 256, _zstd_frame, zstandard.ZstdError),
    Compression(b"BZh", 256, bz2.BZ2Decompressor, OSError),
)


class DecompressedStream(io.RawIOBase):
    """The decompressed bytes of a gzip, xz, zstd or bzip2 stream, or the bytes themselves where it is none.

    Args:
        file: the compressed bytes, read from its current position.
        limit: most bytes that may come out; past it InputError. This is what stops a bomb.
        what: for error messages.
    """

    def __init__(self, file: BinaryIO, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0
        self._file = file
        self._input = file.read(_MAGIC_BYTES)
        self._output = io.BytesIO()
        self._frame: Frame | None = None
        self._compression = next((c for c in COMPRESSIONS if self._input.startswith(c.magic)), None)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, return how many bytes were put there, 0 at the end. Raises InputError."""
        while not (data := self._output.read(len(buffer))):
            piece = self._input or self._next_piece()
            if not piece:
                if self._frame is not None:
                    raise InputError(f"{self._what}: cut off: its compressed stream has no end")
                return 0
            self._output = io.BytesIO(self._decompress(piece))
        self._taken += len(data)
        if self._taken > self._limit:
            raise InputError(f"{self._what}: more than the limit of {self._limit} bytes when decompressed")
        buffer[: len(data)] = data
        return len(data)

    def _next_piece(self) -> bytes:
        try:
            return self._file.read(self._compression.piece_bytes if self._compression else _CHUNK_BYTES)
        except OSError as error:
            raise InputError(f"{self._what}: cannot be read: {error}") from error

    def _decompress(self, piece: bytes) -> bytes:
        """Return what `piece` stands for; what follows a frame's end becomes the next piece."""
        self._input = b""
        if self._compression is None:
            return piece
        if self._frame is None:
            piece = piece.lstrip(b"\0")  # padding between frames
            if not piece:
                return b""
            self._frame = self._compression.frame()
        try:
            data = self._frame.decompress(piece)
        except (self._compression.error, EOFError, MemoryError) as error:
            raise InputError(f"{self._what}: damaged: {error}") from error
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data, None
        return data


def decompressed(file: BinaryIO, limit: int, what: str) -> io.BufferedReader:
    """Return a buffered `DecompressedStream`; its reads raise InputError."""
    return io.BufferedReader(DecompressedStream(file, limit, what), _CHUNK_BYTES)
