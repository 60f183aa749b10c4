"""exFAT for tests: made by mkfs.exfat, filled through exfat-fuse in a mount namespace of its own."""

import os
import shutil
import struct
from pathlib import Path

from diskimages import MIB, make_raw, run

from undercroft.disks.exfat.entries import set_checksum

_FILL = """
set -e
loop=$(losetup -f --show '{image}')
{mount} "$loop" '{point}' >/dev/null 2>&1 & pid=$!
trap 'umount -l "{point}" 2>/dev/null; kill $pid; losetup -d "$loop"' EXIT
for i in $(seq 100); do mountpoint -q '{point}' && break; sleep 0.1; done
mountpoint -q '{point}'
cd '{point}'
{script}
cd /
umount '{point}'
wait $pid
losetup -d "$loop"
trap - EXIT
"""


def missing() -> str:
    """Return why no exFAT can be made and filled here, "" where it can."""
    for tool in ("mkfs.exfat", "mount.exfat-fuse"):
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            return f"needs {tool} (exfatprogs, exfat-fuse)"
    if os.geteuid() or not Path("/dev/fuse").exists() or not Path("/dev/loop-control").exists():
        return "needs root, /dev/fuse and loop devices"
    return ""


def make(image: Path, *options: str, size_bytes: int = 16 * MIB) -> Path:
    """Make an empty exFAT; `options` go to mkfs.exfat."""
    make_raw(image, size_bytes)
    run("mkfs.exfat", *options, image)
    return image


def fill(image: Path, script: str, mount: str = "mount.exfat-fuse -d") -> Path:
    """Run a shell script in a mounted exFAT and wait until all of it is written; `mount` stays in front."""
    point = image.with_name(f"{image.name}.mnt")
    point.mkdir(exist_ok=True)
    run("unshare", "-m", "sh", "-c", _FILL.format(image=image, point=point, script=script, mount=mount))
    return image


def set_of(image: bytes, name: str) -> tuple[int, int]:
    """Return (place, length) of a file's set of entries, by its name of at most 15 characters."""
    wide = name.encode("utf-16-le").ljust(30, bytes(1))
    at = -1
    while (at := image.find(b"\xc1\x00" + wide, at + 1)) >= 0:
        if at % 32 == 0 and image[at - 64] == 0x85:
            return at - 64, 32 * (image[at - 63] + 1)
    raise AssertionError(f"no file {name}")


def changed(image: bytes, name: str, offset: int, layout: str, value: int) -> bytes:
    """Return an image with a number in a file's set of entries, whose checksum is right again."""
    place, length = set_of(image, name)
    new = bytearray(image)
    struct.pack_into(f"<{layout}", new, place + offset, value)
    struct.pack_into("<H", new, place + 2, set_checksum(bytes(new[place : place + length])))
    return bytes(new)
