"""LVM as a real kernel maps it: every device of a kept set, and of one made anew, byte for byte."""

import json
import os
import shutil
import struct
from pathlib import Path

import pytest
import volumeimages
from diskimages import MIB, make_raw, partition, run
from machineimages import debian_tree, packages
from program import run_program
from volumechanges import lvm_checksum
from volumeimages import VolumeImages, digest, keep, kept

from undercroft.disks.volumes import DiskSet
from undercroft.model.disk import VolumeStatus

UNREAD = {"vgone/cached": "cache is not supported yet"}


@pytest.fixture(scope="module")
def images() -> VolumeImages:
    return kept("lvm")


def digests(found: DiskSet) -> dict[str, str]:
    return {
        volume.name: digest(volume.device.source)
        for volume in found.volumes
        if volume.device and volume.device.source
    }


def unread(found: DiskSet) -> dict[str, str]:
    return {
        volume.name: volume.device.reason
        for volume in found.volumes
        if volume.device and not volume.device.source
    }


def check_whole(images: VolumeImages) -> None:
    found = images.open()
    assert digests(found) == {name: sha for name, sha in images.digests.items() if name not in UNREAD}
    assert unread(found) == {name: f"lvm {name}: {reason}" for name, reason in UNREAD.items()}
    assert [volume.reason for volume in found.volumes[:4]] == ["part of volume group vgone"] * 4
    assert (found.problems, found.notes) == ((), ())


def test_every_device_reads_as_the_kernel_reads_it(images: VolumeImages) -> None:
    check_whole(images)


@pytest.mark.timeout(1500)
@pytest.mark.soak
def test_a_set_that_the_kernel_makes_anew_reads_as_it_reads_it(tmp_path: Path) -> None:
    try:
        made = volumeimages.make("lvm", tmp_path)
    except RuntimeError as error:
        pytest.skip(str(error)[:300])
    check_whole(made)
    keep("lvm", made, tmp_path / "kept")


def test_without_a_disk_what_lies_on_the_others_is_read_and_the_rest_is_named(images: VolumeImages) -> None:
    found = images.open(sdb=None)
    read = digests(found)
    assert {name: read[name] for name in read} == {name: images.digests[name] for name in read}
    whole = {"lin-a", "origin", "snap", "mergeorigin", "extorigin", "oldmirror", "raid1", "raid10"}
    assert {f"vgone/{name}" for name in whole} <= read.keys()
    degraded = {f"vgone/raid5_{layout}" for layout in ("ls", "la", "rs", "ra", "n")} | {"vgone/raid4"}
    assert degraded <= read.keys()
    assert "vgone/multi" in unread(found)
    assert "once /dev/sdb), which is not among the given disks" in unread(found)["vgone/multi"]
    problem = found.problems[-1]
    assert problem.startswith("volume group vgone: physical volume ")
    assert "unread because of it: vgone/multi, vgone/str" in problem
    assert any(each.startswith("vgone/raid1: ") for each in found.problems)


def test_metadata_on_one_disk_alone_tells_of_those_without_areas(images: VolumeImages) -> None:
    assert "vgone/lin-a" in digests(images.open(sdb=None, sdd=None))
    alone = images.open(sda=None, sdb=None, sdd=None).volumes
    assert "a volume group uses it, whose description lies on other disks" in alone[0].reason
    assert alone[0].describe().status is VolumeStatus.UNREAD


def test_a_disk_of_no_group_is_none_of_the_machines(images: VolumeImages) -> None:
    unused = bytearray(images.disks["sdc"])
    label = unused.index(b"LABELONE")
    struct.pack_into("<I", unused, label + 32 + 40 + 16 * 3 + 4, 0)
    struct.pack_into("<I", unused, label + 16, lvm_checksum(bytes(unused[label + 20 : label + 512])))
    alone = images.open(sda=None, sdb=None, sdd=None, sdc=bytes(unused)).volumes
    assert [volume.reason for volume in alone] == ["part of no volume group"]


def test_a_disk_that_is_given_twice_is_refused(images: VolumeImages) -> None:
    found = images.open(sde=images.disks["sdb"])
    assert "sdb, sde are one physical volume" in found.volumes[1].reason
    assert "vgone/multi" not in digests(found)
    assert "vgone/lin-a" in digests(found)


