"""The XFS reader against mkfs.xfs, the kernel, blkid and xfs_db: every file of every tree equal."""

import shutil
from pathlib import Path

import pytest
import xfsimages
from extimages import View, differences, run, see_image
from xfsimages import make, open_image, see_mounted

from undercroft.disks.xfs import Xfs
from undercroft.errors import InputError

pytestmark = pytest.mark.skipif(shutil.which("mkfs.xfs") is None, reason="needs xfsprogs")


@pytest.fixture
def can_mount() -> None:
    problem = xfsimages.mounting_problem()
    if problem:
        pytest.skip(problem)


WRITES = r"""
import os, random, subprocess
rng = random.Random(3)
with open("punched", "wb") as file:
    for number in range(700):
        file.seek(number * 8192)
        file.write(rng.randbytes(3000))
with open("unwritten", "wb") as file:
    file.write(b"start")
    os.posix_fallocate(file.fileno(), 0, 400_000)
    file.seek(200_000)
    file.write(b"middle")
with open("keep", "wb") as file:
    file.write(b"x" * 5000)
subprocess.run("fallocate -n -o 5000 -l 300000 keep; fallocate -p -o 8192 -l 60000 punched", shell=True)
with open("original", "wb") as file:
    file.write(rng.randbytes(500_000))
if not subprocess.run("cp --reflink=always original copy 2>/dev/null", shell=True).returncode:
    with open("copy", "r+b") as file:
        for place in (0, 70_000, 499_000):
            file.seek(place)
            file.write(b"not shared any more")
os.mkdir("indexed")
for number in range(1500):
    open(f"indexed/{number}" + "n" * (number % 90), "w").write(str(number))
for number in range(0, 1500, 3):
    os.unlink(f"indexed/{number}" + "n" * (number % 90))
os.mkdir("holes")
for number in range(900):
    open("holes/" + "h" * 150 + str(number), "w")
for number in range(100, 700):
    os.unlink("holes/" + "h" * 150 + str(number))
for count in (0, 1, 5, 12, 40, 90):
    os.mkdir(f"dir-{count}")
    for number in range(count):
        open(f"dir-{count}/entry-{number}", "wb").write(rng.randbytes(number * 20))
for length in (1, 59, 150, 335, 336, 337, 340, 600, 847, 848, 849, 1000, 1023):
    os.symlink(("target/" * 200)[:length], f"link-{length}")
    os.setxattr(".", b"user.some", b"value" * 20)
    os.setxattr(f"link-{length}", b"trusted.some", b"v" * 40, follow_symlinks=False)
os.mkfifo("fifo")
os.mknod("device", 0o60644, os.makedev(8, 1))
for name in (b"\xff\xfe undecodable", b"new\nline", b" ", b"x" * 255):
    open(name, "wb").write(name)
open("late", "w").write("late")
os.utime("late", (5_000_000_000, 5_000_000_000))
os.utime("fifo", (-1_000_000_000, -1_000_000_000))
os.chown("late", 70_000, 80_000)
os.chmod("keep", 0o4751)
os.link("late", "dir-5/hard")
with open("sparse", "wb") as file:
    file.truncate(40 << 20)
    file.seek((40 << 20) - 4321)
    file.write(b"far away")
os.setxattr("late", b"user.large", rng.randbytes(3000))
"""

OPTIONS = [
    "",
    "-b size=1024",
    "-b size=2048 -n size=8192",
    "-n size=65536",
    "-b size=1024 -n size=4096",
    "-i size=1024",
    "-i size=2048 -s size=4096",
    "-m reflink=0,bigtime=0,inobtcount=0,finobt=0",
    "-m rmapbt=1 -i nrext64=1",
    "-i sparse=0 -d agcount=9",
    "-l su=65536",
]


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("options", OPTIONS)
def test_what_the_kernel_wrote_reads_as_the_kernel_reads_it(options: str, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "-L", "label", *options.split(), size="160M")
    xfsimages.write(image, WRITES)
    filesystem = open_image(image)
    view = see_image(filesystem)
    assert len(view) > 1400
    assert differences(view, see_mounted(image)) == []
    assert filesystem.notes == filesystem.problems == ()
    assert filesystem.label == "label"
    assert filesystem.uuid == run("blkid", "-p", "-s", "UUID", "-o", "value", image).strip()


