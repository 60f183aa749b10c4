"""The order in which a guest's mounts are made."""

from collections.abc import Iterable

from undercroft.disks.fstab import MountEntry, normalize
from undercroft.disks.overlay import parse_options
from undercroft.disks.softwarepaths import below
from undercroft.errors import InputError


def in_order(entries: Iterable[MountEntry]) -> list[MountEntry]:
    """Return the entries so that each comes after those that its point and its source lie in.

    A circle (two binds into one another) is cut at the entry that closes it.
    """
    entries = list(entries)
    ordered: list[MountEntry] = []
    entered: set[int] = set()

    def visit(position: int) -> None:
        if position in entered:
            return
        entered.add(position)
        needs = [entries[position].point]
        needs += [normalize(folder) + b"/." for folder in _sources(entries[position])]
        if entries[position].device.startswith(b"/"):
            needs.append(normalize(entries[position].device))  # an image file
        for other, entry in enumerate(entries):
            if other != position and any(below(path, (entry.point,)) for path in needs):
                visit(other)
        ordered.append(entries[position])

    for position in range(len(entries)):
        visit(position)
    return ordered


def _sources(entry: MountEntry) -> tuple[bytes, ...]:
    """Return the folders of the tree that an entry shows elsewhere."""
    if entry.is_bind:
        return (entry.device,)
    try:
        return parse_options(entry.options).folders if entry.fs_type == "overlay" else ()
    except InputError:
        return ()