def test_the_newest_metadata_counts_wherever_it_lies(images: VolumeImages) -> None:
    # A disk that was away while its group went on has older texts, which must not be believed.
    disk = bytearray(images.disks["sdb"])
    disk[4096 : 4096 + 512] = bytes(512)
    found = images.open(sdb=bytes(disk))
    assert digests(found)["vgone/multi"] == images.digests["vgone/multi"]
    assert "another copy was read" in found.notes[0]


def lvm(loop: str, *command: str) -> str:
    """Run lvm's own tools on one loop device, without a device-mapper."""
    config = (
        f'devices {{ use_devicesfile=0 filter=["a|{loop}|","r|.*|"] scan=["/dev"] }}'
        " activation { udev_sync=0 udev_rules=0 }"
    )
    return run("lvm", command[0], "--driverloaded", "n", "--config", config, *command[1:])


def lvm_machine(folder: Path) -> Path:
    """Make a disk whose root and /var are logical volumes; lvm's tools say where their extents lie."""
    if os.geteuid() or not Path("/dev/loop-control").exists():
        pytest.skip("needs root and loop devices")
    mapper = "/dev/mapper/deb--vg-"
    fstab = f"{mapper}root / ext4 defaults 0 1\n/dev/deb-vg/var /var ext4 defaults 0 2\n"
    menu = f"menuentry 'Debian' {{\n linux /boot/vmlinuz-6.1.0-28-amd64 root={mapper}root ro\n}}\n"
    tree = debian_tree(
        folder / "root", packages(7), {"etc/fstab": fstab.encode(), "boot/grub/grub.cfg": menu.encode()}
    )
    shutil.move(tree / "var", folder / "var")
    (tree / "var").mkdir()
    disk = make_raw(folder / "disk.img", 120 * MIB)
    partition(disk, "label: gpt\nstart=2048, size=8192\nstart=10240\n")
    loop = run(
        "losetup", "-f", "--show", "-o", str(10_240 * 512), "--sizelimit", str(112 * MIB), disk
    ).strip()
    try:
        lvm(loop, "pvcreate", "-y", "-qq", loop)
        lvm(loop, "vgcreate", "-qq", "deb-vg", loop)
        for name, size in (("root", "40M"), ("pad", "4M"), ("var", "20M")):
            lvm(loop, "lvcreate", "-y", "-qq", "-an", "-Zn", "-Wn", "-L", size, "-n", name, "deb-vg")
        lvm(loop, "lvextend", "-y", "-qq", "-L", "44M", "deb-vg/root")  # a second segment, behind /var
        options = (
            "--noheadings",
            "--units",
            "b",
            "--nosuffix",
            "-o",
            "lv_name,seg_start,seg_size,seg_pe_ranges",
        )
        segments = lvm(loop, "lvs", *options, "deb-vg")
        start = int(lvm(loop, "pvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", loop))
    finally:
        run("losetup", "-d", loop)
    sizes = {"root": 44 * MIB, "var": 20 * MIB}
    contents = {name: make_fs(folder / name, folder / f"{name}.fs", sizes[name]) for name in sizes}
    with disk.open("r+b") as file:
        for line in segments.splitlines():
            name, seg_start, seg_size, ranges = line.split()
            if name in contents:
                extent = int(ranges.rpartition(":")[2].partition("-")[0])
                file.seek(10_240 * 512 + start + extent * 4 * MIB)
                file.write(contents[name][int(seg_start) : int(seg_start) + int(seg_size)])
    return disk


def make_fs(tree: Path, path: Path, size_bytes: int) -> bytes:
    with path.open("wb") as image:
        image.truncate(size_bytes)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, path)
    return path.read_bytes()


def test_a_machine_on_logical_volumes_is_read_in_the_sandbox(tmp_path: Path) -> None:
    disk = lvm_machine(tmp_path)
    done = run_program(tmp_path / "db", "packages", disk, "--image-format", "raw", "-f", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    inventory = json.loads(done.stdout)
    assert {package["name"] for package in inventory["packages"]} == {each.name for each in packages(7)}
    volumes = inventory["coverage"]["volumes"]
    mounts = {volume["disk"]: volume["mounts"] for volume in volumes if not volume["number"]}
    assert mounts == {"deb-vg/root": ["/"], "deb-vg/pad": [], "deb-vg/var": ["/var"]}
    assert inventory["coverage"]["problems"] == []
