r"""What the options of an overlay's mount name, as overlayfs reads them.

    >>> parse_options(("lowerdir=/a:/b\\:c", "upperdir=/up", "workdir=/work")).folders
    (b'/up', b'/a', b'/b:c')

Follows the kernel's Documentation/filesystems/overlayfs.rst and fs/overlayfs/params.c.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from undercroft.disks.text import raw
from undercroft.errors import InputError, UnsupportedError

MAX_LAYERS = 64
MAX_PATH_BYTES = 4096
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_SEPARATOR = re.compile(rb"((?:[^:\\]|\\.)*)(:|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """An overlay's layers.

    Attributes:
        folders: absolute paths, the uppermost first.
        prefix: what the names of its extended attributes begin with.
        follows_redirects: whether folders that were renamed are looked for under their old names.
    """

    folders: tuple[bytes, ...]
    prefix: bytes
    follows_redirects: bool


def parse_options(options: Sequence[str]) -> OverlayOptions:
    """Return what the options of an overlay name.

    Args:
        options: as an fstab has them, split at commas; untrusted.

    Raises:
        InputError: no lower layer, a path that is not absolute, or more than `MAX_LAYERS`.
        UnsupportedError: a layer that holds data alone.
    """
    upper = b""
    lowers: list[bytes] = []
    is_user, follows = False, True
    for option in _joined(options):
        key, _, value = option.partition("=")
        untrusted = raw(value)
        if key == "upperdir":
            upper = _unescaped(untrusted)
        elif key == "lowerdir":
            lowers = _split(untrusted)
        elif key == "lowerdir+":
            lowers.append(untrusted)
        elif key == "datadir+":
            raise UnsupportedError("it has a layer of data alone")
        elif key == "userxattr":
            is_user = True
        elif key == "redirect_dir":
            follows = value != "nofollow"
    folders = ((upper,) if upper else ()) + tuple(lowers)
    if not lowers or len(folders) > MAX_LAYERS:
        raise InputError(f"it has {len(lowers)} lower layers, and {MAX_LAYERS} layers are the most")
    if any(not path.startswith(b"/") or len(path) > MAX_PATH_BYTES for path in folders):
        raise InputError("one of its folders is not an absolute path")
    prefix = b"user.overlay." if is_user else b"trusted.overlay."
    return OverlayOptions(folders, prefix, follows and not is_user)


def _joined(options: Sequence[str]) -> Iterator[str]:
    r"""Yield options whole: a comma behind a backslash (`\,`) is part of one."""
    pending = ""
    for option in options:
        pending += option
        if (len(pending) - len(pending.rstrip("\\"))) % 2:
            pending += ","
            continue
        yield pending
        pending = ""
    if pending:
        yield pending


def _split(untrusted: bytes) -> list[bytes]:
    r"""Return the paths between colons; one behind a backslash is part of a path, two name a data layer."""
    found: list[bytes] = []
    for match in _SEPARATOR.finditer(untrusted):
        if not match[1] and match.start() < len(untrusted):
            raise UnsupportedError("it has a layer of data alone, or an empty name")
        if match[1]:
            found.append(_unescaped(match[1]))
        if len(found) > MAX_LAYERS:
            break
    return found


def _unescaped(untrusted: bytes) -> bytes:
    return _ESCAPED.sub(rb"\1", untrusted)
