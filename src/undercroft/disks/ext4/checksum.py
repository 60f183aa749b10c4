"""Checksums of ext4's metadata: crc32c for metadata_csum, crc16 for gdt_csum (uninit_bg).

ext4 and jbd2 chain crc32c without the final inversion; the library inverts. A chain here is kept in the
library's form, so that a step is one call, and `stored` turns its end into what the disk holds.
"""

import zlib

# Its compiled part by name: the package itself falls back to Python, 400 times slower, without a word.
from google_crc32c._crc32c import extend

from undercroft.errors import InputError

__all__ = [
    "MASK",
    "chain_from_stored",
    "check",
    "crc16",
    "crc32_msb",
    "crc32c",
    "extend",
    "mirrored_stored",
    "stored",
]

MASK = 0xFFFFFFFF
_CRC16_POLYNOMIAL = 0xA001
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32c(data: bytes, chain: int = 0) -> int:
    """Return `chain` continued with `data`."""
    value: int = extend(chain, data)
    return value


def stored(chain: int) -> int:
    """Return the 32 bits that the disk holds for a finished chain."""
    return chain ^ MASK


def chain_from_stored(value: int) -> int:
    """Return the chain that continues from a value as the disk holds it."""
    return value ^ MASK


def crc16(data: bytes, value: int = 0xFFFF) -> int:
    """Return CRC-16/ANSI as lib/crc16.c of the kernel computes it."""
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ _CRC16_POLYNOMIAL if value & 1 else value >> 1
    return value


def check(found: int, computed: int, what: str) -> None:
    """Raise InputError unless the two checksums are equal."""
    if found != computed:
        raise InputError(f"{what}: its checksum is {found:#x}, its bytes give {computed:#x}")


def crc32_msb(data: bytes, chain: int) -> int:
    """Continue the CRC-32 that takes each byte's highest bit first, as crc32_be of the kernel does.

    It is the common CRC-32 with every byte and the result mirrored. The chain is kept mirrored and
    inverted (it starts at 0); `mirrored_stored` turns its end into what the disk holds.
    """
    return zlib.crc32(data.translate(_MIRROR), chain)


def mirrored_stored(chain: int) -> int:
    """Return the 32 bits that the disk holds for a finished chain of `crc32_msb`."""
    return int(f"{chain ^ MASK:032b}"[::-1], 2)
