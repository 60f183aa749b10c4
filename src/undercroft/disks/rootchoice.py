"""Which of a machine's filesystems is its root.

Guarantees: a choice between several systems is never silent. Every filesystem that looks like a system
is named in the answer. A problem is: a choice that nothing on the disks decides, a filesystem that is
too damaged to tell whether it holds a system, and a boot menu or a partition type that speaks of
another root than the chosen one, readable or not.

The steps, each of which may narrow the candidates down but never empties them:
1. a candidate has /etc with an os-release, an fstab or an older release file, or the registry of Windows;
2. its own fstab names it as "/";
3. a GRUB menu on any readable filesystem starts its default entry with it (`root=`);
4. its partition has a root type of the Discoverable Partitions Specification;
5. the first in the order of disks and partitions, with a problem.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from undercroft.disks.bootroot import RootArgument, read_menus
from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.filesystem import FileSystem
from undercroft.disks.fstab import parse_fstab
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import DISC, OpenVolume
from undercroft.errors import InputError, NotFoundError

MAX_FSTAB_BYTES = 1 << 20
MAX_SHOWN_CHARS = 200

ROOT_TYPES = frozenset(
    {
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",  # x86-64
        "44479540-f297-41b2-9af7-d131d5f0458a",  # x86
        "b921b045-1df0-41c3-af44-4c6f280d3fae",  # arm64
        "69dad710-2ce4-4e3c-b16c-21a1d49abed3",  # arm
        "72ec70a6-cf74-40e6-bd49-4bda08e8f224",  # riscv64
    }
)


_SYSTEM_MARKS = (
    b"etc/os-release",
    b"usr/lib/os-release",
    b"etc/fstab",
    b"etc/debian_version",
    b"etc/redhat-release",
    b"etc/alpine-release",
    b"bin/freebsd-version",
    b"Windows/System32/config/SOFTWARE",
)


@dataclass(frozen=True, slots=True)
class RootChoice:
    """The chosen root and why it may be the wrong one.

    Attributes:
        root: the chosen one, None where no readable filesystem looks like a system.
        others: what else looks like a system and could be read.
        unreadable: filesystems too damaged to tell what they are to the machine, with the reason.
        problems: why the choice is doubtful; one for each of `unreadable`.
    """

    root: OpenVolume | None
    others: tuple[OpenVolume, ...] = ()
    unreadable: Mapping[OpenVolume, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def choose_root(volumes: Sequence[OpenVolume], *, with_discs: bool = False) -> RootChoice:
    """Return the root among `volumes`. Raises for no content: what is malformed is in the problems.

    With `with_discs` one that lies as it is on an ISO 9660 counts too: some do, where nothing else starts.
    """
    unreadable: dict[OpenVolume, str] = {}
    asked = [volume for volume in volumes if with_discs or volume.kind != DISC]
    candidates = _keep(is_system, asked, unreadable)
    if not candidates:
        return RootChoice(None, (), unreadable, tuple(_unreadable_problems(unreadable)))
    by_fstab = _keep(lambda volume: _names_itself_root(volume, volumes), candidates, unreadable)
    remaining = _narrow(candidates, by_fstab)
    menus = read_menus(volumes)
    started = [volume for root in menus.roots for volume in _named_by(root, volumes)]
    if len(remaining) > 1:
        remaining = _narrow(remaining, started)
    if len(remaining) > 1:
        remaining = _narrow(remaining, [volume for volume in remaining if volume.type_id in ROOT_TYPES])
    root = remaining[0]
    unreadable.pop(root, None)  # its fstab cannot be read: whoever mounts it says so
    problems = [*_unreadable_problems(unreadable), *menus.problems]
    if len(remaining) > 1:
        names = ", ".join(volume.name for volume in remaining)
        problems.append(
            f"several systems ({names}) and nothing that says which one starts: {root.name} was read"
        )
    problems += _contradictions(root, menus.roots, volumes)
    others = tuple(volume for volume in candidates if volume is not root and volume not in unreadable)
    return RootChoice(root, others, unreadable, tuple(problems))


def _keep(
    question: Callable[[OpenVolume], bool],
    volumes: Sequence[OpenVolume],
    unreadable: dict[OpenVolume, str],
) -> list[OpenVolume]:
    """Return the volumes that answer yes; those that cannot be asked end up in `unreadable`."""
    kept: list[OpenVolume] = []
    for volume in volumes:
        try:
            if question(volume):
                kept.append(volume)
        except InputError as error:
            unreadable[volume] = str(error)
    return kept


def _narrow(volumes: list[OpenVolume], preferred: Sequence[OpenVolume]) -> list[OpenVolume]:
    return [volume for volume in volumes if volume in preferred] or volumes


def is_system(volume: OpenVolume) -> bool:
    """Return whether a release file or an fstab lies in it; a dangling link counts (a separate /usr).

    Raises:
        InputError: none was found, and a directory that may hold one is malformed.
    """
    if volume.filesystem is None:
        return False
    damage: InputError | None = None
    for path in _SYSTEM_MARKS:
        try:
            if _holds(volume.filesystem, path):
                return True
        except InputError as error:
            damage = damage or error
    if damage:
        raise damage
    return False


def _holds(filesystem: FileSystem, path: bytes) -> bool:
    """Return whether `path` is there, its own link not followed. Raises InputError as lookups do."""
    node: int | None = filesystem.root
    for name in path.split(b"/"):
        node = None if node is None else filesystem.lookup(node, name)
    return node is not None


def _names_itself_root(volume: OpenVolume, volumes: Sequence[OpenVolume]) -> bool:
    """Return whether its fstab names it as "/". Raises InputError where the fstab cannot be read."""
    if volume.filesystem is None:
        return False
    try:
        fstab = GuestTree(volume.filesystem).read(b"/etc/fstab", MAX_FSTAB_BYTES)
    except NotFoundError:
        return False
    roots = [entry for entry in parse_fstab(fstab).entries if entry.point == b"/"]
    return bool(roots) and volume in find_volumes(parse_device(roots[0].device), volumes)


def _named_by(argument: RootArgument, volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    return find_volumes(parse_device(argument.device), volumes)


def _unreadable_problems(unreadable: Mapping[OpenVolume, str]) -> Iterator[str]:
    for volume, reason in unreadable.items():
        yield f"{volume.name}: too damaged to tell whether it holds the system that starts: {reason}"


def _contradictions(
    root: OpenVolume, arguments: Sequence[RootArgument], volumes: Sequence[OpenVolume]
) -> Iterator[str]:
    """Yield what says that another root than the chosen one starts."""
    for argument in arguments:
        named = _named_by(argument, volumes)
        if root in named or argument.device == b"/dev/root":
            continue
        found = ", ".join(map(_describe, named)) or "which is on none of the volumes that were read"
        shown = text(argument.device)[:MAX_SHOWN_CHARS]
        yield f"{argument.menu}: starts {shown} ({found}), and the system on {root.name} was read"
    for volume in volumes:
        is_typed = volume.type_id in ROOT_TYPES and volume.applicable and volume is not root
        if is_typed and (volume.filesystem is None or root.type_id not in ROOT_TYPES):
            typed = f"{_describe(volume)} is a root by its partition type"
            yield f"{typed}, and the system on {root.name} was read"


def _describe(volume: OpenVolume) -> str:
    return volume.name if volume.filesystem else f"{volume.name}, not read: {volume.reason[:MAX_SHOWN_CHARS]}"
