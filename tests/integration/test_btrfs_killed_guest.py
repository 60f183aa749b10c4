"""A guest on btrfs whose QEMU is killed while it writes: what we read equals what the kernel reads."""

import subprocess
from pathlib import Path

import btrfsimages
import filetrees
import guests
import pytest

from undercroft.disks import btrfs, qcow2
from undercroft.disks.btrfs import Btrfs

pytestmark = [
    pytest.mark.soak,
    pytest.mark.xdist_group("killed guest on btrfs"),
    pytest.mark.skipif(bool(guests.missing()), reason=guests.missing() or "guests can be run"),
    pytest.mark.skipif(
        bool(btrfsimages.problem()), reason=btrfsimages.problem() or "btrfs can be made and mounted"
    ),
]

MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "btrfs")
TIMEOUT_S = 240
WORKLOAD = """
mount -t btrfs -o {options} /dev/vda /mnt || exit
cd /mnt
n=0
while :; do
  n=$((n+1)); d=dir$((n%13)); mkdir -p $d
  dd if=/dev/urandom of=$d/new bs=100 count=$((n*37%300)) conv=fsync 2>/dev/null
  mv $d/new $d/file$((n%29))
  ln -s ../$d/file$((n%29)) $d/link$n
  ln $d/file$((n%29)) hard$n
  echo line $n >> log
  dd if=/dev/zero of=$d/text bs=1000 count=$n conv=fsync,notrunc 2>/dev/null
  if [ $((n%7)) = 0 ]; then rm -rf dir$((n/7%13)); fi
  if [ $((n%19)) = 0 ]; then sync; fi  # a commit, after which the log is empty for a while
  echo DONE $n
done
"""

CASES = {
    "as mkfs makes it": ("", "rw", 43),
    "compressed, with holes": ("-O ^no-holes -n 4096", "compress=zstd", 35),
}


@pytest.fixture(scope="module", params=CASES)
def crashed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Btrfs, Path]:
    """The filesystem of a guest that was killed, read from its qcow2 image, and a raw copy of it."""
    make_options, mount_options, steps = CASES[request.param]
    folder = tmp_path_factory.mktemp("killed")
    raw = btrfsimages.make(folder, *make_options.split(), size_mib=160)[0]
    image = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(image)], check=True)
    boot = guests.boot_files("-btrfs", MODULES)
    boot = guests.with_workload(boot, WORKLOAD.format(options=mount_options), folder)
    with guests.running(boot, image, folder / "serial") as guest:
        guests.wait_for(guest.serial, f"DONE {steps}", TIMEOUT_S)
        guest.kill()
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    return btrfs.open_filesystem(qcow2.open_image(btrfsimages.source(image))), raw


def test_every_file_reads_as_the_kernel_reads_it_after_replaying_the_log(crashed: tuple[Btrfs, Path]) -> None:
    filesystem, raw = crashed
    assert filesystem.problems == ()
    assert any("log replayed" in note for note in filesystem.notes)
    expected = btrfsimages.read_with_kernel([raw], "rw")
    assert len(expected) > 40
    assert btrfsimages.differences(filetrees.read_with(filesystem), expected) == []


def test_control_without_the_log_the_answers_differ(crashed: tuple[Btrfs, Path]) -> None:
    _, raw = crashed
    expected = btrfsimages.read_with_kernel([raw], "rw")
    with btrfsimages.copied([raw]) as copies:
        btrfsimages.hide_log(copies[0])
        assert filetrees.read_with(btrfsimages.open_images(copies)) != expected
