"""Untrusted tar archives, read member by member in one pass: nothing is unpacked, no name is followed.

Follows tar(5): ustar, GNU long names and the names in pax headers, as dpkg-deb and publishers' archives write
them; what else pax headers say is passed over. Headers' checksums are checked.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.errors import InputError

MAX_NAME_BYTES = 4096
MAX_PAX_BYTES = 1 << 16

_BLOCK_BYTES = 512
_CHUNK_BYTES = 1 << 16
_PAX_PATH = re.compile(rb"(?:\A|\n)[0-9]{1,5} path=([^\n]+)\n")


@dataclass(slots=True)
class Member:
    """One member of a tar archive, whose content can be read until the next one is asked for.

    Attributes:
        name: untrusted, without "./" before it and "/" after it.
        is_file: a regular one.
        link_target: of a symlink, b"" for anything else.
        size_bytes: of its content.
    """

    name: bytes
    is_file: bool
    link_target: bytes
    size_bytes: int
    _stream: io.BufferedReader
    _what: str
    _left: int

    def content(self, limit: int) -> bytes:
        """Return the member's bytes. Raises InputError when they are more than `limit`."""
        if self.size_bytes > limit:
            raise InputError(
                f"{self._what}: {ascii(self.name)[:80]} of {self.size_bytes} bytes, the limit is {limit}"
            )
        data = _exactly(self._stream, self._left, self._what)
        self._left = 0
        return data

    def skip(self) -> None:
        """Go to the end of the member, padding included."""
        padded = self._left + -self.size_bytes % _BLOCK_BYTES
        while padded:
            padded -= len(_exactly(self._stream, min(padded, _CHUNK_BYTES), self._what))
        self._left = 0


def members(stream: io.BufferedReader, what: str, max_members: int) -> Iterator[Member]:
    """Yield the members of a tar stream. Raises InputError: malformed, cut off, more than `max_members`."""
    long_name = b""
    for _ in range(max_members):
        header = stream.read(_BLOCK_BYTES)
        if len(header) != _BLOCK_BYTES:
            raise InputError(f"{what}: cut off inside a tar archive")
        if not header.strip(b"\0"):
            return
        _check_sum(header, what)
        size_bytes = _number(header[124:136], what)
        kind = header[156:157]
        member = Member(
            name=(long_name or _name(header)).removeprefix(b"./").rstrip(b"/"),
            is_file=kind in {b"0", b"\0"},
            link_target=header[157:257].rstrip(b"\0") if kind == b"2" else b"",
            size_bytes=size_bytes,
            _stream=stream,
            _what=what,
            _left=size_bytes,
        )
        long_name = b""
        if kind == b"L":
            if size_bytes > MAX_NAME_BYTES:
                raise InputError(f"{what}: a file name of {size_bytes} bytes")
            long_name = member.content(MAX_NAME_BYTES).rstrip(b"\0")
        elif kind == b"x":
            paths = _PAX_PATH.findall(member.content(MAX_PAX_BYTES))
            long_name = paths[-1] if paths else b""
        else:
            yield member
        member.skip()
    raise InputError(f"{what}: more than {max_members} files")


def _name(header: bytes) -> bytes:
    name = header[:100].rstrip(b"\0")
    prefix = header[345:500].rstrip(b"\0") if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(field: bytes, what: str) -> int:
    if field[0] & 0x80:  # GNU's base 256, for sizes from 8 GiB on
        raise InputError(f"{what}: a file of 8 GiB or more")
    digits = field.strip(b" \0")
    if not digits or digits.strip(b"01234567"):
        raise InputError(f"{what}: a malformed tar header")
    return int(digits, 8)


def _check_sum(header: bytes, what: str) -> None:
    if _number(header[148:156], what) != sum(header) - sum(header[148:156]) + 8 * 0x20:
        raise InputError(f"{what}: damaged inside a tar archive: a header's checksum is wrong")


def _exactly(stream: io.BufferedReader, size_bytes: int, what: str) -> bytes:
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise InputError(f"{what}: cut off inside a tar archive")
    return data