WORKLOAD = r"""
import os, random, shutil, subprocess, sys
rng = random.Random(int(sys.argv[1]))
steps = int(sys.argv[2])
names = []
def fsync(name):
    with open(name) as file:
        os.fsync(file.fileno())
for step in range(steps):
    turn = rng.random()
    if turn < 0.3:
        names.append(f"file-{step}")
        open(names[-1], "wb").write(rng.randbytes(rng.choice([10, 500, 5000, 60000])))
    elif turn < 0.4 and names:
        with open(rng.choice(names), "r+b") as file:
            for _ in range(40):
                file.seek(rng.randrange(100) * 8192)
                file.write(rng.randbytes(100))
                os.fdatasync(file.fileno())
    elif turn < 0.5 and names:
        open(rng.choice(names), "ab").write(rng.randbytes(9000))
    elif turn < 0.6 and names:
        name = names.pop(rng.randrange(len(names)))
        os.rename(name, name + "-moved")
        names.append(name + "-moved")
    elif turn < 0.7 and names:
        os.unlink(names.pop(rng.randrange(len(names))))
    elif turn < 0.8:
        os.mkdir(f"folder-{step}")
        for number in range(rng.randrange(120)):
            name = f"folder-{step}/{number}" + "n" * rng.randrange(100)
            open(name, "wb").write(rng.randbytes(30))
    elif turn < 0.87:
        folders = [name for name in os.listdir(".") if name.startswith("folder")]
        if folders:
            shutil.rmtree(rng.choice(sorted(folders)))
    elif turn < 0.93:
        os.symlink(("t/" * 500)[:rng.choice([5, 70, 300, 900])], f"link-{step}")
    elif turn < 0.96 and names:
        name = rng.choice(names)
        if not subprocess.call(f"cp --reflink=always {name} clone-{step} 2>/dev/null", shell=True):
            with open(f"clone-{step}", "r+b") as file:
                file.write(b"changed")
    elif names:
        descriptor = os.open(rng.choice(names), os.O_RDWR)
        os.ftruncate(descriptor, rng.randrange(20000))
        os.fsync(descriptor)
        os.close(descriptor)
    if names and rng.random() < 0.25:
        fsync(rng.choice(names))
open("last", "w").write("last")
fsync("last")
for number in range(5):
    open(f"unsynced-{number}", "wb").write(b"x" * number * 1000)
"""


def sees_something_else(filesystem: Xfs, view: View) -> bool:
    """Return whether a reader's view differs, or cannot be had."""
    try:
        return bool(differences(see_image(filesystem), view))
    except InputError:
        return True


DIRTY = [
    ("", ""),
    ("-b size=1024 -n size=8192", ",logbsize=262144"),
    ("-m reflink=0,bigtime=0 -i size=1024", ",logbsize=32768"),
    ("-m rmapbt=1 -i nrext64=1 -d agcount=5", ",logbsize=65536"),
    ("-n size=65536 -l su=32768", ""),
]


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("options", "mount_options"), DIRTY)
def test_dirty_log_reads_as_the_kernel_replays_it(
    options: str, mount_options: str, seed: int, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), size="100M")
    image = xfsimages.dirty(image, WORKLOAD, f"{seed} 300", xfsimages.MOUNT + mount_options)
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert "log replayed" in filesystem.notes[0]
    view = see_image(filesystem)
    assert differences(view, see_mounted(image)) == []
    # Control: without the replay the answer would be another one.
    xfsimages.hide_log(image)
    unreplayed = open_image(image)
    assert unreplayed.notes == unreplayed.problems == ()
    assert sees_something_else(unreplayed, view)
