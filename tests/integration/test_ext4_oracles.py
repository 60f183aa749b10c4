"""The ext reader against mke2fs, debugfs, e2fsck, blkid and the kernel: every file of every tree equal."""

import random
import sys
from pathlib import Path

import extimages
import pytest
from extimages import JOURNAL_MAGIC, View, differences, in_mount, make, open_image, run, see_image

from undercroft.disks.ext4 import Ext4, layout
from undercroft.errors import InputError

FEATURES = [
    ("ext2", "-t ext2"),
    ("ext2", "-t ext2 -b 1024"),
    ("ext2", "-t ext2 -b 1024 -r 0"),
    ("ext2", "-t ext2 -b 1024 -O meta_bg,^resize_inode"),
    ("ext3", "-t ext3"),
    ("ext3", "-t ext3 -b 1024"),
    ("ext4", "-t ext4"),
    ("ext4", "-t ext4 -b 1024"),
    ("ext4", "-t ext4 -b 2048"),
    ("ext4", "-t ext4 -b 8192"),
    ("ext4", "-t ext4 -b 65536 -N 2000"),
    ("ext4", "-t ext4 -b 1024 -O inline_data"),
    ("ext4", "-t ext4 -I 1024 -O inline_data"),
    ("ext4", "-t ext4 -O ^64bit"),
    ("ext4", "-t ext4 -O 64bit,^metadata_csum"),
    ("ext4", "-t ext4 -b 1024 -O meta_bg,^resize_inode"),
    ("ext4", "-t ext4 -O ^flex_bg"),
    ("ext4", "-t ext4 -O bigalloc"),
    ("ext4", "-t ext4 -b 1024 -C 16384 -O bigalloc,meta_bg,^resize_inode"),
    ("ext4", "-t ext4 -O ^metadata_csum"),
    ("ext4", "-t ext4 -O ^metadata_csum,uninit_bg"),
    ("ext4", "-t ext4 -I 128 -O ^metadata_csum,uninit_bg,^64bit"),
    ("ext4", "-t ext4 -I 128"),
    ("ext4", "-t ext4 -O large_dir"),
    ("ext4", "-t ext4 -b 1024 -O metadata_csum_seed"),
    ("ext4", "-t ext4 -b 1024 -O sparse_super2"),
    ("ext4", "-t ext4 -O ea_inode,mmp,quota,project,verity,casefold,encrypt"),
    ("ext4", "-t ext4 -O ^has_journal"),
    ("ext4", "-t ext4 -O fast_commit"),
    ("ext4", "-t ext4 -O orphan_file"),
    ("ext4", "-t ext4 -O ^filetype"),
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return extimages.make_tree(tmp_path_factory.mktemp("source") / "tree")


@pytest.fixture(scope="module")
def tree_view(tree: Path) -> View:
    return extimages.see_tree(tree)


@pytest.fixture
def can_mount() -> None:
    problem = extimages.mounting_problem()
    if problem:
        pytest.skip(problem)


@pytest.mark.parametrize(("content", "options"), FEATURES)
def test_every_file_equals_the_tree_that_mke2fs_was_given(
    content: str, options: str, tree: Path, tree_view: View, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), "-L", "naïve", size="70M", tree=tree)
    filesystem = open_image(image)
    assert differences(see_image(filesystem), tree_view) == []
    assert filesystem.notes == filesystem.problems == ()
    assert filesystem.content == content == _probe(image, "TYPE")
    assert filesystem.uuid == _probe(image, "UUID")
    assert filesystem.label == "naïve"


def _probe(image: Path, tag: str) -> str:
    return run("blkid", "-p", "-s", tag, "-o", "value", image).strip()


