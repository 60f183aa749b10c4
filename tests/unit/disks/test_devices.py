"""The names that an fstab gives to devices lead to the right volumes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.disks.detect import Content
from undercroft.disks.devices import Device, DeviceKind, disk_index, find_volumes, parse_device
from undercroft.disks.partitions import Partition
from undercroft.disks.volumes import OpenVolume


def volume(disk: str, order: int, number: int, uuid: str = "", label: str = "") -> OpenVolume:
    part = (
        Partition(number, 1 << 20, 1 << 20, "83", f"part{number}", f"1234abcd-{number:02}")
        if number
        else None
    )
    return OpenVolume(disk, order, part, 1 << 20, Content("ext", label, uuid))


VOLUMES = [
    volume("vda", 0, 1, "aaaa-1111", "root"),
    volume("vda", 0, 5, "bbbb-2222"),
    volume("vdb", 1, 0, "cccc-3333", "my disk"),
    volume("vdb", 1, 1, "dddd-4444"),
]


@pytest.mark.parametrize(
    ("text", "kind", "value", "partition"),
    [
        (b"UUID=AAAA-1111", DeviceKind.UUID, "aaaa-1111", 0),
        (b'UUID="aaaa-1111"', DeviceKind.UUID, "aaaa-1111", 0),
        (b"LABEL=Root", DeviceKind.LABEL, "Root", 0),
        (b"PARTUUID=1234ABCD-01", DeviceKind.PART_UUID, "1234abcd-01", 0),
        (b"PARTLABEL=part1", DeviceKind.PART_LABEL, "part1", 0),
        (b"/dev/disk/by-uuid/aaaa-1111", DeviceKind.UUID, "aaaa-1111", 0),
        (b"/dev/disk/by-label/my\\x20disk", DeviceKind.LABEL, "my disk", 0),
        (b"/dev/disk/by-partuuid/1234abcd-01", DeviceKind.PART_UUID, "1234abcd-01", 0),
        (b"/dev/sda", DeviceKind.DISK, "sda", 0),
        (b"/dev/vdaa12", DeviceKind.DISK, "vdaa", 12),
        (b"/dev/xvda1", DeviceKind.DISK, "xvda", 1),
        (b"/dev/nvme0n1p2", DeviceKind.DISK, "nvme0n1", 2),
        (b"/dev/mmcblk0p1", DeviceKind.DISK, "mmcblk0", 1),
        (b"/dev/vtbd0p2", DeviceKind.DISK, "vda", 2),
        (b"/dev/ada1s2", DeviceKind.DISK, "sdb", 2),
        (b"/dev/da26", DeviceKind.DISK, "sdaa", 0),
        (b"/dev/nda1p3", DeviceKind.DISK, "nvme1n1", 3),
        (b"/dev/ada0s1a", DeviceKind.DISK, "sda", 1),
        (b"/dev/vtbd0p0", DeviceKind.OTHER, "/dev/vtbd0p0", 0),
        (b"/dev/gpt/rootfs", DeviceKind.PART_LABEL, "rootfs", 0),
        (b"/dev/gptid/1234ABCD-01", DeviceKind.PART_UUID, "1234abcd-01", 0),
        (b"/dev/ufs/Root", DeviceKind.LABEL, "Root", 0),
        (b"/dev/ufsid/5F3A0B1C", DeviceKind.UUID, "5f3a0b1c", 0),
        (b"/dev/disk/by-path/pci-0000:00:05.0-part2", DeviceKind.HARDWARE, "", 2),
        (b"/dev/mapper/vg-root", DeviceKind.OTHER, "/dev/mapper/vg-root", 0),
        (b"/dev/sda01", DeviceKind.OTHER, "/dev/sda01", 0),
        (b"server:/export", DeviceKind.NETWORK, "server:/export", 0),
        (b"[fe80::1]:/export", DeviceKind.NETWORK, "[fe80::1]:/export", 0),
        (b"//server/share", DeviceKind.NETWORK, "//server/share", 0),
        (b"tmpfs", DeviceKind.PSEUDO, "tmpfs", 0),
    ],
)
def test_a_name_is_understood(text: bytes, kind: DeviceKind, value: str, partition: int) -> None:
    found = parse_device(text)
    assert (found.kind, found.partition) == (kind, partition)
    assert found.value == (value or text.decode())


def test_the_type_tells_network_and_pseudo_filesystems() -> None:
    assert parse_device(b"share", "9p").kind is DeviceKind.NETWORK
    assert parse_device(b"share", "virtiofs").kind is DeviceKind.NETWORK
    assert parse_device(b"whatever", "tmpfs").kind is DeviceKind.PSEUDO


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"UUID=AAAA-1111", "vda1"),
        (b"LABEL=my\x20disk", "vdb"),
        (b"PARTUUID=1234ABCD-05", "vda5"),
        (b"PARTLABEL=part5", "vda5"),
        (b"/dev/vda5", "vda5"),
        (b"/dev/vdb", "vdb"),
        (b"/dev/sda1", "vda1"),
        (b"/dev/sdb1", "vdb1"),
        (b"/dev/nvme1n1p1", "vdb1"),
    ],
)
def test_a_name_leads_to_its_volume(text: bytes, name: str) -> None:
    assert find_volumes(parse_device(text), VOLUMES)[0].name == name


@pytest.mark.parametrize(
    "text",
    [b"UUID=", b"LABEL=", b"UUID=eeee", b"/dev/vdc1", b"/dev/sdc1", b"/dev/vda2", b"/dev/mapper/x", b""],
)
def test_a_name_that_fits_none_leads_nowhere(text: bytes) -> None:
    assert find_volumes(parse_device(text), VOLUMES) == []


def test_a_name_of_a_bus_that_the_machine_has_is_not_matched_by_position() -> None:
    disks = [volume("vda", 0, 1), volume("sda", 1, 1)]
    assert [found.disk for found in find_volumes(parse_device(b"/dev/sda1"), disks)] == ["sda"]
    assert find_volumes(parse_device(b"/dev/sdb1"), disks) == []


def test_a_hardware_name_is_matched_only_where_there_is_one_disk() -> None:
    device = parse_device(b"/dev/disk/by-id/virtio-serial-part5")
    assert [found.name for found in find_volumes(device, VOLUMES[:2])] == ["vda5"]
    assert find_volumes(device, VOLUMES) == []


def test_two_volumes_with_one_uuid_are_both_found() -> None:
    twins = [volume("vda", 0, 1, "same"), volume("vdb", 1, 1, "same")]
    assert len(find_volumes(Device(DeviceKind.UUID, "same"), twins)) == 2


@pytest.mark.parametrize(
    ("name", "index"), [("sda", 0), ("vdb", 1), ("sdz", 25), ("sdaa", 26), ("nvme2n1", 2), ("mmcblk1", 1)]
)
def test_a_disks_name_tells_its_position(name: str, index: int) -> None:
    assert disk_index(name) == index


@given(st.binary(max_size=80), st.sampled_from(["ext4", "nfs", "auto", ""]))
def test_any_bytes_name_something(text: bytes, fs_type: str) -> None:
    find_volumes(parse_device(text, fs_type), VOLUMES)
