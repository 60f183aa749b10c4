"""A disc's label and UUID, as libblkid prints them: what a guest's fstab and boot lines name.

Follows util-linux' libblkid/src/superblocks/iso9660.c.
"""

from undercroft.disks.iso9660 import layout

_VOLUME_ID, _VOLUME_ID_BYTES = 40, 32
_CREATED, _MODIFIED = 813, 830
_STAMP_BYTES = 16
_PARTS = ((0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16))


def names(untrusted: bytes) -> tuple[str, str] | None:
    """Return (label, UUID) from the first bytes of a volume, None where they are no ISO 9660.

    Args:
        untrusted: from the volume's start on; descriptors beyond its end are not seen.
    """
    primary: bytes | None = None
    joliet: bytes | None = None
    for number in range(layout.FIRST_DESCRIPTOR, layout.FIRST_DESCRIPTOR + layout.MAX_DESCRIPTORS):
        start = number * layout.SECTOR_BYTES
        sector = untrusted[start : start + layout.SECTOR_BYTES]
        if sector[1:6] != layout.IDENTIFIER or sector[0] == layout.TERMINATOR:
            break
        if sector[0] == layout.PRIMARY:
            primary = primary or sector
        elif sector[0] == layout.SUPPLEMENTARY and is_joliet(sector):
            joliet = joliet or sector
    if primary is None:
        return None
    return _label(primary, joliet), _uuid(primary)


def is_joliet(descriptor: bytes) -> bool:
    """Return whether a supplementary descriptor is Joliet's."""
    return descriptor.startswith(layout.JOLIET_ESCAPES, layout.ESCAPES_OFFSET)


def wide_text(untrusted: bytes) -> str:
    """Return big-endian UTF-16 as text; what is none becomes U+FFFD."""
    # With its mark UTF-16 is decoded by the interpreter itself; "utf-16-be" would import a codec,
    # which a reader in its sandbox cannot.
    return (b"\xfe\xff" + untrusted[: len(untrusted) & ~1]).decode("utf-16", "replace")


def _label(primary: bytes, joliet: bytes | None) -> str:
    plain = primary[_VOLUME_ID : _VOLUME_ID + _VOLUME_ID_BYTES]
    if joliet is not None:
        merged = _merged(wide_text(joliet[_VOLUME_ID : _VOLUME_ID + _VOLUME_ID_BYTES]), plain)
        if merged:
            return merged.split("\0", 1)[0].rstrip()
    return plain.split(b"\0", 1)[0].decode("utf-8", "surrogateescape").rstrip()


def _merged(wide: str, plain: bytes) -> str:
    """Return Joliet's label, which has 16 characters, lengthened by the primary one; "" where they differ."""
    for character, byte in zip(wide, plain, strict=False):
        if byte != ord("_") and character != "_" and ord(character.upper()[:1]) != ord(chr(byte).upper()):
            return ""
    return wide + plain[len(wide) :].decode("utf-8", "surrogateescape")


def _uuid(primary: bytes) -> str:
    """The time of the last change makes the UUID, where there is none the time of making."""
    for offset in (_MODIFIED, _CREATED):
        stamp = primary[offset : offset + _STAMP_BYTES + 1]
        if stamp != b"0" * _STAMP_BYTES + b"\0":
            text = stamp[:_STAMP_BYTES].decode("ascii", "replace")
            return "-".join(text[start:end] for start, end in _PARTS) if text.isdigit() else ""
    return ""
