"""Checksums of btrfs: crc32c, xxhash64, sha256 and blake2b, as the superblock's type says."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

# Its compiled part by name: the package itself falls back to Python, 400 times slower, without a word.
from google_crc32c._crc32c import extend

from undercroft.disks.btrfs.xxhash import xxhash64
from undercroft.errors import UnsupportedError

_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Checksum:
    """One of the algorithms.

    Attributes:
        name: as btrfs calls it.
        size_bytes: of one checksum on the disk.
        digest: the bytes that the disk holds for some data.
    """

    name: str
    size_bytes: int
    digest: Callable[[bytes], bytes]


def _crc32c(data: bytes) -> bytes:
    value: int = extend(0, data)
    return value.to_bytes(4, "little")


def _xxhash64(data: bytes) -> bytes:
    return xxhash64(data).to_bytes(8, "little")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


_TYPES = (
    Checksum("crc32c", 4, _crc32c),
    Checksum("xxhash64", 8, _xxhash64),
    Checksum("sha256", 32, _sha256),
    Checksum("blake2b", 32, _blake2b),
)


def checksum_of_type(number: int) -> Checksum:
    """Return the algorithm of a superblock. Raises UnsupportedError for a number that is none."""
    if number >= len(_TYPES):
        raise UnsupportedError(f"btrfs superblock: checksums of type {number} are not supported")
    return _TYPES[number]


def name_hash(name: bytes) -> int:
    """Return the hash under which a directory holds a name (btrfs_name_hash)."""
    value: int = extend(1, name)
    return value ^ _MASK
