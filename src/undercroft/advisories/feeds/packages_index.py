"""A distribution mirror's Packages file: which binary packages a suite has, in which versions.

Follows Debian Policy section 5 and https://wiki.debian.org/DebianRepository/Format#A.22Packages.22_Indices.
Takes a stream whose digest has been verified against a signed Release. Reads stanza by stanza, within a
limit for each.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from undercroft.advisories.feeds import fields
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.release_file import check_path
from undercroft.advisories.records import IndexEntry
from undercroft.errors import InputError

MAX_INDEX_BYTES = 1 << 30
"""Decompressed; Debian's largest is 60 MB."""
MAX_STANZA_BYTES = 4 << 20

_CHUNK_BYTES = 1 << 20
_WANTED = re.compile(rb"^(Package|Version|Architecture|Source|Filename|Size|SHA256):[ \t]*(.*)", re.MULTILINE)
_SOURCE = re.compile(r"(\S+)(?:[ \t]+\((\S+)\))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SIZE = re.compile(r"[0-9]{1,11}")


@dataclass(frozen=True, slots=True)
class ListedPackage:
    """One stanza: a binary package and where its file lies, relative to the mirror's base."""

    package: str
    version: str
    architecture: str
    source: str
    source_version: str
    path: str
    size_bytes: int
    sha256: str


def listed_packages(file: BinaryIO, what: str) -> Iterator[ListedPackage]:
    """Yield the packages of an index, plain or compressed with gzip, xz or zstd. Raises InputError."""
    for number, stanza in enumerate(_stanzas(decompressed(file, MAX_INDEX_BYTES, what), what), start=1):
        place = f"{what}: stanza {number}"
        found = _WANTED.findall(stanza)
        values = {name.decode(): value.decode("ascii", "replace").rstrip() for name, value in found}
        if len(values) != len(found):
            raise InputError(f"{place}: has a field twice")
        yield _listed(values, place)


def index_entries(packages: Iterator[ListedPackage], release: str, suite: str) -> Iterator[IndexEntry]:
    """Yield the records of `packages` for a suite of a release."""
    for listed in packages:
        yield IndexEntry(
            release=release,
            suite=suite,
            package=listed.package,
            architecture=listed.architecture,
            version=listed.version,
            source=listed.source,
            source_version=listed.source_version,
        )


def _stanzas(stream: io.BufferedReader, what: str) -> Iterator[bytes]:
    """Yield what lies between empty lines."""
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *stanzas, rest = (rest + chunk).split(b"\n\n")
        if len(rest) > MAX_STANZA_BYTES:
            raise InputError(f"{what}: a stanza of more than {MAX_STANZA_BYTES} bytes")
        yield from filter(bytes.strip, stanzas)
    if rest.strip():
        yield rest


def _listed(values: dict[str, str], place: str) -> ListedPackage:
    package = fields.package(values.get("Package"), f"{place}: Package")
    place = f"{place}: {package}"
    version = fields.version(values.get("Version"), f"{place}: Version")
    source = _SOURCE.fullmatch(values.get("Source") or package)
    if source is None:
        raise InputError(f"{place}: Source is {ascii(values['Source'])[:80]}")
    path, size, sha256 = (values.get(key, "") for key in ("Filename", "Size", "SHA256"))
    check_path(path, place)
    if not _SIZE.fullmatch(size) or not _SHA256.fullmatch(sha256):
        raise InputError(f"{place}: has no valid Size and SHA256")
    return ListedPackage(
        package=package,
        version=version,
        architecture=fields.package(values.get("Architecture"), f"{place}: Architecture"),
        source=fields.package(source[1], f"{place}: Source"),
        source_version=fields.version(source[2] or version, f"{place}: Source"),
        path=path,
        size_bytes=int(size),
        sha256=sha256,
    )
