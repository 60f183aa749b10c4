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

from undercroft.disks.keys import Key
from undercroft.disks.luks import layout, luks1, luks2
from undercroft.disks.luks.header import Header
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

__all__ = ["Header", "decrypted", "is_luks", "load", "open_volume", "read_header", "volume_key"]


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
    from undercroft.disks.luks.sectors import open_cipher  # noqa: PLC0415 - for jobs with keys alone
    from undercroft.disks.luks.source import LuksSource  # noqa: PLC0415

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
