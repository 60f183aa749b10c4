"""The XFS reader against mkfs.xfs, the kernel, blkid and xfs_db: every file of every tree equal."""

import random
import re
import shutil
import sys
from pathlib import Path

import extimages
import pytest
import xfsimages
from extimages import View, differences, in_mount, run, see_image
from xfsimages import make, open_image, see_mounted

from undercroft.disks.filesystem import FileKind
from undercroft.disks.xfs import Xfs, layout
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

QUICK_OPTIONS = ["-b size=1024 -i nrext64=1"]
OPTIONS = [
    "",
    "-b size=1024",
    "-m rmapbt=1 -i nrext64=1",
    "-b size=2048 -n size=8192",
    "-n size=65536",
    "-b size=1024 -n size=4096",
    "-i size=1024",
    "-i size=2048 -s size=4096",
    "-m reflink=0,bigtime=0,inobtcount=0,finobt=0",
    "-i sparse=0 -d agcount=9",
    "-l su=65536",
]


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(
    "options", [*QUICK_OPTIONS, *(pytest.param(each, marks=pytest.mark.soak) for each in OPTIONS)]
)
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
    except (InputError, AssertionError):  # a kind that an entry and its inode do not agree on
        return True


DIRTY = [
    ("-b size=1024 -n size=8192", ",logbsize=262144", 1, 150),
    *(
        pytest.param(options, mount_options, seed, steps, marks=pytest.mark.soak)
        for seed, steps in ((3, 100), (4, 600), (5, 1500))
        for options, mount_options in (
            ("", ""),
            ("-b size=1024 -l size=4m", ""),
            ("-m reflink=0,bigtime=0 -i size=1024", ",logbsize=32768"),
            ("-m rmapbt=1 -i nrext64=1 -d agcount=5", ",logbsize=65536"),
            ("-n size=65536 -l su=32768", ""),
            ("-s size=4096 -i sparse=0 -l size=10m", ",logbsize=262144"),
        )
    ),
]


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(("options", "mount_options", "seed", "steps"), DIRTY)
def test_dirty_log_reads_as_the_kernel_replays_it(
    options: str, mount_options: str, seed: int, steps: int, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), size="100M")
    image = xfsimages.dirty(image, WORKLOAD, f"{seed} {steps}", xfsimages.MOUNT + mount_options)
    _compare_with_the_kernel(image)


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("how", ["shutdown -f", pytest.param("shutdown", marks=pytest.mark.soak)])
def test_log_of_a_filesystem_that_was_shut_down_reads_as_the_kernel_replays_it(
    how: str, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", size="100M")
    script = f'"{sys.executable}" -c "$PROGRAM" 7 100; xfs_io -x -c "{how}" .; cd /'
    in_mount(image, script, xfsimages.MOUNT, PROGRAM=WORKLOAD)
    _compare_with_the_kernel(image)


def _compare_with_the_kernel(image: Path) -> None:
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


V4 = [
    "-n ftype=0 -b size=1024",
    "-n version=ci -n size=16384",
    pytest.param("-n ftype=1", marks=pytest.mark.soak),
    pytest.param("-b size=512 -i size=256", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("options", V4)
def test_every_file_of_version_4_equals_the_tree_that_mkfs_was_given(options: str, tmp_path: Path) -> None:
    tree = _plain_tree(tmp_path / "source")
    image = xfsimages.make_v4(tmp_path / "image", tree, *options.split(), size="40M")
    filesystem = open_image(image)
    view = see_image(filesystem)
    assert len(view) > 1000
    assert differences(_without_times(view), _without_times(extimages.see_tree(tree))) == []
    assert filesystem.notes == filesystem.problems == ()
    kinds = {kind for _, _, kind in filesystem.entries(filesystem.root)}
    assert kinds == {FileKind.UNKNOWN} if "ftype=0" in options else len(kinds) > 2
    other_case = filesystem.lookup(filesystem.root, b"LARGE")
    assert other_case == (filesystem.lookup(filesystem.root, b"large") if "ci" in options else None)


def _plain_tree(root: Path, links: tuple[int, ...] = (1, 150, 300, 600, 1000)) -> Path:
    """Return a tree whose names the prototype files of mkfs can hold."""
    rng = random.Random(4)
    root.mkdir()
    for size in (0, 1, 511, 512, 513, 4095, 4097, 70_000):
        (root / f"size-{size}").write_bytes(rng.randbytes(size))
    (root / "large").write_bytes(rng.randbytes(900_000))
    for count in (1, 30, 1000):
        (root / f"many-{count}").mkdir()
        for number in range(count):
            (root / f"many-{count}" / f"{number}{'n' * (number % 90)}").write_bytes(b"%d" % number)
    for length in links:
        (root / f"link-{length}").symlink_to("t" * length)
    (root / "size-1").chmod(0o640)
    return root


def _without_times(view: View) -> View:
    return {path: seen._replace(mtime=0) for path, seen in view.items()}


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(
    ("options", "names"),
    [("-b size=1024 -n size=4096", 20_000), pytest.param("-n size=65536", 30_000, marks=pytest.mark.soak)],
)
def test_large_directory_is_read_whole(options: str, names: int, tmp_path: Path) -> None:
    image = make(tmp_path / "image", *options.split(), size="100M")
    in_mount(image, f"mkdir huge; cd huge; seq 0 {names - 1} | xargs touch", xfsimages.MOUNT)
    filesystem = open_image(image)
    huge = filesystem.lookup(filesystem.root, b"huge")
    assert huge is not None
    found = {name: node for name, node, _ in filesystem.entries(huge)}
    assert found.keys() == {b"%d" % number for number in range(names)}
    for name in random.Random(1).sample(sorted(found), 10):
        assert filesystem.lookup(huge, name) == found[name]
    assert filesystem.lookup(huge, b"absent") is None


FRAGMENTS = r"""
import os
with open("fragments", "wb") as file, open("others", "wb") as other:
    for number in range(6000):
        file.seek(number * 2048)
        file.write(b"%06d" % number * 100)
        if number % 50 == 0:
            os.fdatasync(file.fileno())
        if number % 2:
            other.write(b"o" * 1024)
"""


@pytest.mark.usefixtures("can_mount")
def test_file_of_thousands_of_extents_is_read_from_any_place(tmp_path: Path) -> None:
    image = xfsimages.write(make(tmp_path / "image", "-b", "size=1024", size="80M"), FRAGMENTS)
    filesystem = open_image(image)
    node = filesystem.lookup(filesystem.root, b"fragments")
    assert node is not None
    inode = filesystem._inodes.get(node)
    assert inode.format == layout.FORMAT_BTREE
    assert inode.extents > 5000
    content = b"".join((b"%06d" % number * 100).ljust(2048, b"\0") for number in range(6000))
    content = content[: inode.stat.size_bytes]
    assert filesystem.read(node, 1 << 24) == content
    for start in (1, 4096, 1_000_000, 5_555_555, len(content) - 1, len(content), len(content) + 1):
        assert b"".join(filesystem.chunks(node, start)) == content[start:]
    assert max(map(len, filesystem.chunks(node))) <= layout.MAX_CHUNK_BYTES


IN_PIECES = r"""
import os, subprocess
subprocess.run(["xfs_io", "-x", "-c", "resblks 0", "."], check=True)
open("one", "w").write("1")
with open("filling", "wb") as file:
    size = 1 << 15
    end = 0
    while size >= 1024:
        try:
            os.posix_fallocate(file.fileno(), end, size)
            end += size
        except OSError:
            size //= 2
punches = " ".join(f"-c 'fpunch {place} 8192'" for place in range(0, end, 16384))
subprocess.run(f"xfs_io {punches} filling", shell=True, check=True)
with open("rest", "wb") as file:  # takes what is left in one piece
    for number in range(32):
        os.posix_fallocate(file.fileno(), number << 15, 1 << 15)
os.mkdir("pieces")
for number in range(3000):
    os.link("one", f"pieces/{number}-" + "name" * 50)
os.fsync(os.open("pieces", os.O_RDONLY))
"""
AFTER_A_MOUNT = r"""
import os
os.rename("pieces/1-" + "name" * 50, "pieces/another name")
os.fsync(os.open("pieces", os.O_RDONLY))
"""


@pytest.mark.usefixtures("can_mount")
def test_directory_blocks_that_lie_in_pieces_are_read_with_the_log_and_without(tmp_path: Path) -> None:
    image = make(tmp_path / "image", "-b", "size=1024", "-n", "size=32768", "-l", "size=6m", size="36M")
    xfsimages.write(image, IN_PIECES)
    clean = open_image(image)
    pieces = clean.lookup(clean.root, b"pieces")
    assert pieces is not None
    assert clean._inodes.get(pieces).extents > 2 * clean.stat(pieces).size_bytes // 32768
    assert differences(see_image(clean), see_mounted(image)) == []
    one = clean.lookup(pieces, b"1-" + b"name" * 50)
    changed = xfsimages.dirty(image, AFTER_A_MOUNT)
    filesystem = open_image(changed)
    assert filesystem.problems == ()
    assert filesystem.lookup(pieces, b"another name") == one
    assert len(list(filesystem.entries(pieces))) == 3000


SPARSE_INODES = r"""
import os, subprocess
subprocess.run(["xfs_io", "-x", "-c", "resblks 0", "."], check=True)
with open("filling", "wb") as file:
    size, end = 1 << 16, 0
    while size >= 4096:
        try:
            os.posix_fallocate(file.fileno(), end, size)
            end += size
        except OSError:
            size //= 2
punches = " ".join(f"-c 'fpunch {place} 20480'" for place in range(0, end, 40960))
subprocess.run(f"xfs_io {punches} filling", shell=True, check=True)
os.mkdir("many")
for number in range(4000):
    try:
        open(f"many/{number}", "w").write(str(number))
    except OSError:
        break
"""


@pytest.mark.usefixtures("can_mount")
def test_inodes_in_sparse_chunks_are_read(tmp_path: Path) -> None:
    image = xfsimages.write(make(tmp_path / "image", "-l", "size=6m", size="40M"), SPARSE_INODES)
    trees = run("xfs_db", "-r", "-c", "agi 0", "-c", "addr root", "-c", "print", image)
    masks = set(re.findall(r":\[\d+,(0x[0-9a-f]+|0),", trees))
    assert masks - {"0"}, trees  # the chunks' maps of what is no inode
    filesystem = open_image(image)
    view = see_image(filesystem)
    assert differences(view, see_mounted(image)) == []
    assert filesystem.problems == ()


def test_changed_uuid_is_the_filesystems_and_the_metadatas_stays(tmp_path: Path) -> None:
    tree = _plain_tree(tmp_path / "source", (1, 150))  # mkfs makes no good longer ones in version 5
    image = xfsimages.make_from(tree, tmp_path / "image", size="64M")
    before = open_image(image)
    view = see_image(before)
    new = "99999999-8888-7777-6666-555555555555"
    run("xfs_db", "-x", "-p", "xfs_admin", "-c", f"uuid {new}", image)
    filesystem = open_image(image)
    assert (before.uuid, filesystem.uuid) == (xfsimages.UUID, new)
    assert filesystem.problems == ()
    assert differences(see_image(filesystem), view) == []
