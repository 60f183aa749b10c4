"""Decryption of sectors: AES in XTS and CBC, many sectors at once.

A cipher context for each sector costs far more than the decryption of its 512 bytes. So ranges are decrypted
whole, and what differs from sector to sector is computed beside:

- XTS is ECB between two XORs with a tweak. The tweaks of all sectors are one ECB call; from block to block
  they are multiplied by x in GF(2^128), which is a shift and an XOR for all sectors in one large number.
- CBC is decrypted as one chain; only the first block of each sector, which has a chain of its own, is put
  right with the initialization vector.

Sources: IEEE 1619 (XTS-AES), LUKS1 specification (ESSIV), Linux Documentation/admin-guide/device-mapper/
dm-crypt.rst (plain, plain64). Imports `cryptography`: loaded for jobs with keys alone.
"""

import hashlib
import struct
from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB, XTS

from undercroft.disks.luks.layout import SECTOR_BYTES
from undercroft.errors import InputError, UnsupportedError

BLOCK_BYTES = 16
BATCH_SECTORS = 256
"""How many sectors are decrypted at once: their tweaks stay in the processor's cache."""

FEW_SECTORS = 12
"""Up to so many sectors a context for each is quicker than the large numbers; so it is for larger sectors."""

KEY_BYTES = {"xts": (32, 64), "cbc": (16, 24, 32)}

Vectors = Callable[[list[int]], bytes]
"""From the numbers of sectors to their initialization vectors, 16 bytes each, one after the other."""


class SectorCipher(Protocol):
    """Decrypts whole sectors."""

    def decrypt(self, number: int, data: bytes) -> bytes:
        """Return the plain text of whole sectors; `number` counts the first one in units of 512 bytes."""
        ...


def open_cipher(name: str, key: bytes, sector_bytes: int = SECTOR_BYTES) -> SectorCipher:
    """Return the cipher that a header names.

    Args:
        name: "aes-xts-plain64"; untrusted.
        key: of the length that the header says.
        sector_bytes: how much is encrypted at once, 512 to 4096.

    Raises:
        UnsupportedError: another cipher, mode or vector, by name.
        InputError: the key's length is none of this cipher's.
    """
    algorithm, _, rest = name.partition("-")
    mode, _, vectors = rest.partition("-")
    if algorithm != "aes" or mode not in KEY_BYTES:
        raise UnsupportedError(f"luks: the cipher {name[:40]!r} is not supported, only AES in XTS or CBC")
    make = _vectors(vectors, key)
    if make is None:
        raise UnsupportedError(
            f"luks: the cipher {name[:40]!r} is not supported, only with plain64, plain or essiv:sha256"
        )
    if len(key) not in KEY_BYTES[mode]:
        raise InputError(f"luks: a key of {len(key)} bytes is none for {name[:40]}")
    return _Xts(key, sector_bytes, make) if mode == "xts" else _Cbc(key, sector_bytes, make)


def _vectors(name: str, key: bytes) -> Vectors | None:
    if name == "plain64":
        return _plain64
    if name == "plain":
        return lambda numbers: _plain64([number & 0xFFFFFFFF for number in numbers])
    if name == "essiv:sha256":
        encryptor = Cipher(AES(hashlib.sha256(key).digest()), ECB()).encryptor()  # noqa: S305 - single blocks
        return lambda numbers: encryptor.update(_plain64(numbers))
    return None


def _plain64(numbers: list[int]) -> bytes:
    return b"".join([struct.pack("<QQ", number & 0xFFFF_FFFF_FFFF_FFFF, 0) for number in numbers])


