"""Which file lies below an image: the header's name picks among files that somebody trusted has named."""

import os
from collections.abc import Sequence

from undercroft.usecases.target import NamedFile

MAX_CHAIN_LENGTH = 64


class UnreadError(Exception):
    """A disk cannot be read; the text says why and what would help."""


def pick(untrusted_name: str, image_path: str, allowed: Sequence[NamedFile], option: str) -> NamedFile:
    """Return the allowed file that an image's header means.

    The header's name is compared, never opened: first as the path that it would resolve to beside the
    image, then by its last component where that fits exactly one allowed file (a copied chain).

    Args:
        untrusted_name: the header's text.
        image_path: path of the image whose header it is.
        allowed: the files that the caller named.
        option: what the caller would have used to name one, for the message.

    Raises:
        UnreadError: no allowed file fits, or several do.
    """
    resolved = os.path.realpath(os.path.join(os.path.dirname(image_path), _plain(untrusted_name)))
    for file in allowed:
        if os.path.realpath(file.path) == resolved:
            return file
    last = os.path.basename(_plain(untrusted_name))
    alike = [file for file in allowed if os.path.basename(file.path) == last]
    if len(alike) == 1:
        return alike[0]
    if alike:
        paths = " and ".join(file.path for file in alike)
        raise UnreadError(f"its header names {untrusted_name!r}, which fits {paths}; name one of them")
    raise UnreadError(
        f"its header names {untrusted_name!r}, which is opened only if you name it too: {option} FILE"
    )


def _plain(name: str) -> str:
    """Return a header's name without QEMU's protocol prefix; NUL ends it, as it would end a path."""
    return name.removeprefix("file:").split("\0")[0]
