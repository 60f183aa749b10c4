"""The two headers of LUKS2: which one counts, its checksum, and its JSON as text.

Each copy has a sequence number and a checksum over itself and its JSON area; of the valid ones the newer
counts, as cryptsetup takes it. Source: LUKS2 On-Disk Format Specification 1.1.1, section 2.
"""

import hashlib
from dataclasses import dataclass, replace

from undercroft.disks.luks import layout
from undercroft.disks.luks.header import Header, check_hash
from undercroft.disks.luks.metadata import parse_metadata
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class _Copy:
    """One valid copy of the header."""

    sequence: int
    uuid: str
    label: str
    header_bytes: int
    json: bytes


def read_header(source: BlockSource) -> Header:
    """Return the header of a LUKS2 volume, from the newest valid copy.

    Args:
        source: the volume, untrusted; the header lies at its start.

    Raises:
        InputError: no copy is valid, its JSON is malformed, or it is over a limit.
        UnsupportedError: a feature that is not read here, by name.
    """
    first: _Copy | None = None
    second: _Copy | None = None
    notes: list[str] = []
    problem = InputError("luks2: neither copy of its header is there")
    try:
        first = _read_copy(source, 0)
    except UnsupportedError:
        raise
    except InputError as error:
        problem = error
    offsets = (first.header_bytes,) if first else layout.SECOND_OFFSETS
    for offset in offsets:
        try:
            second = _read_copy(source, offset)
            break
        except InputError as error:
            problem = error if not first and source_has_second(source, offset) else problem
    if first is None and second is None:
        raise problem
    if first is None:
        notes.append(f"the first LUKS2 header is damaged ({problem}); the second one was used")
    elif second is None:
        notes.append("the second LUKS2 header is damaged; the first one was used")
    newest = max((copy for copy in (first, second) if copy), key=lambda copy: copy.sequence)
    header = parse_metadata(newest.json, newest.header_bytes, newest.uuid, newest.label)
    return replace(header, notes=tuple(notes))


def source_has_second(source: BlockSource, offset: int) -> bool:
    """Tell whether a second header's magic stands at `offset`."""
    end = offset + len(layout.MAGIC_SECOND)
    return source.size_bytes >= end and source.read(offset, end - offset) == layout.MAGIC_SECOND


def _read_copy(source: BlockSource, offset: int) -> _Copy:
    """Return the copy at `offset` if it is valid. Raises InputError."""
    what = f"luks2 header at {offset}"
    if offset + layout.HEADER2_BYTES > source.size_bytes:
        raise InputError(f"{what}: lies beyond the end of the volume")
    untrusted = source.read(offset, layout.HEADER2_BYTES)
    fields = layout.HEADER2.unpack_from(untrusted)
    magic, version, header_bytes, sequence, label, hash_field, _, uuid, _, own_offset, _, checksum = fields
    if magic != (layout.MAGIC_SECOND if offset else layout.MAGIC) or version != 2:
        raise InputError(f"{what}: its magic number is {magic!r}, its version {version}")
    if own_offset != offset:
        raise InputError(f"{what}: says of itself that it lies at {own_offset}")
    if header_bytes not in layout.SECOND_OFFSETS or (offset and header_bytes != offset):
        raise InputError(f"{what}: a header of {header_bytes} bytes is out of range")
    if offset + header_bytes > source.size_bytes:
        raise InputError(f"{what}: its JSON area passes the end of the volume")
    area = source.read(offset + layout.HEADER2_BYTES, header_bytes - layout.HEADER2_BYTES)
    hashed = hashlib.new(check_hash(_text(hash_field), what))
    end = layout.CHECKSUM2_OFFSET + layout.CHECKSUM2_BYTES
    hashed.update(untrusted[: layout.CHECKSUM2_OFFSET] + bytes(layout.CHECKSUM2_BYTES) + untrusted[end:])
    hashed.update(area)
    if hashed.digest() != checksum[: hashed.digest_size]:
        raise InputError(f"{what}: its checksum is wrong")
    return _Copy(sequence, _text(uuid).lower(), _text(label), header_bytes, area.split(b"\0", 1)[0])


def _text(untrusted: bytes) -> str:
    return untrusted.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
