"""Image files in a guest's tree that it mounts as devices (loop mounts).

Guarantees: an image is opened within the tree alone, one deep, and what it holds is looked at like any other
volume.
"""

from collections.abc import Sequence

from undercroft.disks.filesystem import FileKind, FileSystem
from undercroft.disks.live.filesource import FileSource
from undercroft.disks.opening import open_volumes
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError, UnsupportedError

MAX_IMAGES = 16
"""Of one machine; each keeps caches of some 12 MiB."""

_PLACED = ("offset=", "sizelimit=", "encryption=")


def is_image(tree: GuestTree, path: bytes) -> bool:
    """Return whether `path` leads to a regular file. Raises InputError as the tree does."""
    try:
        return path.startswith(b"/") and tree.stat(path).kind is FileKind.REGULAR
    except NotFoundError:
        return False


def open_image(tree: GuestTree, path: bytes, options: Sequence[str]) -> FileSystem:
    """Return the filesystem in the image at `path`.

    Raises:
        UnsupportedError: the options name a part of it, or what it holds is not read.
        InputError: it is malformed.
        NotFoundError: there is no such file.
    """
    if any(option.startswith(_PLACED) for option in options):
        raise UnsupportedError(f"{text(path)}: a part of an image is not read")
    filesystem, node = tree.file(path)
    name = text(path)
    found = open_volumes([(name, FileSource(filesystem, node, name))]).volumes
    if len(found) != 1 or found[0].filesystem is None:
        raise InputError(f"{name}: {found[0].reason or 'it holds a table of partitions'}")
    return found[0].filesystem
