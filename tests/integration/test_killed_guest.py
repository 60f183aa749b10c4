"""A guest whose QEMU is killed in the middle of its writing: what we read equals what the kernel reads.

The oracle is a kernel mount of a raw copy, which replays the journal on that copy.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filetrees
import google_crc32c
import guests
import pytest

from undercroft.disks import ext4, qcow2
from undercroft.disks.source import DescriptorSource
from undercroft.errors import InputError

pytestmark = [
    pytest.mark.skipif(bool(guests.missing()), reason=guests.missing() or "guests can be run"),
    pytest.mark.skipif(
        bool(filetrees.kernel_missing()), reason=filetrees.kernel_missing() or "the kernel can mount"
    ),
]

DISK_MIB = 96
NEEDS_RECOVERY = 0x4
SUPERBLOCK, FEATURE_INCOMPATIBLE, CHECKSUM = 1024, 0x60, 0x3FC

WORKLOAD = """
mount -t ext4 -o {options} /dev/vda /mnt || exit
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
  if [ $((n%32)) = 0 ]; then sync; fi  # after which nothing is left in the journal, for a while
  echo DONE $n
done
"""

CASES = {
    "4 KiB blocks": (("-b", "4096"), "rw", 46),
    "1 KiB blocks and inline data": (("-b", "1024", "-O", "inline_data"), "rw", 42),
    "data in the journal": (("-b", "1024", "-O", "^metadata_csum"), "data=journal", 48),
    "fast commits": (("-b", "4096", "-O", "fast_commit"), "rw", 40),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(case, marks=pytest.mark.xdist_group(f"killed, {case}")) for case in CASES],
)
def crashed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The qcow2 image of a guest that was killed, and a raw copy of it."""
    make_options, mount_options, steps = CASES[request.param]
    folder = tmp_path_factory.mktemp("killed")
    image = guests.ext4_image(folder / "disk.qcow2", DISK_MIB, *make_options)
    boot = guests.with_workload(guests.boot_files(), WORKLOAD.format(options=mount_options), folder)
    delay_s = random.Random(request.param).uniform(0, 0.2)
    with guests.running(boot, image, folder / "serial") as guest:
        guests.wait_for(guest.serial, f"DONE {steps}")
        time.sleep(delay_s)
        guest.kill()
    raw = folder / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    return image, raw


def test_every_file_reads_as_the_kernel_reads_it_after_replaying_the_journal(
    crashed: tuple[Path, Path], tmp_path: Path
) -> None:
    image, raw = crashed
    with opened(image) as file:
        filesystem = ext4.open_filesystem(qcow2.open_image(file))
        found = filetrees.read_with(filesystem)
    assert filesystem.problems == ()
    assert any("journal" in note for note in filesystem.notes)
    expected = filetrees.read_with_kernel(copy(raw, tmp_path))
    assert len(expected) > 40
    assert found == expected


def test_control_without_the_journal_the_answers_differ(crashed: tuple[Path, Path], tmp_path: Path) -> None:
    _image, raw = crashed
    expected = filetrees.read_with_kernel(copy(raw, tmp_path))
    with opened(without_needs_recovery(copy(raw, tmp_path))) as file:
        try:
            found = filetrees.read_with(ext4.open_filesystem(file))
        except InputError:
            found = {}
    assert found != expected


def copy(raw: Path, folder: Path) -> Path:
    """Return a copy that a test may write to."""
    made = folder / f"copy-{len(list(folder.iterdir()))}.raw"
    subprocess.run(["cp", "--sparse=always", str(raw), str(made)], check=True)
    return made


def without_needs_recovery(raw: Path) -> Path:
    """Clear the flag that asks for a replay, and set the superblock's checksum right again."""
    with raw.open("r+b") as file:
        file.seek(SUPERBLOCK)
        block = bytearray(file.read(1024))
        assert block[FEATURE_INCOMPATIBLE] & NEEDS_RECOVERY
        block[FEATURE_INCOMPATIBLE] &= ~NEEDS_RECOVERY
        block[CHECKSUM:] = (google_crc32c.value(bytes(block[:CHECKSUM])) ^ 0xFFFFFFFF).to_bytes(4, "little")
        file.seek(SUPERBLOCK)
        file.write(block)
    return raw


@contextmanager
def opened(path: Path) -> Iterator[DescriptorSource]:
    """Open a file as a block source."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield DescriptorSource(descriptor, path.stat().st_size, path.name)
    finally:
        os.close(descriptor)
