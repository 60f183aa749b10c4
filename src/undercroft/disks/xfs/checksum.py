"""CRC-32C of XFS's metadata: over a whole structure, its own four bytes taken as zeros."""

# Its compiled part by name: the package itself falls back to Python, 400 times slower, without a word.
from google_crc32c._crc32c import extend

from undercroft.errors import InputError

_ZEROS = bytes(4)


def computed(data: bytes, place: int) -> int:
    """Return the checksum of `data`, which holds it little-endian at `place`."""
    value: int = extend(extend(extend(0, data[:place]), _ZEROS), data[place + 4 :])
    return value


def check(data: bytes, place: int, what: str) -> None:
    """Raise InputError, which begins with `what`, unless `data` has the right checksum at `place`."""
    found = int.from_bytes(data[place : place + 4], "little")
    expected = computed(data, place)
    if found != expected:
        raise InputError(f"{what}: its checksum is {found:#x}, its bytes give {expected:#x}")


def is_right(data: bytes, place: int) -> bool:
    """Return whether `data` has the right checksum at `place`."""
    return int.from_bytes(data[place : place + 4], "little") == computed(data, place)


def with_checksum(data: bytes, place: int) -> bytes:
    """Return `data` with the right checksum at `place`."""
    return data[:place] + computed(data, place).to_bytes(4, "little") + data[place + 4 :]
