"""The changelog inside a binary package (.deb), read in memory: nothing is unpacked, no path is followed.

Follows deb(5), ar(5) and the tar formats that dpkg-deb writes (ustar, GNU long names). Guarantees: one pass
over data.tar, within limits on what is decompressed, on the number of members and on the changelog itself.

A package's documentation folder may be a symlink to that of another package of the same source; then the
answer names that package, and the caller takes it next.
"""

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from undercroft.advisories.feeds.bounded import read_all
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.tarstream import members
from undercroft.errors import InputError, UnsupportedError

MAX_DATA_BYTES = 2 << 30
"""Of a package's decompressed content; the changelog lies anywhere in it."""
MAX_MEMBERS = 500_000
MAX_CHANGELOG_BYTES = 32 << 20

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60
_MAX_AR_MEMBERS = 16
_DATA_NAMES = {b"data.tar", b"data.tar.gz", b"data.tar.xz", b"data.tar.zst"}
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
        for member in members(data, what, MAX_MEMBERS):
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
