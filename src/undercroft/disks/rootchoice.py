"""Which of a machine's filesystems is its root.

Guarantees: a choice between several systems is never silent. Every filesystem that looks like a system
is named in the answer, and a choice that nothing on the disks decides is a problem.

The steps, each of which may narrow the candidates down but never empties them:
1. a candidate has /etc with an os-release, an fstab or an older release file;
2. its own fstab names it as "/";
3. a GRUB menu on any readable filesystem starts its default entry with it (`root=`);
4. its partition has a root type of the Discoverable Partitions Specification;
5. the first in the order of disks and partitions, with a problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.fstab import parse_fstab
from undercroft.disks.grub import (
    MAX_CONFIG_BYTES,
    MAX_ENVIRONMENT_BYTES,
    default_entry,
    parse_config,
    parse_environment,
)
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

MAX_FSTAB_BYTES = 1 << 20
MAX_GRUB_MENUS = 4

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
)
_GRUB_FOLDERS = (b"/boot/grub", b"/boot/grub2", b"/grub", b"/grub2")


@dataclass(frozen=True, slots=True)
class RootChoice:
    """The chosen root, what else looks like a system, and why the choice is doubtful."""

    root: OpenVolume | None
    others: tuple[OpenVolume, ...] = ()
    problems: tuple[str, ...] = ()


def choose_root(volumes: Sequence[OpenVolume]) -> RootChoice:
    """Return the root among `volumes`. Malformed files on one of them only take away its say."""
    candidates = [volume for volume in volumes if _is_system(volume)]
    if not candidates:
        return RootChoice(None)
    remaining = _narrow(candidates, [volume for volume in candidates if _names_itself_root(volume, volumes)])
    if len(remaining) > 1:
        remaining = _narrow(remaining, _started_by_grub(volumes))
    if len(remaining) > 1:
        remaining = _narrow(remaining, [volume for volume in remaining if volume.type_id in ROOT_TYPES])
    root = remaining[0]
    problems: tuple[str, ...] = ()
    if len(remaining) > 1:
        names = ", ".join(volume.name for volume in remaining)
        problems = (
            f"several systems ({names}) and nothing that says which one starts: {root.name} was read",
        )
    return RootChoice(root, tuple(volume for volume in candidates if volume is not root), problems)


def _narrow(volumes: list[OpenVolume], preferred: Sequence[OpenVolume]) -> list[OpenVolume]:
    return [volume for volume in volumes if volume in preferred] or volumes


def _is_system(volume: OpenVolume) -> bool:
    """Whether a release file or an fstab lies in it; a dangling link counts (a separate /usr)."""
    filesystem = volume.filesystem
    if filesystem is None:
        return False
    try:
        for path in _SYSTEM_MARKS:
            node: int | None = filesystem.root
            for name in path.split(b"/"):
                node = None if node is None else filesystem.lookup(node, name)
            if node is not None:
                return True
    except InputError:
        return False
    return False


def _names_itself_root(volume: OpenVolume, volumes: Sequence[OpenVolume]) -> bool:
    text = _read(volume, b"/etc/fstab", MAX_FSTAB_BYTES)
    roots = [entry for entry in parse_fstab(text).entries if entry.point == b"/"]
    return bool(roots) and volume in find_volumes(parse_device(roots[0].device), volumes)


def _started_by_grub(volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    """Return the volumes that the default entries of all readable GRUB menus name as root."""
    started: list[OpenVolume] = []
    menus = 0
    for volume in volumes:
        for folder in _GRUB_FOLDERS:
            text = _read(volume, folder + b"/grub.cfg", MAX_CONFIG_BYTES)
            if text and menus < MAX_GRUB_MENUS:
                menus += 1
                started += find_volumes(parse_device(_root_argument(text, volume, folder)), volumes)
    return started


def _root_argument(config: bytes, volume: OpenVolume, folder: bytes) -> bytes:
    """Return what the menu's default entry passes as `root=`, b"" where it cannot be told."""
    try:
        block = _read(volume, folder + b"/grubenv", MAX_ENVIRONMENT_BYTES)
        entry = default_entry(parse_config(config), parse_environment(block) if block else {})
    except InputError:
        return b""
    return entry.root.encode("utf-8", "surrogateescape") if entry else b""


def _read(volume: OpenVolume, path: bytes, limit: int) -> bytes:
    if volume.filesystem is None:
        return b""
    try:
        return GuestTree(volume.filesystem).read(path, limit)
    except (InputError, NotFoundError):
        return b""
