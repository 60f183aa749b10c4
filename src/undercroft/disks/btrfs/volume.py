"""One filesystem as it lies on its devices: chunks, trees, checksums, and its log replayed in memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from undercroft.disks.btrfs import chunks, layout, logtree
from undercroft.disks.btrfs import superblock as superblocks
from undercroft.disks.btrfs.checksums import DataChecksums
from undercroft.disks.btrfs.content import Content
from undercroft.disks.btrfs.fstree import FsTree
from undercroft.disks.btrfs.roots import Roots
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.btrfs.tree import NodeReader, Tree
from undercroft.disks.cache import BoundedCache
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError

MAX_SHOWN = 8
CACHED_TREES = 256
"""Each holds on to a leaf."""


@dataclass(slots=True)
class Volume:
    """What all subvolumes of a filesystem share.

    Attributes:
        superblock: the one that counts.
        roots: its root tree.
        content: reads what files hold.
        replayed: subvolumes with a log, by id, the log replayed.
        notes, problems: what was done and found on the way.
    """

    superblock: Superblock
    roots: Roots
    content: Content
    replayed: dict[int, FsTree] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _trees: BoundedCache[int, FsTree] = field(default_factory=lambda: BoundedCache(CACHED_TREES))

    def tree(self, number: int) -> FsTree:
        """Return the items of subvolume `number`. Raises InputError where there is none."""
        found = self.replayed.get(number) or self._trees.get(number)
        if found is None:
            root = self.roots.root(number)
            if root is None or root.is_deleted or root.directory != layout.FIRST_FREE:
                raise InputError(f"btrfs subvolume {number} is not there")
            found = self._trees.put(number, FsTree(self.roots.tree(root)))
        return found


@dataclass(frozen=True, slots=True)
class _Device:
    """One device of the filesystem, and its superblock."""

    source: BlockSource
    found: superblocks.Found

    @property
    def number(self) -> int:
        return self.found.superblock.device[0]

    @property
    def uuid(self) -> bytes:
        return self.found.superblock.device[1]


def _devices(source: BlockSource, others: Sequence[BlockSource]) -> list[_Device]:
    """Return the device `source` and those of `others` that are of the same filesystem, each once."""
    devices = [_Device(source, superblocks.find(source))]
    fsid, taken = devices[0].found.superblock.fsid, {devices[0].number}
    for other in others:
        try:
            device = _Device(other, superblocks.find(other))
        except InputError:
            continue  # not one of this filesystem's, or as good as missing
        if device.found.superblock.fsid == fsid and device.number not in taken:
            taken.add(device.number)
            devices.append(device)
    return devices


def open_volume(source: BlockSource, others: Sequence[BlockSource] = ()) -> Volume:
    """Open the filesystem of which `source` is a device, with those of `others` that are its too.

    Raises:
        UnsupportedError: a feature or profile that this version cannot read.
        InputError: it is malformed, or what it needs lies on a device that is missing.
    """
    devices = _devices(source, others)
    # Of equal generations one whose primary superblock is sound: only that one knows of a log.
    best = max(devices, key=lambda each: (each.found.superblock.generation, not each.found.problems)).found
    superblock = best.superblock
    behind = {each.number for each in devices if each.found.superblock.generation < superblock.generation}
    chunk_map = chunks.ChunkMap({each.number: (each.source, each.uuid) for each in devices}, behind)
    reader = NodeReader(chunk_map, superblock)
    _read_chunks(chunk_map, reader, superblock)
    roots = Roots(reader, superblock)
    checksum_root = roots.root(layout.CHECKSUM_TREE)
    if checksum_root is None:
        raise InputError("btrfs checksum tree: its root is missing")
    checksums = DataChecksums(roots.tree(checksum_root), superblock)
    volume = Volume(superblock, roots, Content(chunk_map, checksums, superblock))
    volume.notes += best.notes
    volume.problems += [*best.problems, *(problem for each in devices for problem in _too_small(each))]
    if len(devices) > 1 and reader.has_rival_copies(*superblock.root, superblock.generation):
        volume.problems.append(
            f"btrfs devices hold different states of generation {superblock.generation}: they went on apart,"
            " and what is read may be of either"
        )
    if behind:
        volume.notes.append(f"device {_shown(behind)} lacks the last commits: its copies are used last")
    if missing := chunk_map.missing_devices():
        which = f"{_shown(missing)} of {superblock.devices}"
        volume.problems.append(f"btrfs device {which} is missing: what lies there alone cannot be read")
    if superblock.log_root[0]:
        replayed = logtree.replay(roots, superblock, reader, checksums)
        volume.replayed.update(replayed.trees)
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


def _too_small(device: _Device) -> list[str]:
    claimed = device.found.superblock.device[2]
    if claimed <= device.source.size_bytes:
        return []
    return [
        f"btrfs device {device.number} has {claimed} bytes, its volume only {device.source.size_bytes}: "
        "what lies beyond cannot be read"
    ]


def _shown(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)[:MAX_SHOWN]))
