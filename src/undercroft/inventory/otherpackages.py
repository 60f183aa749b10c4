"""Software whose records or contents this version does not read, so that it is never passed over.

Guarantees: a package database of another manager is a problem (its packages are missing from the
inventory); snaps, flatpaks and containers, which carry whole systems of their own, are notes: like
unowned executables they lie outside the package manager's knowledge and are not assessed.
"""

from dataclasses import dataclass
from itertools import islice

from undercroft.disks.tree import GuestTree
from undercroft.errors import NotFoundError

DATABASES = (
    ("portage", b"/var/db/pkg"),
    ("nix", b"/nix/var/nix/db/db.sqlite"),
)
"""Each manager becomes a line of `databases` when its reader arrives."""

FREEBSD_FOLDER = b"/var/db/pkg/local.sqlite"
"""FreeBSD keeps its own database in the folder that Gentoo has too."""

CONTAINED = (
    ("snap packages", b"/var/lib/snapd/snaps", b".snap"),
    ("flatpak applications", b"/var/lib/flatpak/app", b""),
    ("Docker's image layers", b"/var/lib/docker/overlay2", b""),
    (
        "containerd's image layers",
        b"/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots",
        b"",
    ),
    ("podman's image layers", b"/var/lib/containers/storage/overlay", b""),
    ("LXC containers", b"/var/lib/lxc", b""),
    ("machines of systemd-nspawn", b"/var/lib/machines", b""),
)

MAX_COUNTED = 1000


@dataclass(frozen=True, slots=True)
class OtherSoftware:
    """Managers whose databases were found, and notes on contained software."""

    managers: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def find_other(tree: GuestTree) -> OtherSoftware:
    """Return what else is installed in `tree`. Raises InputError where a folder is malformed."""
    managers = {name: path.decode() for name, path in reversed(DATABASES) if tree.exists(path)}
    if tree.exists(FREEBSD_FOLDER):
        managers.pop("portage", None)
    problems = [f"{path}: {name} is not supported yet" for name, path in sorted(managers.items())]
    notes = []
    for what, folder, suffix in CONTAINED:
        count = _count(tree, folder, suffix)
        if count:
            shown = f"more than {MAX_COUNTED}" if count > MAX_COUNTED else str(count)
            notes.append(f"{folder.decode()}: {shown} {what}, not assessed")
    return OtherSoftware(tuple(sorted(managers)), tuple(problems), tuple(notes))


def _count(tree: GuestTree, folder: bytes, suffix: bytes) -> int:
    try:
        entries = islice(tree.entries(folder), MAX_COUNTED + 1)
        return sum(entry.name.endswith(suffix) and not entry.name.startswith(b".") for entry in entries)
    except NotFoundError:
        return 0
