"""The JSON area of LUKS2: keyslots, digests and the segment, as values within limits.

Guarantees that memory and time are bounded by the area's size (4 MiB at most), whatever it holds. Numbers
that the format writes as strings are digits only. What is not read is refused by name: reencryption in
progress, authenticated encryption, data without encryption, hardware encryption, requirements that are not
known. Tokens are ignored: they say where a passphrase may be had.
Source: LUKS2 On-Disk Format Specification 1.1.1, section 3.
"""

import binascii
import json
import re
from collections.abc import Iterator, Mapping

from undercroft.disks.luks import layout
from undercroft.disks.luks.header import (
    Argon2,
    Digest,
    Header,
    Keyslot,
    Pbkdf2,
    Segment,
    check_argon2,
    check_hash,
    check_pbkdf2,
    check_range,
    in_order,
)
from undercroft.errors import InputError, UnsupportedError

Object = Mapping[str, object]

_DECIMAL = re.compile(r"[0-9]{1,20}")


def parse_metadata(untrusted: bytes, header_bytes: int, uuid: str, label: str) -> Header:
    """Return the header that a JSON area describes.

    Args:
        untrusted: the area up to its first NUL, at most `layout.MAX_JSON_BYTES`; its checksum was right.
        header_bytes: length of one copy of the header; areas and data begin after both.
        uuid: from the binary header.
        label: from the binary header.

    Raises:
        InputError: malformed or over a limit.
        UnsupportedError: a feature that is not read here.
    """
    root = _parse(untrusted)
    _check_requirements(_object(root, "config", "config", default={}))
    name, segment = _segment(_object(root, "segments", "segments"), 2 * header_bytes)
    digest, members = _digest(_object(root, "digests", "digests"), name)
    slots = _object(root, "keyslots", "keyslots")
    check_range(len(slots), 0, layout.MAX_KEYSLOTS2, "metadata: a number of keyslots")
    keyslots: list[Keyslot] = []
    unusable: list[str] = []
    for member in members:
        try:
            keyslots.append(_keyslot(member[:8], _object(slots, member, "keyslots"), 2 * header_bytes))
        except InputError as error:
            unusable.append(str(error))  # another keyslot may still open the volume
    return Header(2, uuid, label, in_order(keyslots), digest, segment, tuple(unusable))


def _parse(untrusted: bytes) -> Object:
    try:
        return _as_object(json.loads(untrusted.decode("utf-8")), "metadata")
    except (ValueError, RecursionError) as error:
        raise InputError("luks2 metadata: its JSON area is no JSON") from error


def _check_requirements(config: Object) -> None:
    requirements = config.get("requirements", {})
    mandatory = requirements.get("mandatory", []) if isinstance(requirements, dict) else ["?"]
    if not isinstance(mandatory, list):
        raise InputError("luks2 metadata: its requirements are no list")
    for each in mandatory:
        if "reencrypt" in str(each):
            raise UnsupportedError(
                "luks2: a reencryption is in progress, which is not read here; finish it with"
                " `cryptsetup reencrypt --resume-only`"
            )
        raise UnsupportedError(f"luks2: it requires {str(each)[:40]!r}, which is not known here")


def _segment(segments: Object, data_start: int) -> tuple[str, Segment]:
    """Return the one segment of data and its name. Backups that a reencryption keeps are refused with it."""
    if len(segments) != 1:
        raise UnsupportedError(f"luks2: {len(segments)} segments of data are not supported, only one is")
    ((name, value),) = segments.items()
    fields = _as_object(value, "segment")
    if fields.get("type") != "crypt":
        raise UnsupportedError(f"luks2: a segment of type {str(fields.get('type'))[:20]!r} is not supported")
    if "integrity" in fields:
        raise UnsupportedError("luks2: authenticated encryption (integrity) is not supported")
    sector_bytes = _number(fields, "sector_size", "segment")
    if sector_bytes not in layout.SECTOR_SIZES:
        raise InputError(f"luks2 segment: a sector of {sector_bytes} bytes is out of range")
    offset = _decimal(fields, "offset", "segment")
    if offset < data_start or offset % layout.SECTOR_BYTES:
        raise UnsupportedError(
            f"luks2: its data at {offset} does not follow the header: a detached header is not supported"
        )
    size = fields.get("size")
    size_bytes = None if size == "dynamic" else _decimal(fields, "size", "segment")
    if size_bytes is not None and size_bytes % sector_bytes:
        raise InputError(f"luks2 segment: {size_bytes} bytes are no multiple of its sector")
    cipher = _string(fields, "encryption", "segment")
    return name, Segment(offset, size_bytes, cipher, sector_bytes, _decimal(fields, "iv_tweak", "segment"))


