"""What each kind of segment of a logical volume lies on, as a source of bytes.

Guarantees: a segment either reads as the guest's kernel would read it, or is refused with the reason. Of
mirrored data one leg is read: the one that the kernel would read, never one that it is still filling.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

from undercroft.disks.lvm.derived import ThinSource
from undercroft.disks.lvm.metadata import LogicalVolume, Segment, VolumeGroup
from undercroft.disks.lvm.raidlegs import Leg, usable_legs
from undercroft.disks.lvm.thinpool import ThinPool
from undercroft.disks.source import BlockSource
from undercroft.disks.striping import (
    LEFT_ASYMMETRIC,
    LEFT_SYMMETRIC,
    PARITY_FIRST,
    PARITY_LAST,
    RIGHT_ASYMMETRIC,
    RIGHT_SYMMETRIC,
    CopiesSource,
    ParitySource,
    StripedSource,
)
from undercroft.errors import InputError, UnsupportedError

MAX_STRIPES = 256
MAX_STRIPE_SECTORS = 1 << 22
PARITY_KINDS = {
    "raid4": PARITY_FIRST,
    "raid5": LEFT_SYMMETRIC,
    "raid5_ls": LEFT_SYMMETRIC,
    "raid5_la": LEFT_ASYMMETRIC,
    "raid5_rs": RIGHT_SYMMETRIC,
    "raid5_ra": RIGHT_ASYMMETRIC,
    "raid5_n": PARITY_LAST,
}
MIRRORED_STRIPES = ("raid10", "raid10_near")


class MissingError(InputError):
    """The data lie on a physical volume that was not given."""


class Volumes(Protocol):
    """What a segment needs of its group: `build.Builder`."""

    group: VolumeGroup
    pools: dict[str, ThinPool]

    def volume(self, name: str) -> BlockSource:
        """Return the source of a logical volume."""
        ...

    def extents(self, name: str, extent: int, count: int) -> BlockSource:
        """Return extents of a physical or logical volume. Raises MissingError."""
        ...

    def doubt(self, name: str, problem: str) -> None:
        """Note why what is read of a volume may not be what the guest reads."""
        ...

    def full(self, name: str) -> str:
        """Return how messages name a logical volume."""
        ...


def source_of(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource | None:
    """Return what a segment lies on, None for zeros.

    Raises:
        MissingError: a physical volume that is not there.
        InputError: it contradicts itself, or lvm has given its extents up.
        UnsupportedError: a kind that is not read.
    """
    kind = segment.kind  # with flags behind a "+" it is none that is read
    name = f"lvm {volumes.full(volume.name)}"
    if kind == "zero":
        return None
    if kind == "error":
        raise InputError(f"{name}: its extents from {segment.start} on are gone: lvm maps them to errors")
    if kind not in _KINDS:
        raise UnsupportedError(f"{name}: {kind[:64]} is not supported yet")
    return _KINDS[kind](volumes, volume, segment)


def _striped(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    places = segment.places("stripes")
    count = segment.number("stripe_count", MAX_STRIPES, 1)
    if not count or len(places) != count or segment.count % count:
        raise InputError(f"lvm {volumes.full(volume.name)}: {len(places)} stripes, and {count} are announced")
    parts = [volumes.extents(name, extent, segment.count // count) for name, extent in places]
    if count == 1:
        return parts[0]
    return StripedSource(parts, _chunk(segment), f"lvm {volumes.full(volume.name)}")


def _chunk(segment: Segment) -> int:
    return segment.number("stripe_size", MAX_STRIPE_SECTORS) * 512


def _mirror(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    """The kernel fills the other legs from the first; without that one, the next may lag behind."""
    places = segment.places("mirrors")
    failure: InputError | None = None
    for name, extent in places:
        try:
            source = volumes.extents(name, extent, segment.count)
        except MissingError as error:
            failure = failure or error
            continue
        if failure:
            volumes.doubt(volume.name, f"{failure}: it was read from another leg, which may lag behind")
        return source
    raise failure or InputError(f"lvm {volumes.full(volume.name)}: a mirror without legs")


def _legs(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> list[Leg]:
    names = segment.texts("raids") or [part for name in segment.texts("raid0_lvs") for part in ("", name)]
    if len(names) % 2 or not 2 <= len(names) <= 2 * MAX_STRIPES:
        raise InputError(f"lvm {volumes.full(volume.name)}: its legs are not pairs")
    legs: list[Leg] = []
    for meta, image in zip(names[::2], names[1::2], strict=True):
        if _is_given_up(volumes, image):
            legs.append(Leg(None, None))
            continue
        try:
            legs.append(Leg(volumes.volume(image), volumes.volume(meta) if meta else None))
        except MissingError as error:
            legs.append(Leg(None, None, str(error)))
    return legs


def _is_given_up(volumes: Volumes, name: str) -> bool:
    """Whether the group goes on without a leg: lvm puts errors in the place of one whose disk was lost."""
    volume = volumes.group.logical.get(name)
    return volume is not None and all(segment.kind == "error" for segment in volume.segments)


def _usable(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> list[BlockSource | None]:
    legs = _legs(volumes, volume, segment)
    usable = usable_legs(legs, f"lvm {volumes.full(volume.name)}")
    gone = [leg.reason for leg in legs if leg.reason]
    if gone and any(usable):
        volumes.doubt(volume.name, f"{gone[0]}: it was read from its other legs, which may lag behind")
    elif gone:
        raise MissingError(gone[0])
    elif not any(usable):
        raise InputError(f"lvm {volumes.full(volume.name)}: none of its legs is whole")
    return usable


def _raid0(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    parts: list[BlockSource] = []
    for leg in _legs(volumes, volume, segment):
        if leg.image is None:
            raise MissingError(leg.reason or f"lvm {volumes.full(volume.name)}: a stripe of it is gone")
        parts.append(leg.image)
    return StripedSource(parts, _chunk(segment), f"lvm {volumes.full(volume.name)}")


def _raid1(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    return next(filter(None, _usable(volumes, volume, segment)))


def _raid5(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    name = f"lvm {volumes.full(volume.name)}"
    parts = _usable(volumes, volume, segment)
    layout = PARITY_KINDS[segment.kind]
    return ParitySource(parts, _chunk(segment), layout, segment.count * volumes.group.extent_bytes, name)


def _raid10(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    name = f"lvm {volumes.full(volume.name)}"
    copies = segment.number("data_copies", MAX_STRIPES, 2)
    parts = _usable(volumes, volume, segment)
    part_bytes = min(part.size_bytes for part in parts if part is not None)
    return CopiesSource(parts, _chunk(segment), copies, 1, part_bytes, name)


def _thin(volumes: Volumes, volume: LogicalVolume, segment: Segment) -> BlockSource:
    name = f"lvm {volumes.full(volume.name)}"
    if segment.text("merge"):
        raise UnsupportedError(
            f"{name}: a thin snapshot that waits to be merged into it is not supported yet"
        )
    pool = volumes.group.logical.get(segment.text("thin_pool"))
    if pool is None or pool.kind != "thin-pool":
        raise InputError(f"{name}: its thin pool is not in the group")
    data, tables = pool.segments[0].text("pool"), pool.segments[0].text("metadata")
    data_source, tables_source = volumes.volume(data), volumes.volume(tables)
    if pool.name not in volumes.pools:
        volumes.pools[pool.name] = ThinPool(tables_source, volumes.full(pool.name))
    found = volumes.pools[pool.name]
    if found.data_block_bytes != pool.segments[0].number("chunk_size", 1 << 32) * 512:
        raise InputError(f"{name}: its pool has blocks of {found.data_block_bytes} bytes, lvm says otherwise")
    if found.needs_check:
        volumes.doubt(volume.name, "its pool is marked as damaged (needs check)")
    expected = pool.segments[0].number("transaction_id", 1 << 62, 0)
    if found.transaction != expected:
        volumes.doubt(
            volume.name,
            f"its pool's tables are of transaction {found.transaction}, lvm's are of {expected}: the"
            " guest does not start it so",
        )
    external = segment.text("external_origin")
    origin = volumes.volume(external) if external else None
    size_bytes = segment.count * volumes.group.extent_bytes
    return ThinSource(found, data_source, segment.number("device_id", 1 << 24), size_bytes, origin, name)


_KINDS: Mapping[str, Callable[[Volumes, LogicalVolume, Segment], BlockSource]] = {
    "striped": _striped,
    "linear": _striped,
    "mirror": _mirror,
    "raid0": _raid0,
    "raid0_meta": _raid0,
    "raid1": _raid1,
    "thin": _thin,
    **dict.fromkeys(PARITY_KINDS, _raid5),
    **dict.fromkeys(MIRRORED_STRIPES, _raid10),
}
