"""Untrusted zip and tar archives of JSON documents, read member by member and never unpacked.

Members' names are for messages only; nothing is written anywhere. Limits: the directory's size before it
is read (it is held in memory), the number of members, each member's size and the sum of all, counted on
what really comes out and not on what the headers say.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.tarstream import members
from undercroft.errors import InputError, UnsupportedError

MAX_DIRECTORY_BYTES = 128 << 20
MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 16 << 30
"""All CVE records are 3 GB, all of Ubuntu's OSV records 4 GB."""

ZIP_MAGIC = b"PK\x03\x04"
_TAR_BYTES = 512
_END = b"PK\x05\x06"
_END64_LOCATOR = b"PK\x06\x07"
_END64 = b"PK\x06\x06"
_END_BYTES = 22 + (1 << 16)
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
)
"""What zipfile raises for malformed archives, by reading its source."""


def json_documents(file: BinaryIO, what: str) -> Iterator[tuple[str, bytes]]:
    """Yield (place for messages, content) of each member whose name ends in ".json".

    Raises:
        InputError: the archive is damaged, cut off, or larger than a limit allows.
        UnsupportedError: a member is encrypted or uses a compression other than deflate.
    """
    _check_directory(file, what)
    total = 0
    with _opened(file, what) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".json"):
                continue
            place = f"{what}: member {ascii(member.filename)[:120]}"
            content = _content(archive, member, place)
            total += len(content)
            if total > MAX_TOTAL_BYTES:
                raise InputError(f"{what}: more than {MAX_TOTAL_BYTES} bytes when decompressed")
            yield place, content


def documents_in(file: BinaryIO, what: str) -> Iterator[tuple[str, bytes]]:
    """Yield the same of a zip archive, or of a tar archive, plain or compressed with gzip, xz or zstd.

    Raises:
        InputError, UnsupportedError: as `json_documents`.
    """
    file.seek(0)
    if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
        yield from json_documents(file, what)
        return
    file.seek(0)
    with decompressed(file, MAX_TOTAL_BYTES, what) as stream:
        for member in members(stream, what, MAX_MEMBERS):
            if member.is_file and member.name.endswith(b".json"):
                yield f"{what}: member {ascii(member.name)[:120]}", member.content(MAX_MEMBER_BYTES)


def is_tar(file: BinaryIO, what: str) -> bool:
    """Tell whether a file is a tar archive, plain or compressed; a damaged one is none."""
    file.seek(0)
    try:
        with decompressed(file, MAX_TOTAL_BYTES, what) as stream:
            return stream.read(_TAR_BYTES)[257:262] == b"ustar"
    except InputError:
        return False
    finally:
        file.seek(0)


def _opened(file: BinaryIO, what: str) -> zipfile.ZipFile:
    try:
        file.seek(0)
        return zipfile.ZipFile(file)
    except _ZIP_ERRORS as error:
        raise InputError(f"{what}: no readable zip archive: {error}") from error


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str) -> bytes:
    if member.flag_bits & 1 or member.compress_type not in _METHODS:
        raise UnsupportedError(f"{place}: encrypted, or compressed with something else than deflate")
    try:
        with archive.open(member) as stream:
            content = stream.read(MAX_MEMBER_BYTES + 1)
    except _ZIP_ERRORS as error:
        raise InputError(f"{place}: damaged: {error}") from error
    if len(content) > MAX_MEMBER_BYTES:
        raise InputError(f"{place}: larger than the limit of {MAX_MEMBER_BYTES} bytes")
    return content


def _check_directory(file: BinaryIO, what: str) -> None:
    """Raise InputError unless the central directory's size and count are within limits."""
    size_bytes = file.seek(0, 2)
    file.seek(max(0, size_bytes - _END_BYTES))
    tail = file.read(_END_BYTES)
    end = tail.rfind(_END)
    if end < 0 or len(tail) < end + 22:
        raise InputError(f"{what}: no zip archive, or cut off: it has no end of directory")
    count, directory_bytes = struct.unpack_from("<HI", tail, end + 10)
    locator = end - 20
    if locator >= 0 and tail.startswith(_END64_LOCATOR, locator):
        (offset,) = struct.unpack_from("<Q", tail, locator + 8)
        file.seek(min(offset, size_bytes))
        record = file.read(56)
        if len(record) < 56 or not record.startswith(_END64):
            raise InputError(f"{what}: damaged: its zip64 end of directory is not where it should be")
        count, directory_bytes = struct.unpack_from("<QQ", record, 32)
    if count > MAX_MEMBERS or directory_bytes > MAX_DIRECTORY_BYTES:
        raise InputError(f"{what}: a zip directory of {count} members in {directory_bytes} bytes")
