"""Snaps and flatpaks as lists: what is installed and in which revision, not what is inside.

A snap is NAME_REVISION.snap in snapd's folder; which revision is in use stands in snapd's state.json. A
flatpak is app/ID/ARCHITECTURE/BRANCH with a link `active` to the deployed commit.
"""

import re
from collections.abc import Iterator
from functools import partial

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.languages.finding import Candidate, Finder, loads
from undercroft.model.inventory import Package

SNAPS = b"/var/lib/snapd/snaps"
SNAP_STATE = b"/var/lib/snapd/state.json"
FLATPAKS = (b"/var/lib/flatpak/app", b"/var/lib/flatpak/runtime")
MAX_STATE_BYTES = 4 << 20
"""snapd keeps some 100 KiB; parsed, a hostile one takes 25 times its size."""

_SNAP = re.compile(r"(?P<name>[a-z0-9-]+(?:_[a-z0-9]+)?)_(?P<revision>x?[0-9]+)\.snap")
_PRINTABLE = re.compile(r"[!-~]{1,255}")


def find_snaps(finder: Finder) -> Iterator[Candidate]:
    """Yield the files of snaps. Raises LimitReached."""
    names = [name for name in finder.names(SNAPS) if name.endswith(b".snap")]
    used = _snaps_in_use(finder) if names else {}
    for name in names:
        path = SNAPS + b"/" + name
        yield Candidate(path, partial(_snap, text(name), used))


def find_flatpaks(finder: Finder) -> Iterator[Candidate]:
    """Yield the deployed flatpaks. Raises LimitReached."""
    for base in FLATPAKS:
        for name in finder.names(base):
            for architecture in finder.names(base + b"/" + name):
                if architecture == b"current":
                    continue
                for branch in finder.names(base + b"/" + name + b"/" + architecture):
                    parts = (name, architecture, branch)
                    path = b"/".join((base, *parts, b"active"))
                    yield Candidate(path, partial(_flatpak, path, *parts))


def _snap(name: str, used: dict[str, str], _tree: GuestTree) -> list[Package]:
    match = _SNAP.fullmatch(name)
    if match is None:
        raise InputError("snap: the file's name has no revision")
    revision = match["revision"]
    status = "installed" if used.get(match["name"], revision) == revision else "not in use"
    return [Package("snap", match["name"], revision, "", match["name"], revision, status)]


def _snaps_in_use(finder: Finder) -> dict[str, str]:
    """Return the current revision of each snap; {} where snapd's state cannot be read, and a note."""
    try:
        state = loads(finder.tree.read(SNAP_STATE, MAX_STATE_BYTES))
        snaps = state["data"]["snaps"]
        return {name: str(snap["current"]) for name, snap in snaps.items() if "current" in snap}
    except NotFoundError:
        return {}
    except InputError as error:
        finder.notes.append(f"which snaps are in use is unknown: {error}")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        finder.notes.append(
            f"which snaps are in use is unknown: {text(SNAP_STATE)} is not as snapd writes it"
        )
    return {}


def _flatpak(path: bytes, name: bytes, architecture: bytes, branch: bytes, tree: GuestTree) -> list[Package]:
    """Return a flatpak; its version is the branch, its source's the commit that is deployed."""
    commit = text(tree.readlink(path))
    words = [text(word) for word in (name, architecture, branch)]
    if not all(_PRINTABLE.fullmatch(word) for word in (*words, commit)):
        raise InputError("flatpak: its folders' names are not flatpak's")
    return [Package("flatpak", words[0], words[2], words[1], words[0], commit)]
