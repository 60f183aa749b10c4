"""A guest on XFS whose QEMU is killed in the middle of its writing: what we read equals what a kernel reads.

The oracle is a kernel that replays the log of a copy: the host's by a mount, or, for version 4, which not
every kernel can mount any more, a second guest, whose clean image is then read.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filetrees
import guests
import pytest
import xfsimages

from undercroft.disks import qcow2, xfs
from undercroft.disks.source import DescriptorSource
from undercroft.errors import InputError

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(bool(guests.missing()), reason=guests.missing() or "guests can be run"),
    pytest.mark.skipif(
        bool(xfsimages.mounting_problem()), reason=xfsimages.mounting_problem() or "the kernel can mount"
    ),
    pytest.mark.xdist_group("guests on XFS"),
]

MODULES = ("virtio_pci", "virtio_blk", "xfs")
STEPS = 26

WORKLOAD = """
mount -t xfs /dev/vda /mnt || exit
cd /mnt
n=0
while :; do
  n=$((n+1)); d=dir$((n%13)); mkdir -p $d
  dd if=/dev/urandom of=$d/new bs=100 count=$((n*37%300)) conv=fsync 2>/dev/null
  mv $d/new $d/file$((n%29))
  ln -s ../$d/file$((n%29)) $d/link$n
  ln $d/file$((n%29)) hard$n
  echo line $n >> log
  if [ $((n%7)) = 0 ]; then rm -rf dir$((n/7%13)); fi
  if [ $((n%32)) = 0 ]; then sync; fi
  echo DONE $n
done
"""
REPLAY = "mount -t xfs /dev/vda /mnt && umount /mnt && echo REPLAYED; sync"

CASES = {
    "version 5": ("-m", "crc=1"),
    "1 KiB blocks and a small log": ("-b", "size=1024", "-l", "size=6m"),
    "version 4": ("-m", "crc=0"),
    "version 4, log of version 1": ("-m", "crc=0", "-l", "version=1"),
}


@pytest.fixture(scope="module", params=list(CASES))
def crashed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, bool]:
    """The qcow2 image of a guest that was killed, a raw copy of it, and whether it is of version 4."""
    folder = tmp_path_factory.mktemp("killed")
    raw = xfsimages.make(folder / "empty.raw", *CASES[request.param], size="120M")
    image = folder / "disk.qcow2"
    _convert(raw, image, "qcow2")
    boot = guests.with_workload(guests.boot_files("-xfs", MODULES), WORKLOAD, folder)
    delay_s = random.Random(request.param).uniform(0, 0.2)
    with guests.running(boot, image, folder / "serial") as guest:
        guests.wait_for(guest.serial, f"DONE {STEPS}", 240)
        time.sleep(delay_s)
        guest.kill()
    _convert(image, raw, "raw")
    return image, raw, "version 4" in request.param


def test_every_file_reads_as_a_kernel_reads_it_after_replaying_the_log(
    crashed: tuple[Path, Path, bool], tmp_path: Path
) -> None:
    image, raw, is_v4 = crashed
    with opened(image) as file:
        filesystem = xfs.open_filesystem(qcow2.open_image(file))
        found = filetrees.read_with(filesystem)
    assert filesystem.problems == ()
    assert any("log replayed" in note for note in filesystem.notes)
    expected = (
        _read_after_a_guest(image, tmp_path) if is_v4 else filetrees.read_with_kernel(_copy(raw, tmp_path))
    )
    assert len(expected) > 40
    assert found == expected


def test_control_without_the_log_the_answers_differ(crashed: tuple[Path, Path, bool], tmp_path: Path) -> None:
    image, raw, _ = crashed
    with opened(image) as file:
        expected = filetrees.read_with(xfs.open_filesystem(qcow2.open_image(file)))
    copy = _copy(raw, tmp_path)
    xfsimages.hide_log(copy)
    with opened(copy) as file:
        try:
            found = filetrees.read_with(xfs.open_filesystem(file))
        except InputError:
            found = {}
    assert found != expected


def _read_after_a_guest(image: Path, folder: Path) -> filetrees.Tree:
    """Let another guest replay the log of a copy, and read what it leaves."""
    replayed = folder / "replayed.qcow2"
    subprocess.run(["cp", str(image), str(replayed)], check=True)
    boot = guests.with_workload(guests.boot_files("-xfs", MODULES), REPLAY, folder)
    with guests.running(boot, replayed, folder / "serial") as guest:
        guests.wait_for(guest.serial, "GUEST-DONE", 240)
        assert "REPLAYED" in guests.lines(guest.serial)
        guest.process.wait(60)
    with opened(replayed) as file:
        filesystem = xfs.open_filesystem(qcow2.open_image(file))
        assert filesystem.notes == filesystem.problems == ()
        return filetrees.read_with(filesystem)


def _convert(source: Path, target: Path, form: str) -> None:
    subprocess.run(["qemu-img", "convert", "-O", form, str(source), str(target)], check=True)


def _copy(raw: Path, folder: Path) -> Path:
    """Return a copy that a test may write to."""
    made = folder / f"copy-{len(list(folder.iterdir()))}.raw"
    subprocess.run(["cp", "--sparse=always", str(raw), str(made)], check=True)
    return made


@contextmanager
def opened(path: Path) -> Iterator[DescriptorSource]:
    """Open a file as a block source."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield DescriptorSource(descriptor, path.stat().st_size, path.name)
    finally:
        os.close(descriptor)
