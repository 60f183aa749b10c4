"""A volume group as its metadata text describes it: checked values.

Guarantees: any section gives a `VolumeGroup` whose names, numbers and segments lie within the limits below,
or `InputError` that begins with "lvm"; nothing is read from a volume here. The segments of each logical
volume follow one another without a gap. Follows LVM2's lib/format_text/import_vsn1.c.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from undercroft.disks.lvm.text import Section, parse
from undercroft.errors import InputError

SECTOR_BYTES = 512
MAX_PHYSICAL = 1024
MAX_LOGICAL = 16_384
MAX_SEGMENTS = 100_000
MAX_EXTENT_SECTORS = 1 << 31
MAX_EXTENTS = 1 << 32
MAX_SECTORS = (1 << 54) - 1
"""Less than 2^63 bytes, as the kernel has it."""

_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,127}")
_UUID = re.compile(r"[A-Za-z0-9]{32}")


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """One physical volume of a group.

    Attributes:
        name: within the metadata ("pv0").
        uuid: 32 characters, without hyphens.
        hint: the device that it was last seen as ("/dev/sda1"), untrusted.
        start_bytes: where its extents begin.
        extents: how many it has.
        missing: whether the group goes on without it.
    """

    name: str
    uuid: str
    hint: str
    start_bytes: int
    extents: int
    missing: bool


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a logical volume.

    Attributes:
        start: its first extent.
        count: of extents.
        kind: "striped", "mirror", "raid1", "thin", "snapshot", ...
        values: its section, of which each kind reads its own.
    """

    start: int
    count: int
    kind: str
    values: Section

    def number(self, key: str, maximum: int, default: int | None = None) -> int:
        """Return a number from 0 to `maximum`. Raises InputError."""
        return _number(self.values, key, maximum, default)

    def text(self, key: str) -> str:
        """Return a text, "" for none."""
        value = self.values.get(key, "")
        return value if isinstance(value, str) else ""

    def texts(self, key: str) -> list[str]:
        """Return the texts of an array. Raises InputError where one is none."""
        return _texts(self.values, key)

    def places(self, key: str) -> list[tuple[str, int]]:
        """Return an array of names, each with an extent. Raises InputError."""
        values = self.values.get(key, [])
        if not isinstance(values, list) or len(values) % 2:
            raise InputError(f"lvm metadata: {key} is no list of pairs")
        found: list[tuple[str, int]] = []
        for name, extent in zip(values[::2], values[1::2], strict=True):
            if not isinstance(name, str) or not isinstance(extent, int) or not 0 <= extent <= MAX_EXTENTS:
                raise InputError(f"lvm metadata: {key} names no place")
            found.append((name, extent))
        return found


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """One logical volume; hidden ones are parts of others.

    Attributes:
        name: unique in its group.
        uuid: 32 characters, without hyphens.
        status: "VISIBLE", "READ", "WRITE", "MERGING", ...
        flags: "ACTIVATION_SKIP", ...
        segments: in order, without gaps.
    """

    name: str
    uuid: str
    status: frozenset[str]
    flags: frozenset[str]
    segments: tuple[Segment, ...]

    @property
    def extents(self) -> int:
        """Its length."""
        return self.segments[-1].start + self.segments[-1].count

    @property
    def kind(self) -> str:
        """Of its first segment; those of pools, snapshots and thin volumes have but one."""
        return self.segments[0].kind


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A volume group at one sequence number."""

    name: str
    uuid: str
    seqno: int
    extent_bytes: int
    status: frozenset[str]
    physical: Mapping[str, PhysicalVolume]
    logical: Mapping[str, LogicalVolume]


def parse_group(untrusted: bytes) -> VolumeGroup:
    """Return the volume group that a metadata text describes. Raises InputError."""
    top = parse(untrusted)
    sections = [(name, value) for name, value in top.items() if isinstance(value, dict)]
    if len(sections) != 1 or top.get("contents") != "Text Format Volume Group" or top.get("version") != 1:
        raise InputError("lvm metadata: it is no description of one volume group")
    name, section = sections[0]
    extent_sectors = _number(section, "extent_size", MAX_EXTENT_SECTORS)
    if not extent_sectors:
        raise InputError(f"lvm group {_named(name)}: extents of 0 bytes")
    left = [MAX_SEGMENTS]
    logical = {each.name: each for each in _logical(section, left)}
    for volume in logical.values():
        if volume.extents * extent_sectors > MAX_SECTORS:
            length = volume.extents * extent_sectors * SECTOR_BYTES
            raise InputError(
                f"lvm {_named(name)}/{volume.name}: a volume of {length} bytes, no device is as long"
            )
    return VolumeGroup(
        _named(name),
        _uuid(section),
        _number(section, "seqno", 1 << 32),
        extent_sectors * SECTOR_BYTES,
        frozenset(_texts(section, "status")),
        {each.name: each for each in _physical(section)},
        logical,
    )


def _physical(section: Section) -> Iterator[PhysicalVolume]:
    found = _subsections(section, "physical_volumes", MAX_PHYSICAL)
    uuids = [_uuid(values) for _, values in found]
    if len(set(uuids)) != len(uuids):
        raise InputError("lvm metadata: two of its physical volumes have one UUID")
    for (name, values), uuid in zip(found, uuids, strict=True):
        hint = values.get("device", "")
        flags = _texts(values, "flags") + _texts(values, "status")
        yield PhysicalVolume(
            name,
            uuid,
            hint[:64] if isinstance(hint, str) else "",
            _number(values, "pe_start", MAX_SECTORS) * SECTOR_BYTES,
            _number(values, "pe_count", MAX_EXTENTS),
            "MISSING" in flags,
        )


def _logical(section: Section, left: list[int]) -> Iterator[LogicalVolume]:
    for name, values in _subsections(section, "logical_volumes", MAX_LOGICAL):
        count = _number(values, "segment_count", MAX_SEGMENTS)
        left[0] -= count
        if left[0] < 0:
            raise InputError(f"lvm metadata: more than {MAX_SEGMENTS} segments")
        segments = tuple(_segments(_named(name), values, count))
        if not segments:
            continue  # a volume without segments has no length, as lvm makes them for a moment
        status, flags = frozenset(_texts(values, "status")), frozenset(_texts(values, "flags"))
        yield LogicalVolume(name, _uuid(values), status, flags, segments)


def _segments(volume: str, values: Section, count: int) -> Iterator[Segment]:
    expected = 0
    for number in range(1, count + 1):
        segment = values.get(f"segment{number}")
        if not isinstance(segment, dict):
            raise InputError(f"lvm volume {volume}: its segment {number} is missing")
        start = _number(segment, "start_extent", MAX_EXTENTS)
        length = _number(segment, "extent_count", MAX_EXTENTS)
        kind = segment.get("type")
        if start != expected or not length or not isinstance(kind, str):
            raise InputError(f"lvm volume {volume}: its segment {number} does not follow the one before")
        expected += length
        # Segment types carry flags after a "+": "raid1+integrity", "striped+CACHE_VOL".
        yield Segment(start, length, kind, segment)


def _subsections(section: Section, key: str, maximum: int) -> list[tuple[str, Section]]:
    found = section.get(key, {})
    if not isinstance(found, dict) or len(found) > maximum:
        raise InputError(f"lvm metadata: {key} is no section of at most {maximum} entries")
    entries = [(name, value) for name, value in found.items() if isinstance(value, dict)]
    if len(entries) != len(found):
        raise InputError(f"lvm metadata: {key} holds values that are no sections")
    return entries


def _named(name: str) -> str:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise InputError(f"lvm metadata: {name[:64]!r} is no name of a group or volume")
    return name


def _uuid(section: Section) -> str:
    value = section.get("id")
    uuid = value.replace("-", "") if isinstance(value, str) else ""
    if not _UUID.fullmatch(uuid):
        raise InputError("lvm metadata: an id is no UUID of LVM")
    return uuid


def _number(section: Section, key: str, maximum: int, default: int | None = None) -> int:
    value = section.get(key, default)
    if not isinstance(value, int) or not 0 <= value <= maximum:
        raise InputError(f"lvm metadata: {key} is no number from 0 to {maximum}")
    return value


def _texts(section: Section, key: str) -> list[str]:
    value = section.get(key, [])
    values = value if isinstance(value, list) else []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in values):
        raise InputError(f"lvm metadata: {key} is no list of texts")
    return [each for each in values if isinstance(each, str)]
