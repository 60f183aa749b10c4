"""How a mount names its device, and which of the given volumes that is.

Guarantees: a name is matched by what the disks themselves carry (UUIDs, labels) or by the disks' names
in the machine; a kernel's name of another bus (an fstab that says sda on a machine with vda) is matched
by position, because the bus changed and the order did not. A name that only hardware explains (by-id,
by-path) is matched where there is but one disk. FreeBSD's names ("vtbd0p2") are read as the name that Linux
has for the same disk. A set's device (LVM, md) goes by the names that the guest's kernel and udev give it; of
volumes that share a UUID, a snapshot stands behind its origin. Names follow fstab(5), udev's links in
/dev/disk, and FreeBSD's geom_label(4).

    >>> parse_device(b"UUID=0A1B-2C3D", "vfat")
    Device(kind=<DeviceKind.UUID: 'uuid'>, value='0a1b-2c3d', partition=0)
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from undercroft.disks.volumes import OpenVolume


class DeviceKind(StrEnum):
    """How an entry names its device."""

    UUID = "uuid"
    LABEL = "label"
    PART_UUID = "partuuid"
    PART_LABEL = "partlabel"
    DISK = "disk"  # /dev/sda, with the partition's number apart
    HARDWARE = "hardware"  # by-id, by-path: only the host's hardware tells which disk
    NETWORK = "network"
    PSEUDO = "pseudo"  # the kernel makes it up: proc, tmpfs
    OTHER = "other"  # a set's device (/dev/vg/root, /dev/mapper/x, /dev/md0), ZFS datasets, image files


@dataclass(frozen=True, slots=True)
class Device:
    """A device as an entry names it.

    Attributes:
        kind: which of a volume's names `value` is.
        value: the name; UUIDs in lower case, for DISK the disk's name without its partition ("vda").
        partition: for DISK and HARDWARE the partition's number, 0 for the whole disk.
        alias: for DISK what FreeBSD calls a partition of a BSD label ("s1a"), in place of its number.
    """

    kind: DeviceKind
    value: str
    partition: int = 0
    alias: str = ""


PSEUDO_TYPES = frozenset(
    """
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devfs devpts devtmpfs efivarfs fdescfs fusectl
    hugetlbfs linprocfs linsysfs mfs mqueue none nsfs proc procfs pstore ramfs rootfs securityfs sysfs
    tmpfs tracefs usbfs
    """.split()  # noqa: SIM905 - forty quoted words are harder to read
)
"""Filesystems that the kernel makes up; nothing of them is on a disk."""

NETWORK_TYPES = frozenset(
    """
    9p afs beegfs ceph cifs davfs davfs2 fuse.ceph fuse.glusterfs fuse.rclone fuse.s3fs fuse.sshfs
    glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs sshfs virtiofs
    """.split()  # noqa: SIM905 - forty quoted words are harder to read
)

_TAGS = {
    "UUID": DeviceKind.UUID,
    "LABEL": DeviceKind.LABEL,
    "PARTUUID": DeviceKind.PART_UUID,
    "PARTLABEL": DeviceKind.PART_LABEL,
}
_BY_FOLDERS = {
    **{f"/dev/disk/by-{tag.lower()}/": kind for tag, kind in _TAGS.items()},
    # FreeBSD's, by geom_label(4)
    "/dev/gpt/": DeviceKind.PART_LABEL,
    "/dev/gptid/": DeviceKind.PART_UUID,
    "/dev/ufs/": DeviceKind.LABEL,
    "/dev/ufsid/": DeviceKind.UUID,
    "/dev/msdosfs/": DeviceKind.LABEL,
    "/dev/ext2fs/": DeviceKind.LABEL,
}
_DISK_NAME = re.compile(r"/dev/((?:sd|vd|xvd|hd|ubd)[a-z]{1,3})([1-9][0-9]{0,2})?")
_NUMBERED_DISK_NAME = re.compile(r"/dev/((?:nvme[0-9]{1,3}n|mmcblk)[0-9]{1,3})(?:p([1-9][0-9]{0,2}))?")
_FREEBSD_NAME = re.compile(
    r"/dev/(vtbd|ada|da|nda|nvd|xbd|ad)([0-9]{1,2})"
    r"(?:[ps]([1-9][0-9]{0,2}))?([a-h])?"
)
_FREEBSD_BUSES = {"vtbd": "vd", "ada": "sd", "da": "sd", "ad": "sd", "xbd": "xvd"}
"""Which of a Linux' names the host's side has for FreeBSD's disks: both count them from the first."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_HARDWARE_NAME = re.compile(r"/dev/disk/by-(?:id|path)/[^/]+?(?:-part([1-9][0-9]{0,2}))?")
_HEX = re.compile(rb"\\x([0-9a-fA-F]{2})")


def parse_device(untrusted: bytes, fs_type: str = "auto") -> Device:
    """Return how a mount of type `fs_type` names its device; unknown forms are OTHER."""
    text = untrusted.decode("utf-8", "surrogateescape")
    if fs_type in PSEUDO_TYPES or text in {"none", "tmpfs", "proc", "sysfs"}:
        return Device(DeviceKind.PSEUDO, text)
    if _is_network(fs_type, text):
        return Device(DeviceKind.NETWORK, text)
    tag, equals, value = text.partition("=")
    if equals and (kind := _TAGS.get(tag.upper())):
        return _tagged(kind, value.strip("\"'"))
    return _by_path(text)


