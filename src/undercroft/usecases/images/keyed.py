"""Keys for many images: which of them opens a volume of which image.

    undercroft scan /images --key 6d9c0e...=db.key --key web01.qcow2:disk0p2=web.key

Guarantees: each image is looked at without any key first, and only the keys that are meant for an encrypted
volume that it shows are handed to its children: an image that has none gets none, whatever `*` says. What was
read with a key is kept nowhere: a later call without the key finds what it would have found before.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from undercroft.disks.keys import ANY
from undercroft.disks.luks import is_luks
from undercroft.model.disk import ImageInfo
from undercroft.model.inventory import Inventory
from undercroft.model.job import ProvenReads
from undercroft.usecases.keys import KeyRing

SCOPE = ":"
"""Between an image's path or file name and a volume's name."""


class ImageKeys:
    """The keys of one call, by the images that they are meant for. May be used by several threads.

    Args:
        given: stays the caller's; None for none. The name of a key is a volume's name, UUID or label, `*` for
            every encrypted volume, or one of these after "IMAGE:", the path of an image or its file name.
    """

    def __init__(self, given: KeyRing | None) -> None:
        self._given = given
        self._used: set[str] = set()

    @property
    def unused(self) -> tuple[str, ...]:
        """The names of the keys that were meant for nothing in any image so far, in their order."""
        names = self._given.names if self._given else ()
        return tuple(name for name in names if name not in self._used)

    def meant_for(self, path: str, encrypted: Iterable[str]) -> frozenset[str]:
        """Return the names of the keys that are meant for the encrypted volumes of an image.

        Args:
            path: of the image.
            encrypted: the volumes' names, UUIDs and labels; untrusted.
        """
        known = {name.lower() for name in encrypted if name}
        if not known or self._given is None:
            return frozenset()
        meant = frozenset(name for name in self._given.names if _volume(name, path, known))
        self._used |= meant
        return meant

    def ring(self, path: str, encrypted: Iterable[str], names: Iterable[str]) -> KeyRing:
        """Return a ring with those keys alone, each under its volume's name; it becomes the caller's."""
        known, wanted = {name.lower() for name in encrypted if name}, frozenset(names)
        if self._given is None:
            return KeyRing()
        return self._given.chosen(lambda name: _volume(name, path, known) if name in wanted else "")


@dataclass(frozen=True, slots=True)
class KeyedAnswer:
    """What a key showed of a base's current state, and the bytes of its disk, encrypted, that it rests on."""

    names: frozenset[str]
    inventory: Inventory
    reads: ProvenReads


class KeyedAnswers:
    """Answers of this call about bases, by which their clones are judged without deriving the key once more.

    A clone has the answer where it has the same encrypted bytes and is meant by the same keys.
    """

    def __init__(self) -> None:
        self._known: dict[str, KeyedAnswer] = {}

    def find(self, path: str, names: frozenset[str]) -> KeyedAnswer | None:
        """Return what the keys of these names showed of an image, None where that is not known."""
        known = self._known.get(path)
        return known if known and known.names == names else None

    def keep(self, path: str, answer: KeyedAnswer) -> None:
        """Keep what keys showed of an image until it is forgotten."""
        self._known[path] = answer

    def forget(self, path: str) -> None:
        """Forget an image."""
        self._known.pop(path, None)


def encrypted_names(
    inventories: Iterable[Inventory], chain: Sequence[ImageInfo], disk: str
) -> frozenset[str]:
    """Return how the encrypted volumes of an image may be called: names, UUIDs, labels; untrusted.

    Args:
        inventories: of its states.
        chain: what its files say of themselves.
        disk: the name of its disk, by which the key of an encrypted image goes.
    """
    volumes = (volume for inventory in inventories for volume in inventory.coverage.volumes)
    found = {
        name
        for volume in volumes
        if is_luks(volume.content)
        for name in (volume.name, volume.uuid, volume.label)
    }
    for info in chain:
        if info.encryption:
            found |= {disk, info.ident}
    return frozenset(found - {""})


def _volume(name: str, path: str, known: Iterable[str]) -> str:
    """Return the volume of the image at `path` that a key's name means, "" for none."""
    if name == ANY or name.lower() in known:
        return name
    image, _, volume = name.rpartition(SCOPE)
    if not image or (volume != ANY and volume.lower() not in known):
        return ""
    if image != os.path.basename(path) and os.path.realpath(image) != os.path.realpath(path):
        return ""
    return volume
