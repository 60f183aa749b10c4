"""Changes to XFS images by hand, checksums set right again, and where in them things lie."""

from collections.abc import Callable
from pathlib import Path

import xfsimages
from xfsimages import open_image

from undercroft.disks.xfs import Xfs, layout

BLOCK = 1024
SIZE = 300_000
"""Of a block, and of the file in the images of the tests of hostile filesystems."""


def head(image: Path) -> bytes:
    """Return the superblock."""
    with image.open("rb") as file:
        return file.read(512)


def node_of(filesystem: Xfs, name: bytes) -> int:
    """Return the inode number of a name in the root directory."""
    node = filesystem.lookup(filesystem.root, name)
    assert node is not None
    return node


def place_of(filesystem: Xfs, node: int) -> int:
    """Return where an inode lies, in bytes."""
    superblock = filesystem._inodes._blocks.superblock
    group, inner = divmod(node, 1 << superblock.group_log + superblock.block_inodes_log)
    return (group * superblock.group_blocks << superblock.block_log) + (inner << superblock.inode_log)


def change(image: Path, offset: int, size: int, checksum: int, edit: Callable[[bytearray], None]) -> None:
    """Edit a structure of `size` bytes, its checksum set right; `checksum` -1 for none."""
    with image.open("r+b") as file:
        file.seek(offset)
        data = bytearray(file.read(size))
        edit(data)
        if checksum >= 0:
            xfsimages.set_checksum(data, checksum)
        file.seek(offset)
        file.write(data)


def change_inode(image: Path, name: bytes, *edits: tuple[int, bytes]) -> None:
    """Write bytes into an inode of version 3."""
    filesystem = open_image(image)

    def edit(data: bytearray) -> None:
        for at, new in edits:
            data[at : at + len(new)] = new

    change(image, place_of(filesystem, node_of(filesystem, name)), 512, layout.INODE_CHECKSUM_OFFSET, edit)


def change_superblock(image: Path, at: int, new: bytes) -> None:
    """Write bytes into the superblock."""

    def edit(data: bytearray) -> None:
        data[at : at + len(new)] = new

    change(image, 0, 512, layout.SUPERBLOCK_CHECKSUM_OFFSET, edit)


def extent(logical: int, block: int, count: int, *, is_unwritten: bool = False) -> bytes:
    """Return an extent as it lies on disk."""
    number = is_unwritten << 127 | logical << 73 | block << 21 | count
    return number.to_bytes(16, "big")


def first_block(filesystem: Xfs, name: bytes) -> int:
    """Return the number of a file's first block (that of its place too, in allocation group 0)."""
    fork = filesystem._inodes.get(node_of(filesystem, name)).fork
    return int.from_bytes(fork[:16], "big") >> 21 & (1 << 52) - 1


def flip(image: Path, place: int) -> None:
    """Flip one bit of a byte, with no word to the checksums."""
    change(image, place, 1, -1, lambda data: data.__setitem__(0, data[0] ^ 0x10))


def read_everything(image: Path) -> list[object]:
    """Return the entries of the folders and what is said of and read from the file."""
    filesystem = open_image(image)
    found: list[object] = []
    for name in (b"folder", b"other"):
        found += list(filesystem.entries(node_of(filesystem, name)))
    node = node_of(filesystem, b"file")
    return [*found, filesystem.stat(node), filesystem.read(node, 1 << 40)]
