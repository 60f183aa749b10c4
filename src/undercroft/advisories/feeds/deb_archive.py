"""The changelog inside a binary package (.deb), read in memory: nothing is unpacked, no path is followed.

Follows deb(5), ar(5) and the tar formats that dpkg-deb writes (ustar, GNU long names). Guarantees: one pass
over data.tar, within limits on what is decompressed, on the number of members and on the changelog itself.

A package's documentation folder may be a symlink to that of another package of the same source; then the
answer names that package, and the caller takes it next.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from undercroft.advisories.feeds.bounded import read_all
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.errors import InputError, UnsupportedError

MAX_DATA_BYTES = 2 << 30
"""Of a package's decompressed content; the changelog lies anywhere in it."""
MAX_MEMBERS = 500_000
MAX_CHANGELOG_BYTES = 32 << 20
MAX_NAME_BYTES = 4096

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_MAX_AR_MEMBERS = 16
_DATA_NAMES = {b"data.tar", b"data.tar.gz", b"data.tar.xz", b"data.tar.zst"}
_BLOCK_BYTES = 512
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Documentation:
    """What a package's documentation folder holds.

    Attributes:
        changelog: the decompressed Debian changelog, None where the package has none of its own.
        linked_package: the untrusted name of the package whose folder stands for this one's, "" for none.
    """

    changelog: bytes | None
    linked_package: str = ""


def documentation(file: BinaryIO, package: str, what: str) -> Documentation:
    """Return what the .deb of `package` has of documentation.

    Args:
        file: the untrusted .deb, positioned at its start.
        package: the binary package's name.
        what: for error messages.

    Raises:
        InputError: malformed, or larger than a limit allows.
        UnsupportedError: data.tar is compressed with something else than gzip, xz or zstd.
    """
    folder = f"usr/share/doc/{package}/".encode()
    # A native package has no upstream changelog, so its own goes by the shorter name.
    names = (folder + b"changelog.Debian.gz", folder + b"changelog.gz")
    found: dict[bytes, bytes] = {}
    linked_package = ""
    with decompressed(_data_member(file, what), MAX_DATA_BYTES, what) as data:
        for member in _members(data, what):
            if member.name in names and member.is_file:
                found[member.name] = member.content(MAX_CHANGELOG_BYTES)
                if member.name == names[0]:
                    break
            elif member.name + b"/" == folder:
                linked_package = member.link_target.rpartition(b"/")[2].decode("ascii", "replace")
    compressed = next((found[name] for name in names if name in found), None)
    if compressed is None:
        return Documentation(None, linked_package)
    with decompressed(io.BytesIO(compressed), MAX_CHANGELOG_BYTES, f"{what}: changelog") as text:
        return Documentation(read_all(text, MAX_CHANGELOG_BYTES, f"{what}: changelog"))


def _data_member(file: BinaryIO, what: str) -> BinaryIO:
    """Return the ar member that holds data.tar."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise InputError(f"{what}: no Debian package: it is no ar archive")
    for _ in range(_MAX_AR_MEMBERS):
        header = file.read(_AR_HEADER_BYTES)
        if len(header) != _AR_HEADER_BYTES or header[58:] != b"`\n":
            break
        name, size = header[:16].rstrip(b" ").rstrip(b"/"), header[48:58].rstrip(b" ")
        if not size.isdigit():
            break
        if name in _DATA_NAMES:
            return io.BufferedReader(_Slice(file, int(size), what), _CHUNK_BYTES)
        if name.startswith(b"data.tar"):
            raise UnsupportedError(f"{what}: compressed in a way that is not read: {name!a}")
        file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise InputError(f"{what}: no Debian package, or cut off: it has no data.tar")


class _Slice(io.RawIOBase):
    """The next `size_bytes` of a file, which must be there."""

    def __init__(self, file: BinaryIO, size_bytes: int, what: str) -> None:
        self._file = file
        self._left = size_bytes
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(self._left, len(buffer))
        data = self._file.read(wanted)
        if len(data) != wanted:
            raise InputError(f"{self._what}: cut off")
        self._left -= wanted
        buffer[:wanted] = data
        return wanted


@dataclass(slots=True)
class _Member:
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
            raise InputError(f"{self._what}: a changelog of {self.size_bytes} bytes")
        data = _exactly(self._stream, self._left, self._what)
        self._left = 0
        return data

    def skip(self) -> None:
        """Go to the end of the member, padding included."""
        padded = self._left + -self.size_bytes % _BLOCK_BYTES
        while padded:
            padded -= len(_exactly(self._stream, min(padded, _CHUNK_BYTES), self._what))
        self._left = 0


def _members(stream: io.BufferedReader, what: str) -> Iterator[_Member]:
    """Yield the members of a tar stream; each one's content can be read until the next is asked for."""
    long_name = b""
    for _ in range(MAX_MEMBERS):
        header = stream.read(_BLOCK_BYTES)
        if len(header) != _BLOCK_BYTES:
            raise InputError(f"{what}: cut off inside data.tar")
        if not header.strip(b"\0"):
            return
        _check_sum(header, what)
        size_bytes = _number(header[124:136], what)
        kind = header[156:157]
        member = _Member(
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
        else:
            yield member
        member.skip()
    raise InputError(f"{what}: more than {MAX_MEMBERS} files")


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
        raise InputError(f"{what}: damaged inside data.tar: a header's checksum is wrong")


def _exactly(stream: io.BufferedReader, size_bytes: int, what: str) -> bytes:
    data = stream.read(size_bytes)
    if len(data) != size_bytes:
        raise InputError(f"{what}: cut off inside data.tar")
    return data
