"""Extended attributes and device numbers, as the kernel wrote them: what overlays are told by."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsimages
import extimages
import pytest
from diskimages import opened, run
from mutants import Family, mutate

from undercroft.disks import formats
from undercroft.disks.detect import detect
from undercroft.disks.filesystem import FileSystem, WithAttributes
from undercroft.disks.source import BlockSource, check_range
from undercroft.errors import InputError, UnsupportedError

pytestmark = pytest.mark.skipif(bool(extimages.mounting_problem()), reason=extimages.mounting_problem())

MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-b", "4096"),
    "ext4-128": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "128"),
    "ext4-ea-inode": ("mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "ea_inode"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
    "xfs-many-extents": ("mkfs.xfs", "-q", "-f", "-i", "size=512,nrext64=1"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
SIZE_BYTES = 320 << 20

WRITE = """
import os
sets = [("few", 1, 5), ("many", 25, 60), ("more", 40, 20), ("large", 1, 2500), ("none", 0, 0)]
for name, count, size in [*sets, ("crowd", CROWD, 60)]:
    os.mkdir(name)
    for number in range(count):
        os.setxattr(name, f"user.number{number}", b"%d" % number * size)
    if count:
        os.setxattr(name, "trusted.overlay.opaque", b"y")
os.mknod("whiteout", 0o20000, os.makedev(0, 0))
os.mknod("console", 0o20600, os.makedev(5, 1))
os.mknod("disk", 0o60600, os.makedev(259, 70000))
open("file", "w").close()
"""


@contextmanager
def made(kind: str, folder: Path) -> Iterator[FileSystem]:
    image = folder / "image"
    write = WRITE.replace("CROWD", "1000" if kind.startswith(("xfs", "btrfs")) else "3")
    if kind == "squashfs":
        (folder / "tree").mkdir()
        run(sys.executable, "-c", f"import os; os.chdir({str(folder / 'tree')!r})\n{write}")
        run("mksquashfs", folder / "tree", image, "-quiet", "-no-progress", "-xattrs")
    else:
        with image.open("wb") as file:
            file.truncate(SIZE_BYTES)
        run(*MAKERS[kind], image)
        extimages.in_mount(image, f'"{sys.executable}" -c "$PROGRAM"', PROGRAM=write)
    with opened(image) as source:
        yield formats.open_filesystem(detect(source), source)


@pytest.mark.parametrize("kind", [*MAKERS, "squashfs"])
def test_attributes_and_devices_are_those_that_were_set(kind: str, tmp_path: Path) -> None:
    with made(kind, tmp_path) as filesystem:
        assert isinstance(filesystem, WithAttributes)
        nodes = {name.decode(): node for name, node, _ in filesystem.entries(filesystem.root)}
        crowd = 1000 if kind.startswith(("xfs", "btrfs")) else 3
        sets = (("few", 1, 5), ("many", 25, 60), ("more", 40, 20), ("none", 0, 0), ("crowd", crowd, 60))
        for name, count, size in sets:
            for number in range(count):
                assert filesystem.xattr(nodes[name], b"user.number%d" % number) == b"%d" % number * size
            assert filesystem.xattr(nodes[name], b"user.number9999") is None
            expected = b"y" if count else None
            assert filesystem.xattr(nodes[name], b"trusted.overlay.opaque") == expected
        for name in ("file", "none", "whiteout"):
            assert filesystem.xattr(nodes[name], b"trusted.overlay.opaque") is None
        try:
            assert filesystem.xattr(nodes["large"], b"user.number0") == b"0" * 2500
        except UnsupportedError:
            assert kind == "ext4-ea-inode"
        assert filesystem.device(nodes["whiteout"]) == 0
        assert filesystem.device(nodes["console"]) != 0
        assert filesystem.device(nodes["disk"]) != 0
        with pytest.raises(InputError, match="no device"):
            filesystem.device(nodes["file"])


CHANGE = """
import os
for number in range(40):
    os.setxattr("few", f"user.later{number % 9}", b"%d" % number * (number % 5))
os.removexattr("many", "trusted.overlay.opaque")
os.setxattr("none", "trusted.overlay.opaque", b"y")
os.setxattr("file", "user.new", b"n" * 300)
for number in range(30):
    if number % 2:
        os.symlink("x" * 40 * (number % 3 + 1), f"old{number}")
    else:
        os.mknod(f"old{number}", 0o20000, os.makedev(7, number + 1))
os.close(os.open(".", os.O_RDONLY))
for number in range(30):
    os.unlink(f"old{number}")
    os.mknod(f"new{number}", 0o20000, os.makedev(0, 0) if number % 3 else os.makedev(5, number))
    os.mkdir(f"dir{number}")
    os.setxattr(f"dir{number}", "trusted.overlay.opaque", b"%d" % number)
