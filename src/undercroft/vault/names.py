"""Names, executions and requests as integers, in a way that no two of them share one.

The core compares integers. A name is its bytes behind a 1, which keeps zeros at its beginning apart; no list
of names is kept, and a name's integer is the same in every process.
"""

import hashlib

from undercroft.errors import InputError

MAX_NAME_BYTES = 128
_OPERATION_BITS = 4
_COUNT_BITS = 24


def number_of(name: bytes) -> int:
    """Return a name's integer. Raises InputError for one that is empty or longer than `MAX_NAME_BYTES`."""
    if not 0 < len(name) <= MAX_NAME_BYTES:
        raise InputError(f"a name has 1 to {MAX_NAME_BYTES} bytes: {len(name)} were found")
    return int.from_bytes(b"\x01" + name, "big")


def name_of(number: int) -> bytes:
    """Return the name whose integer this is."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")[1:]


def plain_request(operation: int, name: int, small: int = 0) -> int:
    """Return what stands for a request of a name and a number below 2^24: they themselves, side by side."""
    return (name << _COUNT_BITS | small) << _OPERATION_BITS | operation


def hashed_request(operation: int, *parts: bytes) -> int:
    """Return what stands for a request with long arguments: their SHA-256, each after its length."""
    joined = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    return int.from_bytes(hashlib.sha256(joined).digest(), "big") << _OPERATION_BITS | operation
