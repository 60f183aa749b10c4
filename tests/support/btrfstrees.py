"""btrfs trees, chunks and logs written block by block, checksums right, small enough to think through."""

from collections.abc import Sequence
from dataclasses import replace

from undercroft.disks.btrfs import layout, logtree, roots
from undercroft.disks.btrfs.checksum import checksum_of_type
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.chunks import Chunk, ChunkMap, Stripe
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import NodeReader, Tree
from undercroft.disks.source import BytesSource

SECTOR = NODE = 4096
CRC = checksum_of_type(0)
FSID = b"f" * 16
UUID = b"d" * 16
Entry = tuple[tuple[int, int, int], bytes]

SUPERBLOCK = Superblock(
    FSID, FSID, 7, (0, 0), (0, 0), 7, (0, 0), 1 << 20, 1, (1, UUID, 1 << 20), SECTOR, NODE, CRC,
    layout.HAS_NO_HOLES, b"", b"", False,
)  # fmt: skip


def leaf(address: int, items: Sequence[Entry], *, generation: int = 7) -> bytes:
    """Return a leaf at an address."""
    heads, datas, end = b"", b"", NODE - layout.HEADER.size
    for key, data in items:
        end -= len(data)
        heads += layout.ITEM.pack(*key, end, len(data))
        datas = data + datas
    body = heads + bytes(end - len(heads)) + datas
    return sealed(address, generation, len(items), 0, body)


def inner(address: int, level: int, pointers: Sequence[tuple[tuple[int, int, int], int, int]]) -> bytes:
    """Return a block of pointers: (first key, address, generation) of each child."""
    body = b"".join(layout.POINTER.pack(*key, child, generation) for key, child, generation in pointers)
    return sealed(address, 7, len(pointers), level, body.ljust(NODE - layout.HEADER.size, b"\0"))


def sealed(address: int, generation: int, count: int, level: int, body: bytes) -> bytes:
    """Return a tree block with its checksum."""
    header = layout.HEADER.pack(bytes(32), FSID, address, 0, bytes(16), generation, 5, count, level)
    block = header + body
    return CRC.digest(block[32:]) + block[4:]


def tree(blocks: dict[int, bytes], level: int) -> Tree:
    """Return a tree whose root is at 0, over blocks by their addresses."""
    return Tree(NodeReader(chunk_map(blocks), SUPERBLOCK), (0, level), 7, "tree")


def chunk_map(blocks: dict[int, bytes], size: int = 1 << 20) -> ChunkMap:
    """Return one chunk over one device that holds blocks at their addresses."""
    image = bytearray(size)
    for address, block in blocks.items():
        image[address : address + len(block)] = block
    found = ChunkMap({1: (BytesSource(bytes(image)), UUID)})
    found.add(Chunk(0, size, 0, (Stripe(1, 0, UUID),)))
    return found


def root_item(address: int) -> bytes:
    """Return the item of a tree whose root is a leaf."""
    return layout.ROOT.pack(7, layout.FIRST_FREE, address, 0, 0, 0, 0, 1, 0, 0)


def inode_item(mode: int, size: int = 0) -> bytes:
    """Return an inode's item."""
    return layout.INODE.pack(7, size, 1, 0, 0, mode, 0, 0, 0, 0)


def replayed(bases: dict[int, list[Entry]], logs: dict[int, list[Entry]], room: int) -> logtree.Replayed:
    """Replay the logs of subvolumes over what they hold."""
    places = {number: SECTOR * (4 + index) for index, number in enumerate(bases)}
    logged = {number: SECTOR * (12 + index) for index, number in enumerate(logs)}
    blocks = {
        0: leaf(0, [((number, layout.ROOT_ITEM, 0), root_item(at)) for number, at in places.items()]),
        SECTOR: leaf(
            SECTOR,
            [
                ((layout.LOG_OBJECTS, layout.ROOT_ITEM, number), root_item(at))
                for number, at in logged.items()
            ],
            generation=8,
        ),
        **{at: leaf(at, bases[number]) for number, at in places.items()},
        **{at: leaf(at, logs[number]) for number, at in logged.items()},
    }
    superblock = replace(SUPERBLOCK, log_root=(SECTOR, 0))
    reader = NodeReader(chunk_map(blocks), superblock)
    sums = DataChecksums(tree({0: leaf(0, [])}, 0), superblock)
    return logtree.replay(roots.Roots(reader, superblock), superblock, reader, sums, room)


FOLDER = (layout.FIRST_FREE, layout.INODE_ITEM, 0)
