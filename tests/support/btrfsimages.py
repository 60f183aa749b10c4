"""btrfs images for tests, made by mkfs.btrfs and written by the kernel, and what the kernel says of them."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import filetrees
from extimages import run
from filetrees import Tree

from undercroft.disks import btrfs
from undercroft.disks.btrfs.checksum import checksum_of_type, name_hash
from undercroft.disks.source import DescriptorSource

PATHS = [str(Path(__file__).parent), str(Path(btrfs.__file__).parents[3])]
"""Where a program that writes finds the modules of the tests and of the product."""

_MOUNTED = r"""
set -e
devices=
loops=
trap 'cd /; umount "$POINT" 2>/dev/null || :; for loop in $loops; do losetup -d $loop; done' EXIT
for image in "$@"; do
  loop=$(losetup -f --show "$image")
  loops="$loops $loop"
  devices="$devices,device=$loop"
done
mount -t btrfs -o "$OPTIONS$devices" ${loops##* } "$POINT"
cd "$POINT"
"""


def make(
    folder: Path, *options: str, size_mib: int = 128, devices: int = 1, name: str = "image"
) -> list[Path]:
    """Make a filesystem over sparse files of `size_mib` each."""
    images = [folder / f"{name}{number or ''}" for number in range(devices)]
    for image in images:
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(size_mib << 20)
    run("mkfs.btrfs", "-q", "-f", *options, *images)
    return images


def in_mount(images: Sequence[Path], script: str, options: str = "rw", **environment: str) -> str:
    """Mount images in a mount namespace of its own and run a shell script in the mount.

    The script finds the images in "$@". The mount and the loop devices end with it.
    """
    with tempfile.TemporaryDirectory() as point:
        words = ["unshare", "-m", "sh", "-c", _MOUNTED + script, "sh", *map(str, images)]
        return run(*words, OPTIONS=options, POINT=point, **environment)


def write(images: Sequence[Path], program: str, options: str = "rw", argument: str = "") -> str:
    """Let a Python program write to the mounted filesystem."""
    return in_mount(images, f'"{sys.executable}" -c "$PROGRAM" {argument}', options, PROGRAM=program)


def write_dirty(images: Sequence[Path], program: str, options: str = "rw", argument: str = "") -> list[Path]:
    """Let a program write, and return copies of the images from before they were unmounted."""
    copies = [image.with_name(image.name + ".dirty") for image in images]
    script = f'"{sys.executable}" -c "$PROGRAM" {argument}; for image in "$@"; do '
    script += 'cp --sparse=always "$image" "$image.dirty"; done'
    in_mount(images, script, options, PROGRAM=program)
    return copies


def read_with_kernel(images: Sequence[Path], options: str = "ro") -> Tree:
    """Return what the kernel reads in copies of the images."""
    with copied(images) as copies:
        program = filetrees.KERNEL_WALK
        printed = in_mount(copies, f'"{sys.executable}" -c "$PROGRAM" .', options, PROGRAM=program)
    return {path: tuple(facts) for path, facts in json.loads(printed.splitlines()[-1]).items()}


@contextmanager
def copied(images: Sequence[Path]) -> Iterator[list[Path]]:
    """Give copies of images to work on."""
    with tempfile.TemporaryDirectory(dir=images[0].parent) as folder:
        copies = [Path(folder) / image.name for image in images]
        for image, copy in zip(images, copies, strict=True):
            run("cp", "--sparse=always", image, copy)
        yield copies


def open_images(images: Sequence[Path]) -> btrfs.Btrfs:
    """Open images with the reader under test. Descriptors stay open until the test's process ends."""
    sources = [source(image) for image in images]
    return btrfs.open_filesystem(sources[0], sources[1:])


def source(image: Path) -> DescriptorSource:
    """Open an image. Its descriptor stays open until the test's process ends."""
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    return DescriptorSource(descriptor, os.fstat(descriptor).st_size, image.name)


def places(image: Path, wanted: bytes) -> list[int]:
    """Return where bytes stand in an image."""
    content = image.read_bytes()
    found = []
    place = content.find(wanted)
    while place >= 0:
        found.append(place)
        place = content.find(wanted, place + len(wanted))
    return found


def live_leaf(image: Path, subvolume: bytes, name: bytes) -> int:
    """Return where the only leaf of a small subvolume lies, which holds a name."""
    return node_copies(image, name, open_images([image]).subvolume(subvolume).number)[0]


def node_copies(image: Path, name: bytes, subvolume: int = 5) -> list[int]:
    """Return where the copies of the only leaf of a subvolume begin, which holds a name."""
    filesystem = open_images([image])
    root = filesystem._volume.roots.root(subvolume)
    assert root is not None
    assert root.place[1] == 0
    pieces = list(filesystem._volume.content._chunks.pieces(root.place[0], 4096))
    found = [offset for _, offset in pieces[0][1]]
    with image.open("rb") as file:
        for place in found:
            file.seek(place)
            assert name in file.read(16384)
    return found


def copies_of(image: Path, address: int) -> list[int]:
    """Return where the copies of a logical address lie in the image of the only device."""
    pieces = list(open_images([image])._volume.content._chunks.pieces(address, 4096))
    return [offset for _, offset in pieces[0][1]]


def hide_log(image: Path) -> None:
    """Take the log out of the superblock, as if there were none."""
    with image.open("r+b") as file:
        file.seek(65536)
        block = bytearray(file.read(4096))
        block[0x60:0x68] = bytes(8)
        checksum = checksum_of_type(int.from_bytes(block[0xC4:0xC6], "little"))
        block[: checksum.size_bytes] = checksum.digest(bytes(block[32:]))
        file.seek(65536)
        file.write(block)


def colliding_names() -> tuple[bytes, bytes]:
    """Return two names that a directory keeps under one hash."""
    seen: dict[int, bytes] = {}
    for number in range(1_000_000):
        name = b"%x" % (number * 2654435761)
        hashed = name_hash(name)
        if hashed in seen and seen[hashed] != name:
            return seen[hashed], name
        seen[hashed] = name
    raise AssertionError("no two names share a hash")


def differences(left: Tree, right: Tree) -> list[str]:
    """Return what differs, one line each; for messages of failed tests."""
    paths = sorted(left.keys() | right.keys())
    return [
        f"{path}: {left.get(path)} / {right.get(path)}" for path in paths if left.get(path) != right.get(path)
    ]


@cache
def problem() -> str:
    """Return why btrfs cannot be made and mounted here, "" when it can."""
    missing = [tool for tool in ("mkfs.btrfs", "btrfs", "losetup", "unshare") if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)} (btrfs-progs)"
    if os.geteuid() != 0:
        return "needs root for loop mounts"
    with tempfile.TemporaryDirectory() as folder:
        try:
            in_mount(make(Path(folder)), "true")
        except AssertionError as error:
            return f"btrfs cannot be mounted here: {error}"
    return ""