@pytest.mark.parametrize("options", ["-t ext2 -b 1024", "-t ext4 -b 1024 -O large_dir"])
def test_large_directory_is_read_whole_with_and_without_its_hash_tree(options: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "huge").mkdir(parents=True)
    for number in range(3000):
        (source / "huge" / f"{number}").touch()
    image = make(tmp_path / "image", *options.split(), "-N", "4000", size="16M", tree=source)
    _check_numbered_directory(image, 3000)
    run("e2fsck", "-fyD", image, check=False)
    assert "0x81000" in run("debugfs", "-R", "stat /huge", image) or "ext2" in options
    _check_numbered_directory(image, 3000)


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("options", ["-t ext4", "-t ext4 -b 1024 -O large_dir,^metadata_csum"])
def test_directory_of_30000_names_that_the_kernel_made_is_read_whole(options: str, tmp_path: Path) -> None:
    image = make(tmp_path / "image", *options.split(), "-N", "31000", size="48M")
    in_mount(image, "mkdir huge; cd huge; seq 0 29999 | xargs touch")
    _check_numbered_directory(image, 30_000)


def _check_numbered_directory(image: Path, count: int) -> None:
    filesystem = open_image(image)
    huge = filesystem.lookup(filesystem.root, b"huge")
    assert huge is not None
    found = {name: node for name, node, _ in filesystem.entries(huge)}
    assert found.keys() == {b"%d" % number for number in range(count)}
    for name in random.Random(1).sample(sorted(found), 40):
        assert filesystem.lookup(huge, name) == found[name]
    assert filesystem.lookup(huge, b"absent") is None


@pytest.mark.parametrize("options", ["-t ext2 -b 1024", "-t ext3 -b 1024", "-t ext4 -b 1024"])
def test_sparse_file_behind_triple_indirection_is_read_from_any_place(options: str, tmp_path: Path) -> None:
    size = 90 << 20
    (tmp_path / "source").mkdir()
    source = tmp_path / "source" / "sparse"
    with source.open("wb") as file:
        file.truncate(size)
        for place in (0, 11 << 10, 13 << 10, 300 << 10, 66 << 20, 68 << 20, (89 << 20) + 777):
            file.seek(place)
            file.write(b"data at %d" % place)
    image = make(tmp_path / "image", *options.split(), size="16M", tree=tmp_path / "source")
    filesystem = open_image(image)
    node = filesystem.lookup(filesystem.root, b"sparse")
    assert node is not None
    content = source.read_bytes()
    assert filesystem.read(node, size) == content
    for start in (1, 1024, 12 << 10, 268 << 10, (66 << 20) + 5, (68 << 20) - 1, size - 1, size, size + 1):
        assert b"".join(filesystem.chunks(node, start)) == content[start:]
    assert max(map(len, filesystem.chunks(node))) == layout.MAX_CHUNK_BYTES


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize(
    "options", ["-t ext4", "-t ext4 -b 1024", "-t ext4 -b 1024 -O inline_data", "-t ext4 -O ^extents,^64bit"]
)
def test_what_the_kernel_wrote_reads_as_the_kernel_reads_it(options: str, tmp_path: Path) -> None:
    image = make(tmp_path / "image", *options.split(), size="64M")
    in_mount(image, f'"{sys.executable}" -c "$PROGRAM"', PROGRAM=KERNEL_WRITES)
    filesystem = open_image(image)
    view = see_image(filesystem)
    assert differences(view, extimages.see_mounted(image)) == []
    assert view["late"].mtime == 5_000_000_000
    assert filesystem.notes == filesystem.problems == ()


KERNEL_WRITES = r"""
import os, random
rng = random.Random(3)
with open("punched", "wb") as file:
    for number in range(1500):
        file.seek(number * 8192)
        file.write(rng.randbytes(3000))
with open("unwritten", "wb") as file:
    file.write(b"start")
    os.posix_fallocate(file.fileno(), 0, 400_000)
    file.seek(200_000)
    file.write(b"middle")
with open("keep", "wb") as file:
    file.write(b"x" * 5000)
os.system("fallocate -n -o 5000 -l 300000 keep 2>&1; fallocate -p -o 8192 -l 60000 punched 2>&1")
os.mkdir("indexed")
for number in range(3000):
    open(f"indexed/{number}" + "n" * (number % 90), "w").write(str(number))
for number in range(0, 3000, 3):
    os.unlink(f"indexed/{number}" + "n" * (number % 90))
for length in (59, 60, 150, 1000, 4095):
    try:
        os.symlink("t" * length, f"link-{length}")
    except OSError:
        pass
os.mkdir("inline")
for number in range(7):
    open(f"inline/{number}", "wb").write(rng.randbytes(20 * number))
open("late", "w").write("late")
os.utime("late", (5_000_000_000, 5_000_000_000))
"""


