"""One machine from its disks: its volumes, its root, its mounts, and how much of it could be read.

Guarantees: `open_machine` raises for no content of a disk. What could not be read is in `Coverage`:
among the problems where it may hold software, else among the notes, and every volume is listed with
what became of it. A machine without a readable root has no tree, and the problem says what was found.

    >>> machine = open_machine([("vda", source), ("vdb", UnreadDisk("encrypted with LUKS"))])
    >>> machine.tree.read(b"/etc/hostname", limit=4096)
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from undercroft.disks.crypttab import named_by_crypttabs
from undercroft.disks.detect import open_filesystem
from undercroft.disks.keys import Keys
from undercroft.disks.live import Live, find_live
from undercroft.disks.mounts import MountedTree, assemble
from undercroft.disks.opening import open_volumes
from undercroft.disks.overlays import layers_over
from undercroft.disks.rootchoice import RootChoice, choose_root
from undercroft.disks.softwarepaths import may_hold_software
from undercroft.disks.source import BlockSource
from undercroft.disks.subvolumes import Booted, as_booted
from undercroft.disks.text import raw, text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import DiskSet, Opener, OpenVolume, UnreadDisk
from undercroft.model.disk import Coverage
from undercroft.model.job import GuestSnapshot, SubvolumeInput

__all__ = ["Machine", "UnreadDisk", "open_machine"]

MAX_NAMED_VOLUMES = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is ready to be read.

    Attributes:
        tree: its files, None when no root could be read.
        coverage: what the tree rests on.
        unread: where the guest mounts what was not read: the tree has other or no files there.
        snapshots: what the guest itself took of its root (btrfs).
    """

    tree: GuestTree | None
    coverage: Coverage
    unread: tuple[bytes, ...] = ()
    snapshots: tuple[GuestSnapshot, ...] = ()


def open_machine(
    disks: Sequence[tuple[str, BlockSource | UnreadDisk]],
    opener: Opener = open_filesystem,
    keys: Keys | None = None,
    subvolume: SubvolumeInput | None = None,
) -> Machine:
    """Return the machine that `disks` make up, each a (name, source) in the machine's own order.

    Args:
        disks: names as the machine's kernel gives them ("vda"); sources are untrusted content.
        opener: opens a filesystem by its content; raises InputError or UnsupportedError.
        keys: for encrypted volumes.
        subvolume: to be the root in place of the one that starts, all else as it is now: one of
            `Machine.snapshots`.

    Raises InputError where there is no such subvolume.
    """
    opened = open_volumes(disks, opener, keys)
    booted = _booted(opened.volumes, subvolume)
    opened = replace(opened, volumes=booted.volumes)
    choice = choose_root(opened.volumes)
    live = None if choice.root else find_live(opened.volumes, choice.unreadable, opener, keys)
    if live is not None:
        told = {"notes": (*opened.notes, *live.notes), "problems": (*opened.problems, *live.problems)}
        opened = replace(opened, volumes=live.volumes, **told)
        choice = replace(choice, root=live.root)
    elif choice.root is None:
        choice = choose_root(opened.volumes, with_discs=True)
    if choice.root is None:
        return Machine(None, _without_root(opened, choice, disks))
    mounted = assemble(choice.root, opened.volumes, is_asked_for=subvolume is not None)
    snapshots = tuple(
        GuestSnapshot(choice.root.name, each.number, text(each.path), each.created_at_s)
        for each in booted.snapshots.get(choice.root, ())
    )
    coverage = _coverage(opened, choice, mounted, live)
    return Machine(mounted.tree, coverage, tuple(mounted.unread), snapshots)


def _booted(volumes: Sequence[OpenVolume], subvolume: SubvolumeInput | None) -> Booted:
    """Return the volumes as they boot; a crypttab lies in a subvolume, and names what an fstab means."""
    wanted = (subvolume.volume, subvolume.number) if subvolume else None
    booted = as_booted(volumes, wanted)
    named = named_by_crypttabs(booted.volumes)
    is_same = all(new is old for new, old in zip(named, booted.volumes, strict=True))
    return booted if is_same else as_booted(named, wanted)


def _without_root(
    opened: DiskSet, choice: RootChoice, disks: Sequence[tuple[str, BlockSource | UnreadDisk]]
) -> Coverage:
    """Return why there is no root: first the disks that could not be opened, which may well hold it."""
    unread = {name: disk.reason for name, disk in disks if isinstance(disk, UnreadDisk)}
    volumes = tuple(volume.describe(damage=choice.unreadable.get(volume, "")) for volume in opened.volumes)
    if len(disks) == len(unread) == 1:
        return Coverage(volumes, tuple(unread.values()), opened.notes)
    problems = [*(f"{name}: {reason}" for name, reason in unread.items()), *opened.problems]
    found = [
        f"{volume.name}: {_why_no_root(volume, choice)}"
        for volume in opened.volumes
        if volume.disk not in unread
    ]
    if found or not problems:
        more = f"; and {len(found) - MAX_NAMED_VOLUMES} more" if len(found) > MAX_NAMED_VOLUMES else ""
        listing = "; ".join(found[:MAX_NAMED_VOLUMES]) or "there is no disk"
        problems.append(f"no root filesystem was found: {listing}{more}")
    problems += [flaw for volume in opened.volumes for flaw in _filesystem_problems(volume)]
    return Coverage(volumes, tuple(problems), opened.notes)


def _why_no_root(volume: OpenVolume, choice: RootChoice) -> str:
    return volume.reason or choice.unreadable.get(volume) or f"{volume.kind} without a system"


def _coverage(opened: DiskSet, choice: RootChoice, mounted: MountedTree, live: Live | None) -> Coverage:
    used = live.used if live else {}
    unused = [volume for volume in opened.volumes if volume not in used]
    layers, no_layers = layers_over(choice.root, unused, is_live=bool(live)) if choice.root else ([], [])
    problems = [*opened.problems, *choice.problems, *mounted.problems, *layers]
    notes = [*opened.notes, *mounted.notes, *no_layers]
    volumes = []
    for volume in opened.volumes:
        points = mounted.points.get(volume, [])
        remark = ""
        if volume in choice.others:
            remark = "another system, not in this inventory" if not points else "also looks like a system"
            notes.append(f"{volume.name}: {remark}")
        elif not points and volume.applicable:
            remark = used.get(volume, "not mounted")
        volumes.append(volume.describe(points, remark, choice.unreadable.get(volume, "")))
        if volume.content.note:
            notes.append(f"{volume.name}: {volume.content.note}")
        flaws = _filesystem_problems(volume)
        uses_it = any(may_hold_software(raw(point)) for point in points)
        (problems if uses_it else notes).extend(flaws)
    return Coverage(tuple(volumes), tuple(problems), tuple(notes))


def _filesystem_problems(volume: OpenVolume) -> list[str]:
    """What the filesystem's reader could not make sense of when it opened it (a broken journal)."""
    return [f"{volume.name}: {problem}" for problem in getattr(volume.filesystem, "problems", ())]
