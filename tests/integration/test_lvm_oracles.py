"""LVM as a real kernel maps it: every device of a kept set, and of one made anew, byte for byte."""

from pathlib import Path

import pytest
import volumeimages
from volumeimages import VolumeImages, digest, keep, kept

from undercroft.disks.volumes import DiskSet

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
    alone = images.open(sda=None, sdb=None, sdd=None)
    assert [volume.reason for volume in alone.volumes] == ["part of no volume group"]


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
