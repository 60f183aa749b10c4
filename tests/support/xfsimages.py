"""XFS images for tests: made by mkfs.xfs, filled by the kernel or (version 4) by mkfs itself.

What the kernel sees of them comes from a mount of a copy, as in `extimages`, whose views are used here too.
"""

import os
import shutil
import struct
import sys
import tempfile
from functools import cache
from pathlib import Path

import google_crc32c
from extimages import SEE_PROGRAM, View, copied, in_mount, parse_view, run

from undercroft.disks import xfs
from undercroft.disks.source import DescriptorSource

SMALL = {"TEST_DIR": "1", "TEST_DEV": "1", "QA_CHECK_FS": "1"}
"""With these mkfs.xfs makes filesystems of less than 300 MB, as its own tests want them."""
UUID = "11111111-2222-3333-4444-555555555555"
MOUNT = "rw,nouuid"


def make(image: Path, *options: str, size: str = "64M") -> Path:
    """Make an empty filesystem; the same one each time."""
    image.unlink(missing_ok=True)
    run("truncate", "-s", size, image)
    run("mkfs.xfs", "-q", "-m", f"uuid={UUID}", *options, image, **SMALL)
    return image


def make_from(tree: Path, image: Path, *options: str, size: str = "64M") -> Path:
    """Make a filesystem with the files of `tree`, without a mount."""
    proto = image.with_suffix(".proto")
    proto.write_text("/stand/nothing\n4 4\n" + _proto(tree, "d--755 0 0"))
    return make(image, "-p", str(proto), *options, size=size)


def make_v4(image: Path, tree: Path, *options: str, size: str = "64M") -> Path:
    """Make a filesystem of version 4 with the files of `tree`: not every kernel can mount one."""
    return make_from(tree, image, "-m", "crc=0", *options, size=size)


def _proto(folder: Path, mode: str) -> str:
    """Return a directory in the language of mkfs.xfs's prototype files."""
    lines = [mode]
    for path in sorted(folder.iterdir()):
        found = path.lstat()
        rights = f"{found.st_mode & 0o777:03o} {found.st_uid} {found.st_gid}"
        if path.is_symlink():
            lines.append(f"{path.name} l--{rights} {path.readlink()}")
        elif path.is_dir():
            lines.append(f"{path.name} {_proto(path, 'd--' + rights)}")
        else:
            lines.append(f"{path.name} ---{rights} {path}")
    return "\n".join([*lines, "$\n"])


def open_image(image: Path) -> xfs.Xfs:
    """Open an image with the reader under test. The descriptor stays open until the test's process ends."""
    descriptor = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    return xfs.open_filesystem(DescriptorSource(descriptor, os.fstat(descriptor).st_size))


@cache
def mounting_problem() -> str:
    """Return why XFS images cannot be made and loop-mounted here, "" when they can."""
    if shutil.which("mkfs.xfs") is None:
        return "needs xfsprogs"
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root and unshare(1) for loop mounts"
    with tempfile.TemporaryDirectory() as folder:
        try:
            in_mount(make(Path(folder) / "probe"), "true", MOUNT)
        except AssertionError as error:
            return f"loop mounts of XFS do not work here: {error}"
    return ""


def write(image: Path, program: str, argument: str = "", options: str = MOUNT) -> Path:
    """Let the kernel run a Python program in the mounted image, and unmount it."""
    in_mount(image, f'"{sys.executable}" -c "$PROGRAM" {argument}', options, PROGRAM=program)
    return image


def see_mounted(image: Path, options: str = MOUNT) -> View:
    """Return what the kernel sees in a copy of `image`, its log replayed."""
    with copied(image) as copy:
        return parse_view(in_mount(copy, f'"{sys.executable}" -c "$PROGRAM"', options, PROGRAM=SEE_PROGRAM))


def dirty(image: Path, program: str, argument: str = "", options: str = MOUNT) -> Path:
    """Let the kernel write to `image`, and return a copy from before it is unmounted."""
    copy = image.with_name(image.name + ".dirty")
    script = f'"{sys.executable}" -c "$PROGRAM" {argument}; cp --sparse=always "$IMAGE" "$COPY"'
    in_mount(image, script, options, PROGRAM=program, COPY=str(copy))
    return copy


def log_range(image: Path) -> tuple[int, int]:
    """Return where the log of an image begins, and its length, in bytes."""
    with image.open("rb") as file:
        head = file.read(512)
    block, group = int.from_bytes(head[4:8], "big"), int.from_bytes(head[84:88], "big")
    start, length = int.from_bytes(head[48:56], "big"), int.from_bytes(head[96:100], "big")
    bits = head[124]
    return ((start >> bits) * group + (start & (1 << bits) - 1)) * block, length * block


def hide_log(image: Path) -> None:
    """Put an unmounted log, as mkfs makes it, in place of the one of `image`."""
    start, length = log_range(image)
    header = bytearray(512)
    struct.pack_into(">IIIIQQ", header, 0, 0xFEEDBABE, 1, 2, 512, 1 << 32, 1 << 32)
    struct.pack_into(">II", header, 36, 0xFFFFFFFF, 1)
    struct.pack_into(">I", header, 44, 0xB0C0D0D0)
    with image.open("r+b") as file:
        file.seek(32)
        struct.pack_into(">I16sI", header, 300, 1, file.read(16), 32 << 10)
        body = struct.pack(">IIBBH", 1, 8, 0xAA, 0x20, 0) + struct.pack("<HHI", 0x556E, 0, 0)
        file.seek(start)
        file.write((bytes(header) + body.ljust(512, b"\0")).ljust(length, b"\0"))


def set_checksum(data: bytearray, place: int) -> None:
    """Set the checksum of a structure right, after a change to it."""
    data[place : place + 4] = bytes(4)
    data[place : place + 4] = google_crc32c.value(bytes(data)).to_bytes(4, "little")
