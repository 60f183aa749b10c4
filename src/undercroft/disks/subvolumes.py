"""Which subvolume of a filesystem a mount shows, and which one is the root of the machine.

Guarantees: a mount option that names a subvolume is honoured or the mount is unread; one without shows the
default one, as in the kernel. Of several subvolumes that hold a system, the one that starts is chosen by
these steps, each of which may narrow the choice down but never empties it; a choice that nothing decides is a
problem, and every other system is told. A snapshot that the caller asks for stands above all:
1. it holds a release file or an fstab;
2. a GRUB menu starts it (`rootflags=subvol=`; none means the default subvolume);
3. its own fstab names it as "/";
4. it is the default subvolume;
5. it is no snapshot;
6. the first by id.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from undercroft.disks.bootroot import read_menus
from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.filesystem import FileSystem, Subvolume, WithSubvolumes
from undercroft.disks.fstab import parse_fstab
from undercroft.disks.subvolumeoptions import named_subvolume
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

MAX_SYSTEMS = 256
"""Subvolumes of one filesystem that are looked at for a system: the default one and the oldest first."""

MAX_SHOWN = 16
MAX_FSTAB_BYTES = 1 << 20
_MARKS = (
    b"/etc/os-release",
    b"/usr/lib/os-release",
    b"/etc/fstab",
    b"/etc/debian_version",
    b"/etc/redhat-release",
    b"/etc/alpine-release",
)


def mounted(filesystem: FileSystem, options: Iterable[str]) -> FileSystem:
    """Return what a mount of `filesystem` with `options` shows.

    Raises:
        NotFoundError: the subvolume that they name does not exist.
        InputError: it is malformed, or its id is no number.
    """
    if not isinstance(filesystem, WithSubvolumes):
        return filesystem
    which = named_subvolume(options)
    number = filesystem.default if which is None else which
    return filesystem if number == filesystem.number else filesystem.subvolume(number)


def contradiction(root: FileSystem, options: Sequence[str]) -> str:
    """Return why a root cannot be what options of "/" name, "" where it is or they name nothing."""
    shown = ",".join(option for option in options if option.startswith(("subvol=", "subvolid=")))
    if not isinstance(root, WithSubvolumes) or not shown:
        return ""
    try:
        found = mounted(root, options)
    except (InputError, NotFoundError) as error:
        return f"names {shown} as /, which cannot be read: {error}"
    if isinstance(found, WithSubvolumes) and found.number != root.number:
        return f"names {shown} as /, and the system in the subvolume with the id {root.number} was read"
    return ""


@dataclass(frozen=True, slots=True)
class Booted:
    """Volumes as a machine has them when it has started.

    Attributes:
        volumes: those with subvolumes show the one that is the root, if any is.
        snapshots: of such a volume, the snapshots that hold a system, by their ids.
    """

    volumes: tuple[OpenVolume, ...]
    snapshots: Mapping[OpenVolume, tuple[Subvolume, ...]]


def as_booted(volumes: Sequence[OpenVolume], wanted: tuple[str, int] | None = None) -> Booted:
    """Return the volumes with the subvolumes that start.

    Args:
        volumes: of a machine.
        wanted: a volume's name and the id of a subvolume in it that is looked at in place of the one that
            starts.

    Raises:
        InputError: there is no such volume, or no such subvolume in it.
    """
    shown: list[OpenVolume] = []
    snapshots: dict[OpenVolume, tuple[Subvolume, ...]] = {}
    for volume in volumes:
        if not isinstance(volume.filesystem, WithSubvolumes):
            shown.append(volume)
        elif wanted and volume.name == wanted[0]:
            shown.append(_asked_for(volume, volume.filesystem, wanted[1]))
            wanted = None
        else:
            choice = _Choice(volume, volume.filesystem, volumes)
            shown.append(choice.chosen())
            snapshots[shown[-1]] = choice.snapshots
    if wanted:
        raise InputError(f"{wanted[0]}: it has no subvolume {wanted[1]}")
    return Booted(tuple(shown), snapshots)


def _asked_for(volume: OpenVolume, opened: WithSubvolumes, number: int) -> OpenVolume:
    try:
        view = opened.subvolume(number, notes=(f"subvolume with the id {number}",))
    except NotFoundError as error:
        raise InputError(f"{volume.name}: {error}") from error
    return replace(volume, filesystem=view)


class _Choice:
    """The choice among the subvolumes of one volume.

    Attributes:
        snapshots: those with a system, but for the chosen one, by their ids.
    """

    def __init__(self, volume: OpenVolume, opened: WithSubvolumes, volumes: Sequence[OpenVolume]) -> None:
        self._volume = volume
        self._opened = opened
        self._volumes = volumes
        self._problems: list[str] = []
        self._doubts: list[str] = []
        self._names: dict[int, str] = {}
        self._listed: list[Subvolume] = []
        self.snapshots: tuple[Subvolume, ...] = ()

    def chosen(self) -> OpenVolume:
        """Return the volume with the subvolume that is the root; what is malformed is told."""
        try:
            systems = self._systems()
        except InputError as error:
            told = (f"its subvolumes cannot be listed: {error}",)
            return replace(
                self._volume, filesystem=self._opened.subvolume(self._opened.number, problems=told)
            )
        if not systems:
            return self._without_system()
        signs = (self._started(systems).__contains__, self._names_itself, self._opened.default.__eq__)
        found = list(systems)
        for sign in signs:
            found = _narrow(found, sign)
        found = _narrow(found, lambda number: not systems[number][0].parent_uuid)
        is_decided = any(sign(found[0]) for sign in signs)
        if not is_decided:
            self._problems += self._doubts
        if len(found) > 1:
            names = self._show(found)
            self._problems.append(
                f"several subvolumes ({names}) hold a system and nothing says which one starts: "
                f"{self._names[found[0]]} was read"
            )
        notes = [*self._notes(found[0], systems), *(self._doubts if is_decided else ())]
        view = systems[found[0]][1].subvolume(found[0], notes=notes, problems=self._problems)
        return replace(self._volume, filesystem=view)

    def _without_system(self) -> OpenVolume:
        """Return the volume as it is, and tell of subvolumes that could not be asked: one may hold a system.

        No problem by itself: a machine without a root has one, and beside a root elsewhere they are data.
        """
        if not self._doubts:
            return self._volume
        view = self._opened.subvolume(self._opened.number, notes=self._doubts)
        return replace(self._volume, filesystem=view)

    def _systems(self) -> dict[int, tuple[Subvolume, WithSubvolumes]]:
        """Return the subvolumes that hold a system, the default one first."""
        listed = self._opened.subvolumes()
        listed.sort(
            key=lambda each: (each.number != self._opened.default, bool(each.parent_uuid), each.number)
        )
        self._listed = listed
        if len(listed) > MAX_SYSTEMS:
            self._doubts.append(
                f"{len(listed)} subvolumes, of which {MAX_SYSTEMS} were looked at for a system"
            )
        systems: dict[int, tuple[Subvolume, WithSubvolumes]] = {}
        for each in listed[:MAX_SYSTEMS]:
            name = text(each.path) if each.path else "the top level"
            self._names[each.number] = name
            try:
                view = self._opened.subvolume(each.number)
                if _is_system(view):
                    systems[each.number] = (each, view)
            except (InputError, NotFoundError) as error:
                self._doubts.append(f"the subvolume {name} is too damaged to tell what it holds: {error}")
        return systems

    def _started(self, systems: dict[int, tuple[Subvolume, WithSubvolumes]]) -> set[int]:
        """Return the ids of what the menus start, those on other volumes and those in the systems."""
        inside = [replace(self._volume, filesystem=view) for _, view in systems.values()]
        others = [volume for volume in self._volumes if volume is not self._volume]
        started = set()
        for root in read_menus([*others, self._volume, *inside]).roots:
            if self._volume not in find_volumes(parse_device(root.device), self._volumes):
                continue
            try:
                shown = mounted(self._opened, root.options)
            except (InputError, NotFoundError) as error:
                told = f"{root.menu}: starts a subvolume that cannot be read: {error}"
                if told not in self._problems:
                    self._problems.append(told)
                continue
            if isinstance(shown, WithSubvolumes):
                started.add(shown.number)
                if shown.number not in systems:
                    told = (
                        f"{root.menu}: starts the subvolume with the id {shown.number}, which holds no system"
                    )
                    self._problems.append(told)
        return started

    def _names_itself(self, number: int) -> bool:
        try:
            view = self._opened.subvolume(number)
            fstab = parse_fstab(GuestTree(view).read(b"/etc/fstab", MAX_FSTAB_BYTES))
            root = next((entry for entry in fstab.entries if entry.point == b"/"), None)
            if root is None or self._volume not in find_volumes(parse_device(root.device), self._volumes):
                return False
            shown = mounted(view, root.options)
        except (InputError, NotFoundError):
            return False
        return isinstance(shown, WithSubvolumes) and shown.number == number

    def _notes(self, chosen: int, systems: dict[int, tuple[Subvolume, WithSubvolumes]]) -> list[str]:
        notes = [f"subvolume: {self._names[chosen]}"]
        family = self._family(chosen)
        snapshots = [
            number
            for number, (each, _) in systems.items()
            if each.parent_uuid and number != chosen and number in family
        ]
        self.snapshots = tuple(systems[number][0] for number in sorted(snapshots))
        others = [number for number in systems if number != chosen and number not in snapshots]
        if snapshots:
            notes.append(f"snapshots with a system, not in this inventory: {self._show(snapshots)}")
        if others:
            notes.append(f"other subvolumes with a system, not in this inventory: {self._show(others)}")
        return notes

    def _family(self, chosen: int) -> set[int]:
        """Return the ids of what a subvolume was taken from, or was taken from it, directly or not.

        The layers of containers are snapshots with systems, too, but none of this one.
        """
        kin: dict[str, set[int]] = {}
        for each in self._listed:
            for uuid in filter(None, (each.uuid, each.parent_uuid)):
                kin.setdefault(uuid, set()).add(each.number)
        uuids = {each.number: (each.uuid, each.parent_uuid) for each in self._listed}
        family: set[int] = set()
        pending = [chosen]
        while pending:
            number = pending.pop()
            if number not in family:
                family.add(number)
                for uuid in uuids[number]:
                    pending += kin.pop(uuid, ())
        return family

    def _show(self, numbers: Sequence[int]) -> str:
        more = f" and {len(numbers) - MAX_SHOWN} more" if len(numbers) > MAX_SHOWN else ""
        return ", ".join(self._names[number] for number in numbers[:MAX_SHOWN]) + more


def _narrow(numbers: list[int], is_preferred: Callable[[int], bool]) -> list[int]:
    if len(numbers) < 2:
        return numbers
    return [number for number in numbers if is_preferred(number)] or numbers


def _is_system(view: WithSubvolumes) -> bool:
    """Return whether a release file or an fstab lies in it; a dangling link counts (a separate /usr)."""
    tree = GuestTree(view)
    for mark in _MARKS:
        try:
            tree.stat(mark, follow=False)
        except NotFoundError:
            continue
        return True
    return False
