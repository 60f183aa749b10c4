"""A machine's mounts, assembled as the guest would make them, and what their absence means.

Guarantees: every mount that the guest's own files name ends up in the tree, among the problems (it may
hold software and was not read) or among the notes (it holds none), as `softwarepaths` tells them apart.
Data that was not read is a problem too where a link or a bind mount shows it as software. Sources:
/etc/fstab, mount units in /etc/systemd/system, and where neither names the mount point, the partition
types of the Discoverable Partitions Specification as systemd-gpt-auto-generator(8) applies them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from undercroft.disks import subvolumes
from undercroft.disks.devices import Device, DeviceKind, find_volumes, parse_device
from undercroft.disks.fstab import MountEntry, MountTable, merge, normalize, parse_fstab
from undercroft.disks.loops import MAX_IMAGES, is_image, open_image
from undercroft.disks.mountorder import in_order
from undercroft.disks.mountunits import read_mount_units
from undercroft.disks.overlay import Layer, Overlay, parse_options
from undercroft.disks.overlays import READ_ONLY_KINDS
from undercroft.disks.softwarepaths import INVENTORY_FOLDERS, below, canonical, hidden_by, may_hold_software
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.disks.typedmounts import point_by_type
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

FSTAB = b"/etc/fstab"

_MERGED_TYPES = ("overlay", "aufs", "unionfs", "rootfs")

MAX_FSTAB_BYTES = 1 << 20
MAX_SHOWN_CHARS = 200


@dataclass(slots=True)
class MountedTree:
    """A tree under assembly.

    Attributes:
        tree: the root with all that could be mounted.
        points: where each volume is mounted.
        problems: mounts that may hold software and were not read.
        notes: mounts that hold none, and oddities.
        unread: mount points of what was not read.
        mounted: mount points of what was read.
        shown: each folder that a bind or an overlay shows elsewhere, with its entry.
        images: how many image files were mounted.
    """

    tree: GuestTree
    points: dict[OpenVolume, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[bytes] = field(default_factory=list)
    mounted: list[bytes] = field(default_factory=list)
    shown: list[tuple[MountEntry, bytes]] = field(default_factory=list)
    images: int = 0

    def report(self, message: str, point: bytes) -> None:
        """Record an oddity of the mount at `point`, as a problem where software may lie in it."""
        (self.problems if may_hold_software(point) else self.notes).append(message)

    def miss(self, message: str, point: bytes) -> None:
        """Record that what the guest mounts at `point` was not read."""
        self.unread.append(point)
        self.report(message, point)


def assemble(root: OpenVolume, volumes: Sequence[OpenVolume], *, is_asked_for: bool = False) -> MountedTree:
    """Return the tree of the machine whose root is `root`. Malformed files end up in its problems.

    With `is_asked_for` the root is a snapshot that somebody wants to see: its fstab names another subvolume.
    """
    if root.filesystem is None:
        raise ValueError("the root volume has no filesystem")
    mounted = MountedTree(GuestTree(root.filesystem), {root: ["/"]})
    table = _mount_table(mounted)
    mounted.problems += table.problems
    mounted.notes += table.notes
    for entry in in_order(table.entries):
        if entry.point == b"/":
            if not is_asked_for:
                _check_root(entry, root, volumes, mounted)
        else:
            _mount(entry, root, volumes, mounted)
    named = {entry.point for entry in table.entries}
    for volume in volumes:
        if volume.disk_order == root.disk_order:
            _mount_by_type(volume, named, mounted)
    if mounted.unread:
        _report_hidden(mounted)
    return mounted


def _mount_table(mounted: MountedTree) -> MountTable:
    tree = mounted.tree
    try:
        fstab = parse_fstab(tree.read(FSTAB, MAX_FSTAB_BYTES))
    except NotFoundError:
        fstab = MountTable((), (), ("no /etc/fstab",))
    except InputError as error:
        fstab = MountTable((), (f"the mounts are unknown: {error}",))
    units = read_mount_units(tree)
    mounted.problems += units.problems
    for unit in units.unread:
        mounted.miss(unit.reason, unit.point)
    return merge(fstab, units.entries)


def _check_root(
    entry: MountEntry, root: OpenVolume, volumes: Sequence[OpenVolume], mounted: MountedTree
) -> None:
    """A root that names another filesystem as "/" may be what is left of an older system."""
    if entry.fs_type in _MERGED_TYPES and root.kind in READ_ONLY_KINDS:
        return  # what a live system writes there, and `layers_over` tells what may lie over it
    device = parse_device(entry.device, entry.fs_type)
    is_itself = device.value == "/dev/root" or root in find_volumes(device, volumes)
    if is_itself and root.filesystem is not None:
        if told := subvolumes.contradiction(root.filesystem, entry.options):
            mounted.problems.append(f"{entry.place}: {told}")
        return
    if is_itself or device.kind is DeviceKind.PSEUDO:
        return
    mounted.problems.append(
        f"{entry.place}: names {_show(entry.device)} as /, which is not {root.name}, where the system "
        f"was found{_where_else(volumes)}"
    )


def _mount(entry: MountEntry, root: OpenVolume, volumes: Sequence[OpenVolume], mounted: MountedTree) -> None:
    device = parse_device(entry.device, entry.fs_type)
    what = f"{entry.place}: {_show(entry.point)}"
    if not entry.automatic and not _is_empty(mounted.tree, entry.point):
        mounted.notes.append(f"{what} is not mounted at boot")
    elif entry.is_bind:
        _bind(entry, what, mounted)
    elif entry.fs_type == "overlay":
        _overlay(entry, what, mounted)
    elif device.kind is DeviceKind.PSEUDO:
        if may_hold_software(entry.point) and entry.fs_type in ("tmpfs", "ramfs"):
            mounted.notes.append(f"{what} is empty at boot ({entry.fs_type}): what it covers was read")
    elif device.kind is DeviceKind.NETWORK:
        mounted.miss(f"{what} comes over the network and is on no disk", entry.point)
    elif device.kind is DeviceKind.OTHER and _is_image(entry, mounted.tree):
        _mount_image(entry, what, mounted)
    else:
        _mount_volume(entry, _find(device, root, volumes), volumes, mounted)


def _is_image(entry: MountEntry, tree: GuestTree) -> bool:
    try:
        return is_image(tree, entry.device)
    except InputError:
        return False  # the mount is told as one of a device that is not there


def _mount_image(entry: MountEntry, what: str, mounted: MountedTree) -> None:
    """Mount an image that lies in the tree, where software may lie in it; snaps are told otherwise."""
    shown = f"{what} is the image {_show(entry.device)}"
    if not may_hold_software(entry.point):
        mounted.unread.append(entry.point)
        mounted.notes.append(f"{shown}, which was not opened")
        return
    mounted.images += 1
    try:
        if mounted.images > MAX_IMAGES:
            raise InputError(f"it is one of more than {MAX_IMAGES}")
        mounted.tree.mount(entry.point, open_image(mounted.tree, entry.device, entry.options))
    except (InputError, NotFoundError) as error:
        mounted.miss(f"{shown}, which could not be read: {error}", entry.point)
    else:
        mounted.mounted.append(entry.point)


def _find(device: Device, root: OpenVolume, volumes: Sequence[OpenVolume]) -> list[OpenVolume]:
    """Return what `device` may mean; a cloned disk's volumes come after those of the root's disk."""
    found = find_volumes(device, volumes)
    near = [volume for volume in found if volume.disk_order == root.disk_order]
    return near if len(near) == 1 else found


def _mount_volume(
    entry: MountEntry, found: list[OpenVolume], volumes: Sequence[OpenVolume], mounted: MountedTree
) -> None:
    what = f"{entry.place}: {_show(entry.point)} is {_show(entry.device)}"
    if not found:
        cure = _where_else(volumes) or "; give its disk too (-a DISK)"
        if entry.automatic:
            mounted.report(f"{what}, which is on none of the given disks{cure}", entry.point)
        elif may_hold_software(entry.point):
            mounted.notes.append(f"{what}, which is not mounted at boot and on none of the given disks")
        mounted.unread.append(entry.point)
        return
    volume = found[0]
    if len(found) > 1:
        names = ", ".join(other.name for other in found)
        mounted.report(f"{what}, which may be any of {names}: {volume.name} was read", entry.point)
    _attach(volume, entry.point, what, mounted, entry.options)


def _attach(
    volume: OpenVolume, point: bytes, what: str, mounted: MountedTree, options: Sequence[str] = ()
) -> None:
    mounted.points.setdefault(volume, []).append(_show(point, None))
    if volume.filesystem is None:
        if not volume.applicable and not may_hold_software(point):
            mounted.unread.append(point)
            return  # the ESP at /boot/efi, as on most machines
        mounted.miss(f"{what} ({volume.name}), which was not read: {volume.reason}", point)
        return
    try:
        mounted.tree.mount(point, subvolumes.mounted(volume.filesystem, options))
        mounted.mounted.append(point)
    except (InputError, NotFoundError) as error:
        mounted.miss(f"{what} ({volume.name}) and could not be mounted: {error}", point)


def _bind(entry: MountEntry, what: str, mounted: MountedTree) -> None:
    if normalize(entry.device) == entry.point:
        return  # a mount onto itself only changes flags
    try:
        mounted.tree.bind(entry.point, normalize(entry.device))
        mounted.mounted.append(entry.point)
        mounted.shown.append((entry, entry.device))
    except (InputError, NotFoundError) as error:
        mounted.miss(f"{what} shows {_show(entry.device)}, which could not be read: {error}", entry.point)


def _overlay(entry: MountEntry, what: str, mounted: MountedTree) -> None:
    try:
        options = parse_options(entry.options)
        layers = [Layer(*mounted.tree.directory(normalize(folder))) for folder in options.folders]
        overlay = Overlay(layers, options.prefix, follows_redirects=options.follows_redirects)
        mounted.tree.mount(entry.point, overlay)
    except (InputError, NotFoundError) as error:
        mounted.miss(f"{what} is an overlay that could not be made: {error}", entry.point)
        return
    mounted.mounted.append(entry.point)
    mounted.shown += [(entry, folder) for folder in options.folders]


def _mount_by_type(volume: OpenVolume, named: set[bytes], mounted: MountedTree) -> None:
    """Mount a partition whose GPT type says where, unless the guest's files name that point."""
    point = point_by_type(volume, mounted.tree)
    if not point or point in named or volume in mounted.points or not _is_empty(mounted.tree, point):
        return
    named.add(point)
    _attach(volume, point, f"{_show(point)} is by its partition type {volume.name}", mounted)