def test_inline_files_of_every_size_read_as_they_are_stored(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for size in [*range(0, 2100, 7), 1024, 2048, 8192]:
        (source / str(size)).write_bytes(random.Random(size).randbytes(size))
    image = make(tmp_path / "image", "-t", "ext4", "-b", "1024", "-O", "inline_data", tree=source)
    filesystem = open_image(image)
    script = "".join(f"dump /{path.name} {tmp_path}/dump-{path.name}\n" for path in source.iterdir())
    run("debugfs", "-f", "-", image, stdin=script)
    for path in source.iterdir():
        node = filesystem.lookup(filesystem.root, path.name.encode())
        assert node is not None
        dumped = (tmp_path / f"dump-{path.name}").read_bytes()
        # mke2fs -d loses parts of some files; debugfs pads those of less than 60 bytes. One of them is right.
        assert filesystem.read(node, 9000) in (dumped, path.read_bytes()), path.name


WORKLOAD = r"""
import os, random, shutil, sys
rng = random.Random(int(sys.argv[1]))
magic = bytes.fromhex("c03b3998")
names = []
for step in range(400):
    turn = rng.random()
    if turn < 0.35:
        names.append(f"file-{step}")
        size = rng.choice([10, 500, 5000, 60000])
        open(names[-1], "wb").write(rng.choice([magic, b""]) + rng.randbytes(size))
    elif turn < 0.5 and names:
        open(rng.choice(names), "ab").write(magic * 300)
    elif turn < 0.6 and names:
        name = names.pop(rng.randrange(len(names)))
        os.rename(name, name + "-moved")
        names.append(name + "-moved")
    elif turn < 0.7 and names:
        os.unlink(names.pop(rng.randrange(len(names))))
    elif turn < 0.8:
        os.mkdir(f"folder-{step}")
        for number in range(rng.randrange(40)):
            name = f"folder-{step}/{number}" + "n" * rng.randrange(100)
            open(name, "wb").write(magic + rng.randbytes(3000))
    elif turn < 0.88:
        folders = [name for name in os.listdir(".") if name.startswith("folder")]
        if folders:
            shutil.rmtree(rng.choice(sorted(folders)))
    elif turn < 0.94:
        os.symlink("t" * rng.choice([5, 70, 300]), f"link-{step}")
    elif names:
        descriptor = os.open(rng.choice(names), os.O_RDWR)
        os.ftruncate(descriptor, rng.randrange(20000))
        os.fsync(descriptor)
        os.close(descriptor)
    if names and rng.random() < 0.2:
        # Commits the transaction, and unlike syncfs leaves the metadata in the journal only.
        with open(rng.choice(names)) as file:
            os.fsync(file.fileno())
open("last", "w").write("last")
with open("last") as file:
    os.fsync(file.fileno())
for number in range(5):
    open(f"unsynced-{number}", "wb").write(b"x" * number * 1000)
"""

DIRTY = [
    ("-t ext4", "rw", "checksum_v3"),
    ("-t ext4 -b 1024 -J size=1", "rw,data=journal", "checksum_v3"),
    ("-t ext4 -b 1024 -J size=1 -O inline_data,metadata_csum_seed", "rw,data=journal", "checksum_v3"),
    ("-t ext4 -J size=4 -O bigalloc", "rw", "checksum_v3"),
    ("-t ext3 -b 1024 -J size=1", "rw,data=journal", ""),
    ("-t ext4 -b 1024 -O ^metadata_csum,^64bit", "rw,journal_checksum", "journal_checksum"),
    (
        "-t ext4 -b 1024 -O ^metadata_csum,64bit -J size=2",
        "rw,journal_async_commit,data=writeback",
        "async_commit",
    ),
]


def dirty(image: Path, program: str, options: str, argument: str = "") -> Path:
    """Let the kernel write to `image`, and return a copy from before it is unmounted."""
    copy = image.with_name(image.name + ".dirty")
    script = f'"{sys.executable}" -c "$PROGRAM" {argument}; cp --sparse=always "$IMAGE" "$COPY"'
    in_mount(image, script, options, PROGRAM=program, COPY=str(copy))
    return copy


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("options", "mount_options", "journal_feature"), DIRTY)
def test_dirty_journal_reads_as_the_kernel_and_e2fsck_replay_it(
    options: str, mount_options: str, journal_feature: str, seed: int, tmp_path: Path
) -> None:
    image = dirty(make(tmp_path / "image", *options.split(), size="64M"), WORKLOAD, mount_options, str(seed))
    assert journal_feature in run("dumpe2fs", "-h", image)
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert "journal replayed" in filesystem.notes[0]
    view = see_image(filesystem)
    assert differences(view, extimages.see_mounted(image)) == []
    assert differences(view, extimages.see_checked(image)) == []
    # Control: without the replay the answer would be another one.
    extimages.hide_journal(image)
    unreplayed = open_image(image)
    assert unreplayed.notes == ()
    assert _sees_something_else(unreplayed, view)


