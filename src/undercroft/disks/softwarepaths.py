"""Where installed software may lie, and whether a path leads there through a mount that was not read.

Guarantees: `may_hold_software` is the one definition of what a missing mount means. A path is followed
through its links as the guest would follow it, also where it leads to nothing: what is missing may lie
on the mount that was not read.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from undercroft.disks.filesystem import FileKind
from undercroft.disks.namespace import MAX_SYMLINKS
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError

INVENTORY_FOLDERS = (
    b"/etc",
    b"/usr",
    b"/usr/lib",
    b"/usr/lib/modules",
    b"/usr/local",
    b"/opt",
    b"/boot",
    b"/lib",
    b"/lib/modules",
    b"/nix",
    b"/var/lib",
    b"/var/lib/dpkg",
    b"/var/lib/dpkg/status",
    b"/var/lib/dpkg/info",
    b"/var/lib/rpm",
    b"/usr/lib/sysimage/rpm",
    b"/usr/share/rpm",
    b"/lib/apk/db",
    b"/usr/lib/apk/db",
    b"/var/lib/pacman",
    b"/var/db",
)
"""What an inventory starts from; administrators put links to bigger disks in their place."""

_SOFTWARE_ROOTS = (
    b"/usr",
    b"/opt",
    b"/boot",
    b"/etc",
    b"/bin",
    b"/sbin",
    b"/var/lib",
    b"/var/db",
    b"/nix",
    b"/gnu",
)
_FIRMWARE_FOLDERS = (b"/boot/efi", b"/boot/EFI", b"/boot/firmware")
_LIBRARY_FOLDER = re.compile(rb"/lib[a-z0-9]*(?:/|$)")


def may_hold_software(point: bytes) -> bool:
    """Return whether installed software, its records or kernels may lie in a mount at `point`.

    /srv, /home, /root and /var outside of /var/lib and /var/db are data: nothing there is taken into an
    inventory even where it was read, so nothing is lost where it was not, unless a link or a bind mount shows
    it in another place (`hidden_by`). The firmware's folder below /boot holds copies of what the boot
    loader's packages installed.
    """
    if point in (b"/", b"/var") or _LIBRARY_FOLDER.match(point):
        return True
    if below(point, _FIRMWARE_FOLDERS):
        return False
    return below(point, _SOFTWARE_ROOTS)


def below(path: bytes, folders: Iterable[bytes]) -> bool:
    """Return whether `path` is one of `folders` or lies in one, by name."""
    return any(path == folder or path.startswith(folder.rstrip(b"/") + b"/") for folder in folders)


def hidden_by(
    tree: GuestTree, path: bytes, unread: Collection[bytes], mounted: Collection[bytes]
) -> bytes | None:
    """Return the mount point among `unread` that `path` leads into, None where it leads into none.

    Args:
        tree: the files that were read.
        path: absolute path in the guest.
        unread: mount points, links resolved (`canonical`), whose filesystem was not read.
        mounted: mount points, links resolved, whose filesystem was read; one in an unread mount is read.
    """
    hidden: bytes | None = None
    for place in _way(tree, path):
        if place in unread:
            hidden = place
        elif hidden is not None and place in mounted and below(place, (hidden,)):
            hidden = None
    return hidden


def canonical(tree: GuestTree, path: bytes) -> bytes:
    """Return `path` with its links resolved; names that lead to nothing are kept."""
    place = b"/"
    for place in _way(tree, path):  # noqa: B007 - the last one is wanted
        pass
    return place


def _way(tree: GuestTree, path: bytes) -> Iterator[bytes]:
    """Yield the place of each name on the way to `path`, links followed, up to `MAX_SYMLINKS` of them."""
    pending = path.split(b"/")[::-1]
    here: list[bytes] = []
    links = 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            del here[-1:]
            continue
        place = b"/" + b"/".join([*here, name])
        target = _link_target(tree, place)
        if target is None:
            here.append(name)
            yield place
            continue
        links += 1
        if links > MAX_SYMLINKS:
            return
        if target.startswith(b"/"):
            here.clear()
        pending.extend(reversed(target.split(b"/")))


def _link_target(tree: GuestTree, path: bytes) -> bytes | None:
    """Return where the symlink at `path` points; None for other files, and for what cannot be read.

    What cannot be read is told by those who read it, as it is no question of mounts.
    """
    try:
        is_link = tree.stat(path, follow=False).kind is FileKind.SYMLINK
        return tree.readlink(path) if is_link else None
    except (InputError, NotFoundError):
        return None
