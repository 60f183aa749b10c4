"""The superblock of an md member: which array it belongs to, in which role, and how far it is.

Guarantees: untrusted bytes give a value whose numbers lie within the limits below, or `InputError` that
begins with "md"; the checksum is checked. Follows Linux's include/uapi/linux/raid/md_p.h. All numbers are
little-endian, as on every machine that KVM runs on here; version 0.90 of a big-endian guest is not found.
"""

import uuid
from dataclasses import dataclass
from struct import Struct

from undercroft.disks.magics import MD_MAGIC, MD_SUPERBLOCK_BYTES, Head, md_checksum, md_checksum_0
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

MAX_MEMBERS = 384
MAX_SECTORS = 1 << 54
IN_SYNC = (1 << 64) - 1
SPARE, FAULTY, JOURNAL = 0xFFFF, 0xFFFE, 0xFFFD

RECOVERING = 2
RESHAPE = 4
BAD_BLOCKS = 8
REPLACEMENT = 16
NEW_OFFSET = 64
RECOVERY_BITMAP = 128
HAS_JOURNAL = 512
RAID0_LAYOUT = 4096
_KNOWN_FEATURES = 0x1FFF

_HEAD_1 = Struct("<IIII16s32sQiIQII")
"""magic, version, features, unused, UUID, name, time, level, layout, sectors, chunk in sectors, members."""
_DEVICE_1 = Struct("<QQQQI")
"""From 128: data's start and length, own place, recovered up to, number; all but the last in sectors."""
_STATE_1 = Struct("<QQQII")
"""From 192: changed, events, synced up to, checksum, length of the table of roles."""
_ROLES_1 = 256

_WORDS_0 = Struct("<1024I")
_STATE_0 = 32
_LAYOUT_0 = 64
_DISKS_0 = 128
_DISK_WORDS_0 = 32
_MAX_DISKS_0 = 27
_THIS_0 = 992
_RESHAPING_0 = 91
_DISK_FAULTY, _DISK_ACTIVE, _DISK_SYNC = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Superblock:
    """One member's superblock.

    Attributes:
        version: "0.90", "1.0", "1.1" or "1.2".
        array: the array's UUID.
        name: of the array, with its host before a colon; "" for 0.90.
        minor: the number of its device ("md0") in 0.90, -1 else.
        created: when, in whatever unit; only to tell older superblocks of one volume.
        level: of the RAID, -1 for linear.
        layout: as the level has it, -1 for none that was recorded.
        chunk_bytes: 0 where the level has none.
        part_bytes: what the array uses of each member, 0 where that differs between them.
        members: of the array, spares not counted.
        number: of this member in the array's table.
        roles: of every member by number.
        events: higher is newer.
        start_bytes: where its data begin.
        size_bytes: of its data.
        recovered: whether all of its data were filled.
        synced: whether the array was found in sync.
        features: of version 1.
    """

    version: str
    array: str
    name: str
    minor: int
    created: int
    level: int
    layout: int
    chunk_bytes: int
    part_bytes: int
    members: int
    number: int
    roles: tuple[int, ...]
    events: int
    start_bytes: int
    size_bytes: int
    recovered: bool
    synced: bool
    features: int = 0

    @property
    def geometry(self) -> tuple[str, int, int, int, int, int]:
        """What all members of an array have in common."""
        return (self.array, self.level, self.layout, self.chunk_bytes, self.part_bytes, self.members)


def read_superblock(source: BlockSource) -> Superblock:
    """Return a member's superblock; of several the one that was made last.

    Raises:
        InputError: none is sound.
        UnsupportedError: the array is being reshaped, or has a journal.
    """
    size = source.size_bytes
    places = (
        ("1.1", 0),
        ("1.2", 4096),
        ("1.0", ((size >> 9) - 16 & ~7) << 9),
        ("0.90", (size & ~0xFFFF) - 0x10000),
    )
    found: list[Superblock] = []
    failure = InputError("md superblock: there is none")
    for version, place in places:
        if place < 0 or place + MD_SUPERBLOCK_BYTES > size or source.read(place, 4) != MD_MAGIC:
            continue
        data = source.read(place, MD_SUPERBLOCK_BYTES)
        try:
            found.append(_parse_0(data, place) if version == "0.90" else _parse_1(data, version, place, size))
        except UnsupportedError:
            raise
        except InputError as error:
            failure = error
    if not found:
        raise failure
    return max(found, key=lambda each: each.created)