class _Xts:
    """AES in XTS mode."""

    def __init__(self, key: bytes, sector_bytes: int, vectors: Vectors) -> None:
        half = len(key) // 2
        self._algorithm = AES(key)
        self._sector_bytes = sector_bytes
        self._step = sector_bytes // SECTOR_BYTES
        self._vectors = vectors
        self._data: CipherContext = Cipher(AES(key[:half]), ECB()).decryptor()  # noqa: S305 - between tweaks
        self._tweak: CipherContext = Cipher(AES(key[half:]), ECB()).encryptor()  # noqa: S305 - the same

    def decrypt(self, number: int, data: bytes) -> bytes:
        """Return the plain text of whole sectors."""
        size = self._sector_bytes
        count = len(data) // size
        if count <= FEW_SECTORS or size > SECTOR_BYTES:
            vectors = self._vectors(list(range(number, number + count * self._step, self._step)))
            return b"".join(
                [
                    Cipher(self._algorithm, XTS(vectors[at * 16 : at * 16 + 16]))
                    .decryptor()
                    .update(data[at * size : at * size + size])
                    for at in range(count)
                ]
            )
        pieces = []
        for first in range(0, count, BATCH_SECTORS):
            piece = data[first * size : (first + BATCH_SECTORS) * size]
            pieces.append(self._batch(number + first, piece))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _batch(self, number: int, data: bytes) -> bytes:
        """Return the plain text of sectors of 512 bytes."""
        first = self._tweak.update(self._vectors(list(range(number, number + len(data) // SECTOR_BYTES))))
        tweaks = int.from_bytes(expand_tweaks(first), "little")
        mixed = (int.from_bytes(data, "little") ^ tweaks).to_bytes(len(data), "little")
        plain = int.from_bytes(self._data.update(mixed), "little") ^ tweaks
        return plain.to_bytes(len(data), "little")


def expand_tweaks(first: bytes) -> bytes:
    """Return the tweaks of all blocks of some sectors of 512 bytes, in the order of the sectors.

    Args:
        first: the tweak of each sector's first block, 16 bytes each, at most `BATCH_SECTORS`.
    """
    blocks = SECTOR_BYTES // BLOCK_BYTES
    ones, keep = _lanes(len(first) // BLOCK_BYTES)
    words = array("Q", bytes(len(first) * blocks))
    lanes = int.from_bytes(first, "little")
    for block in range(blocks):
        of_block = array("Q", lanes.to_bytes(len(first), "little"))
        words[2 * block :: 2 * blocks] = of_block[::2]
        words[2 * block + 1 :: 2 * blocks] = of_block[1::2]
        # Multiply each 128-bit lane by x: shift by one, and fold the bit that fell out (x^128 = 0x87).
        lanes = ((lanes & keep) << 1) ^ ((lanes >> 127 & ones) * 0x87)
    return words.tobytes()


@lru_cache(maxsize=BATCH_SECTORS)
def _lanes(count: int) -> tuple[int, int]:
    """Return masks for `count` lanes of 128 bits: the lowest bit of each, and all but the highest."""
    ones = int.from_bytes((b"\1" + bytes(15)) * count, "little")
    return ones, ((1 << 128 * count) - 1) ^ (ones << 127)


class _Cbc:
    """AES in CBC mode, each sector a chain of its own."""

    def __init__(self, key: bytes, sector_bytes: int, vectors: Vectors) -> None:
        self._algorithm = AES(key)
        self._sector_bytes = sector_bytes
        self._step = sector_bytes // SECTOR_BYTES
        self._vectors = vectors

    def decrypt(self, number: int, data: bytes) -> bytes:
        """Return the plain text of whole sectors."""
        size = self._sector_bytes
        count = len(data) // size
        if not count:
            return b""
        vectors = self._vectors(list(range(number, number + count * self._step, self._step)))
        chain = Cipher(self._algorithm, CBC(vectors[:BLOCK_BYTES])).decryptor()
        plain = bytearray(chain.update(data))
        for at in range(1, count):
            start = at * size
            wrong = plain[start : start + BLOCK_BYTES], data[start - BLOCK_BYTES : start]
            vector = vectors[at * BLOCK_BYTES : (at + 1) * BLOCK_BYTES]
            first = 0
            for part in (*wrong, vector):
                first ^= int.from_bytes(part, "little")
            plain[start : start + BLOCK_BYTES] = first.to_bytes(BLOCK_BYTES, "little")
        return bytes(plain)
