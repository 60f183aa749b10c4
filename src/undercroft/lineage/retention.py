"""How old snapshots are, and what they keep that ought to be gone: private keys, tokens, ways in elsewhere.

A key that was deleted or replaced in a machine lies on in every snapshot from before, and whoever reads the
image has it. Nothing is removed here; what is told is what a removal would be worth, and what hangs on it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from undercroft.model.credentials import Credentials
from undercroft.model.domain import DomainSnapshot
from undercroft.model.execution import Execution
from undercroft.model.fleet import MachineRecord
from undercroft.model.retention import KeptKey, KeptSecret, KeptSnapshot

Doors = Mapping[str, tuple[str, ...]]
"""Where a key lets in today ("root on db01"), by fingerprint."""

_NOT_READ = "its accounts, keys and secrets were not read"


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is known of one machine's snapshots.

    Attributes:
        machine: as it is on record.
        now: what its present state holds, None where that was not read.
        then: what each snapshot holds, by name; one that is missing was not read.
        limit: the policy's, None for any age.
        live: executions that live, of any machine.
    """

    machine: MachineRecord
    now: Credentials | None
    then: Mapping[str, Credentials]
    limit: timedelta | None
    live: tuple[Execution, ...] = field(default=())


def doors(present: Iterable[tuple[str, Credentials]]) -> Doors:
    """Return where keys let in today; `present` has each machine's name and what it holds now."""
    found: dict[str, set[str]] = {}
    for name, credentials in present:
        for key in credentials.keys:
            if key.role == "authorized":
                found.setdefault(key.fingerprint, set()).add(f"{key.owner} on {name}")
    return {fingerprint: tuple(sorted(places)) for fingerprint, places in found.items()}


def review(keeping: Keeping, opening: Doors, now: datetime) -> tuple[KeptSnapshot, ...]:
    """Return a machine's snapshots, oldest first.

    Args:
        keeping: what is known of them.
        opening: where keys let in today.
        now: with a time zone.
    """
    found = [_kept(keeping, snapshot, opening, now) for snapshot in keeping.machine.domain.snapshots]
    return tuple(sorted(found, key=lambda kept: (kept.created_at, kept.name)))


def _kept(keeping: Keeping, snapshot: DomainSnapshot, opening: Doors, now: datetime) -> KeptSnapshot:
    domain = keeping.machine.domain
    created_at = datetime.fromtimestamp(snapshot.created_at_s, UTC)
    then = keeping.then.get(snapshot.name)
    key = f"snapshot:{domain.uuid}:{snapshot.name}:{snapshot.created_at_s}"
    return KeptSnapshot(
        machine=domain.uuid,
        machine_name=domain.name,
        host=keeping.machine.host,
        name=snapshot.name,
        created_at=created_at,
        age_s=max(int((now - created_at).total_seconds()), 0),
        limit_s=None if keeping.limit is None else int(keeping.limit.total_seconds()),
        secrets=_secrets(keeping.now, then),
        keys=_keys(keeping.now, then, opening),
        children=tuple(sorted(one.name for one in domain.snapshots if one.parent == snapshot.name)),
        lives=tuple(sorted(execution.eid for execution in keeping.live if execution.state == key)),
        problems=_problems(keeping.now, then),
    )


def _secrets(now: Credentials | None, then: Credentials | None) -> tuple[KeptSecret, ...]:
    present = {secret.path for secret in now.secrets} if now else set()
    found = [
        KeptSecret(secret.path, secret.kind, now is not None and secret.path not in present)
        for secret in (then.secrets if then else ())
    ]
    return tuple(sorted(found, key=lambda secret: (not secret.only_here, secret.path)))


def _keys(now: Credentials | None, then: Credentials | None, opening: Doors) -> tuple[KeptKey, ...]:
    present = {key.fingerprint for key in now.keys if key.role == "user"} if now else set()
    found = {
        KeptKey(
            key.owner,
            key.fingerprint,
            now is not None and key.fingerprint not in present,
            opening.get(key.fingerprint, ()),
        )
        for key in (then.keys if then else ())
        if key.role == "user"
    }
    return tuple(
        sorted(found, key=lambda key: (not key.opens, not key.only_here, key.owner, key.fingerprint))
    )


def _problems(now: Credentials | None, then: Credentials | None) -> tuple[str, ...]:
    if then is None:
        return (_NOT_READ,)
    problems = then.problems
    if now is None:
        problems += ("the present state was not read, so what only the snapshot has is unknown",)
    return problems
