"""The root of a live system: its images opened like any other volume, and laid one over the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from undercroft.disks.filesystem import FileKind
from undercroft.disks.keys import Keys
from undercroft.disks.live.filesource import FileSource
from undercroft.disks.live.kinds import Plan, plan_for
from undercroft.disks.live.persistence import find_persistence
from undercroft.disks.magics import Content
from undercroft.disks.opening import open_volumes
from undercroft.disks.overlay import Layer, Overlay
from undercroft.disks.rootchoice import is_system
from undercroft.disks.stack import Device
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import DISC, Opener, OpenVolume
from undercroft.errors import InputError, NotFoundError

MERGED = "overlay"
"""The name of the volume that the layers make up."""

MAX_MEDIA = 4
"""Volumes that are looked at for a live system; a machine has one or two."""

_DOUBT = "was not read and may hold the system that starts"

MIN_SYSTEM_BYTES = 1 << 20
"""No system fits into less; xorriso fills gaps of a hybrid image's table with partitions of some 300 KiB."""


@dataclass(slots=True)
class Live:
    """A live system.

    Attributes:
        root: its root, None where a part of it cannot be read.
        volumes: all of the machine, those in files of the medium behind the others.
        problems: why the root is missing or may be another one.
        notes: where it lies.
        used: volumes that are not mounted and belong to it all the same, with what they do.
    """

    root: OpenVolume | None
    volumes: tuple[OpenVolume, ...]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: dict[OpenVolume, str] = field(default_factory=dict)


def find_live(
    volumes: Sequence[OpenVolume],
    damaged: Mapping[OpenVolume, str],
    opener: Opener,
    keys: Keys | None = None,
) -> Live | None:
    """Return the live system on a machine's volumes, None where there is none.

    Args:
        volumes: of a machine that has no ordinary root.
        damaged: those of which nobody can tell whether they hold one, with the reason.
        opener: opens a filesystem by its content.
        keys: for encrypted volumes.
    """
    media = _media([each for each in volumes if each not in damaged])
    found: list[tuple[OpenVolume, Live]] = []
    for medium, plan in media:
        unread = [
            each
            for each in volumes
            if each.applicable
            and (each.filesystem is None or each in damaged)
            and not _is_part_of(medium, each)
        ]
        live = _beside(medium, unread, volumes) or _built(medium, plan, volumes, opener, keys)
        if live is not None:
            if live.root is not None:
                live.problems += [f"{each.name} {_DOUBT}" for each in unread]
            found.append((medium, live))
    if not found:
        return None
    live = next((live for _, live in found if live.root is not None), found[0][1])
    if len(found) > 1:
        names = ", ".join(medium.name for medium, _ in found)
        live.problems.append(f"several live systems ({names}) and nothing that says which one starts")
    return live


def _beside(medium: OpenVolume, unread: Sequence[OpenVolume], volumes: Sequence[OpenVolume]) -> Live | None:
    """Return why a live system is left alone beside what was not read, None where it is not."""
    for each in unread:
        if each.disk_order != medium.disk_order:
            told = f"{medium.name}: its live system was left alone: {each.name} {_DOUBT}"
            return Live(None, tuple(volumes), [], [told])
    return None


def _built(
    medium: OpenVolume,
    plan: Plan | InputError,
    volumes: Sequence[OpenVolume],
    opener: Opener,
    keys: Keys | None,
) -> Live | None:
    """Return the live system of a medium, None where its images hold something else."""
    if isinstance(plan, InputError):
        return Live(None, tuple(volumes), [f"{medium.name}: its live system cannot be read: {plan}"])
    live = _Building(medium, volumes, opener, keys).build(plan)
    try:
        if live.root is not None and not is_system(live.root):
            return None  # whoever looks for a root says that there is none
    except InputError as error:
        live.problems.append(f"{medium.name}: whether its images hold a live system is unknown: {error}")
    return live


def _is_part_of(medium: OpenVolume, volume: OpenVolume) -> bool:
    """Whether a partition lies in the disc, or in the padding behind it: boot images, and what fills gaps."""
    part = volume.partition
    if part is None or volume.disk != medium.disk or medium.partition is not None:
        return False
    end = getattr(medium.filesystem, "claimed_bytes", 0)
    return part.start_bytes + part.size_bytes <= end or (bool(end) and volume.size_bytes < MIN_SYSTEM_BYTES)


