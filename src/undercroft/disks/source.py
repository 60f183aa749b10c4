"""Block sources: where bytes come from, whatever holds them."""

import os
from typing import Protocol

from undercroft.errors import InputError

MAX_READ_BYTES = 64 << 20
"""The most that one read may ask for; `os.pread` allocates all of it at once."""


class BlockSource(Protocol):
    """A readable range of bytes.

    `read` returns exactly `length` bytes or raises: `InputError` where the range passes the end of the
    source or the bytes cannot be had. It never returns fewer, and never zeros in place of what is
    missing.
    """

    @property
    def size_bytes(self) -> int:
        """Length of the source."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`; `length` is at most `MAX_READ_BYTES`."""
        ...


def check_range(offset: int, length: int, size_bytes: int, what: str) -> None:
    """Raise InputError unless `length` bytes at `offset` lie inside `size_bytes`."""
    if length < 0 or length > MAX_READ_BYTES:
        raise InputError(
            f"{what}: a read of {length} bytes at {offset} is over the limit of {MAX_READ_BYTES}"
        )
    if offset < 0 or offset + length > size_bytes:
        raise InputError(f"{what}: {length} bytes at {offset} lie beyond its end at {size_bytes}")


class DescriptorSource:
    """An open file or block device, read with pread: no seek position, no SIGBUS when it shrinks.

    Args:
        descriptor: readable, seekable; not closed here.
        size_bytes: where reading ends; the size at the time of opening.
        name: for error messages ("disk vda").
    """

    __slots__ = ("_descriptor", "name", "size_bytes")

    def __init__(self, descriptor: int, size_bytes: int, name: str = "image") -> None:
        self._descriptor = descriptor
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`.

        Raises:
            InputError: beyond the end; the file shrank; the disk under it has a bad sector.
        """
        if offset < 0 or not 0 <= length <= MAX_READ_BYTES or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)  # a call costs as much as the test
        try:
            data = os.pread(self._descriptor, length, offset)
            while len(data) != length:
                more = os.pread(self._descriptor, length - len(data), offset + len(data))
                if not more:
                    raise InputError(f"{self.name}: shrank during the read to {offset + len(data)} bytes")
                data += more
        except OSError as error:
            raise InputError(
                f"{self.name}: reading {length} bytes at {offset} failed: {error.strerror}"
            ) from error
        return data


class BytesSource:
    """Bytes in memory, for tests and for small decoded areas."""

    __slots__ = ("_data", "name", "size_bytes")

    def __init__(self, data: bytes, name: str = "bytes") -> None:
        self._data = data
        self.size_bytes = len(data)
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset`. Raises InputError beyond the end."""
        check_range(offset, length, self.size_bytes, self.name)
        return self._data[offset : offset + length]


class SliceSource:
    """A part of another source, such as a partition."""

    __slots__ = ("_inner", "_start", "name", "size_bytes")

    def __init__(self, inner: BlockSource, start: int, size_bytes: int, name: str = "partition") -> None:
        if start < 0 or size_bytes < 0 or start + size_bytes > inner.size_bytes:
            raise InputError(
                f"{name}: {size_bytes} bytes at {start} lie beyond the disk's end at {inner.size_bytes}"
            )
        self._inner = inner
        self._start = start
        self.size_bytes = size_bytes
        self.name = name

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` bytes at `offset` of the slice. Raises InputError beyond its end."""
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            check_range(offset, length, self.size_bytes, self.name)
        return self._inner.read(self._start + offset, length)
