"""The further files that an image's disk lies in, known by how their makers call them.

libvirt names the descriptor of a split or flat vmdk and never its extents, and a qcow2 file's external data
file only since 10.10. The image's own header names them, and that alone opens nothing: guarantees: a piece
lies in the image's folder, is a regular file and no link, and is called after the image as `qemu-img` and
VMware call it, so that no two images have a piece in common. What is called otherwise is unread.

    >>> is_piece("web01-s002.vmdk", "web01.vmdk")
    True
    >>> is_piece("web02-flat.vmdk", "web01.vmdk")
    False
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from functools import cache

_VMDK_ENDS = re.compile(r"-(?:flat|delta|[sf][0-9]{3,6})\.vmdk", re.ASCII)
"""After the descriptor's name without its suffix: one file, or the parts of a split one."""

_DATA_ENDS = re.compile(r"(?:[-._]data(?:[-_]?file)?)?\.(?:raw|img|data|bin)", re.ASCII)
"""After a qcow2 file's name, with or without its suffix."""

_OF_VMDK = re.compile(r"(.+)" + _VMDK_ENDS.pattern, re.ASCII | re.DOTALL)


def is_piece(name: str, image_name: str) -> bool:
    """Tell whether a file is called as a piece of an image in the same folder; both without their folder."""
    if name == image_name:
        return False
    stem, suffix = os.path.splitext(image_name)
    if suffix.lower() == ".vmdk":
        return name.startswith(stem) and bool(_VMDK_ENDS.fullmatch(name, len(stem)))
    return any(
        name.startswith(whole) and bool(_DATA_ENDS.fullmatch(name, len(whole)))
        for whole in (stem, image_name)
    )


def is_plain_file(path: str) -> bool:
    """Tell whether a path is a regular file and no link. Its folder has to be the host's own word."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def vmdk_pieces(images: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (image, piece) for the pieces of vmdk images that there are; each folder is listed once."""

    @cache
    def by_stem(folder: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        try:
            names = os.listdir(folder)
        except OSError:
            return found  # whoever opens the image says so
        for name in names:
            if match := _OF_VMDK.fullmatch(name):
                found.setdefault(match.group(1), []).append(name)
        return found

    for image in images:
        folder, name = os.path.split(image)
        for piece in by_stem(folder).get(os.path.splitext(name)[0], ()):
            path = os.path.join(folder, piece)
            if is_piece(piece, name) and is_plain_file(path):
                yield image, path
