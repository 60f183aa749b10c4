"""The keys that an administrator gave, and which of them may open a volume.

A key is a passphrase or the content of a key file, or the volume's own key as an earlier reader found it. Its
bytes show in no text: not in `repr`, not in an error. Nothing here reads files; the host gives descriptors.

    >>> keys.candidates(("vda2", "6d9c...", "root"))     # a volume's name, UUID, label
    [Key(for 'vda2')]
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

ANY = "*"
"""The name that stands for every encrypted volume."""

MAX_KEYS = 8
"""How many keys may be tried on one volume: each costs a derivation for each keyslot."""

MAX_SECRET_BYTES = 64 << 10
"""How long a key may be; cryptsetup's own key files have up to 8 MiB, and 4 KiB as a rule."""


class Secret(StrEnum):
    """What kind of secret a key's bytes are."""

    PASSPHRASE = "passphrase"  # noqa: S105 - a kind, not one
    VOLUME_KEY = "volume key"


class Key:
    """One key. Two are the same only when they are one object: nothing compares secrets.

    Args:
        name: of the volume that it was given for: name in the machine, UUID, label, or `ANY`.
        secret: the bytes.
        kind: what they are.
    """

    __slots__ = ("kind", "name", "secret")

    def __init__(self, name: str, secret: bytes, kind: Secret = Secret.PASSPHRASE) -> None:
        self.name = name
        self.secret = secret
        self.kind = kind

    def __repr__(self) -> str:
        return f"Key(for {self.name!r})"


class Keys:
    """The keys of one job, with what an earlier job said of volumes that they do not open.

    Args:
        keys: in the order in which they were given.
        refusals: volume's name -> why none of the keys opened it.

    Attributes:
        opened: (volume's name, its own key) of each volume that was opened so far.
        refusals: as given, and those of volumes that were tried so far.
    """

    __slots__ = ("_keys", "opened", "refusals")

    def __init__(self, keys: Sequence[Key] = (), refusals: Mapping[str, str] | None = None) -> None:
        self._keys = tuple(keys)
        self.opened: list[tuple[str, bytes]] = []
        self.refusals = dict(refusals or {})

    @property
    def names(self) -> tuple[str, ...]:
        """Return for which volumes there are keys."""
        return tuple(dict.fromkeys(key.name for key in self._keys))

    def candidates(self, names: Collection[str]) -> list[Key]:
        """Return the keys for the volume with these names, at most `MAX_KEYS` of each kind, cheap ones first.

        Those that were given for one of its names come before those for any volume.
        """
        known = {name.lower() for name in names if name}
        named = [key for key in self._keys if key.name.lower() in known]
        found = [*named, *(key for key in self._keys if key.name == ANY)]
        volume_keys = [key for key in found if key.kind is Secret.VOLUME_KEY]
        return [*volume_keys[:MAX_KEYS], *[key for key in found if key not in volume_keys][:MAX_KEYS]]


NO_KEYS = Keys()
"""For machines without encrypted volumes, and where none is to be opened."""


def passphrases(secret: bytes) -> tuple[bytes, ...]:
    """Return what a key may mean, in the order in which it is tried.

    A file that an editor or echo wrote ends with a line feed that is no part of the passphrase; a key file of
    random bytes is all key. One line of text is tried without its line feed first.
    """
    if secret.endswith(b"\n") and secret.count(b"\n") == 1 and secret.rstrip(b"\r\n"):
        return secret.rstrip(b"\r\n"), secret
    return (secret,)
