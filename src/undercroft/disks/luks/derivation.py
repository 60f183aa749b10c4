"""From a passphrase to the key of a keyslot: PBKDF2 and Argon2, with costs that the header checked.

Imports `cryptography`, so it is loaded for jobs with keys alone, before their child is confined.
"""

import hashlib
from functools import cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.kdf.argon2 import Argon2i, Argon2id

from undercroft.disks.luks.header import Argon2, Pbkdf2
from undercroft.disks.luks.layout import HASHES
from undercroft.errors import InputError, UnsupportedError


def derive(derivation: Pbkdf2 | Argon2, secret: bytes, length: int) -> bytes:
    """Return `length` bytes derived from `secret`.

    Args:
        derivation: within the limits of `layout`.
        secret: passphrase or the content of a key file.
        length: 16 to 64 bytes.

    Raises:
        UnsupportedError: this installation's OpenSSL has no Argon2.
        InputError: the memory that it asks for cannot be had.
    """
    if isinstance(derivation, Pbkdf2):
        return hashlib.pbkdf2_hmac(derivation.hash, secret, derivation.salt, derivation.iterations, length)
    kind = Argon2i if derivation.kind == "argon2i" else Argon2id
    try:
        return kind(
            salt=derivation.salt,
            length=length,
            iterations=derivation.passes,
            lanes=derivation.lanes,
            memory_cost=derivation.memory_kib,
        ).derive(secret)
    except UnsupportedAlgorithm:
        raise UnsupportedError(
            f"luks: {derivation.kind} needs the package cryptography 45 with OpenSSL 3.2 or newer"
        ) from None
    except MemoryError:
        raise InputError(
            f"luks: {derivation.kind} asks for {derivation.memory_kib >> 10} MiB of memory, which were not to"
            " be had"
        ) from None


@cache
def warm() -> None:
    """Use each derivation once, at its least cost: OpenSSL looks its parts up at their first use."""
    for name in HASHES:
        hashlib.pbkdf2_hmac(name, b"", bytes(16), 1, 16)
    for kind in ("argon2i", "argon2id"):
        try:
            derive(Argon2(kind, bytes(16), 1, 8, 1), b"", 16)
        except UnsupportedError:
            return  # told when a keyslot needs it
