"""The volumes of a machine's disks: partitions and whole-disk filesystems, each with what it holds.

Guarantees: nothing is skipped. Every partition that a table names, every disk without a table and every
disk that could not be opened comes out as one `OpenVolume`, with a filesystem or with the reason why
there is none. Malformed content never raises.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from undercroft.disks import partitions
from undercroft.disks.detect import NOT_APPLICABLE, UNKNOWN, Content, detect, open_filesystem
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.partitions import Partition
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.errors import InputError
from undercroft.model.disk import Volume, VolumeStatus, volume_name

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
        disk: the disk's name in the machine ("vda"); `disk_order` is its position, from 0.
        partition: None for a filesystem that fills the disk and for a disk that was not opened.
        size_bytes: its length.
        content: what it holds.
        filesystem: None where it was not read.
        applicable: False where it cannot hold software (swap, ESP, blank).
        reason: why there is no filesystem.
    """

    disk: str
    disk_order: int
    partition: Partition | None
    size_bytes: int
    content: Content
    filesystem: FileSystem | None = None
    applicable: bool = True
    reason: str = ""

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
    def type_id(self) -> str:
        """The partition's type, "" for none."""
        return self.partition.type_id.lower() if self.partition else ""

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
            label=self.content.label,
            uuid=self.content.uuid,
            part_uuid=self.part_uuid,
            status=status,
            mounts=tuple(mounts),
            reason="; ".join(filter(None, (self.reason, damage, remark, *notes, self.content.note, also))),
        )


@dataclass(frozen=True, slots=True)
class DiskSet:
    """All volumes in the order of disks and partitions, and what was odd about the tables."""

    volumes: tuple[OpenVolume, ...]
    notes: tuple[str, ...]


def open_volumes(
    disks: Sequence[tuple[str, BlockSource | UnreadDisk]], opener: Opener = open_filesystem
) -> DiskSet:
    """Return every volume of `disks` (name, source). Malformed content becomes a volume's reason."""
    volumes: list[OpenVolume] = []
    notes: list[str] = []
    for order, (name, disk) in enumerate(disks):
        if isinstance(disk, UnreadDisk):
            content = Content(disk.content)
            volumes.append(OpenVolume(name, order, None, disk.size_bytes, content, reason=disk.reason))
            continue
        try:
            table = partitions.read_table(disk)
        except InputError as error:
            reason = f"its partition table could not be read: {error}"
            content = Content(UNKNOWN)
            volumes.append(OpenVolume(name, order, None, disk.size_bytes, content, reason=reason))
            continue
        notes += [f"{name}: {note}" for note in table.notes]
        parts: Sequence[Partition | None] = table.partitions or (None,)
        volumes += [_open_volume(name, order, part, disk, opener) for part in parts]
    return DiskSet(tuple(volumes), tuple(notes))


def _open_volume(
    disk: str, order: int, part: Partition | None, source: BlockSource, opener: Opener
) -> OpenVolume:
    size_bytes = part.size_bytes if part else source.size_bytes
    volume = OpenVolume(disk, order, part, size_bytes, Content(UNKNOWN))
    if part and part.problem:
        return replace(volume, reason=part.problem)
    if not size_bytes:
        return replace(volume, reason="it has 0 bytes")
    try:
        inner = SliceSource(source, part.start_bytes, size_bytes, volume.name) if part else source
        volume = replace(volume, content=detect(inner, volume.type_id))
        if reason := NOT_APPLICABLE.get(volume.content.kind):
            return replace(volume, applicable=False, reason=reason)
        return replace(volume, filesystem=opener(volume.content, inner))
    except InputError as error:
        return replace(volume, reason=str(error))
