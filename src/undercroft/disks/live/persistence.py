"""What a live system keeps of its changes: a volume that live-boot lays over the root (persistence.conf(5)).

Guarantees: what such a volume holds is applied, or a problem says that it was not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from undercroft.disks.filesystem import FileKind
from undercroft.disks.fstab import normalize
from undercroft.disks.overlay import Layer
from undercroft.disks.softwarepaths import may_hold_software
from undercroft.disks.text import raw, text
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

LABEL = "persistence"
CASPER_LABELS = ("casper-rw", "writable")
CONFIG = b"/persistence.conf"
_OWN_NAMES = {b"persistence.conf", b"lost+found", b"work"}
MAX_CONFIG_BYTES = 64 << 10
MAX_LINES = 256


@dataclass(slots=True)
class Persistence:
    """Changes that are kept.

    Attributes:
        layer: to be laid over the root, None for none.
        volume: that it lies on.
        problems: what may change software and was not applied.
        notes: what was applied, and what changes no software.
    """

    layer: Layer | None = None
    volume: OpenVolume | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_persistence(title: str, words: frozenset[str], volumes: Sequence[OpenVolume]) -> Persistence:
    """Return what is kept of a live system's changes on `volumes`.

    Args:
        title: of what starts it ("live-boot").
        words: of its boot lines.
        volumes: of the machine, the medium's among them.
    """
    found = Persistence()
    labels = (LABEL,) if title == "live-boot" else CASPER_LABELS if title == "casper" else ()
    named = [each for each in volumes if each.content.label in labels or each.part_name in labels]
    for volume in named:
        what = f"{volume.name}: keeps what the live system changes"
        if volume.filesystem is None:
            if volume.applicable:
                found.problems.append(f"{what}, and was not read: {volume.reason}")
        elif title != "live-boot":
            found.problems.append(f"{what}, which was not applied")
        elif found.volume is not None:
            found.problems.append(f"{what}, as {found.volume.name} does: only that one was applied")
        else:
            _apply(volume, words, found)
    for volume in volumes if labels else ():
        if volume.filesystem is not None and volume.applicable:
            _tell_of_files(volume, labels, found)
    return found


def _tell_of_files(volume: OpenVolume, names: Sequence[str], found: Persistence) -> None:
    """An image file of such a name at the top of any volume does what the volume would."""
    if volume.filesystem is None:
        return
    tree = GuestTree(volume.filesystem)
    for name in names:
        try:
            is_file = tree.stat(b"/" + raw(name)).kind is FileKind.REGULAR
        except NotFoundError:
            continue
        except InputError as error:
            told = f"{volume.name}: whether a file {name} keeps changes of the live system is unknown"
            found.problems.append(f"{told}: {error}")
            continue
        if is_file:
            told = f"{volume.name}: the file {name} keeps what the live system changes, which was not applied"
            found.problems.append(told)


def _apply(volume: OpenVolume, words: frozenset[str], found: Persistence) -> None:
    if volume.filesystem is None:
        return
    tree = GuestTree(volume.filesystem)
    try:
        lines = tree.read(CONFIG, MAX_CONFIG_BYTES).split(b"\n")
        if len(lines) > MAX_LINES:
            raise InputError(f"its list has more than {MAX_LINES} lines")
        for line in lines:
            _line(line.split(b"#", 1)[0].split(), tree, volume, found)
    except NotFoundError:
        return  # live-boot passes over a volume without a list
    except InputError as error:
        found.problems.append(f"{volume.name}: what it keeps of the live system is unknown: {error}")
        return
    found.volume = volume
    if "persistence" not in words and found.layer is not None:
        found.problems.append(
            f"{volume.name}: the live system's changes were applied, and no boot line of the medium says so"
        )


def _line(fields: list[bytes], tree: GuestTree, volume: OpenVolume, found: Persistence) -> None:
    if not fields:
        return
    point = normalize(fields[0])
    options = text(fields[1]).split(",") if len(fields) > 1 else []
    source = next((option[7:] for option in options if option.startswith("source=")), "")
    if point == b"/" and "union" in options:
        folder = normalize(raw(source)) if source and source != "." else b""
        try:
            filesystem, node = tree.directory(folder + b"/rw")
        except NotFoundError:
            names = {entry.name for entry in tree.entries(folder or b"/")} - _OWN_NAMES
            if names:  # the layer of an older union filesystem, with marks of its own for what is gone
                told = (
                    f"{volume.name}: keeps changes of the live system's root in a form that was not applied"
                )
                found.problems.append(told)
            return
        found.layer = Layer(filesystem, node)
        found.notes.append(f"{volume.name}: applied over the live system's root")
        return
    told = f"{volume.name}: keeps {text(fields[0])} of the live system, which was not applied"
    kept = normalize(raw(source)) if source else point
    if not _holds_anything(tree, kept):
        return
    (found.problems if may_hold_software(point) else found.notes).append(told)


def _holds_anything(tree: GuestTree, path: bytes) -> bool:
    try:
        return tree.stat(path).kind is not FileKind.DIRECTORY or any(True for _ in tree.entries(path))
    except NotFoundError:
        return False
