"""The superblock and its mirrors: found, checked, decoded."""

from dataclasses import dataclass

from undercroft.disks.btrfs import layout
from undercroft.disks.btrfs.checksum import Checksum, checksum_of_type
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError


@dataclass(frozen=True, slots=True)
class Superblock:
    """A checked superblock.

    Attributes:
        fsid: the filesystem's UUID, 16 bytes; `metadata_fsid` is the one that tree blocks bear.
        generation: of the last commit.
        root, chunk_root, log_root: (logical address, level) of the trees; log_root is (0, 0) for none.
        chunk_generation: of the chunk tree.
        total_bytes: of all devices.
        devices: how many belong to the filesystem.
        device: the id and UUID of the device that it lies on, and that device's bytes.
        sector_bytes, node_bytes: units of data and of tree blocks.
        checksum: the algorithm.
        features: the incompatible ones.
        label: up to its NUL, untrusted.
        system_chunks: the chunk items that the chunk tree itself needs, raw.
        is_seeding: whether another filesystem may rest on this one.
    """

    fsid: bytes
    metadata_fsid: bytes
    generation: int
    root: tuple[int, int]
    chunk_root: tuple[int, int]
    chunk_generation: int
    log_root: tuple[int, int]
    total_bytes: int
    devices: int
    device: tuple[int, bytes, int]
    sector_bytes: int
    node_bytes: int
    checksum: Checksum
    features: int
    label: bytes
    system_chunks: bytes
    is_seeding: bool


@dataclass(frozen=True, slots=True)
class Found:
    """The superblock that counts, and what is wrong with the others."""

    superblock: Superblock
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def has_magic(source: BlockSource) -> bool:
    """Return whether the primary superblock bears btrfs' magic. Raises InputError."""
    place = layout.SUPERBLOCKS[0] + 64
    return source.size_bytes >= place + 8 and source.read(place, 8) == layout.MAGIC


def find(source: BlockSource) -> Found:
    """Return the superblock with the highest generation among those that check; the first of equals.

    A mirror counts beside a valid primary only where it is of the same device of the same filesystem: what
    an older filesystem left behind is none of this one's.

    Raises:
        InputError: there is none.
        UnsupportedError: a feature that this version cannot read.
    """
    found: list[tuple[int, Superblock]] = []
    damage: InputError | None = None
    for place in layout.SUPERBLOCKS:
        if place + layout.SUPERBLOCK_BYTES > source.size_bytes:
            break
        try:
            found.append((place, parse(source.read(place, layout.SUPERBLOCK_BYTES), place)))
        except UnsupportedError:
            if not found:
                raise
        except InputError as error:
            damage = damage or error
    if not found:
        raise damage or InputError("btrfs superblock: the volume is too small for a superblock")
    first_place, first = found[0]
    own = [each for each in found if (each[1].fsid, each[1].device) == (first.fsid, first.device)]
    place, superblock = max(own, key=lambda each: each[1].generation)
    if place == layout.SUPERBLOCKS[0]:
        return Found(superblock, (), (f"a copy is damaged: {damage}",) if damage else ())
    if first_place == layout.SUPERBLOCKS[0]:
        generations = f"{first.generation}, its copy at {place} of {superblock.generation}"
        return Found(superblock, (f"btrfs superblock: it is of generation {generations}, which was read",))
    problem = f"its copy at {place} was read, which does not know of files synced after the last commit"
    return Found(superblock, (f"{damage}; {problem}",))


def parse(untrusted: bytes, place: int) -> Superblock:
    """Return the superblock that `untrusted`, its 4,096 bytes at `place`, holds.

    Raises:
        InputError: no magic, a wrong checksum, or numbers that cannot be.
        UnsupportedError: a feature that this version cannot read.
    """
    what = f"btrfs superblock at {place}"
    (
        found, fsid, address, flags, magic, generation, root, chunk_root, log_root, total, _used, directory,
        devices, sector, node, _leaf, _stripe, chunk_generation, _compatible, features, kind, *levels,
    ) = layout.SUPERBLOCK.unpack_from(untrusted)  # fmt: skip
    if magic != layout.MAGIC:
        raise InputError(f"{what}: its magic is missing")
    checksum = checksum_of_type(kind)
    computed = checksum.digest(untrusted[layout.CHECKSUM_BYTES :])
    if found[: checksum.size_bytes] != computed:
        raise InputError(
            f"{what}: its checksum is {found[: checksum.size_bytes].hex()}, its bytes give {computed.hex()}"
        )
    _check_features(features, what)
    for name, size in (("sectors", sector), ("nodes", node)):
        if size & (size - 1) or not layout.MIN_NODE_BYTES <= size <= layout.MAX_NODE_BYTES:
            raise InputError(f"{what}: {name} of {size} bytes")
    if address != place or node < sector:
        raise InputError(f"{what}: its address is {address}, sectors of {sector} and nodes of {node} bytes")
    if not 0 < devices <= layout.MAX_DEVICES or directory != layout.ROOT_DIRECTORY or max(levels) > 7:
        raise InputError(f"{what}: {devices} devices, root directory {directory}, levels {levels}")
    chunks_bytes = int.from_bytes(untrusted[layout.SYSTEM_CHUNKS_SIZE_OFFSET :][:4], "little")
    if chunks_bytes > layout.SYSTEM_CHUNKS_BYTES:
        raise InputError(f"{what}: system chunks of {chunks_bytes} bytes")
    device = layout.DEVICE.unpack_from(untrusted, layout.DEVICE_OFFSET)
    has_own = features & layout.HAS_METADATA_UUID
    return Superblock(
        fsid=fsid,
        metadata_fsid=untrusted[layout.METADATA_UUID] if has_own else fsid,
        generation=generation,
        root=(root, levels[0]),
        chunk_root=(chunk_root, levels[1]),
        chunk_generation=chunk_generation,
        log_root=(log_root, levels[2]),
        total_bytes=total,
        devices=devices,
        device=(device[0], device[12], device[1]),
        sector_bytes=sector,
        node_bytes=node,
        checksum=checksum,
        features=features,
        label=untrusted[layout.LABEL].split(b"\0")[0],
        system_chunks=untrusted[layout.SYSTEM_CHUNKS_OFFSET :][:chunks_bytes],
        is_seeding=bool(flags & layout.SUPER_IS_SEEDING),
    )


def _check_features(features: int, what: str) -> None:
    unknown = features & ~layout.READABLE_FEATURES
    if unknown:
        named = [name for bit, name in layout.UNREADABLE_FEATURES.items() if unknown & bit]
        raise UnsupportedError(
            f"{what}: {' and '.join(named) or f'features {unknown:#x}'} cannot be read yet"
        )
