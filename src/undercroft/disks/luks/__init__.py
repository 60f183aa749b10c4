"""LUKS1 and LUKS2: the data of an encrypted volume, with a key that the administrator gave.

Guarantees: no key is used that the header's digest does not prove, so that a wrong one never gives noise;
what a header may ask of memory, passes, iterations and keyslots is bounded by `layout`; a header is refused
by name where it uses what is not read here (other ciphers than AES, detached headers, a reencryption in
progress, authenticated encryption). Whatever else is wrong raises `InputError`. Keys show in no message.

    >>> volume = open_volume(source, [Key("vda2", b"correct horse")])
    >>> volume.read(0, 4096)
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from undercroft.disks.keys import Key, Keys
from undercroft.disks.luks import layout, luks1, luks2
from undercroft.disks.luks.header import Header
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from undercroft.disks.luks.sectors import SectorCipher

__all__ = [
    "Header",
    "decrypted",
    "is_luks",
    "load",
    "open_cipher",
    "open_volume",
    "read_header",
    "unlocked",
    "volume_key",
]


def is_luks(kind: str) -> bool:
    """Tell whether a volume's content is LUKS, in whichever version."""
    return kind.startswith("luks")


def read_header(source: BlockSource) -> Header:
    """Return the header at the start of a volume (or its second copy). Needs no key.

    Raises:
        InputError: malformed, damaged or over a limit.
        UnsupportedError: a version or feature that is not read here.
    """
    untrusted = source.read(0, min(source.size_bytes, layout.VERSION.size))
    if len(untrusted) < layout.VERSION.size:
        raise InputError(f"luks: {source.size_bytes} bytes are too few for a header")
    magic, version = layout.VERSION.unpack(untrusted)
    if magic == layout.MAGIC and version == 1:
        return luks1.read_header(source)
    if magic == layout.MAGIC and version != 2:
        raise UnsupportedError(f"luks{version} is not known, only versions 1 and 2 are")
    return luks2.read_header(source)


def volume_key(source: BlockSource, header: Header, keys: Sequence[Key]) -> bytes:
    """Return the volume's key, proven by the header's digest.

    Raises:
        InputError: none of the keys opens it (`unlock.WrongKeyError`), or a keyslot is malformed.
        UnsupportedError: the package `cryptography` is missing, or a cipher or derivation is not read here.
    """
    load()
    from undercroft.disks.luks.unlock import unlock  # noqa: PLC0415 - for jobs with keys alone

    return unlock(source, header, keys)


def unlocked(source: BlockSource, header: Header, names: Sequence[str], keys: Keys) -> bytes:
    """Return the volume's key as `volume_key`, from the keys that were given for one of its names.

    What came of it is kept in `keys`: the volume's key, or why none opens it.

    Args:
        source: what the header's offsets count from.
        header: of the volume.
        names: of the volume in the machine ("vda2"), first the one that the user is told.
        keys: of the job.

    Raises as `volume_key`, and UnsupportedError with the cure where there is no key for it.
    """
    candidates = keys.candidates((*names, header.uuid, header.label))
    if not candidates:
        told = keys.refusals.setdefault(names[0], _without_key(header, names[0], keys))
        raise UnsupportedError(told)
    try:
        key = volume_key(source, header, candidates)
    except InputError as error:
        keys.refusals[names[0]] = str(error)
        raise
    keys.opened.append((names[0], key))
    return key


def _without_key(header: Header, name: str, keys: Keys) -> str:
    slots = len(header.keyslots)
    opened_by = f"{slots} keyslot{'s' if slots != 1 else ''}"
    others = f", the keys given are for {', '.join(keys.names)}" if keys.names else ""
    return (
        f"luks{header.version}: it is encrypted, and no key was given for it ({opened_by}{others});"
        f" name a file with one: --key {name}=FILE"
    )


def open_cipher(name: str, key: bytes, sector_bytes: int = layout.SECTOR_BYTES) -> "SectorCipher":
    """Return the cipher that a header names, with its key; as `sectors.open_cipher`."""
    from undercroft.disks.luks import sectors  # noqa: PLC0415 - for jobs with keys alone

    return sectors.open_cipher(name, key, sector_bytes)


def decrypted(source: BlockSource, header: Header, key: bytes, name: str = "luks") -> BlockSource:
    """Return the data of a volume.

    Args:
        source: what the header's offsets count from.
        header: of the volume.
        key: from `volume_key`.
        name: for messages.

    Raises:
        InputError: the segment lies outside of the volume, or the key is none of the cipher's.
        UnsupportedError: another cipher than AES.
    """
    from undercroft.disks.luks.source import LuksSource  # noqa: PLC0415 - for jobs with keys alone

    segment = header.segment
    room = source.size_bytes - segment.offset
    size_bytes = room - room % segment.sector_bytes if segment.size_bytes is None else segment.size_bytes
    if not 0 <= size_bytes <= room:
        raise InputError(
            f"luks{header.version}: {segment.size_bytes} bytes at {segment.offset} lie beyond the end of the"
            f" volume at {source.size_bytes}"
        )
    cipher = open_cipher(segment.cipher, key, segment.sector_bytes)
    return LuksSource(source, segment, size_bytes, cipher, name)


def open_volume(source: BlockSource, keys: Sequence[Key], name: str = "luks") -> BlockSource:
    """Return the data of a LUKS volume that one of `keys` opens. Raises as what it is made of."""
    header = read_header(source)
    return decrypted(source, header, volume_key(source, header, keys), name)


def load() -> None:
    """Import what needs `cryptography`, and have OpenSSL load what it will use.

    A confined child can import nothing. Raises UnsupportedError where the package is missing or too old.
    """
    try:
        derivation = import_module("undercroft.disks.luks.derivation")
        import_module("undercroft.disks.luks.unlock")
        import_module("undercroft.disks.luks.source")
    except ImportError as error:
        raise UnsupportedError(
            "luks: the Python package cryptography (45 or newer) is needed to open it"
        ) from error
    derivation.warm()