def _sees_something_else(filesystem: Ext4, view: View) -> bool:
    try:
        return bool(differences(see_image(filesystem), view))
    except InputError:
        return True


FAST_COMMITS = r"""
import os, random, sys
rng = random.Random(int(sys.argv[1]))
def fsync(name):
    descriptor = os.open(name, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
os.mkdir("folder")
names = []
for number in range(30):
    names.append(f"folder/old-{number}")
    open(names[-1], "wb").write(rng.randbytes(rng.randrange(60000)))
os.system("sync -f .")
for step in range(60):
    turn = rng.random()
    name = rng.choice(names)
    if turn < 0.2:
        name = f"folder/new-{step}"
        open(name, "wb").write(rng.randbytes(rng.randrange(60000)))
        names.append(name)
    elif turn < 0.35:
        open(name, "ab").write(rng.randbytes(9000))
    elif turn < 0.5:
        os.truncate(name, rng.randrange(30000))
    elif turn < 0.6:
        os.link(name, f"folder/link-{step}")
        names.append(f"folder/link-{step}")
    elif turn < 0.75:
        names.remove(name)
        os.rename(name, f"folder/moved-{step}")
        name = f"folder/moved-{step}"
        names.append(name)
    elif turn < 0.85:
        names.remove(name)
        os.unlink(name)
        name = rng.choice(names)
    elif turn < 0.9:
        os.mkdir(f"folder-{step}")
        name = f"folder-{step}/inner"
        open(name, "wb").write(b"inner")
        names.append(name)
    else:
        with open(name, "r+b") as file:
            file.seek(rng.randrange(200000))
            file.write(b"in the middle")
    fsync(name)
"""


@pytest.mark.usefixtures("can_mount")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("options", ["-t ext4 -O fast_commit", "-t ext4 -b 1024 -O fast_commit,inline_data"])
def test_fast_commits_read_as_the_guest_saw_its_files(options: str, seed: int, tmp_path: Path) -> None:
    # The oracle is what the writing kernel says, not a replay by a kernel: the replay of fast commits with
    # inline data makes Linux 6.18 take a file's bytes for an extent tree and damage the host's memory.
    image = make(tmp_path / "image", *options.split(), size="64M")
    seen_by_guest = tmp_path / "view.json"
    program = f"{FAST_COMMITS}\n{extimages.SEE_PROGRAM}"
    image = dirty(image, program, "rw", f'{seed} > "{seen_by_guest}"')
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert "fast commits replayed" in filesystem.notes[-1]
    expected = extimages.parse_view(seen_by_guest.read_text())
    # Fast commits log names, not the times of their directories.
    assert differences(_without_folder_times(see_image(filesystem)), _without_folder_times(expected)) == []
    # Control: without the fast commits the answer would be another one.
    extimages.hide_journal(image)
    assert _sees_something_else(open_image(image), see_image(filesystem))


