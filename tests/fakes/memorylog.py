"""A log of vaults in memory: the same promises as `VaultFile`, and images of it that can be put back."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from copy import copy

from undercroft.errors import InputError, OperationError, StateError
from undercroft.ports.vaultlog import HEAD_BYTES, MAX_GROUP_BYTES, MAX_RECORD_BYTES, Group


class MemoryLog:
    """Implements `VaultLog`. `room` is what its disk has left; `fail_next` lets the next sync fail."""

    def __init__(self, groups: Sequence[Group] = (), room: int = 1 << 30) -> None:
        self.groups = list(groups)
        self.room = room
        self.fail_next = False
        self.grown_bytes = 0
        self._waiting: Sequence[bytes] = ()
        self._failed = ""

    def image(self) -> "MemoryLog":
        """What a process finds that opens this log after a crash now."""
        taken = copy(self)
        taken.groups, taken._waiting, taken._failed = list(self.groups), (), ""
        return taken

    @property
    def head(self) -> bytes:
        return self.groups[-1].head if self.groups else bytes(HEAD_BYTES)

    def read(self) -> Iterator[Group]:
        yield from list(self.groups)

    def reserve(self, size_bytes: int) -> int:
        return min(size_bytes, max(0, self.room))

    def append(self, records: Sequence[bytes]) -> None:
        self._check()
        if not records or not all(0 < len(each) <= MAX_RECORD_BYTES for each in records):
            raise InputError("a record is too large, or there is none")
        if sum(map(len, records)) + 4 * len(records) > MAX_GROUP_BYTES:
            raise InputError("the group is too large")
        self._waiting = records

    def sync(self) -> bytes:
        if self._failed:
            raise OperationError(self._failed)
        if self._waiting:
            size = sum(map(len, self._waiting)) + 4 * len(self._waiting)
            if self.fail_next or size > self.room:
                self._failed = "the log cannot be written"
                raise OperationError(self._failed)
            self.room -= size
            self.grown_bytes += size
            self.groups.append(self._group(self.head, self._waiting))
            self._waiting = ()
        return self.head

    def snapshot(self, records: Iterable[bytes]) -> None:
        self._check()
        if self.fail_next:
            raise OperationError("the log cannot be written anew")
        before = hashlib.sha256(b"anew" + self.head).digest()
        taken = tuple(records)
        self.groups = [self._group(before, taken)] if taken else [Group(before, ())]
        self.grown_bytes = 0

    def close(self) -> None:
        self._failed = self._failed or "the log was closed"

    def _check(self) -> None:
        if self._failed:
            raise OperationError(self._failed)
        if self._waiting:
            raise StateError("a group waits")

    @staticmethod
    def _group(before: bytes, records: Sequence[bytes]) -> Group:
        joined = b"".join(len(each).to_bytes(4, "big") + each for each in records)
        return Group(hashlib.sha256(before + joined).digest(), tuple(records))
