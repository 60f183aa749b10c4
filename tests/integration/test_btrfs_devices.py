"""btrfs on several devices of which some are older, were copied, or went on without the others."""

from pathlib import Path

import btrfsimages
import pytest
from extimages import run

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import checksum_of_type
from undercroft.disks.keys import Key, Keys
from undercroft.disks.opening import open_volumes
from undercroft.disks.source import BytesSource
from undercroft.disks.volumes import DiskSet
from undercroft.sandbox.jobkeys import unlocked

pytestmark = pytest.mark.skipif(
    bool(btrfsimages.problem()), reason=btrfsimages.problem() or "btrfs can be made and mounted"
)


def opened(*images: Path) -> DiskSet:
    disks = [(f"vd{'abcd'[number]}", btrfsimages.source(image)) for number, image in enumerate(images)]
    return open_volumes(disks)


def copied(image: Path, name: str) -> Path:
    copy = image.with_name(name)
    run("cp", "--sparse=always", image, copy)
    return copy


def test_devices_that_went_on_apart_to_one_generation_are_a_problem(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid1", "-m", "raid1", devices=2, size_mib=256)
    for number, image in enumerate(images):
        btrfsimages.write([image], f"open('only-{number}', 'w').write('x')", "rw,degraded")
    found = btrfsimages.open_images(images)
    assert any("went on apart" in problem for problem in found.problems)


def test_of_two_copies_of_a_device_the_newer_one_is_the_filesystems(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid0", "-m", "raid1", devices=2)
    btrfsimages.write(images, "open('file', 'w').write('old' * 100_000)", "rw,nodatasum,nodatacow")
    stale = copied(images[0], "stale")
    btrfsimages.write(images, "open('file', 'r+').write('new' * 100_000)", "rw,nodatasum,nodatacow")
    expected = b"new" * 100_000
    for given in ((images[0], stale, images[1]), (stale, images[0], images[1])):
        volumes = opened(*given).volumes
        filesystem = next(volume.filesystem for volume in volumes if volume.device)
        assert filesystem
        assert filesystem.read(filesystem.lookup(filesystem.root, b"file") or 0, 1 << 20) == expected
        refused = [volume.name for volume in volumes if "a copy of device 1" in volume.reason]
        assert refused == [f"vd{'abc'[given.index(stale)]}"]


def test_device_is_no_longer_than_the_disks_that_it_lies_on(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid1", "-m", "raid1", devices=2)
    for image in images:
        with image.open("r+b") as file:
            file.seek(layout.SUPERBLOCKS[0])
            block = bytearray(file.read(layout.SUPERBLOCK_BYTES))
            size = layout.DEVICE_OFFSET + 8
            block[size : size + 8] = b"\xff" * 8
            block[:4] = checksum_of_type(0).digest(bytes(block[32:]))
            file.seek(layout.SUPERBLOCKS[0])
            file.write(block)
    device = next(volume for volume in opened(*images).volumes if volume.device)
    assert device.size_bytes == sum(image.stat().st_size for image in images)
    assert any("its volume only" in problem for problem in device.filesystem.problems)  # type: ignore[union-attr] # it has one


class Recorder(BytesSource):
    """Remembers where it was read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.places: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        self.places.add(offset)
        return super().read(offset, length)


def test_child_that_has_passphrases_reads_no_tree_of_a_filesystem_on_several_disks(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid1", "-m", "raid1", devices=2)
    root = btrfsimages.open_images(images)._volume.superblock.root[0]
    pieces = btrfsimages.open_images(images)._volume.content._chunks.pieces(root, 4096)
    places = {offset for _, copies in pieces for _, offset in copies}
    disks = [Recorder(image.read_bytes()) for image in images]
    named = [("vda", disks[0]), ("vdb", disks[1])]
    open_volumes(named)
    assert any(places & disk.places for disk in disks)  # the control: who opens filesystems reads them
    for disk in disks:
        disk.places.clear()
    unlocked(named, Keys([Key("*", b"correct horse")]))
    assert not any(places & disk.places for disk in disks)