def _without_folder_times(view: View) -> View:
    return {path: seen._replace(mtime=0) if seen.mode & 0o40000 else seen for path, seen in view.items()}


JOURNALS = [
    ("-t ext3 -b 1024", ""),
    ("-t ext4 -b 1024 -O ^metadata_csum,64bit", ""),
    ("-t ext4 -b 1024", "-c -v 2"),
    ("-t ext4 -b 1024 -O ^64bit", "-c -v 2"),
    ("-t ext4 -b 1024", "-c -v 3"),
    ("-t ext4 -b 1024 -O ^64bit", "-c -v 3"),
]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A tree with one file of 40 blocks, whose blocks the journals below write."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "target").write_bytes(random.Random(5).randbytes(40 << 10))
    return tmp_path / "source"


def _blocks(image: Path) -> list[int]:
    return [int(word) for word in run("debugfs", "-R", "blocks /target", image).splitlines()[0].split()]


def _write_journal(image: Path, options: str, *transactions: str) -> None:
    """Write transactions (arguments of debugfs's journal_write) into the journal of `image`."""
    script = f"jo {options}\n" + "".join(f"jw {transaction}\n" for transaction in transactions) + "jc\n"
    run("debugfs", "-w", "-f", "-", image, stdin=script)


@pytest.mark.parametrize(("options", "journal_options"), JOURNALS)
def test_revoked_and_escaped_blocks_are_replayed_as_e2fsck_does(
    options: str, journal_options: str, target: Path, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), tree=target)
    blocks = _blocks(image)[:20]
    old, new, last = (tmp_path / name for name in ("old", "new", "last"))
    old.write_bytes(b"".join((b"old %4d" % number).ljust(1024, b"o") for number in range(10)))
    escaped = JOURNAL_MAGIC + b"escaped"
    new.write_bytes(b"".join(escaped.ljust(1024, b"n") for number in range(4)))
    last.write_bytes(b"last".ljust(1024, b"l"))
    _write_journal(
        image,
        journal_options,
        f"-b {','.join(map(str, blocks[:10]))} {old}",
        f"-b {','.join(map(str, blocks[2:6]))} {new}",
        f"-r {','.join(map(str, blocks[4:8]))}",
        f"-b {blocks[7]} {last}",
    )
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert filesystem.notes == ("journal replayed: 7 blocks of 4 transactions",)
    view = see_image(filesystem)
    assert differences(view, extimages.see_checked(image)) == []
    node = filesystem.lookup(filesystem.root, b"target")
    assert node is not None
    content = filesystem.read(node, 1 << 20)
    source = (target / "target").read_bytes()
    for number, start in {0: b"old    0", 2: escaped, 3: escaped, 7: b"last", 8: b"old    8"}.items():
        assert content[number << 10 :].startswith(start), number
    for number in (4, 5, 6, 10):
        assert content[number << 10 :][:1024] == source[number << 10 :][:1024], number


@pytest.mark.parametrize(("options", "journal_options"), JOURNALS)
def test_transaction_without_its_commit_block_is_left_out(
    options: str, journal_options: str, target: Path, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), tree=target)
    blocks = _blocks(image)
    for name in (b"first", b"second"):
        (tmp_path / name.decode()).write_bytes(name.ljust(2048, b"."))
    _write_journal(
        image,
        journal_options,
        f"-b {blocks[0]},{blocks[1]} {tmp_path}/first",
        f"-b {blocks[1]},{blocks[2]} {tmp_path}/second",
    )
    _erase_last_commit(image)
    filesystem = open_image(image)
    assert filesystem.problems == ()
    assert filesystem.notes == ("journal replayed: 2 blocks of 1 transactions",)
    assert differences(see_image(filesystem), extimages.see_checked(image)) == []


