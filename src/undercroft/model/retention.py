"""Snapshots past their age, and the secrets that they hold."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class KeptSecret:
    """One secret in a snapshot.

    Attributes:
        path: where in the guest; untrusted.
        kind: what it is; untrusted.
        only_here: the machine's present state has it no more.
    """

    path: str
    kind: str
    only_here: bool


@dataclass(frozen=True, slots=True)
class KeptKey:
    """One user's key in a snapshot.

    Attributes:
        owner: the account in the snapshot; untrusted.
        fingerprint: of its public part.
        only_here: the machine's present state has it no more.
        opens: where it lets in today ("root on db01"), sorted; () for nowhere that is on record.
    """

    owner: str
    fingerprint: str
    only_here: bool
    opens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KeptSnapshot:
    """One snapshot as retention sees it.

    Attributes:
        machine: UUID.
        machine_name: the machine's name.
        host: where it lies.
        name: the snapshot's.
        created_at: when it was taken.
        age_s: in seconds.
        limit_s: the policy's, None for any age.
        secrets: those that only the snapshot has come first.
        keys: those that open something come first.
        children: snapshots that were taken after it and from it.
        lives: executions that began from it and live, by id.
        problems: why secrets may be missing: not empty, nothing is said of what is not shown.
    """

    machine: str
    machine_name: str
    host: str
    name: str
    created_at: datetime
    age_s: int
    limit_s: int | None
    secrets: tuple[KeptSecret, ...] = ()
    keys: tuple[KeptKey, ...] = ()
    children: tuple[str, ...] = ()
    lives: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def past(self) -> bool:
        """True when it is older than the policy allows."""
        return self.limit_s is not None and self.age_s > self.limit_s
