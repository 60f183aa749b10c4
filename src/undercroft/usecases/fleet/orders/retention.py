"""Snapshots past their age on record, and their removal, which only an explicit command brings about.

for kept in review(records, policy, now):
    ...
remove(records, hypervisor, (kept,), Order(by="alice", at=now, reason="past 90 days"))
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime

from undercroft.errors import InputError, NotFoundError, StateError, UndercroftError
from undercroft.lineage import retention
from undercroft.lineage.retention import Doors, Keeping
from undercroft.model.credentials import Credentials
from undercroft.model.fleet import MachineRecord
from undercroft.model.report import CURRENT
from undercroft.model.retention import KeptSnapshot
from undercroft.model.schema import Json
from undercroft.model.verdict import SubjectKind
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.records import Record, Records
from undercroft.steady.policy import Policy
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.revert import named_snapshot
from undercroft.usecases.fleet.subjects import snapshot_key, state_key
from undercroft.usecases.fleet.verdicts.facts import domain_target

KIND = "retention"


def review(records: Records, policy: Policy, now: datetime, machine: str = "") -> tuple[KeptSnapshot, ...]:
    """Return the snapshots of the fleet or of one machine (UUID or name), by machine and oldest first.

    Raises:
        NotFoundError: no machine of that name is on record.
    """
    with records.reading() as record:
        opening = _doors(record)
        machines = _machines(record, machine)
        live = record.live_executions()
        found = [
            retention.review(
                Keeping(
                    machine=one,
                    now=_credentials(record, state_key(one.domain.uuid, CURRENT)),
                    then=_of_snapshots(record, one),
                    limit=policy.settings(domain_target(one.domain, one.host)).snapshots_max_age.value,
                    live=live,
                ),
                opening,
                now,
            )
            for one in machines
        ]
    return tuple(kept for snapshots in found for kept in snapshots)


def chosen(kept: Iterable[KeptSnapshot], names: Sequence[str], machine: str) -> tuple[KeptSnapshot, ...]:
    """Return the snapshots of these names, children before their parents.

    Raises:
        NotFoundError: there is none of a name; the message lists those that there are.
    """
    by_name = {one.name: one for one in kept}
    for name in names:
        if name not in by_name:
            existing = ", ".join(map(repr, by_name)) or "none"
            raise NotFoundError(f"{machine}: no snapshot {name!r} on record; it has: {existing}")
    return tuple(sorted({by_name[name] for name in names}, key=lambda one: one.created_at, reverse=True))


def remove(records: Records, hypervisor: FleetHypervisor, kept: Iterable[KeptSnapshot], order: Order) -> None:
    """Remove snapshots, one by one; each removal and each failure goes on record.

    Args:
        records: the record; no transaction is open.
        hypervisor: libvirt.
        kept: what to remove, as `review` gave it.
        order: whose, with a reason.

    Raises:
        InputError: the order gives no reason.
        StateError: a snapshot was taken anew since it was reviewed. Those before it are removed.
        NotFoundError: a snapshot or its machine is gone.
        OperationError: libvirt failed; the message has its words.
    """
    if not order.reason.strip():
        raise InputError("a snapshot is removed with a reason only, which goes on record: --reason TEXT")
    for one in kept:
        try:
            taken = named_snapshot(hypervisor.domain(one.machine), one.name)
            if taken.created_at_s != int(one.created_at.timestamp()):
                raise StateError(
                    f"{one.machine_name}: snapshot {one.name!r} is another since it was looked at: look again"
                )
            _log(records, one, order, "ordered")
            hypervisor.delete_snapshot(one.machine, one.name)
        except UndercroftError as error:
            _log(records, one, order, "failed", str(error))
            raise
        _log(records, one, order, "removed")


def _machines(record: Record, name: str) -> tuple[MachineRecord, ...]:
    if not name:
        return record.machines()
    found = tuple(one for one in record.find_machines(name) if one.gone_at is None)
    if not found:
        raise NotFoundError(f"{name}: no machine of that name or UUID is on record: undercroft fleet")
    return found


def _of_snapshots(record: Record, machine: MachineRecord) -> dict[str, Credentials]:
    found: dict[str, Credentials] = {}
    for snapshot in machine.domain.snapshots:
        credentials = _credentials(record, snapshot_key(machine.domain.uuid, snapshot.name))
        if credentials is not None:
            found[snapshot.name] = credentials
    return found


def _doors(record: Record) -> Doors:
    """Return where keys let in today, by what is on record of all machines' present states."""
    present = []
    for subject in record.subjects():
        if subject.kind is SubjectKind.MACHINE:
            credentials = _credentials(record, subject.key)
            if credentials is not None:
                present.append((subject.name, credentials))
    return retention.doors(present)


def _credentials(record: Record, subject: str) -> Credentials | None:
    scan = record.scan(subject)
    if scan is None or not scan.credentials:
        return None
    with suppress(NotFoundError):
        return record.credentials(scan.credentials)
    return None


def _log(records: Records, kept: KeptSnapshot, order: Order, outcome: str, detail: str = "") -> None:
    body: dict[str, Json] = {
        "snapshot": kept.name,
        "created_at": kept.created_at.isoformat(),
        "outcome": outcome,
        "past": kept.past,
        "secrets": len(kept.secrets),
        "lives": list(kept.lives),
        "by": order.by,
        "reason": order.reason,
        "detail": detail,
    }
    with records.transaction() as record:
        record.log(KIND, kept.machine, body, order.at)
