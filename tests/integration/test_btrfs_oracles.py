"""The btrfs reader against the kernel: every file of every tree equal, whatever the options."""

import random
import shutil
from pathlib import Path

import btrfsimages
import filetrees
import pytest
from extimages import run
from filetrees import Tree

from undercroft.errors import InputError

pytestmark = pytest.mark.skipif(
    bool(btrfsimages.problem()), reason=btrfsimages.problem() or "btrfs can be made and mounted"
)

FEATURES = [
    ("", "rw", 1),
    ("--csum sha256 -m single -O ^no-holes", "rw,compress-force=lzo", 1),
    ("--csum blake2 -n 4096", "rw,compress-force=zstd", 1),
    ("-M -O ^extref,^skinny-metadata -R ^free-space-tree", "rw,nodatasum", 1),
]
MORE_FEATURES = [
    ("-d raid10 -m raid1c4", "rw", 4),
    ("--csum xxhash -n 65536", "rw,compress=zlib", 1),
    ("-d dup -m dup", "rw,nodatacow", 1),
    ("-d single -m raid1", "rw", 2),
    ("-d raid0 -m raid0", "rw,compress=zstd:15", 2),
    ("-d raid5 -m raid1c3", "rw", 3),
    ("-d raid6 -m raid5", "rw", 4),
]

WRITES = r"""
import os, pathlib, random, subprocess, sys
sys.path[:0] = @PATHS@
import extimages
rng = random.Random(3)
def btrfs(*words):
    subprocess.run(["btrfs", "subvolume", *words], check=True, stdout=subprocess.DEVNULL)
extimages.make_tree(pathlib.Path("tree"))
btrfs("create", "sub")
btrfs("create", "sub/inner")
open("sub/inner/file", "w").write("inner")
open("sub/text", "w").write("".join(f"line {n} {n * n}\n" for n in range(60_000)))
open("sub/random", "wb").write(rng.randbytes(3_000_000))
btrfs("snapshot", "sub", "snap")
btrfs("snapshot", "-r", "sub", "tree/frozen")
with open("sub/text", "r+b") as file:
    for place in range(5, 1_000_000, 77_777):
        file.seek(place)
        file.write(b"overwritten")
os.unlink("sub/random")
subprocess.run(["cp", "--reflink=always", "snap/text", "cloned"], check=True)
with open("punched", "wb") as file:
    file.write(rng.randbytes(400_000))
with open("prealloc", "wb") as file:
    file.write(b"start")
    os.posix_fallocate(file.fileno(), 0, 400_000)
    file.seek(200_000)
    file.write(b"middle")
subprocess.run("fallocate -p -o 8192 -l 60000 punched; fallocate -n -o 5000 -l 300000 prealloc", shell=True)
open("late", "w").write("late")
os.mkdir("names")
try:
    for number in range(600):
        os.link("late", f"names/{number}" + "n" * 200)
except OSError:
    pass  # without extended references an inode has room for few names
os.utime("late", (5_000_000_000, 5_000_000_000))
for length in (1, 100, 1500, 2047, 2048, 2049, 3900, 4095):
    open(f"inline-{length}", "wb").write(bytes(length // 2) + rng.randbytes(length - length // 2))
os.symlink("t" * 3000, "long-link")
""".replace("@PATHS@", repr(btrfsimages.PATHS))


def read(images: list[Path]) -> Tree:
    filesystem = btrfsimages.open_images(images)
    assert filesystem.problems == ()
    return filetrees.read_with(filesystem)


def without_empty_times(tree: Tree) -> Tree:
    """The kernel shows the present as the time of the directory in place of a snapshot's nested subvolume."""
    return {path: facts for path, facts in tree.items() if not path.endswith(("inner'", "/sub'", "/snap'"))}


