"""Sets of volumes: LVM, md RAID and others that make new devices out of volumes; one line each.

An assembler is a module with `assemble(members, request) -> Assembly`. It is given every volume of its
kinds that no set has yet, and says what became of each: part of a set, refused, or left to be opened as an
ordinary filesystem. A member that it does not mention waits: more members may come out of another set.
It is asked again with `request.last` when nothing else can be assembled any more, and then makes what it
can of sets that lack a member. The devices that it gives are looked at like any other
(`opening.open_volumes`), up to `MAX_DEPTH` deep.

What a set's metadata says is untrusted: an assembler bounds sizes, counts and nesting, gives sources that
never read beyond their members, and raises for no content: an `InputError` of one set is the reason of its
members. To add one: write it, add its line, give it tests, mutants and an oracle.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

from undercroft.disks.filesystem import FileSystem
from undercroft.disks.formats import Level
from undercroft.disks.keys import NO_KEYS, Keys
from undercroft.disks.magics import Content
from undercroft.disks.source import BlockSource

MAX_DEPTH = 8
"""Devices of devices; LVM on LUKS on RAID is three."""

MAX_DEVICES = 1024
"""Volumes and devices of one machine in all; the rest is a problem."""


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A volume that belongs to a set.

    Attributes:
        name: as the guest's kernel names it ("vda2"), or a set's device ("vg/crypt").
        content: what it holds, as `detect` found it.
        source: its bytes, untrusted.
        part_uuid: of its partition, "" for none.
    """

    name: str
    content: Content
    source: BlockSource
    part_uuid: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Device:
    """A device that a set makes. It has a source, or an open filesystem, or a reason why it has neither.

    Attributes:
        name: short and unique in the machine, as reports show it ("vg/root", "md0").
        paths: all names in the guest's /dev ("/dev/vg/root", "/dev/mapper/vg-root").
        members: those that it is made of.
        size_bytes: its length.
        source: its bytes.
        filesystem: where the set is a filesystem of its own (btrfs on several disks).
        content: what it is known to hold; found out from the source where it is None.
        reason: why it cannot be read.
        note: what a reader of the report should know ("degraded").
        rank: 0 is what the guest uses; of several devices with one UUID the lowest rank is meant (the
            snapshot of a volume has the UUID of its origin).
        by_member: whether a mount may name any member in its place, as with btrfs.
    """

    name: str
    paths: tuple[str, ...]
    members: tuple[Member, ...]
    size_bytes: int
    source: BlockSource | None = None
    filesystem: FileSystem | None = None
    content: Content | None = None
    reason: str = ""
    note: str = ""
    rank: int = 0
    by_member: bool = False


@dataclass(slots=True)
class Assembly:
    """What an assembler made of the members that it was given.

    Attributes:
        devices: in the order in which reports show them.
        parts: members that belong to a set, with its name ("volume group vg").
        refused: members that cannot be used, with the reason.
        left: members of no set: each is opened as the filesystem that its content names.
        problems: what may hide software (a missing member), for the coverage.
        notes: what does not.
    """

    devices: list[Device] = field(default_factory=list)
    parts: dict[Member, str] = field(default_factory=dict)
    refused: dict[Member, str] = field(default_factory=dict)
    left: list[Member] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Request:
    """How an assembler is asked.

    Attributes:
        keys: for encrypted volumes.
        last: no further member will come: what lacks one is made as far as it goes.
        opens: whether a set that is a filesystem is opened: not in the child that has passphrases.
    """

    keys: Keys = NO_KEYS
    last: bool = True
    opens: bool = True


@dataclass(frozen=True, slots=True)
class VolumeSet:
    """One kind of set.

    Attributes:
        kinds: of its members, as `Content.kind` has them.
        title: as an administrator calls it.
        level: how much is read.
        reads: what is read and what is not, in one sentence.
        module: of its assembler.
    """

    kinds: tuple[str, ...]
    title: str
    level: Level
    reads: str
    module: str


Assembler = Callable[[Sequence[Member], Request], Assembly]

SETS: tuple[VolumeSet, ...] = (
    VolumeSet(
        ("md-raid",),
        "Linux md RAID",
        Level.PARTLY,
        "superblocks 0.90 to 1.2; linear, RAID 0, 1, 4, 5, 6 and 10, with a member missing where that loses"
        " nothing; a reshape in progress and journal devices are reported as unread",
        "undercroft.disks.md",
    ),
    VolumeSet(
        ("luks1", "luks2"),
        "LUKS1, LUKS2",
        Level.PARTLY,
        "with a passphrase or key file: AES in XTS or CBC, keyslots with PBKDF2 or Argon2; not read are other"
        " ciphers, detached headers, authenticated encryption and a reencryption in progress",
        "undercroft.disks.luks.assembler",
    ),
    VolumeSet(
        ("lvm2",),
        "LVM2",
        Level.PARTLY,
        "linear, striped, mirrored, RAID 0, 1, 4, 5 and 10, thin volumes, snapshots of both kinds, on any"
        " number of physical volumes; cache, VDO, integrity and RAID 6 are reported as unread",
        "undercroft.disks.lvm",
    ),
    VolumeSet(
        ("btrfs",),
        "btrfs on several devices",
        Level.WHOLE,
        "single, DUP, RAID0, RAID1, RAID10, RAID5, RAID6; without a device where there are copies of what it"
        " has, not from parity; in one that grew from a seed device, what lies there is reported as unread",
        "undercroft.disks.btrfs.assembler",
    ),
)
"""Lower layers first: a broken array is made as far as it goes before the volume group that lies on it."""


def assembler(volume_set: VolumeSet) -> Assembler:
    """Return the function that assembles sets of this kind."""
    return cast("Assembler", import_module(volume_set.module).assemble)


def by_kind() -> Mapping[str, VolumeSet]:
    """Return the set that each kind of content belongs to."""
    return {kind: each for each in SETS for kind in each.kinds}


def load() -> None:
    """Import every assembler: a filtered child can import nothing any more."""
    for each in SETS:
        assembler(each)
