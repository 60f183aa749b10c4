"""The anti-forensic splitter: a key spread over many stripes, all of which are needed to have it back.

Source: LUKS1 On-Disk Format Specification 1.2.3, section 2.4 (AFmerge and the diffusion H1).
"""

import hashlib

from undercroft.disks.luks.layout import HASHES


def merge(split: bytes, key_bytes: int, stripes: int, hash_name: str) -> bytes:
    """Return the key of `key_bytes` that was split into `stripes`.

    Args:
        split: at least `key_bytes * stripes` bytes, from a decrypted keyslot.
        key_bytes: 16 to 64.
        stripes: at least 1.
        hash_name: one of `layout.HASHES`.
    """
    block = bytes(key_bytes)
    last = (stripes - 1) * key_bytes
    for at in range(0, last, key_bytes):
        block = diffuse(_xor(block, split[at : at + key_bytes]), hash_name)
    return _xor(block, split[last : last + key_bytes])


def diffuse(block: bytes, hash_name: str) -> bytes:
    """Return each digest-sized piece of `block` hashed with its number, the last one cut to its length."""
    size = hashlib.new(hash_name).digest_size
    pieces = []
    for number, at in enumerate(range(0, len(block), size)):
        piece = block[at : at + size]
        pieces.append(_HASHERS[hash_name](number.to_bytes(4, "big") + piece).digest()[: len(piece)])
    return b"".join(pieces)


_HASHERS = {name: getattr(hashlib, name) for name in HASHES}


def _xor(one: bytes, other: bytes) -> bytes:
    number = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return number.to_bytes(len(one), "little")
