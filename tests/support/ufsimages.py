"""UFS for tests: made by makefs of a tree, without mounts and without root; changed as FreeBSD would."""

import shutil
import struct
from pathlib import Path

from diskimages import MIB, run

from undercroft.disks.ufs.superblock import check_hash

PLACE, NEW_PLACE = 8192, 65536
"""Where makefs puts the superblock, and where FreeBSD's newfs puts that of UFS2."""
HASHES, FLAG_HASHES = 5, 0x200
HASH_AT, HASHES_AT, FLAGS_AT, CLEAN_AT, LABEL_AT = 1304, 1308, 1312, 209, 680


def missing() -> str:
    """Return why no UFS can be made here, "" where it can."""
    return "" if shutil.which("makefs") else "needs makefs"


def make(tree: Path, image: Path, options: str = "version=2", size_bytes: int = 24 * MIB, *more: str) -> Path:
    """Make a UFS of `tree`; `options` and `more` go to makefs."""
    run("makefs", "-t", "ffs", "-o", options, "-s", str(size_bytes), *more, image, tree)
    return image


def field(image: bytes, place: int, layout: str, offset: int) -> int:
    """Return a number of the superblock at `place`."""
    return int(struct.unpack_from(f"<{layout}", image, place + offset)[0])


def patched(image: bytes, offset: int, layout: str, *values: int) -> bytes:
    """Return an image with numbers at an offset."""
    changed = bytearray(image)
    struct.pack_into(f"<{layout}", changed, offset, *values)
    return bytes(changed)


def marked(image: bytes, place: int = PLACE, *, clean: int = 1, flags: int = 0, label: bytes = b"") -> bytes:
    """Return an image whose superblock says so; its check hash, where it has one, is made anew."""
    changed = bytearray(image)
    changed[place + CLEAN_AT] = clean
    struct.pack_into("<i", changed, place + FLAGS_AT, flags)
    changed[place + LABEL_AT : place + LABEL_AT + 32] = label.ljust(32, b"\0")
    return rehashed(bytes(changed), place)


def hashed(image: bytes, place: int = PLACE) -> bytes:
    """Return a UFS2 with check hashes of superblock and inodes, as FreeBSD's newfs makes it since 13."""
    changed = bytearray(image)
    (flags,) = struct.unpack_from("<i", changed, place + FLAGS_AT)
    struct.pack_into("<Ii", changed, place + HASHES_AT, HASHES, flags | FLAG_HASHES)
    groups, inodes = (field(image, place, "I", offset) for offset in (44, 184))
    fragment, at, fragments = (field(image, place, "i", offset) for offset in (52, 16, 188))
    for group in range(groups):
        for number in range(inodes):
            start = (group * fragments + at) * fragment + number * 256
            inode = bytes(changed[start : start + 256])
            struct.pack_into("<I", changed, start + 244, check_hash(inode, 244))
    return rehashed(bytes(changed), place)


def rehashed(image: bytes, place: int = PLACE) -> bytes:
    """Return an image with the right check hash of its superblock, where that bears one."""
    if not field(image, place, "i", FLAGS_AT) & FLAG_HASHES:
        return image
    length = field(image, place, "i", 104)
    return patched(image, place + HASH_AT, "I", check_hash(image[place : place + length], HASH_AT))


def as_newfs(image: bytes) -> bytes:
    """Return a UFS2 with blocks of 64 KiB as FreeBSD's newfs lays it out: the superblock at 64 KiB.

    Its first group's copy lies there already; it is told its own place, and the one at 8 KiB goes.
    """
    assert field(image, NEW_PLACE, "I", 1372) == 0x19540119
    moved = bytearray(image)
    moved[NEW_PLACE : NEW_PLACE + 1376] = moved[PLACE : PLACE + 1376]
    moved[PLACE : PLACE + 1376] = bytes(1376)
    struct.pack_into("<q", moved, NEW_PLACE + 1000, NEW_PLACE)
    return bytes(moved)


def inode_offset(image: bytes, node: int, place: int = PLACE) -> int:
    """Return where an inode of the first group lies."""
    size = 256 if field(image, place, "I", 1372) == 0x19540119 else 128
    return field(image, place, "i", 16) * field(image, place, "i", 52) + node * size