@pytest.mark.parametrize(
    ("options", "mount_options", "devices"),
    [*FEATURES, *(pytest.param(*more, marks=pytest.mark.soak) for more in MORE_FEATURES)],
)
def test_what_the_kernel_wrote_reads_as_the_kernel_reads_it(
    options: str, mount_options: str, devices: int, tmp_path: Path
) -> None:
    images = btrfsimages.make(tmp_path, *options.split(), devices=devices, size_mib=256)
    btrfsimages.write(images, WRITES, mount_options)
    found = read(images)
    assert len(found) > 700
    expected = btrfsimages.read_with_kernel(images)
    assert btrfsimages.differences(without_empty_times(found), without_empty_times(expected)) == []
    assert found.keys() == expected.keys()
    random.Random(1).shuffle(images)  # any device may come first
    assert read(images) == found


MANY = r"""
import os
os.system("mkdir huge; cd huge; seq 0 19999 | xargs touch")
deep = "deep"
for number in range(150):
    os.mkdir(deep)
    open(deep + "/leaf", "w").write(str(number))
    deep += f"/level-{number}"
"""


def test_folder_of_20000_names_and_a_deep_one_are_read_whole(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.write(images, MANY)
    filesystem = btrfsimages.open_images(images)
    huge = filesystem.lookup(filesystem.root, b"huge")
    assert huge is not None
    found = {name: node for name, node, _ in filesystem.entries(huge)}
    assert found.keys() == {b"%d" % number for number in range(20_000)}
    for name in random.Random(1).sample(sorted(found), 200):
        assert filesystem.lookup(huge, name) == found[name]
    assert filesystem.lookup(huge, b"absent") is None
    tree = filetrees.read_with(filesystem)
    assert tree == btrfsimages.read_with_kernel(images)


def test_names_with_one_hash_are_told_apart(tmp_path: Path) -> None:
    # Any four bytes can be chosen so that a crc32c comes out: two names, one hash.
    images = btrfsimages.make(tmp_path)
    one, two = btrfsimages.colliding_names()
    btrfsimages.write(images, f"open({one!r}, 'w').write('one'); open({two!r}, 'w').write('two')")
    filesystem = btrfsimages.open_images(images)
    for name, content in ((one, b"one"), (two, b"two")):
        node = filesystem.lookup(filesystem.root, name)
        assert node is not None
        assert filesystem.read(node, 10) == content


@pytest.mark.parametrize(("options", "mount_options"), [("", "rw"), ("", "rw,compress-force=lzo")])
def test_file_is_read_from_any_place(options: str, mount_options: str, tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, *options.split())
    program = "import random; f = open('f', 'wb'); f.write(b'text ' * 100_000); f.truncate(900_000); "
    program += "f.seek(1_500_000); f.write(random.Random(1).randbytes(300_001))"
    btrfsimages.write(images, program, mount_options)
    filesystem = btrfsimages.open_images(images)
    node = filesystem.lookup(filesystem.root, b"f")
    assert node is not None
    whole = filesystem.read(node, 2_000_000)
    assert whole[:500_000] == b"text " * 100_000
    assert whole[500_000:1_500_000] == bytes(1_000_000)
    for start in (
        1,
        4095,
        4096,
        131_072,
        131_073,
        499_999,
        1_000_000,
        1_500_007,
        1_800_000,
        1_800_001,
        1_800_002,
    ):
        assert b"".join(filesystem.chunks(node, start)) == whole[start:], start
    assert max(map(len, filesystem.chunks(node))) <= 1 << 20


def damage(image: Path, places: list[int]) -> None:
    with image.open("r+b") as file:
        for place in places:
            file.seek(place)
            old = file.read(1)
            file.seek(place)
            file.write(bytes([old[0] ^ 0x40]))


MARK = bytes(range(64)) * 64


@pytest.mark.parametrize(("options", "devices"), [("-d dup -m dup", 1), ("-d raid1 -m raid1", 2)])
def test_damaged_copy_of_data_is_made_up_for_by_the_other_one(
    options: str, devices: int, tmp_path: Path
) -> None:
    images = btrfsimages.make(tmp_path, *options.split(), devices=devices, size_mib=256)
    btrfsimages.write(images, f"open('f', 'wb').write({MARK!r} * 40)")
    places = [(image, place) for image in images for place in btrfsimages.places(image, MARK)]
    assert len(places) == 80
    for image, place in places[3:36]:
        damage(image, [place + 100])
    filesystem = btrfsimages.open_images(images)
    node = filesystem.lookup(filesystem.root, b"f")
    assert node is not None
    assert filesystem.read(node, 1 << 20) == MARK * 40
    for image, place in places[40:]:
        damage(image, [place + 100])
    with pytest.raises(InputError, match="no copy has the checksum"):
        btrfsimages.open_images(images).read(node, 1 << 20)


def test_control_data_without_checksums_is_read_as_it_stands(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.write(images, f"open('f', 'wb').write({MARK!r} * 40)", "rw,nodatasum")
    damage(images[0], [btrfsimages.places(images[0], MARK)[0] + 100])
    filesystem = btrfsimages.open_images(images)
    node = filesystem.lookup(filesystem.root, b"f")
    assert node is not None
    assert filesystem.read(node, 1 << 20) != MARK * 40


def test_damaged_copy_of_metadata_is_made_up_for_and_two_of_them_are_not(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path, "-m", "dup")
    btrfsimages.write(images, "open('some-name', 'w').write('inline')")
    expected = read(images)
    copies = btrfsimages.node_copies(images[0], b"some-name")
    assert len(copies) == 2
    damage(images[0], [copies[0] + 500])
    assert read(images) == expected
    damage(images[0], [copies[1] + 500])
    with pytest.raises(InputError, match=r"btrfs tree block at \d+: its checksum"):
        read(images)


def test_superblock_of_a_mirror_is_used_where_the_primary_is_damaged(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.write(images, "open('f', 'w').write('x')")
    expected = read(images)
    damage(images[0], [65536 + 300])
    filesystem = btrfsimages.open_images(images)
    assert "its copy at 67108864 was read" in filesystem.problems[0]
    assert filetrees.read_with(filesystem) == expected
    damage(images[0], [(64 << 20) + 300])
    with pytest.raises(InputError, match="btrfs superblock at 65536: its checksum"):
        btrfsimages.open_images(images)


SUBVOLUMES = """
exec >/dev/null
mkdir tree; echo top > top; ln top tree/again; btrfs subvolume create sub; btrfs subvolume create sub/inner
echo inner > sub/inner/file; seq 100000 > sub/text; btrfs subvolume snapshot sub snap; echo more >> sub/text
btrfs subvolume snapshot -r sub tree/frozen; rm sub/text; ln -s ../top snap/link
"""


def test_seen_from_every_subvolume_it_is_what_the_kernel_mounts_there(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.in_mount(images, SUBVOLUMES)
    filesystem = btrfsimages.open_images(images)
    listed = {each.path: each for each in filesystem.subvolumes()}
    assert list(listed) == [b"", b"sub", b"sub/inner", b"snap", b"tree/frozen"]
    assert [each.path for each in filesystem.snapshots()] == [b"snap", b"tree/frozen"]
    assert listed[b"snap"].parent_uuid == listed[b"sub"].uuid
    assert listed[b"tree/frozen"].is_read_only
    assert not listed[b"snap"].is_read_only
    for path, each in listed.items():
        expected = btrfsimages.read_with_kernel(images, f"ro,subvol=/{path.decode()}")
        for which in (path, each.number):
            found = filetrees.read_with(filesystem.subvolume(which))
            assert without_empty_times(found) == without_empty_times(expected), path


def test_deleted_subvolume_is_not_listed(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.in_mount(images, "btrfs subvolume create gone; btrfs subvolume delete gone; touch f")
    assert [each.path for each in btrfsimages.open_images(images).subvolumes()] == [b""]


@pytest.mark.skipif(not shutil.which("btrfstune"), reason="needs btrfstune (btrfs-progs)")
def test_metadata_uuid_that_differs_is_known(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.write(images, "open('f', 'w').write('x')")
    expected = read(images)
    run("btrfstune", "-m", images[0])
    assert read(images) == expected


WORKLOAD = r"""
import os, random, subprocess, sys
rng = random.Random(int(sys.argv[1]))
def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
subprocess.run("btrfs subvolume create sub > /dev/null", shell=True, check=True)
names = []
for folder in ("base", "other", "sub/base"):
    os.mkdir(folder)
    for number in range(50):
        names.append(f"{folder}/old-{number}")
        with open(names[-1], "wb") as file:
            file.write(rng.randbytes(rng.choice([10, 3000, 9000, 200_000])))
subprocess.run(["btrfs", "filesystem", "sync", "."], check=True)
for step in range(20 + rng.randrange(60)):
    turn = rng.random()
    name = rng.choice(names)
    if turn < 0.2:
        name = f"{rng.choice(['base', 'sub/base'])}/new-{step}"
        with open(name, "wb") as file:
            file.write(rng.randbytes(rng.randrange(60_000)))
        names.append(name)
    elif turn < 0.3:
        with open(name, "ab") as file:
            file.write(rng.randbytes(9000))
    elif turn < 0.4:
        os.truncate(name, rng.randrange(30_000))
    elif turn < 0.5 and not name.startswith("sub"):
        os.link(name, f"other/link-{step}")
        names.append(f"other/link-{step}")
    elif turn < 0.65 and not name.startswith("sub"):
        names.remove(name)
        os.rename(name, f"{rng.choice(['base', 'other'])}/moved-{step}")
        name = "base" if rng.random() < 0.5 else rng.choice(names)
        names = [each for each in names if os.path.lexists(each)]
        names += [f"{folder}/moved-{step}" for folder in ("base", "other")]
        names = [each for each in dict.fromkeys(names) if os.path.lexists(each)]
    elif turn < 0.7:
        other = rng.choice(names)
        if other != name and other.startswith("sub") == name.startswith("sub"):
            os.rename(other, name)
            names = [each for each in names if os.path.lexists(each)]
    elif turn < 0.8:
        names.remove(name)
        os.unlink(name)
        name = os.path.dirname(name)
    elif turn < 0.85:
        os.mkdir(f"base/folder-{step}")
        name = f"base/folder-{step}/inner"
        open(name, "wb").write(b"inner")
        names.append(name)
    elif turn < 0.88:
        os.symlink("t" * rng.choice([5, 300]), f"other/link-to-{step}")
        name = "other"
    elif turn < 0.92:
        name = rng.choice(["base", "other", "sub/base"])
    elif turn < 0.95:
        descriptor = os.open(name, os.O_RDWR)
        os.posix_fallocate(descriptor, 0, rng.randrange(1, 300_000))
        os.close(descriptor)
    else:
        with open(name, "r+b") as file:
            file.seek(rng.randrange(200_000))
            file.write(b"in the middle" * rng.randrange(1, 900))
    if rng.random() < 0.8:
        fsync(name)
with open("base/last", "w") as file:
    file.write("last")
fsync("base/last")
"""

DIRTY = [("", "rw"), ("-O ^no-holes", "rw,compress=zstd"), ("-n 4096 --csum blake2", "rw,nodatasum")]


def _check_dirty(options: str, mount_options: str, seed: int, folder: Path) -> None:
    images = btrfsimages.make(folder, *options.split())
    dirty = btrfsimages.write_dirty(images, WORKLOAD, mount_options, str(seed))
    filesystem = btrfsimages.open_images(dirty)
    assert filesystem.problems == ()
    assert filesystem.notes[0].startswith("log replayed: ")
    found = filetrees.read_with(filesystem)
    expected = btrfsimages.read_with_kernel(dirty, "rw")
    assert btrfsimages.differences(found, expected) == []
    assert "b'base/last'" in found
    # Control: without the replay the answer would be another one.
    btrfsimages.hide_log(dirty[0])
    unreplayed = btrfsimages.open_images(dirty)
    assert unreplayed.notes == ()
    assert filetrees.read_with(unreplayed) != found


@pytest.mark.parametrize(("options", "mount_options"), DIRTY)
def test_dirty_log_reads_as_the_kernel_replays_it(options: str, mount_options: str, tmp_path: Path) -> None:
    _check_dirty(options, mount_options, 1, tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 42))
@pytest.mark.parametrize(("options", "mount_options"), DIRTY)
def test_many_dirty_logs_read_as_the_kernel_replays_them(
    options: str, mount_options: str, seed: int, tmp_path: Path
) -> None:
    _check_dirty(options, mount_options, seed, tmp_path)


def test_damaged_log_is_a_problem_and_the_last_commit_is_read(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    dirty = btrfsimages.write_dirty(images, WORKLOAD, "rw", "1")
    address = int.from_bytes(dirty[0].read_bytes()[65536 + 0x60 : 65536 + 0x68], "little")
    for place in btrfsimages.copies_of(dirty[0], address):
        damage(dirty[0], [place + 200])
    filesystem = btrfsimages.open_images(dirty)
    assert "what was synced last is missing: btrfs tree block" in filesystem.problems[0]
    found = filetrees.read_with(filesystem)
    btrfsimages.hide_log(dirty[0])
    assert found == filetrees.read_with(btrfsimages.open_images(dirty))


def test_superblock_that_was_not_written_since_is_older_than_its_copy_which_is_read(tmp_path: Path) -> None:
    images = btrfsimages.make(tmp_path)
    btrfsimages.write(images, "open('f', 'w').write('x')")
    old = images[0].read_bytes()[65536 : 65536 + 4096]
    btrfsimages.write(images, "open('g', 'w').write('y')")
    expected = read(images)
    with images[0].open("r+b") as file:
        file.seek(65536)
        file.write(old)
    filesystem = btrfsimages.open_images(images)
    assert "btrfs superblock: it is of generation" in filesystem.problems[0]
    assert filetrees.read_with(filesystem) == expected


def test_superblock_of_an_older_filesystem_counts_for_nothing(tmp_path: Path) -> None:
    old, new = (btrfsimages.make(tmp_path, name=name) for name in ("old", "new"))
    commit = "touch f; btrfs filesystem sync .; rm f; btrfs filesystem sync .;"
    btrfsimages.in_mount(old, commit * 8)
    btrfsimages.write(new, "open('g', 'w').write('y')")
    expected = read(new)
    left = old[0].read_bytes()[64 << 20 : (64 << 20) + 4096]
    with new[0].open("r+b") as file:
        file.seek(64 << 20)
        file.write(left)
    assert read(new) == expected


@pytest.mark.parametrize(
    "mount_options", [pytest.param("rw", marks=pytest.mark.soak), "rw,nodatasum,nodatacow"]
)
def test_device_of_another_filesystem_and_a_stale_mirror_do_not_mix(
    mount_options: str, tmp_path: Path
) -> None:
    images = btrfsimages.make(tmp_path, "-d", "raid1", "-m", "raid1", devices=2, size_mib=256)
    btrfsimages.write(images, f"open('f', 'wb').write({MARK!r} * 40)", mount_options)
    stranger = btrfsimages.make(tmp_path, name="stranger")
    stale = tmp_path / "stale"
    run("cp", "--sparse=always", images[1], stale)
    program = f"open('f', 'r+b').write({MARK[::-1]!r} * 40); open('g', 'w').write('later')"
    btrfsimages.write(images, program, mount_options)
    expected = btrfsimages.read_with_kernel(images)
    for given in ([images[0], *stranger, stale], [stale, images[0]]):
        found = btrfsimages.open_images(given)
        assert found.notes == ("device 2 lacks the last commits: its copies are used last",)
        assert filetrees.read_with(found) == expected, given
