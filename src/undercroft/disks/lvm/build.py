"""The logical volumes of a group as sources of bytes, from those of its physical volumes that are there.

Guarantees: a volume either reads as the guest's kernel would read it, or is refused with the reason: a
missing physical volume, a kind that is not supported, metadata that contradicts itself. Volumes in volumes
are followed `MAX_NESTING` deep, never in a circle. Of mirrored data one leg is read: the one that the kernel
would read, never one that it is still filling.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from undercroft.disks.lvm.derived import SnapshotSource, ThinSource
from undercroft.disks.lvm.metadata import LogicalVolume, Segment, VolumeGroup
from undercroft.disks.lvm.raidlegs import Leg, usable_legs
from undercroft.disks.lvm.thinpool import ThinPool
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.stack import Member
from undercroft.disks.striping import (
    LEFT_ASYMMETRIC,
    LEFT_SYMMETRIC,
    PARITY_FIRST,
    PARITY_LAST,
    RIGHT_ASYMMETRIC,
    RIGHT_SYMMETRIC,
    ConcatSource,
    CopiesSource,
    ParitySource,
    Piece,
    StripedSource,
)
from undercroft.errors import InputError, UnsupportedError

MAX_NESTING = 12
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
MIRRORED_STRIPES = frozenset({"raid10", "raid10_near"})


class MissingError(InputError):
    """The data lie on a physical volume that was not given."""


@dataclass(slots=True)
class Builder:
    """Builds each volume of a group once.

    Attributes:
        group: its description.
        present: members by the name that the group gives them ("pv0").
        used: by volume, the physical volumes that it lies on.
        problems: by volume, why what is read of it may not be what the guest reads.
    """

    group: VolumeGroup
    present: Mapping[str, Member]
    used: dict[str, set[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _built: dict[str, BlockSource | InputError] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _pools: dict[str, ThinPool] = field(default_factory=dict)

    def volume(self, name: str) -> BlockSource:
        """Return the source of a logical volume.

        Raises:
            MissingError: it lies on a physical volume that is not there.
            InputError: its description or its tables are malformed; a circle.
            UnsupportedError: a kind that is not read.
        """
        if name in self._open or len(self._open) >= MAX_NESTING:
            raise InputError(f"lvm {self._full(name)}: volumes that lie in each other, or too deep")
        if name not in self._built:
            self._open.append(name)
            try:
                self._built[name] = self._build(name)
            except InputError as error:
                self._built[name] = error
            finally:
                self._open.pop()
        for above in self._open:
            self.used.setdefault(above, set()).update(self.used.get(name, ()))
        built = self._built[name]
        if isinstance(built, InputError):
            raise built
        return built

    def _build(self, name: str) -> BlockSource:
        volume = self.group.logical.get(name)
        if volume is None:
            raise InputError(f"lvm {self._full(name)}: the group has no such volume")
        plain = self._concat(volume)
        merging = self._merging(name)
        return SnapshotSource(plain, self.volume(merging), f"lvm {self._full(name)}") if merging else plain

    def snapshot(self, store: str, origin: str) -> BlockSource:
        """Return the source of a classic snapshot by its store and its origin. Raises as `volume` does."""
        for each in (store, origin):
            self.volume(each)
            self.used.setdefault(f"snapshot {store}", set()).update(self.used.get(each, ()))
        return SnapshotSource(self.volume(origin), self.volume(store), f"lvm {self._full(store)}")

    def _merging(self, origin: str) -> str:
        """Return the store of a snapshot that is merged back: the guest sees it in its origin's place."""
        for volume in self.group.logical.values():
            segment = volume.segments[0]
            store = segment.text("merging_store")
            if store and segment.kind == "snapshot" and segment.text("origin") == origin:
                return store
        return ""

    def _concat(self, volume: LogicalVolume) -> BlockSource:
        pieces: list[Piece] = []
        for segment in volume.segments:
            length = segment.count * self.group.extent_bytes
            source = self._segment(volume, segment)
            if source is not None and source.size_bytes < length:
                raise InputError(
                    f"lvm {self._full(volume.name)}: its segment at extent {segment.start} has {length}"
                    f" bytes, what it lies on {source.size_bytes}"
                )
            pieces.append(Piece(length, source, 0))
        if (
            len(pieces) == 1
            and pieces[0].source is not None
            and pieces[0].source.size_bytes == pieces[0].length
        ):
            return pieces[0].source
        return ConcatSource(pieces, f"lvm {self._full(volume.name)}")

    def _segment(self, volume: LogicalVolume, segment: Segment) -> BlockSource | None:
        """Return what a segment lies on, None for zeros."""
        kind = segment.kind  # with flags behind a "+" it is none that is read
        name = f"lvm {self._full(volume.name)}"
        if kind == "zero":
            return None
        builders: Mapping[str, Callable[[LogicalVolume, Segment], BlockSource]] = {
            "striped": self._striped,
            "linear": self._striped,
            "mirror": self._mirror,
            "raid0": self._raid0,
            "raid0_meta": self._raid0,
            "raid1": self._raid1,
            "thin": self._thin,
            **dict.fromkeys(PARITY_KINDS, self._raid5),
            **dict.fromkeys(MIRRORED_STRIPES, self._raid10),
        }
        if kind == "error":
            raise InputError(f"{name}: its extents from {segment.start} on are gone: lvm maps them to errors")
        if kind not in builders:
            raise UnsupportedError(f"{name}: {kind[:64]} is not supported yet")
        return builders[kind](volume, segment)

    def _extents(self, name: str, extent: int, count: int) -> BlockSource:
        """Return `count` extents of a physical or logical volume from `extent` on."""
        length = count * self.group.extent_bytes
        if name in self.group.physical:
            physical = self.group.physical[name]
            for above in self._open:
                self.used.setdefault(above, set()).add(name)
            if name not in self.present:
                raise MissingError(f"it lies on {self.describe(name)}, which is not among the given disks")
            if extent + count > physical.extents:
                raise InputError(
                    f"lvm {self.describe(name)}: it has {physical.extents} extents, not {extent + count}"
                )
            start = physical.start_bytes + extent * self.group.extent_bytes
            return _slice(self.present[name].source, start, length, f"lvm {self.describe(name)}")
        return _slice(self.volume(name), extent * self.group.extent_bytes, length, f"lvm {self._full(name)}")

    def _striped(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        places = segment.places("stripes")
        count = segment.number("stripe_count", MAX_STRIPES, 1)
        if not count or len(places) != count or segment.count % count:
            raise InputError(
                f"lvm {self._full(volume.name)}: {len(places)} stripes, and {count} are announced"
            )
        parts = [self._extents(name, extent, segment.count // count) for name, extent in places]
        if count == 1:
            return parts[0]
        return StripedSource(parts, self._chunk(segment), f"lvm {self._full(volume.name)}")

    def _chunk(self, segment: Segment) -> int:
        return segment.number("stripe_size", MAX_STRIPE_SECTORS) * 512

    def _mirror(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        """The kernel fills the other legs from the first; without that one, the next may lag behind."""
        places = segment.places("mirrors")
        failure: InputError | None = None
        for name, extent in places:
            try:
                source = self._extents(name, extent, segment.count)
            except MissingError as error:
                failure = failure or error
                continue
            if failure:
                self._doubt(volume.name, f"{failure}: it was read from another leg, which may lag behind")
            return source
        raise failure or InputError(f"lvm {self._full(volume.name)}: a mirror without legs")

    def _legs(self, volume: LogicalVolume, segment: Segment) -> list[Leg]:
        names = segment.texts("raids") or [part for name in segment.texts("raid0_lvs") for part in ("", name)]
        if len(names) % 2 or not 2 <= len(names) <= 2 * MAX_STRIPES:
            raise InputError(f"lvm {self._full(volume.name)}: its legs are not pairs")
        legs: list[Leg] = []
        for meta, image in zip(names[::2], names[1::2], strict=True):
            try:
                legs.append(Leg(self.volume(image), self.volume(meta) if meta else None))
            except MissingError as error:
                legs.append(Leg(None, None, str(error)))
        return legs

    def _usable(self, volume: LogicalVolume, segment: Segment) -> list[BlockSource | None]:
        legs = self._legs(volume, segment)
        usable = usable_legs(legs, f"lvm {self._full(volume.name)}")
        gone = [leg.reason for leg in legs if leg.reason]
        if gone and any(usable):
            self._doubt(volume.name, f"{gone[0]}: it was read from its other legs, which may lag behind")
        elif gone:
            raise MissingError(gone[0])
        return usable

    def _raid0(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        parts: list[BlockSource] = []
        for leg in self._legs(volume, segment):
            if leg.image is None:
                raise MissingError(leg.reason)
            parts.append(leg.image)
        return StripedSource(parts, self._chunk(segment), f"lvm {self._full(volume.name)}")

    def _raid1(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        source = next(filter(None, self._usable(volume, segment)), None)
        if source is None:
            raise InputError(f"lvm {self._full(volume.name)}: none of its legs is whole")
        return source

    def _raid5(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        name = f"lvm {self._full(volume.name)}"
        parts = self._usable(volume, segment)
        layout = PARITY_KINDS[segment.kind]
        return ParitySource(
            parts, self._chunk(segment), layout, segment.count * self.group.extent_bytes, name
        )

    def _raid10(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        name = f"lvm {self._full(volume.name)}"
        copies = segment.number("data_copies", MAX_STRIPES, 2)
        parts = self._usable(volume, segment)
        part_bytes = min(part.size_bytes for part in parts if part is not None)
        return CopiesSource(parts, self._chunk(segment), copies, 1, part_bytes, name)

    def _thin(self, volume: LogicalVolume, segment: Segment) -> BlockSource:
        name = f"lvm {self._full(volume.name)}"
        if segment.text("merge"):
            raise UnsupportedError(
                f"{name}: a thin snapshot that waits to be merged into it is not supported yet"
            )
        pool = self.group.logical.get(segment.text("thin_pool"))
        if pool is None or pool.kind != "thin-pool":
            raise InputError(f"{name}: its thin pool is not in the group")
        data, tables = pool.segments[0].text("pool"), pool.segments[0].text("metadata")
        data_source, tables_source = self.volume(data), self.volume(tables)
        if pool.name not in self._pools:
            self._pools[pool.name] = ThinPool(tables_source, self._full(pool.name))
        found = self._pools[pool.name]
        if found.data_block_bytes != pool.segments[0].number("chunk_size", 1 << 32) * 512:
            raise InputError(
                f"{name}: its pool has blocks of {found.data_block_bytes} bytes, lvm says otherwise"
            )
        if found.needs_check:
            self._doubt(volume.name, "its pool is marked as damaged (needs check)")
        expected = pool.segments[0].number("transaction_id", 1 << 62, 0)
        if found.transaction != expected:
            self._doubt(
                volume.name,
                f"its pool's tables are of transaction {found.transaction}, lvm's are of {expected}: the"
                " guest does not start it so",
            )
        external = segment.text("external_origin")
        origin = self.volume(external) if external else None
        size_bytes = segment.count * self.group.extent_bytes
        return ThinSource(found, data_source, segment.number("device_id", 1 << 24), size_bytes, origin, name)

    def _doubt(self, name: str, problem: str) -> None:
        for above in (name, *self._open):
            self.problems.setdefault(above, problem)

    def describe(self, name: str) -> str:
        """Return how messages name a physical volume: its UUID, and where it was last seen."""
        physical = self.group.physical[name]
        hint = f" (once {physical.hint})" if physical.hint else ""
        return f"physical volume {hyphenated(physical.uuid)}{hint}"

    def _full(self, name: str) -> str:
        return f"{self.group.name}/{name[:128]}"


def hyphenated(uuid: str) -> str:
    """Return an LVM UUID as its tools print it: 6-4-4-4-4-4-6 characters."""
    cuts = (0, 6, 10, 14, 18, 22, 26, 32)
    return "-".join(uuid[start:end] for start, end in pairwise(cuts))


def _slice(source: BlockSource, start: int, length: int, name: str) -> BlockSource:
    if not start and length == source.size_bytes:
        return source
    if start + length > source.size_bytes:
        raise InputError(f"{name}: {length} bytes at {start} lie beyond its end at {source.size_bytes}")
    return SliceSource(source, start, length, name)
