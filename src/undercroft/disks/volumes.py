"""Values: a machine's volumes as `disks.opening` opens them; partitions, whole disks, devices of sets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from undercroft.disks.detect import UNKNOWN, Content
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.partitions import Partition
from undercroft.disks.source import BlockSource
from undercroft.disks.stack import Device
from undercroft.model.disk import Volume, VolumeStatus, volume_name

DISC = "iso9660"
"""The kind of a volume that is a disc, which a hybrid image also is as a whole, beside its partitions."""

Opener = Callable[[Content, BlockSource], FileSystem]


@dataclass(frozen=True, slots=True)
class UnreadDisk:
    """A disk of the machine that could not be opened at all.

    Attributes:
        reason: why, for the user ("encrypted with LUKS", "has no snapshot 'before'").
        size_bytes: its virtual size, 0 where unknown.
        content: what it is known to hold, "unknown" as a rule.
    """

    reason: str
    size_bytes: int = 0
    content: str = UNKNOWN


@dataclass(frozen=True, slots=True, eq=False)
class OpenVolume:
    """One volume with its open filesystem; two are the same only when they are one object.

    Attributes:
        disk: the disk's name in the machine ("vda"), or a set's device ("vg/root").
        disk_order: the disk's position, from 0; of a set's device that of its first member.
        partition: None for a filesystem that fills the disk and for a disk that was not opened.
        size_bytes: its length.
        content: what it holds.
        filesystem: None where it was not read.
        applicable: False where it cannot hold software (swap, ESP, blank).
        reason: why there is no filesystem.
        device: the set's device that it is or lies in, None on a disk.
        members: names of the volumes that the device is made of.
        inherited_type: type of the one partition that the device is made of, "" for none.
    """

    disk: str
    disk_order: int
    partition: Partition | None
    size_bytes: int
    content: Content
    filesystem: FileSystem | None = None
    applicable: bool = True
    reason: str = ""
    device: Device | None = None
    members: tuple[str, ...] = ()
    inherited_type: str = ""

    @property
    def number(self) -> int:
        """Partition number, 0 for the whole disk."""
        return self.partition.number if self.partition else 0

    @property
    def part_uuid(self) -> str:
        """The partition's UUID in lower case, "" for none."""
        return self.partition.part_uuid.lower() if self.partition else ""

    @property
    def part_name(self) -> str:
        """The partition's GPT name, "" for none."""
        return self.partition.name if self.partition else ""

    @property
    def label(self) -> str:
        """The volume's label: what its magic's place says, else what its reader found (exFAT)."""
        return self.content.label or (self.filesystem.label if self.filesystem else "")

    @property
    def alias(self) -> str:
        """What FreeBSD calls the partition of a BSD label, behind the disk's name ("s1a"), else ""."""
        return self.partition.alias if self.partition else ""

    @property
    def type_id(self) -> str:
        """The partition's type, "" for none."""
        return self.partition.type_id.lower() if self.partition else self.inherited_type

    @property
    def rank(self) -> int:
        """0 for what the guest uses, more for snapshots of it that bear the same UUIDs."""
        return self.device.rank if self.device else 0

    @property
    def paths(self) -> tuple[str, ...]:
        """Names in /dev of a set's device, or of a partition in it; () on a disk."""
        if self.device is None or not self.number:
            return self.device.paths if self.device else ()
        return tuple(_partition_path(path, self.number) for path in self.device.paths)

    @property
    def name(self) -> str:
        """As the guest's kernel names it ("vda1", "nvme0n1p1")."""
        return volume_name(self.disk, self.number)

    @property
    def kind(self) -> str:
        """The filesystem's own name once it is open ("ext4"), else what its magic says."""
        return self.filesystem.content if self.filesystem else self.content.kind

    def describe(self, mounts: Sequence[str] = (), remark: str = "", damage: str = "") -> Volume:
        """Return the value that a report shows; one with `damage` counts as unread though it is open."""
        status = VolumeStatus.READ if self.filesystem and not damage else VolumeStatus.UNREAD
        if not self.applicable:
            status = VolumeStatus.NOT_APPLICABLE
        notes = self.filesystem.notes if self.filesystem else ()
        also = f"also bears the magic of {', '.join(self.content.also)}" if self.content.also else ""
        return Volume(
            disk=self.disk,
            number=self.number,
            offset_bytes=self.partition.start_bytes if self.partition else 0,
            size_bytes=self.size_bytes,
            content=self.kind,
            label=self.label,
            uuid=self.content.uuid,
            part_uuid=self.part_uuid,
            status=status,
            mounts=tuple(mounts),
            reason="; ".join(
                filter(None, (self.reason, damage, remark, *notes, self.note, self.content.note, also))
            ),
            members=self.members,
        )

    @property
    def note(self) -> str:
        """What the set says of its device."""
        return self.device.note if self.device else ""


def _partition_path(path: str, number: int) -> str:
    if path.startswith("/dev/disk/"):
        return f"{path}-part{number}"
    return volume_name(path, number)


@dataclass(frozen=True, slots=True)
class DiskSet:
    """All volumes in the order of disks, partitions and devices, and what was odd about them.

    Attributes:
        volumes: each partition, disk and device.
        notes: oddities without loss.
        problems: what may hide software, such as a set that lacks a member.
    """

    volumes: tuple[OpenVolume, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...] = ()
