"""What a LUKS header says, version 1 or 2, as values within limits; nothing here is secret.

A `Header` is consistent in itself: whoever has one may use its numbers without looking again, except that
nothing is said of the bytes at the offsets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.disks.luks import layout
from undercroft.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Pbkdf2:
    """Derivation by PBKDF2 with an HMAC over `hash`."""

    hash: str
    salt: bytes
    iterations: int


@dataclass(frozen=True, slots=True)
class Argon2:
    """Derivation by Argon2; `kind` is "argon2i" or "argon2id"."""

    kind: str
    salt: bytes
    passes: int
    memory_kib: int
    lanes: int


@dataclass(frozen=True, slots=True)
class Keyslot:
    """One way to the volume's key.

    Attributes:
        name: "0" to "31", for messages.
        priority: higher ones are tried first.
        key_bytes: length of the volume's key.
        derivation: from a passphrase to the key of the area.
        offset: where the area with the split key lies, in bytes from the header's start.
        cipher: what the area is encrypted with, "aes-xts-plain64".
        area_key_bytes: length of the area's key.
        stripes: into how many parts the key is split.
        hash: what diffuses the parts.
    """

    name: str
    priority: int
    key_bytes: int
    derivation: Pbkdf2 | Argon2
    offset: int
    cipher: str
    area_key_bytes: int
    stripes: int
    hash: str


@dataclass(frozen=True, slots=True)
class Digest:
    """What proves the volume's key: PBKDF2 of it is `value`."""

    derivation: Pbkdf2
    value: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """Where the encrypted data lies.

    Attributes:
        offset: in bytes from the header's start.
        size_bytes: None for "up to the end of the volume".
        cipher: "aes-xts-plain64".
        sector_bytes: how much is encrypted at once.
        iv_tweak: added to the number of each sector.
    """

    offset: int
    size_bytes: int | None
    cipher: str
    sector_bytes: int = layout.SECTOR_BYTES
    iv_tweak: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """One volume's header.

    Attributes:
        version: 1 or 2.
        uuid, label: as stored, for matching with the names of keys.
        keyslots: those that lead to this segment's key, in the order in which they are tried.
        digest: proves the key.
        segment: the data.
        unusable: why further keyslots of this segment cannot be used here, one text each.
        notes: what the reader did on the way ("the first header is damaged, the second one was used").
    """

    version: int
    uuid: str
    label: str
    keyslots: tuple[Keyslot, ...]
    digest: Digest
    segment: Segment
    unusable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_range(value: int, low: int, high: int, what: str) -> int:
    """Return `value` if it is within `low` and `high`, else raise InputError that names `what`."""
    if not low <= value <= high:
        raise InputError(f"luks {what} of {value} is out of range ({low} to {high})")
    return value


def check_hash(name: str, what: str) -> str:
    """Return the hash's name. Raises UnsupportedError where it is not one of `layout.HASHES`."""
    if name not in layout.HASHES:
        raise UnsupportedError(
            f"luks {what}: the hash {name[:32]!r} is not supported, only {', '.join(layout.HASHES)}"
        )
    return name


def check_pbkdf2(derivation: Pbkdf2, what: str) -> Pbkdf2:
    """Return the derivation if its cost is within limits and its hash is known."""
    check_hash(derivation.hash, what)
    check_range(derivation.iterations, 1, layout.MAX_PBKDF2_ITERATIONS, f"{what}: a number of iterations")
    check_range(len(derivation.salt), 8, layout.MAX_SALT_BYTES, f"{what}: a salt's length")
    return derivation


def check_argon2(derivation: Argon2, what: str) -> Argon2:
    """Return the derivation if its cost is within limits."""
    lanes = check_range(derivation.lanes, 1, layout.MAX_ARGON2_LANES, f"{what}: a number of threads")
    check_range(derivation.memory_kib, 8 * lanes, layout.MAX_ARGON2_KIB, f"{what}: memory in KiB")
    check_range(derivation.passes, 1, layout.MAX_ARGON2_PASSES, f"{what}: a number of passes")
    check_range(len(derivation.salt), 8, layout.MAX_SALT_BYTES, f"{what}: a salt's length")
    return derivation


def in_order(keyslots: Sequence[Keyslot]) -> tuple[Keyslot, ...]:
    """Return keyslots in the order in which they are tried."""
    return tuple(sorted(keyslots, key=lambda slot: -slot.priority))
