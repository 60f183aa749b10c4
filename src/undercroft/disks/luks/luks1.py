"""The header of LUKS1: 592 bytes at the start of the volume, without a checksum.

Source: LUKS1 On-Disk Format Specification 1.2.3, sections 3 and 4.
"""

from undercroft.disks.luks import layout
from undercroft.disks.luks.header import (
    Digest,
    Header,
    Keyslot,
    Pbkdf2,
    Segment,
    check_hash,
    check_pbkdf2,
    check_range,
)
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


def read_header(source: BlockSource) -> Header:
    """Return the header of a LUKS1 volume.

    Args:
        source: the volume, untrusted; the header lies at its start.

    Raises:
        InputError: malformed or over a limit.
        UnsupportedError: a hash that is not read here.
    """
    if source.size_bytes < layout.HEADER1_BYTES:
        raise InputError(f"luks1: {source.size_bytes} bytes are too few for its header")
    untrusted = source.read(0, layout.HEADER1_BYTES)
    fields = layout.HEADER1.unpack_from(untrusted)
    magic, version, name, mode, hash_field, payload, key_bytes, digest, salt, iterations, uuid = fields
    if magic != layout.MAGIC or version != 1:
        raise InputError(f"luks1: version {version} is not 1")
    hash_name = check_hash(_text(hash_field), "header")
    cipher = f"{_text(name)}-{_text(mode)}"
    check_range(key_bytes, layout.MIN_KEY_BYTES, layout.MAX_KEY_BYTES, "header: a key's length")
    proof = check_pbkdf2(Pbkdf2(hash_name, salt, iterations), "header's digest")
    keyslots: list[Keyslot] = []
    unusable: list[str] = []
    for number in range(layout.KEYSLOTS1):
        at = layout.HEADER1.size + number * layout.KEYSLOT1.size
        state, *rest = layout.KEYSLOT1.unpack_from(untrusted, at)
        try:
            if state == layout.KEYSLOT1_ENABLED:
                keyslots.append(_keyslot(str(number), tuple(rest), key_bytes, cipher, hash_name))
            elif state != layout.KEYSLOT1_DISABLED:
                raise InputError(f"luks1 keyslot {number}: its state {state:#010x} is neither on nor off")
        except InputError as error:
            unusable.append(str(error))  # another keyslot may still open the volume
    segment = Segment(_payload_offset(payload, source), None, cipher)
    proven = Digest(proof, digest)
    return Header(1, _text(uuid).lower(), "", tuple(keyslots), proven, segment, tuple(unusable))


def _payload_offset(sectors: int, source: BlockSource) -> int:
    """Return where the data begins; 0 says that the header was detached, and the data lies elsewhere."""
    offset = sectors * layout.SECTOR_BYTES
    if not layout.HEADER1_BYTES <= offset <= source.size_bytes:
        raise InputError(f"luks1: its data at {offset} lies outside of the volume; a detached header?")
    return offset


def _keyslot(
    name: str, fields: tuple[int, bytes, int, int], key_bytes: int, cipher: str, hash_name: str
) -> Keyslot:
    iterations, salt, sectors, stripes = fields
    what = f"keyslot {name}"
    check_range(stripes, 1, layout.MAX_STRIPES, f"{what}: a number of stripes")
    offset = sectors * layout.SECTOR_BYTES
    derivation = check_pbkdf2(Pbkdf2(hash_name, salt, iterations), what)
    return Keyslot(name, 1, key_bytes, derivation, offset, cipher, key_bytes, stripes, hash_name)


def _text(untrusted: bytes) -> str:
    return untrusted.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