def _digest(digests: Object, segment: str) -> tuple[Digest, list[str]]:
    """Return what proves the segment's key, and the names of the keyslots that lead to it."""
    check_range(len(digests), 0, layout.MAX_DIGESTS2, "metadata: a number of digests")
    for name, value in digests.items():
        what = f"digest {name[:8]}"
        fields = _as_object(value, what)
        if segment not in _names(fields, "segments", what):
            continue
        if fields.get("type") != "pbkdf2":
            raise UnsupportedError(f"luks2 {what}: its type {str(fields.get('type'))[:20]!r} is not known")
        value_bytes = _base64(fields, "digest", what, layout.MAX_DIGEST_BYTES)
        check_range(len(value_bytes), 16, layout.MAX_DIGEST_BYTES, f"{what}: a digest's length")
        derivation = Pbkdf2(
            _string(fields, "hash", what),
            _base64(fields, "salt", what, layout.MAX_SALT_BYTES),
            _number(fields, "iterations", what),
        )
        return Digest(check_pbkdf2(derivation, what), value_bytes), _names(fields, "keyslots", what)
    raise InputError("luks2 metadata: no digest proves the segment's key")


def _keyslot(name: str, fields: Object, data_start: int) -> Keyslot:
    what = f"keyslot {name}"
    area = _object(fields, "area", what)
    split = _object(fields, "af", what)
    kdf = _object(fields, "kdf", what)
    offset = _decimal(area, "offset", what)
    check_range(offset, data_start, 1 << 62, f"{what}: an area's offset")
    for part, known in ((fields, "luks2"), (area, "raw"), (split, "luks1")):
        if part.get("type") != known:
            raise UnsupportedError(f"luks2 {what}: the type {str(part.get('type'))[:20]!r} is not supported")
    priority = fields.get("priority", 1)
    return Keyslot(
        name=name,
        priority=priority if isinstance(priority, int) and priority in (0, 1, 2) else 1,
        key_bytes=_key_bytes(fields, what),
        derivation=_derivation(kdf, what),
        offset=offset,
        cipher=_string(area, "encryption", what),
        area_key_bytes=_key_bytes(area, what),
        stripes=check_range(
            _number(split, "stripes", what), 1, layout.MAX_STRIPES, f"{what}: a number of stripes"
        ),
        hash=check_hash(_string(split, "hash", what), what),
    )


def _derivation(kdf: Object, what: str) -> Pbkdf2 | Argon2:
    salt = _base64(kdf, "salt", what, layout.MAX_SALT_BYTES)
    kind = _string(kdf, "type", what)
    if kind == "pbkdf2":
        return check_pbkdf2(Pbkdf2(_string(kdf, "hash", what), salt, _number(kdf, "iterations", what)), what)
    if kind not in ("argon2i", "argon2id"):
        raise UnsupportedError(f"luks2 {what}: the derivation {kind[:20]!r} is not supported")
    passes, memory, lanes = (_number(kdf, field, what) for field in ("time", "memory", "cpus"))
    return check_argon2(Argon2(kind, salt, passes, memory, lanes), what)


def _key_bytes(fields: Object, what: str) -> int:
    number = _number(fields, "key_size", what)
    return check_range(number, layout.MIN_KEY_BYTES, layout.MAX_KEY_BYTES, f"{what}: a key's length")


# Fields of the JSON, each of one type


def _as_object(value: object, what: str) -> Object:
    if not isinstance(value, dict):
        raise InputError(f"luks2 {what}: is no object")
    return value


def _object(parent: Object, field: str, what: str, default: Object | None = None) -> Object:
    return _as_object(parent.get(field, default), f"{what}: {field}")


def _string(parent: Object, field: str, what: str) -> str:
    value = parent.get(field)
    if not isinstance(value, str) or len(value) > 64:
        raise InputError(f"luks2 {what}: {field} is no short text")
    return value


def _number(parent: Object, field: str, what: str) -> int:
    value = parent.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise InputError(f"luks2 {what}: {field} is no number")
    return value


def _decimal(parent: Object, field: str, what: str) -> int:
    """Return a 64-bit number, which the format writes as a string: JSON's own have 53 bits."""
    value = parent.get(field)
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value) or int(value) >= 1 << 63:
        raise InputError(f"luks2 {what}: {field} is no number in a string")
    return int(value)


def _names(parent: Object, field: str, what: str) -> list[str]:
    value = parent.get(field)
    if not isinstance(value, list) or len(value) > layout.MAX_KEYSLOTS2:
        raise InputError(f"luks2 {what}: {field} is no short list")
    return list(dict.fromkeys(_strings(value, f"{what}: {field}")))


def _strings(values: list[object], what: str) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            raise InputError(f"luks2 {what}: holds something other than names")
        yield value


def _base64(parent: Object, field: str, what: str, limit: int) -> bytes:
    value = parent.get(field)
    if not isinstance(value, str) or len(value) > 2 * limit:
        raise InputError(f"luks2 {what}: {field} is no short base64")
    try:
        return binascii.a2b_base64(value.encode("ascii"), strict_mode=True)
    except ValueError as error:
        raise InputError(f"luks2 {what}: {field} is no base64") from error