def _by_path(text: str) -> Device:
    for folder, kind in _BY_FOLDERS.items():
        if text.startswith(folder):
            escaped = text[len(folder) :].encode("utf-8", "surrogateescape")
            name = _HEX.sub(lambda match: bytes([int(match[1], 16)]), escaped)
            return _tagged(kind, name.decode("utf-8", "surrogateescape"))
    if match := _DISK_NAME.fullmatch(text) or _NUMBERED_DISK_NAME.fullmatch(text):
        return Device(DeviceKind.DISK, match[1], int(match[2] or 0))
    if match := _FREEBSD_NAME.fullmatch(text):
        return _freebsd(match)
    if match := _HARDWARE_NAME.fullmatch(text):
        return Device(DeviceKind.HARDWARE, text, int(match[1] or 0))
    return Device(DeviceKind.OTHER, text)


def _freebsd(match: re.Match[str]) -> Device:
    """Return the device that one of FreeBSD's disk names stands for ("vtbd0p2", "ada1s1a")."""
    driver, number, partition, letter = match[1], int(match[2]), int(match[3] or 0), match[4] or ""
    bus = _FREEBSD_BUSES.get(driver)
    high, low = divmod(number, len(_LETTERS))
    position = (_LETTERS[high - 1] if high else "") + _LETTERS[low]
    disk = f"{bus}{position}" if bus else f"nvme{number}n1"
    head = match[0].removeprefix(f"/dev/{driver}{match[2]}")
    return Device(DeviceKind.DISK, disk, partition, head if letter else "")


def disk_index(name: str) -> int:
    """Return the position that a kernel's disk name stands for: sda and nvme0n1 are 0, vdb is 1."""
    letters = re.fullmatch(r"(?:sd|vd|xvd|hd|ubd)([a-z]{1,3})", name)
    if letters:
        index = 0
        for letter in letters[1]:
            index = index * 26 + ord(letter) - ord("a") + 1
        return index - 1
    number = re.search(r"[0-9]{1,3}", name)
    return int(number[0]) if number else -1


def find_volumes(device: Device, volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    """Return the volumes that `device` may mean, in their order: none, one, or several that share it."""
    if not device.value:
        return []
    found = _named(device, volumes)
    stand_ins = [volume for volume in volumes if volume.device and volume.device.by_member]
    for volume in stand_ins:
        if any(member.name in volume.members for member in found):
            found = [volume, *(each for each in found if each.name not in volume.members)]
    lowest = min((volume.rank for volume in found), default=0)
    kept = dict.fromkeys(volume for volume in found if volume.rank == lowest)
    return [volume for volume in volumes if volume in kept]


def _named(device: Device, volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    value = device.value
    on_disks = [volume for volume in volumes if volume.device is None]
    match device.kind:
        case DeviceKind.UUID:
            return [volume for volume in volumes if volume.content.uuid.lower() == value]
        case DeviceKind.LABEL:
            return [volume for volume in volumes if volume.label == value]
        case DeviceKind.PART_UUID:
            return [volume for volume in volumes if volume.part_uuid == value]
        case DeviceKind.PART_LABEL:
            return [volume for volume in volumes if volume.part_name == value]
        case DeviceKind.DISK:
            return _by_disk_name(device, on_disks)
        case DeviceKind.OTHER | DeviceKind.HARDWARE:
            found = [volume for volume in volumes if value in volume.paths]
            if found or device.kind is DeviceKind.OTHER or len({each.disk_order for each in on_disks}) != 1:
                return found
            return [volume for volume in on_disks if volume.number == device.partition]
    return []


def _by_disk_name(device: Device, volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    partition = [volume for volume in volumes if volume.number == device.partition]
    if device.alias:
        partition = [volume for volume in volumes if volume.alias == device.alias]
    bus = _bus(device.value)
    if any(_bus(volume.disk) == bus for volume in volumes):
        return [volume for volume in partition if volume.disk == device.value]
    position = disk_index(device.value)
    return [volume for volume in partition if volume.disk_order == position]


def _bus(disk: str) -> str:
    """The part of a disk's name that says which driver named it: "vd" of vda, "nvme" of nvme0n1."""
    if disk.startswith("nvme"):
        return "nvme"
    if disk.startswith("mmcblk"):
        return "mmcblk"
    return disk[:3] if disk.startswith(("xvd", "ubd")) else disk[:2]


def _is_network(fs_type: str, device: str) -> bool:
    if fs_type in NETWORK_TYPES:
        return True
    return device.startswith("//") or re.match(r"[\w.\[\]:-]+:/", device) is not None


def _tagged(kind: DeviceKind, value: str) -> Device:
    folded = value if kind in (DeviceKind.LABEL, DeviceKind.PART_LABEL) else value.lower()
    return Device(kind, folded)
