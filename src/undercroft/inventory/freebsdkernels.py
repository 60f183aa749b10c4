"""FreeBSD's kernels: /boot/NAME/kernel, whose release is in the image itself, as freebsd-version(1) finds it.

Guarantees: at most `MAX_KERNELS` images of at most `MAX_IMAGE_BYTES` are read, piece by piece. An image that
names no release, or cannot be read, is a problem.
"""

import re
from itertools import islice

from undercroft.disks.filesystem import FileKind
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError

BOOT = b"/boot"
MARK = b"bin/freebsd-version"
MAX_FOLDERS = 1000
MAX_KERNELS = 8
MAX_IMAGE_BYTES = 256 << 20
_RELEASE = re.compile(rb"@\(#\)FreeBSD ([0-9][0-9A-Za-z.-]{0,63}) ")
_OVERLAP_BYTES = 128


def find_kernels(tree: GuestTree) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the images by their releases ("14.1-RELEASE-p5"), and problems; none on another system."""
    found: dict[bytes, bytes] = {}
    problems: list[str] = []
    if not tree.exists(b"/" + MARK):
        return found, problems
    images = []
    try:
        for entry in islice(tree.entries(BOOT), MAX_FOLDERS):
            path = BOOT + b"/" + entry.name + b"/kernel"
            if entry.kind in (FileKind.DIRECTORY, FileKind.UNKNOWN) and tree.exists(path):
                images.append(path)
    except NotFoundError:
        return found, problems
    except InputError as error:
        problems.append(f"{text(BOOT)}: {error}")
    if len(images) > MAX_KERNELS:
        problems.append(f"more than {MAX_KERNELS} kernels in {text(BOOT)}, the rest was not read")
    for path in sorted(images)[:MAX_KERNELS]:
        try:
            found.setdefault(_release(tree, path), path)
        except (InputError, NotFoundError) as error:
            problems.append(f"{text(path)}: {error}")
    return found, problems


def _release(tree: GuestTree, path: bytes) -> bytes:
    """Return the release that an image names. Raises InputError where it names none."""
    filesystem, node = tree.file(path)
    kept, count = b"", 0
    for piece in filesystem.chunks(node):
        window = kept + piece
        if match := _RELEASE.search(window):
            return match[1]
        kept, count = window[-_OVERLAP_BYTES:], count + len(piece)
        if count > MAX_IMAGE_BYTES:
            break
    raise InputError("the kernel's image names no release")
