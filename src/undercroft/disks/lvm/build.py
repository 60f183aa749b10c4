"""The logical volumes of a group as sources of bytes, from those of its physical volumes that are there.

Guarantees: a volume either reads as the guest's kernel would read it, or is refused with the reason: a
missing physical volume, a kind that is not supported, metadata that contradicts itself. Volumes in volumes
are followed `MAX_NESTING` deep, never in a circle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from undercroft.disks.lvm.derived import SnapshotSource
from undercroft.disks.lvm.metadata import LogicalVolume, VolumeGroup
from undercroft.disks.lvm.segments import MissingError, source_of
from undercroft.disks.lvm.thinpool import ThinPool
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.stack import Member
from undercroft.disks.striping import ConcatSource, Piece
from undercroft.errors import InputError

MAX_NESTING = 12


@dataclass(slots=True)
class Builder:
    """Builds each volume of a group once.

    Attributes:
        group: its description.
        present: members by the name that the group gives them ("pv0").
        used: by volume, the physical volumes that it lies on.
        problems: by volume, why what is read of it may not be what the guest reads.
        pools: tables of thin pools that were opened, by volume.
    """

    group: VolumeGroup
    present: Mapping[str, Member]
    used: dict[str, set[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    pools: dict[str, ThinPool] = field(default_factory=dict)
    _built: dict[str, BlockSource | InputError] = field(default_factory=dict)
    _open: list[str] = field(default_factory=list)
    _merging: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        snapshots = [
            volume.segments[0] for volume in self.group.logical.values() if volume.kind == "snapshot"
        ]
        # In reverse, so that of several of one origin the first counts.
        self._merging = {
            each.text("origin"): store
            for each in reversed(snapshots)
            if (store := each.text("merging_store"))
        }

    def volume(self, name: str) -> BlockSource:
        """Return the source of a logical volume.

        Raises:
            MissingError: it lies on a physical volume that is not there.
            InputError: its description or its tables are malformed; a circle.
            UnsupportedError: a kind that is not read.
        """
        if name in self._open or len(self._open) >= MAX_NESTING:
            raise InputError(f"lvm {self.full(name)}: volumes that lie in each other, or too deep")
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
            raise InputError(f"lvm {self.full(name)}: the group has no such volume")
        plain = self._concat(volume)
        # A snapshot that is merged back: the guest sees it in its origin's place.
        merging = self._merging.get(name)
        return SnapshotSource(plain, self.volume(merging), f"lvm {self.full(name)}") if merging else plain

    def snapshot(self, store: str, origin: str) -> BlockSource:
        """Return the source of a classic snapshot by its store and its origin. Raises as `volume` does."""
        for each in (store, origin):
            self.volume(each)
            self.used.setdefault(f"snapshot {store}", set()).update(self.used.get(each, ()))
        return SnapshotSource(self.volume(origin), self.volume(store), f"lvm {self.full(store)}")

    def _concat(self, volume: LogicalVolume) -> BlockSource:
        pieces: list[Piece] = []
        for segment in volume.segments:
            length = segment.count * self.group.extent_bytes
            source = source_of(self, volume, segment)
            if source is not None and source.size_bytes < length:
                raise InputError(
                    f"lvm {self.full(volume.name)}: its segment at extent {segment.start} has {length}"
                    f" bytes, what it lies on {source.size_bytes}"
                )
            pieces.append(Piece(length, source, 0))
        if (
            len(pieces) == 1
            and pieces[0].source is not None
            and pieces[0].source.size_bytes == pieces[0].length
        ):
            return pieces[0].source
        return ConcatSource(pieces, f"lvm {self.full(volume.name)}")

    def extents(self, name: str, extent: int, count: int) -> BlockSource:
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
        return _slice(self.volume(name), extent * self.group.extent_bytes, length, f"lvm {self.full(name)}")

    def doubt(self, name: str, problem: str) -> None:
        """Note why what is read of a volume, and of those on it, may not be what the guest reads."""
        for above in (name, *self._open):
            self.problems.setdefault(above, problem)

    def describe(self, name: str) -> str:
        """Return how messages name a physical volume: its UUID, and where it was last seen."""
        physical = self.group.physical[name]
        hint = f" (once {physical.hint})" if physical.hint else ""
        return f"physical volume {hyphenated(physical.uuid)}{hint}"

    def full(self, name: str) -> str:
        """Return how messages name a logical volume: its group's name and its own."""
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
