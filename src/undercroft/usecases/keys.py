"""The administrator's keys for encrypted volumes, on their way to the reader's child.

Guarantees: a key's bytes lie in memory files of the kernel that children get for reading, and in no value of
this program: no `repr`, message, request, report, record or cache can hold them. They are gone with `close`.
What lies in them at any time may be swapped out, as may the program that derives from them.

    >>> with KeyRing() as keys:
    ...     keys.add("vda2", b"correct horse")
"""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from undercroft.disks.keys import ANY, MAX_SECRET_BYTES
from undercroft.errors import DeniedError, InputError, NotFoundError
from undercroft.model.job import KeyInput

MAX_KEYS = 512
"""Keys of one request, for a folder of images maybe; of each volume `disks.keys.MAX_KEYS` are tried."""

MAX_NAME_CHARS = 256


class KeyRing:
    """Keys by the volumes that they were given for; a context that ends with them."""

    __slots__ = ("_closed", "_end", "_entries", "_readable", "_writable")

    def __init__(self) -> None:
        self._writable = os.memfd_create("undercroft-keys", os.MFD_CLOEXEC)
        try:
            self._readable = os.open(f"/proc/self/fd/{self._writable}", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException:
            os.close(self._writable)
            raise
        self._entries: list[tuple[str, int, int, bool]] = []
        self._end = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"KeyRing({len(self._entries)} keys)"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def names(self) -> tuple[str, ...]:
        """For which volumes there are keys, in the order in which they were given."""
        return tuple(dict.fromkeys(volume for volume, *_ in self._entries))

    @property
    def descriptor(self) -> int:
        """The file that holds all keys, open for reading."""
        return self._readable

    def add(self, volume: str, secret: bytes | bytearray, *, is_volume_key: bool = False) -> None:
        """Keep a key.

        Args:
            volume: for which volume: its name, UUID or label, "*" for any.
            secret: passphrase or the content of a key file, at most `MAX_SECRET_BYTES`.
            is_volume_key: whether it is a volume's own key instead.

        Raises:
            InputError: the key is empty or too long, there are too many, or no volume is named.
        """
        if not 0 < len(volume) <= MAX_NAME_CHARS:
            raise InputError(f"a key for no volume: name the volume (vda2, a UUID, a label) or {ANY}")
        if not 0 < len(secret) <= MAX_SECRET_BYTES:
            raise InputError(
                f"the key for {volume} has {len(secret)} bytes; it may have 1 to {MAX_SECRET_BYTES}"
            )
        if len(self._entries) >= MAX_KEYS:
            raise InputError(f"more than {MAX_KEYS} keys were given")
        os.pwrite(self._writable, secret, self._end)
        self._entries.append((volume, self._end, len(secret), is_volume_key))
        self._end += len(secret)

    def add_file(self, volume: str, path: str) -> None:
        """Keep the content of a file as a key; messages name the volume and not the path.

        Raises:
            NotFoundError, DeniedError, InputError: there is no such file, it cannot be read, or as `add`.
        """
        # A passphrase that was typed where the path belongs must not end up in a log.
        what = f"the file with the key for {volume}"
        try:
            with open(path, "rb", buffering=0) as file:
                self.add_stream(volume, file.fileno())
        except FileNotFoundError:
            raise NotFoundError(f"{what} does not exist; a key is named as VOLUME=FILE") from None
        except PermissionError:
            raise DeniedError(f"{what} cannot be read: no permission") from None
        except (OSError, ValueError):
            raise InputError(f"{what} cannot be read") from None

    def add_stream(self, volume: str, descriptor: int) -> None:
        """Keep what a descriptor gives until its end (standard input) as a key. Raises as `add`, OSError."""
        secret = bytearray()
        while len(secret) <= MAX_SECRET_BYTES and (piece := os.read(descriptor, MAX_SECRET_BYTES + 1)):
            secret += piece
        try:
            self.add(volume, secret)
        finally:
            secret[:] = bytes(len(secret))

    def inputs(self, index: int) -> tuple[KeyInput, ...]:
        """Return what tells a job of these keys; `index` is the place of `descriptor` among the job's."""
        return tuple(
            KeyInput(volume, index, offset, size_bytes, is_volume_key)
            for volume, offset, size_bytes, is_volume_key in self._entries
        )

    def chosen(self, name: Callable[[str], str]) -> "KeyRing":
        """Return a ring of its own with some of the keys; it becomes the caller's.

        Args:
            name: takes for which volume a key was given, and returns for which it is there, "" for none.
        """
        ring = KeyRing()
        try:
            for volume, offset, size_bytes, is_volume_key in self._entries:
                if wanted := name(volume):
                    secret = os.pread(self._readable, size_bytes, offset)
                    ring.add(wanted, secret, is_volume_key=is_volume_key)
        except BaseException:
            ring.close()
            raise
        return ring

    def close(self) -> None:
        """Give the keys up. May be called twice."""
        if not self._closed:
            self._closed = True
            self._entries.clear()
            os.close(self._writable)
            os.close(self._readable)


def ring_of(keys: Mapping[str, str | bytes]) -> KeyRing:
    """Return a ring with a key for each volume: bytes are the key itself, a text is the path of its file.

    Raises as `KeyRing.add_file`.
    """
    ring = KeyRing()
    try:
        for volume, key in keys.items():
            if isinstance(key, bytes):
                ring.add(volume, key)
            else:
                ring.add_file(volume, key)
    except BaseException:
        ring.close()
        raise
    return ring
