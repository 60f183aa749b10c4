"""One filesystem as it lies on its devices: chunks, trees, checksums, and its log replayed in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from undercroft.disks.btrfs import chunks, layout, logtree
from undercroft.disks.btrfs import superblock as superblocks
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.content import Content
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.roots import Roots
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import NodeReader, Tree
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError


@dataclass(slots=True)
class Volume:
    """What all subvolumes of a filesystem share.

    Attributes:
        superblock: the one that counts.
        roots: its root tree.
        content: reads what files hold.
        trees: opened subvolumes by id, those with a log replayed.
        notes, problems: what was done and found on the way.
    """

    superblock: Superblock
    roots: Roots
    content: Content
    trees: dict[int, FsTree] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def tree(self, number: int) -> FsTree:
        """Return the items of subvolume `number`. Raises InputError where there is none."""
        found = self.trees.get(number)
        if found is None:
            root = self.roots.root(number)
            if root is None or root.is_deleted or root.directory != layout.FIRST_FREE:
                raise InputError(f"btrfs subvolume {number} is not there")
            found = FsTree(self.roots.tree(root))
            self.trees[number] = found
        return found


def open_volume(source: BlockSource, others: Sequence[BlockSource] = ()) -> Volume:
    """Open the filesystem of which `source` is a device, with those of `others` that are its too.

    Raises:
        UnsupportedError: a feature or profile that this version cannot read.
        InputError: it is malformed, or what it needs lies on a device that is missing.
    """
    found = superblocks.find(source)
    devices = {found.superblock.device[0]: (source, found.superblock.device[1])}
    problems = _too_small(found.superblock, source)
    for other in others:
        try:
            also = superblocks.find(other)
        except InputError:
            continue  # not one of this filesystem's, or as good as missing
        number, uuid, _ = also.superblock.device
        if also.superblock.fsid != found.superblock.fsid or number in devices:
            continue
        devices[number] = (other, uuid)
        problems += _too_small(also.superblock, other)
        if also.superblock.generation > found.superblock.generation:
            found = also
    superblock = found.superblock
    chunk_map = chunks.ChunkMap(devices)
    reader = NodeReader(chunk_map, superblock)
    _read_chunks(chunk_map, reader, superblock)
    roots = Roots(reader, superblock)
    checksum_root = roots.root(layout.CHECKSUM_TREE)
    if checksum_root is None:
        raise InputError("btrfs checksum tree: its root is missing")
    checksums = DataChecksums(roots.tree(checksum_root), superblock)
    volume = Volume(superblock, roots, Content(chunk_map, checksums, superblock))
    volume.notes += found.notes
    volume.problems += [*found.problems, *problems]
    if missing := chunk_map.missing_devices():
        shown = ", ".join(map(str, missing[:8]))
        volume.problems.append(
            f"btrfs device {shown} of {superblock.devices} is missing: what lies there alone cannot be read"
        )
    if superblock.log_root[0]:
        replayed = logtree.replay(roots, superblock, reader, checksums)
        volume.trees.update(replayed.trees)
        volume.notes += replayed.notes
        volume.problems += replayed.problems
    return volume


def _read_chunks(chunk_map: chunks.ChunkMap, reader: NodeReader, superblock: Superblock) -> None:
    for chunk in chunks.system_chunks(superblock):
        chunk_map.add(chunk)
    tree = Tree(reader, superblock.chunk_root, superblock.chunk_generation, "chunk tree")
    first = (layout.CHUNK_OBJECTS, layout.CHUNK_ITEM, 0)
    # Read before any is added: a chunk must not move what its own tree is read from.
    items = list(tree.items(first, (layout.CHUNK_OBJECTS, layout.CHUNK_ITEM, layout.LAST)))
    for key, item in items:
        chunk_map.add(chunks.parse_chunk(key[2], item, superblock.sector_bytes)[0])


def _too_small(superblock: Superblock, source: BlockSource) -> list[str]:
    number, _, size_bytes = superblock.device
    if size_bytes <= source.size_bytes:
        return []
    return [
        f"btrfs device {number} has {size_bytes} bytes, its volume only {source.size_bytes}: "
        "what lies beyond cannot be read"
    ]