@pytest.mark.parametrize("journal_options", ["-c -v 2", "-c -v 3"])
def test_damaged_copy_in_a_whole_transaction_is_left_out_and_a_problem(
    journal_options: str, target: Path, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", "-t", "ext4", "-b", "1024", tree=target)
    blocks = _blocks(image)
    (tmp_path / "new").write_bytes(b"".join(b"%d" % number * 1024 for number in range(3)))
    _write_journal(image, journal_options, f"-b {','.join(map(str, blocks[:3]))} {tmp_path}/new")
    content = bytearray(image.read_bytes())
    content[content.index(b"1" * 1024) + 100] ^= 1
    image.write_bytes(content)
    filesystem = open_image(image)
    assert filesystem.notes == ("journal replayed: 2 blocks of 1 transactions",)
    assert [
        f"a copy of block {blocks[1]}: its checksum is wrong" in text for text in filesystem.problems
    ] == [True]
    assert differences(see_image(filesystem), extimages.see_checked(image)) == []


def test_damaged_transaction_ends_the_replay_and_is_a_problem(target: Path, tmp_path: Path) -> None:
    # debugfs sums a transaction of revokes in a way that neither e2fsck nor the kernel accepts in version 1.
    image = make(tmp_path / "image", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit", tree=target)
    blocks = _blocks(image)
    (tmp_path / "new").write_bytes(b"new".ljust(1024, b"."))
    transactions = f"-b {blocks[0]} {tmp_path}/new", f"-r {blocks[0]}", f"-b {blocks[1]} {tmp_path}/new"
    _write_journal(image, "-c", *transactions)
    filesystem = open_image(image)
    assert filesystem.notes == ("journal replayed: 1 blocks of 1 transactions",)
    assert "transaction 2 is damaged" in filesystem.problems[0]
    with extimages.copied(image) as copy:
        assert "transaction 2 was corrupt, replay was aborted" in run("e2fsck", "-fy", copy, check=False)
    assert differences(see_image(filesystem), extimages.see_checked(image)) == []


def _erase_last_commit(image: Path) -> None:
    content = bytearray(image.read_bytes())
    commit = JOURNAL_MAGIC + (2).to_bytes(4, "big")
    places = [place for place in range(0, len(content), 1024) if content[place : place + 8] == commit]
    last = max(places, key=lambda place: bytes(content[place + 8 : place + 12]))
    content[last : last + 1024] = bytes(1024)
    image.write_bytes(content)


@pytest.mark.parametrize("options", ["-t ext4 -b 1024", "-t ext4", "-t ext3 -b 1024"])
@pytest.mark.parametrize("damage", ["zeroed", "overwritten"])
def test_backup_superblock_replaces_a_broken_primary(
    options: str, damage: str, tree: Path, tree_view: View, tmp_path: Path
) -> None:
    image = make(tmp_path / "image", *options.split(), size="300M", tree=tree)
    with image.open("r+b") as file:
        file.seek(1024)
        file.write(bytes(1024) if damage == "zeroed" else b"\x55" * 40)
    filesystem = open_image(image)
    assert "backup superblock of group 1" in filesystem.notes[0]
    assert filesystem.problems == ()
    assert differences(see_image(filesystem), tree_view) == []


def test_journal_on_another_device_is_a_problem_not_silence(tree: Path, tmp_path: Path) -> None:
    image = make(tmp_path / "image", "-t", "ext4", size="70M", tree=tree)
    script = "ssv journal_inum 0\nssv journal_dev 0x801\nfeature needs_recovery\n"
    run("debugfs", "-w", "-f", "-", image, stdin=script)
    filesystem = open_image(image)
    assert len(filesystem.problems) == 1
    assert "journal not replayed" in filesystem.problems[0]
    assert see_image(filesystem)


def test_views_are_told_apart_by_a_single_byte() -> None:
    """Control for all comparisons above."""
    seen = extimages.Seen(0o100644, 0, 0, 1, 1, "a")
    assert differences({"x": seen}, {"x": seen}) == []
    assert differences({"x": seen}, {"x": seen._replace(content="b")})
    assert differences({"x": seen}, {})
