"""Which file lies below an image: the header's name picks among files that somebody trusted has named."""

import os
from collections.abc import Sequence

from undercroft.usecases.quietpaths import QuietPaths
from undercroft.usecases.target import NamedFile

MAX_CHAIN_LENGTH = 64


class UnreadError(Exception):
    """A disk cannot be read; the text says why and what would help."""


def pick(untrusted_name: str, image_path: str, allowed: Sequence[NamedFile], option: str) -> NamedFile:
    """Return the allowed file that an image's header means.

    The header's name is compared, never opened: first as the path that it would resolve to beside the
    image (no automounter is woken for that), then by its last component where that fits exactly one allowed
    file (a copied chain). An allowed folder stands for the files that lie in it, not for those that its links
    lead to, and only for a name without any path.

    Args:
        untrusted_name: the header's text.
        image_path: path of the image whose header it is.
        allowed: the files that the caller named.
        option: what the caller would have used to name one, for the message.

    Raises:
        UnreadError: no allowed file fits, or several do.
    """
    resolved = QuietPaths().resolved(os.path.join(os.path.dirname(image_path), _plain(untrusted_name)))
    folders = [file for file in allowed if os.path.isdir(file.path)]
    files = [file for file in allowed if file not in folders]
    for file in files:
        if os.path.realpath(file.path) == resolved:
            return file
    last = os.path.basename(_plain(untrusted_name))
    last_of_windows = last.rpartition("\\")[2]
    alike = [file for file in files if os.path.basename(file.path) in {last, last_of_windows}]
    alike += _within(_plain(untrusted_name), folders) if not alike else []
    if len(alike) == 1:
        return alike[0]
    if alike:
        paths = " and ".join(file.path for file in alike)
        raise UnreadError(f"its header names {untrusted_name!r}, which fits {paths}; name one of them")
    raise UnreadError(
        f"its header names {untrusted_name!r}, which is opened only if you name it too: {option} FILE, or"
        " the folder that it lies in"
    )


def _within(name: str, folders: Sequence[NamedFile]) -> list[NamedFile]:
    """Return the regular files of that name that lie in the folders themselves."""
    if name != os.path.basename(name) or name in {"", ".", ".."}:
        return []
    found = [(os.path.join(folder.path, name), folder) for folder in folders]
    return [
        NamedFile(path, folder.format, no_link=True)
        for path, folder in found
        if os.path.isfile(path)
        and os.path.realpath(path) == os.path.join(os.path.realpath(folder.path), name)
    ]


def _plain(name: str) -> str:
    """Return a header's name without QEMU's protocol prefix; NUL ends it, as it would end a path."""
    return name.removeprefix("file:").split("\0")[0]
