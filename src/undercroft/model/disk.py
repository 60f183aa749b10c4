"""What is known of a disk image: its format, its chain, its states."""

from dataclasses import dataclass
from enum import StrEnum


class DiskFormat(StrEnum):
    """Image formats that Undercroft reads itself, by the names that QEMU and libvirt have for them."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vpc"
    VHDX = "vhdx"
    VDI = "vdi"
    OVA = "ova"
    """An archive or an envelope whose disks are images of their own."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One internal snapshot of a qcow2 image.

    Attributes:
        ident: the snapshot's ID, unique in the image ("1").
        name: its name; not unique, written by whoever took it. Undecodable bytes are surrogates.
        created_at_s: seconds since the epoch, by the host's clock at that time.
        vm_state_bytes: size of the saved RAM, 0 for a disk-only snapshot.
        size_bytes: the virtual disk's size at that time.
    """

    ident: str
    name: str
    created_at_s: int
    vm_state_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class InnerDisk:
    """A disk that an archive or an envelope describes.

    Attributes:
        name: of its file, as written; never opened by that name.
        offset_bytes: where it lies in the archive, -1 where it is a file of its own.
        size_bytes: its length in the archive, 0 for a file of its own.
        format: what the envelope says it is, None where it says nothing known.
        problem: why it cannot be read, "" when it can.
    """

    name: str
    offset_bytes: int
    size_bytes: int
    format: DiskFormat | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """One image file's own account of itself; nothing in it is trusted.

    Attributes:
        format: how the bytes are read.
        size_bytes: the virtual disk's size.
        cluster_bytes: allocation unit, 0 for raw.
        version: 2 or 3 for qcow2, 0 for raw.
        snapshots: in the order of the table.
        backing_name: what the header names as the backing file, "" for none. Never opened by that name.
        backing_format: the format that the header names for it, "" for none.
        data_file_name: the external data file's name in the header, "" for none or unnamed.
        has_data_file: whether clusters lie in an external data file.
        encryption: "", "aes" or "luks".
        features: names of the incompatible features in use ("extended-l2", "zstd", "dirty"), kinds of image
            ("streamOptimized", "fixed"), and what was done to read it ("log-replayed").
        extents: names of the other files that the disk lies in, each once. Never opened by these names.
        ident: what an image above it would call it by, beside its name; "" where the format has no such
        thing.
        parent_ident: the `ident` that the image below it has to have, "" for none.
        disks: what an archive holds.
        notes: what was left unchecked without loss.
    """

    format: DiskFormat
    size_bytes: int
    cluster_bytes: int = 0
    version: int = 0
    snapshots: tuple[Snapshot, ...] = ()
    backing_name: str = ""
    backing_format: str = ""
    data_file_name: str = ""
    has_data_file: bool = False
    encryption: str = ""
    features: tuple[str, ...] = ()
    extents: tuple[str, ...] = ()
    ident: str = ""
    parent_ident: str = ""
    disks: tuple[InnerDisk, ...] = ()
    notes: tuple[str, ...] = ()


class VolumeStatus(StrEnum):
    """What became of a volume in a scan."""

    READ = "read"
    UNREAD = "unread"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True, slots=True)
class Volume:
    """A partition, a filesystem that fills a whole disk, or a device that is made of volumes.

    Attributes:
        disk: the disk's name in the machine ("vda"), or the device's ("vg/root", "md0").
        number: partition number as the guest's kernel counts it, 0 for the whole disk.
        offset_bytes: where it starts on the disk.
        size_bytes: its length.
        content: "ext4", "swap", "esp", "xfs", "lvm2", "luks", "blank", "unknown", ...
        label: the filesystem's label.
        uuid: the filesystem's UUID in lower case, "" for none.
        part_uuid: the partition's UUID (GPT) or "DISKSIG-NN" (MBR) in lower case, "" for none.
        status: whether it was read.
        mounts: where the guest mounts it, absolute paths; empty when it mounts it nowhere.
        reason: why it was not read or not applicable; notes such as "journal replayed".
        members: names of the volumes that the device is made of, () for one on a disk.
    """

    disk: str
    number: int
    offset_bytes: int
    size_bytes: int
    content: str
    label: str
    uuid: str
    part_uuid: str
    status: VolumeStatus
    mounts: tuple[str, ...] = ()
    reason: str = ""
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the guest's kernel names it ("vda1", "nvme0n1p1")."""
        return volume_name(self.disk, self.number)


def volume_name(disk: str, number: int) -> str:
    """Return the kernel's name for partition `number` of `disk`; 0 is the whole disk."""
    if not number:
        return disk
    return f"{disk}{'p' if disk[-1:].isdigit() else ''}{number}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a machine's disks an answer rests on.

    `problems` lists what may hide software and was not read, each with its cause; an answer is complete
    exactly when it is empty. `notes` lists what the reader did on the way and what it left aside
    without loss (journal replayed, data disk not mounted).
    """

    volumes: tuple[Volume, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True when nothing that may hold software was left unread."""
        return not self.problems