def _media(volumes: Sequence[OpenVolume]) -> list[tuple[OpenVolume, Plan | InputError]]:
    """Return the volumes that hold a live system, with its plan or why that is not known."""
    found: list[tuple[OpenVolume, Plan | InputError]] = []
    for volume in volumes:
        if volume.filesystem is None or not volume.applicable or len(found) >= MAX_MEDIA:
            continue
        if any(_is_same_disc(volume, other) for other, _ in found):
            continue
        try:
            plan = plan_for(GuestTree(volume.filesystem))
        except InputError as error:
            found.append((volume, error))
        else:
            if plan:
                found.append((volume, plan))
    return found


def _is_same_disc(volume: OpenVolume, other: OpenVolume) -> bool:
    """Whether two volumes of one disk show the same disc: a hybrid image may have a tree for each."""
    kinds, ids = {volume.kind, other.kind}, {volume.content.uuid, other.content.uuid}
    return volume.disk == other.disk and kinds == {DISC} and len(ids) == 1 and ids != {""}


class _Building:
    """One live system as it is put together."""

    def __init__(
        self, medium: OpenVolume, volumes: Sequence[OpenVolume], opener: Opener, keys: Keys | None
    ) -> None:
        self._medium = medium
        self._volumes = list(volumes)
        self._opener = opener
        self._keys = keys
        self._parts: list[OpenVolume] = []
        self._problems: list[str] = []

    def build(self, plan: Plan) -> Live:
        """Return the live system; without a root where a layer cannot be read."""
        problems = self._problems
        for problem in (*plan.problems, *getattr(self._medium.filesystem, "problems", ())):
            problems.append(f"{self._medium.name}: {problem}")
        kept = find_persistence(plan.title, plan.words, self._volumes)
        problems += kept.problems
        names = ", ".join(text(path) for path in plan.layers)
        notes = [f"live system ({plan.title}): {names} on {self._medium.name}", *kept.notes]
        try:
            layers = [self._layer(path, plan.inner) for path in plan.layers]
            if kept.layer is not None:
                layers.insert(0, kept.layer)
            root = self._merged(layers) if len(layers) > 1 or not self._parts else self._parts[-1]
        except (InputError, NotFoundError) as error:
            problems.append(f"{self._medium.name}: its live system cannot be read: {error}")
            return Live(None, (*self._volumes, *self._parts), problems, notes)
        parts = self._parts if root in self._parts else [*map(_as_part, self._parts), root]
        used = {self._medium: "holds the live system"}
        if kept.volume is not None:
            used[kept.volume] = "holds what the live system keeps"
        return Live(root, (*self._volumes, *parts), problems, notes, used)

    def _layer(self, path: bytes, inner: Sequence[bytes]) -> Layer:
        if self._medium.filesystem is None:
            raise InputError(f"{self._medium.name} was not read")
        filesystem, node = GuestTree(self._medium.filesystem).file(path)
        if filesystem.stat(node).kind is FileKind.DIRECTORY:
            return Layer(filesystem, node)
        volume = self._open(self._medium, path, node)
        if volume.filesystem is None:
            raise InputError(f"{volume.name}: {volume.reason}")
        for inside in inner:
            tree = GuestTree(volume.filesystem)
            if tree.exists(inside):
                filesystem, node = tree.file(inside)
                self._parts[-1] = _as_part(volume)
                volume = self._open(volume, inside, node)
                break
        if volume.filesystem is None:
            raise InputError(f"{volume.name}: {volume.reason}")
        return Layer(volume.filesystem, volume.filesystem.root)

    def _open(self, outer: OpenVolume, path: bytes, node: int) -> OpenVolume:
        """Return a file as a volume, looked at like any other."""
        name = f"{outer.name}{text(path)}"
        if outer.filesystem is None:
            raise InputError(f"{outer.name} was not read")
        source = FileSource(outer.filesystem, node, name)
        found = open_volumes([(name, source)], self._opener, self._keys)
        self._problems += found.problems
        volume = next((each for each in found.volumes if each.filesystem), found.volumes[0])
        volume = replace(
            volume,
            disk_order=self._medium.disk_order,
            device=Device(name, (), (), source.size_bytes, source),
            members=(outer.name,),
        )
        self._parts.append(volume)
        return volume

    def _merged(self, layers: Sequence[Layer]) -> OpenVolume:
        size = sum(part.size_bytes for part in self._parts)
        return OpenVolume(
            MERGED,
            self._medium.disk_order,
            None,
            size,
            Content(MERGED),
            Overlay(layers),
            device=Device(MERGED, (), (), size),
            members=tuple(part.name for part in self._parts),
        )


def _as_part(volume: OpenVolume) -> OpenVolume:
    return replace(volume, applicable=False, reason="part of the live system's root")