def _report_hidden(mounted: MountedTree) -> None:
    """Report the binds, and the folders that an inventory reads, which lead into an unread mount."""
    tree = mounted.tree
    unread = {canonical(tree, point): point for point in mounted.unread}
    read = {canonical(tree, point) for point in mounted.mounted}
    for entry, folder in mounted.shown:
        hidden = hidden_by(tree, normalize(folder), unread, read)
        if hidden is not None:
            what = f"{entry.place}: {_show(entry.point)} shows {_show(folder)}"
            mounted.miss(f"{what}, which lies on {_show(unread[hidden])}, which was not read", entry.point)
            unread[canonical(tree, entry.point)] = entry.point
    told: list[bytes] = []
    for folder in INVENTORY_FOLDERS:
        hidden = hidden_by(tree, folder, unread, read)
        if hidden is None or may_hold_software(unread[hidden]) or below(folder, told):
            continue  # nothing is hidden, or it was told with its mount or the folder above
        told.append(folder)
        mounted.problems.append(f"{_show(folder)} is a link into {_show(unread[hidden])}, which was not read")


def _where_else(volumes: Sequence[OpenVolume]) -> str:
    """Name the unread volumes that a missing filesystem may lie in, "" when there are none."""
    unread = [volume for volume in volumes if volume.filesystem is None and volume.applicable]
    if not unread:
        return ""
    shown = ", ".join(f"{volume.name} ({volume.reason[:MAX_SHOWN_CHARS]})" for volume in unread[:4])
    return f"; it may lie in {shown}{', ...' if len(unread) > 4 else ''}"


def _is_empty(tree: GuestTree, path: bytes) -> bool:
    """Whether the directory is empty but for lost+found, or does not exist."""
    try:
        return all(entry.name == b"lost+found" for entry in tree.entries(path))
    except NotFoundError:
        return True
    except InputError:
        return False


def _show(raw: bytes, limit: int | None = MAX_SHOWN_CHARS) -> str:
    shown = text(raw)
    return shown if limit is None or len(shown) <= limit else shown[:limit] + "..."
