"""Reading untrusted files within limits: plain, compressed and JSON.

Whatever is wrong with the bytes comes out as `InputError`: a file or a decompressed stream that passes
its limit, a damaged stream, JSON that is malformed, nested too deeply, or made of too many values.
"""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn, cast

import zstandard

from undercroft.errors import InputError
from undercroft.model.schema import Json

MAX_JSON_VALUES = 24_000_000
"""Bound on a document's values, counted as commas and brackets: a value costs Python about 60 bytes.
The Debian tracker has some 6 million, every other document far fewer."""

_CHUNK_BYTES = 1 << 16


def read_all(file: BinaryIO, limit: int, what: str) -> bytes:
    """Return the rest of `file`. Raises InputError when it is longer than `limit` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{what}: larger than the limit of {limit} bytes")
    return data


def decode_text(data: bytes, what: str) -> str:
    """Return `data` as text. Raises InputError unless it is UTF-8 (a leading byte order mark is dropped)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: no UTF-8 at byte {error.start}") from error


def load_json(data: bytes, what: str) -> Json:
    """Return the JSON document in `data`. Raises InputError."""
    text = _checked_text(data, what)
    try:
        return cast("Json", _DECODER.decode(text))
    except RecursionError as error:
        raise InputError(f"{what}: JSON nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{what}: no valid JSON: {error}") from error


def json_members(data: bytes, what: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the JSON object in `data`, one value in memory at a time. Raises InputError."""
    text = _checked_text(data, what)
    position = _skip_space(text, _expect(text, _skip_space(text, 0), "{", what))
    if text[position : position + 1] == "}":
        _expect_end(text, position + 1, what)
        return
    while True:
        key, position = _scan(text, _skip_space(text, position), what)
        if not isinstance(key, str):
            raise InputError(f"{what}: no valid JSON: a key is no text at character {position}")
        position = _expect(text, _skip_space(text, position), ":", what)
        value, position = _scan(text, _skip_space(text, position), what)
        yield key, value
        position = _skip_space(text, position)
        if text[position : position + 1] == "}":
            _expect_end(text, position + 1, what)
            return
        position = _expect(text, position, ",", what)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _checked_text(data: bytes, what: str) -> str:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_JSON_VALUES:
        raise InputError(f"{what}: JSON of more than {MAX_JSON_VALUES} values")
    return decode_text(data, what)


def _scan(text: str, position: int, what: str) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except RecursionError as error:
        raise InputError(f"{what}: JSON nested too deeply after character {position}") from error
    except ValueError as error:
        raise InputError(f"{what}: no valid JSON: {error}") from error


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\n", "\r"}:
        position += 1
    return position


def _expect(text: str, position: int, token: str, what: str) -> int:
    if text[position : position + 1] != token:
        raise InputError(f"{what}: no valid JSON: expected {token!r} at character {position}")
    return position + 1


def _expect_end(text: str, position: int, what: str) -> None:
    if _skip_space(text, position) != len(text):
        raise InputError(f"{what}: no valid JSON: something follows its end at character {position}")


class DecompressedStream(io.RawIOBase):
    """The decompressed bytes of a gzip, xz or zstd stream, or the bytes themselves where it is neither.

    Args:
        file: the compressed bytes, read from its current position.
        limit: most bytes that may come out; past it InputError. This is what stops a bomb.
        what: for error messages.
    """

    def __init__(self, file: BinaryIO, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0
        head = file.read(6)
        self._open(io.BufferedReader(_Prefixed(head, file), _CHUNK_BYTES), head)

    def _open(self, file: io.BufferedReader, head: bytes) -> None:
        self._errors: tuple[type[Exception], ...] = (OSError, EOFError)
        self._read: Callable[[int], bytes]
        if head.startswith(b"\x1f\x8b"):
            self._errors += (zlib.error,)
            self._read = gzip.GzipFile(fileobj=file).read
        elif head.startswith(b"\xfd7zXZ\x00"):
            self._errors += (lzma.LZMAError,)
            self._read = lzma.LZMAFile(file).read  # noqa: SIM115 - the caller's file is the one to close
        elif head.startswith(b"\x28\xb5\x2f\xfd"):
            self._errors += (zstandard.ZstdError,)
            self._read = _zstandard_reader(file)
        else:
            self._read = file.read

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`, return how many bytes were put there, 0 at the end. Raises InputError."""
        try:
            data = self._read(min(len(buffer), _CHUNK_BYTES))
        except self._errors as error:
            raise InputError(f"{self._what}: damaged or cut off: {error}") from error
        self._taken += len(data)
        if self._taken > self._limit:
            raise InputError(f"{self._what}: more than the limit of {self._limit} bytes when decompressed")
        buffer[: len(data)] = data
        return len(data)


MAX_ZSTD_WINDOW_BYTES = 1 << 27
"""What `zstd --ultra` and dpkg may ask for; the window is memory that the stream makes us allocate."""


def _zstandard_reader(file: BinaryIO) -> Callable[[int], bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    return decompressor.stream_reader(file, read_across_frames=True).read


class _Prefixed(io.RawIOBase):
    """`head` followed by the rest of `file`."""

    def __init__(self, head: bytes, file: BinaryIO) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


def decompressed(file: BinaryIO, limit: int, what: str) -> io.BufferedReader:
    """Return a buffered `DecompressedStream`; its reads raise InputError."""
    return io.BufferedReader(DecompressedStream(file, limit, what), _CHUNK_BYTES)
