"""Where the vaults of a host write what they decide: a log of records that is durable, in order, and whole.

A log has groups of records. A group is durable as one: after a crash it is there with all its records or not
at all, and every group that `sync` returned for is there. Each group has a head, which stands for it and for
all groups before it; nobody who lacks the log's key can make a group that has a valid head.

What a log cannot show is that its newest groups were taken away together with all that knew of them, as when
an earlier image of its disk is put back: heads in a TPM show that (`undercroft.vault.start`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

HEAD_BYTES = 32
MAX_RECORD_BYTES = 65_536
MAX_GROUP_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Group:
    """Records that became durable together, in the order in which they were appended; `head` has 32 bytes."""

    head: bytes
    records: tuple[bytes, ...]


class VaultLog(Protocol):
    """One log, which this process alone has open. `sync` may run in another thread than `reserve`."""

    @property
    def head(self) -> bytes:
        """The head of the last durable group; of an empty log, a head of its own."""
        ...

    @property
    def grown_bytes(self) -> int:
        """How many bytes of groups came after the last snapshot, or since the log began."""
        ...

    def read(self) -> Iterator[Group]:
        """Yield the durable groups from the last snapshot on, oldest first. Its records are in groups too.

        Raises:
            DamagedError: a group is damaged that was durable once.
            OperationError: the disk failed.
        """
        ...

    def reserve(self, size_bytes: int) -> int:
        """Make room on the disk, and return how many bytes of records `append` and `sync` now have room for.

        On a full disk that is less than asked for, at the least 0; it raises nothing. Each record takes
        4 bytes more than it has.
        """
        ...

    def append(self, records: Sequence[bytes]) -> None:
        """Take the records of the next group, each of 1 to `MAX_RECORD_BYTES`.

        Raises:
            InputError: a record or the group is too large, or there is none; nothing was taken.
            StateError: another group waits for `sync`.
            OperationError: an earlier `sync` failed, or the log was closed.
        """
        ...

    def sync(self) -> bytes:
        """Make the group durable that waits, and return the head: one write, one fdatasync.

        Where none waits it does nothing.

        Raises:
            OperationError: the disk is full or failed. Nobody knows whether the group is durable: the log
                takes nothing more, and has to be opened and read anew.
        """
        ...

    def snapshot(self, records: Iterable[bytes]) -> None:
        """Let the log begin with these records, which stand for all groups so far; the next group follows.

        A crash leaves the log as it was or as it is then, never anything between. The head changes.

        Raises:
            StateError: a group waits for `sync`.
            OperationError: it could not be written; the log goes on as it was, or takes nothing more.
        """
        ...

    def close(self) -> None:
        """Let the log go: what was not synced is lost. Twice is no error."""
        ...