def _check(found: int, computed: int, version: str) -> None:
    if found != computed:
        raise InputError(f"md superblock {version}: its checksum is {found:#x}, its bytes give {computed:#x}")


def _parse_1(data: bytes, version: str, place: int, volume_bytes: int) -> Superblock:
    fields = _HEAD_1.unpack_from(data)
    _, major, features, _, ident, name, created, level, layout, sectors, chunk, members = fields
    start, length, own, recovered, number = _DEVICE_1.unpack_from(data, 128)
    _, events, synced, checksum, table = _STATE_1.unpack_from(data, 192)
    if major != 1 or own << 9 != place or table > (MD_SUPERBLOCK_BYTES - _ROLES_1) // 2:
        raise InputError(f"md superblock {version}: it is of another version or place")
    _check(checksum, md_checksum(Head(data), _ROLES_1 + 2 * table), version)
    if features & (RESHAPE | NEW_OFFSET):
        raise UnsupportedError("md: a reshape of the array is in progress, which is not supported")
    if features & HAS_JOURNAL:
        raise UnsupportedError("md: the array has a journal device, which is not supported")
    if features & ~_KNOWN_FEATURES:
        raise UnsupportedError(f"md: features {features & ~_KNOWN_FEATURES:#x} are not supported")
    if max(start, length, sectors) > MAX_SECTORS or (start + length) << 9 > volume_bytes:
        raise InputError(f"md superblock {version}: its data lie beyond the volume's end at {volume_bytes}")
    roles = Struct(f"<{table}H").unpack_from(data, _ROLES_1)
    if number >= len(roles) or not 1 <= members <= MAX_MEMBERS:
        raise InputError(f"md superblock {version}: member {number} of {members} is not in its table")
    return Superblock(
        version,
        str(uuid.UUID(bytes=ident)),
        Head(name).text(0, 32),
        -1,
        created & 0xFFFFFFFFFF,
        level,
        layout if level or features & RAID0_LAYOUT else -1,
        chunk * 512,
        sectors * 512,
        members,
        number,
        roles,
        events,
        start * 512,
        length * 512,
        not features & (RECOVERING | RECOVERY_BITMAP) or recovered == IN_SYNC,
        synced == IN_SYNC or synced >= sectors,
        features,
    )


def _parse_0(data: bytes, place: int) -> Superblock:
    words = _WORDS_0.unpack(data)
    _check(words[_STATE_0 + 6], md_checksum_0(data), "0.90")
    if words[1] or words[2] not in (90, _RESHAPING_0):
        raise InputError(f"md superblock 0.90: it is of version {words[1]}.{words[2]}")
    if words[2] == _RESHAPING_0:
        raise UnsupportedError("md: a reshape of the array is in progress, which is not supported")
    members = words[10]
    if not 1 <= members <= _MAX_DISKS_0:
        raise InputError(f"md superblock 0.90: an array of {members} members")
    roles = []
    for start in range(_DISKS_0, _DISKS_0 + _MAX_DISKS_0 * _DISK_WORDS_0, _DISK_WORDS_0):
        role, state = words[start + 3], words[start + 4]
        active = state & (_DISK_FAULTY | _DISK_ACTIVE | _DISK_SYNC) == _DISK_ACTIVE | _DISK_SYNC
        roles.append(role if active and role < members else FAULTY if state & _DISK_FAULTY else SPARE)
    number = words[_THIS_0]
    if number >= _MAX_DISKS_0:
        raise InputError(f"md superblock 0.90: member {number} of {members}")
    level = words[7] - (1 << 32) if words[7] >> 31 else words[7]
    part_bytes = words[8] * 1024
    if level > 0 and part_bytes > place:
        raise InputError(f"md superblock 0.90: {part_bytes} bytes of data do not fit before it at {place}")
    return Superblock(
        "0.90",
        str(uuid.UUID(bytes=data[20:24] + data[52:64])),
        "",
        words[11] & 0xFFFFF,
        words[6],
        level,
        words[_LAYOUT_0] if level else -1,
        words[_LAYOUT_0 + 1],
        part_bytes if level > 0 else 0,
        members,
        number,
        tuple(roles),
        words[_STATE_0 + 8] << 32 | words[_STATE_0 + 7],
        0,
        place,
        recovered=True,
        synced=bool(words[_STATE_0 + 1] & 1),
    )