"""

SEE = """
import json, os
def see(name):
    keys = os.listxattr(name, follow_symlinks=False)
    values = {key: os.getxattr(name, key, follow_symlinks=False).decode() for key in keys}
    return [values, os.lstat(name).st_rdev]
print(json.dumps({name: see(name) for name in os.listdir(".")}))
"""


@pytest.mark.parametrize("options", [(), ("-i", "size=512,nrext64=1")])
def test_what_a_dirty_log_of_xfs_changed_is_what_the_kernel_replays(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    run("mkfs.xfs", "-q", "-f", *options, image)
    script = f'"{sys.executable}" -c "$PROGRAM"; xfs_io -x -c "shutdown -f" .; cd /'
    extimages.in_mount(image, script, PROGRAM=WRITE.replace("CROWD", "3") + CHANGE)
    check_replayed(image)


SYNC = """
for name in sorted(os.listdir(".")):
    if os.path.isdir(name) or name == "file":
        with_name = os.open(name, os.O_RDONLY)
        os.fsync(with_name), os.close(with_name)
top = os.open(".", os.O_RDONLY)
os.fsync(top)
"""


def test_what_a_dirty_log_of_btrfs_changed_is_what_the_kernel_replays(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    run("mkfs.btrfs", "-q", "-f", image)
    btrfsimages.write([image], WRITE.replace("CROWD", "3"))
    [dirty] = btrfsimages.write_dirty([image], CHANGE + SYNC)
    check_replayed(dirty)


def check_replayed(image: Path) -> None:
    with opened(image) as source:
        filesystem = formats.open_filesystem(detect(source), source)
        assert isinstance(filesystem, WithAttributes)
        assert "log replayed" in " ".join(filesystem.notes)
        with extimages.copied(image) as copy:
            expected = json.loads(extimages.in_mount(copy, f'"{sys.executable}" -c "$PROGRAM"', PROGRAM=SEE))
        nodes = {name.decode(): node for name, node, _ in filesystem.entries(filesystem.root)}
        assert nodes.keys() == expected.keys()
        for name, (attributes, device) in expected.items():
            for key, value in attributes.items():
                assert filesystem.xattr(nodes[name], key.encode()) == value.encode()
            for key in ("trusted.overlay.opaque", "user.later1"):
                if key not in attributes:
                    assert filesystem.xattr(nodes[name], key.encode()) is None
            if name.startswith(("new", "whiteout", "console")):
                assert (filesystem.device(nodes[name]) == 0) == (device == 0), name


class Damaged:
    """A volume that records what is read of it, and gives other bytes there."""

    def __init__(self, source: BlockSource) -> None:
        self._source = source
        self.size_bytes = source.size_bytes
        self.places: dict[tuple[int, int], bytes] = {}

    def read(self, offset: int, length: int) -> bytes:
        check_range(offset, length, self.size_bytes, "volume")
        if (offset, length) not in self.places:
            self.places[offset, length] = self._source.read(offset, length)
        return self.places[offset, length]


def asked(source: BlockSource) -> list[bytes | None]:
    filesystem = formats.open_filesystem(detect(source), source)
    assert isinstance(filesystem, WithAttributes)
    found = []
    for _, node, _ in filesystem.entries(filesystem.root):
        for name in (b"trusted.overlay.opaque", b"user.number7", b"user.none"):
            found.append(filesystem.xattr(node, name))
    return found


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["ext4-128", "xfs", "btrfs", "squashfs"])
def test_mutants_of_attributes_give_values_or_an_error(kind: str, tmp_path: Path) -> None:
    with made(kind, tmp_path):
        pass
    outcomes = {"same": 0, "refused": 0, "wrong": 0}
    with opened(tmp_path / "image") as source:
        whole = Damaged(source)
        expected = asked(whole)
        places = sorted(whole.places)
        for seed in range(60):
            mutant = Damaged(source)
            place = places[seed % len(places)]
            family = Family(kind, whole.places[place], ((0, place[1]),), "raw")
            mutant.places[place] = mutate(family, seed).ljust(place[1], b"\0")
            try:
                outcomes["same" if asked(mutant) == expected else "wrong"] += 1
            except InputError:
                outcomes["refused"] += 1
    # btrfs has each block twice, and takes the other one.
    assert outcomes["refused"] > 5 or (kind == "btrfs" and outcomes["same"] == 60), outcomes
    assert outcomes["wrong"] <= (0 if kind != "squashfs" else 6), outcomes
