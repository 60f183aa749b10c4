"""A host that is gone for good: what the record has as being there is there no more.

A machine's UUID, MACs and addresses are those of the host that has had them longest (`firewall.whereabouts`,
`firewall.claims`). Of a host that has died nobody tells that they are free: what is started elsewhere in its
machines' place is closed. This says it, as a survey would that finds no machine there: histories, decisions,
floors and the log stay. A host that speaks again puts its machines back by its own survey, as newcomers:
what others have by then stays theirs.

    with records.transaction() as record:
        forget(record, "host1", Order(by="alice", at=now, reason="its power supply burned"), here="host2")
"""

from dataclasses import dataclass, replace

from undercroft.errors import DeniedError, InputError, NotFoundError
from undercroft.model.domain import Survey
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.facts import end
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.starts.network import is_of_host
from undercroft.usecases.fleet.subjects import put_subjects
from undercroft.usecases.fleet.views.hosts import hosts_view
from undercroft.usecases.fleet.views.values import HostRow

KIND = "host"
DONE = "forgotten"
_LOST = "lost"
"""Nobody has seen how its executions ended."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A machine that the record had on the host that is forgotten, and on another one, where it is now."""

    name: str
    host: str


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What is no longer on record as being there.

    Attributes:
        host: its name.
        machines: how many were there.
        executions: how many were live there.
        elsewhere: those of its machines that are on record on another host too, by name.
    """

    host: str
    machines: int
    executions: int
    elsewhere: tuple[Moved, ...]


def forget(record: Record, host: str, order: Order, here: str) -> Forgotten:
    """Take out of the record what it has of a host as being there. The order is in the log.

    Args:
        record: a transaction that may write.
        host: which host.
        order: whose, why, and whether it counts for a host that was heard just now.
        here: the name of the host on which this is ordered.

    Raises:
        InputError: the order gives no reason.
        NotFoundError: nothing is on record of such a host.
        DeniedError: it is this host, or its agent is alive and the order does not override that.
    """
    if not order.reason.strip():
        raise InputError(f"{host}: that a host is forgotten goes on record with a reason only: --reason TEXT")
    rows = {row.host: row for row in hosts_view(record, order.at)}
    if host not in rows:
        known = ", ".join(rows) or "none"
        raise NotFoundError(f"{host}: nothing on record is on a host of this name; hosts on record: {known}")
    row = rows[host]
    if host == here:
        raise DeniedError(
            f"{host}: it is this very host, and its agent tells what is on it: undercroft up; "
            "forget it from another host of the record once it is gone"
        )
    if not row.silent and not order.anyway:
        raise DeniedError(_alive(row, order))
    return _forgotten(record, row, order)


def _alive(row: HostRow, order: Order) -> str:
    age = f" {max(int((order.at - row.heard_at).total_seconds()), 0)} s ago" if row.heard_at else ""
    return (
        f"{row.host}: its agent was heard{age}, so it may be alive: switch the host off, or stop its agent "
        f"there (systemctl stop undercroft); it counts as silent after {row.quiet_s // 60} minutes; or give "
        "--anyway, which goes on record"
    )


def _forgotten(record: Record, row: HostRow, order: Order) -> Forgotten:
    host, at = row.host, order.at
    machines = record.machines(host)
    homes = _homes(record, host)
    for hold in record.holds():
        if is_of_host(record, hold, host):
            record.drop_hold(hold.machine, f"its host, {host}, was forgotten", at)
    live = [execution for execution in record.live_executions() if execution.host == host]
    for execution in live:
        told = replace(execution, evidence=(*execution.evidence, f"its host, {host}, was forgotten"))
        end(record, told, _LOST, at)
    for subject in record.subjects():
        if subject.host == host and subject.machine in homes:
            # What is known of its software goes with it; its new host has not surveyed it yet.
            record.put_subject(replace(subject, host=homes[subject.machine]))
    nothing = Survey(host, "", at, ())
    record.put_survey(nothing)
    put_subjects(record, nothing)
    record.drop_filter_state(host)
    body: dict[str, Json] = {
        "outcome": DONE,
        "by": order.by,
        "reason": order.reason,
        "anyway": order.anyway and not row.silent,
        "heard_at": row.heard_at.isoformat() if row.heard_at else None,
        "machines": [machine.domain.uuid for machine in machines],
        "executions": len(live),
    }
    record.log(KIND, host, body, at)
    return Forgotten(
        host=host,
        machines=len(machines),
        executions=len(live),
        elsewhere=tuple(
            Moved(machine.domain.name, homes[machine.domain.uuid])
            for machine in machines
            if machine.domain.uuid in homes
        ),
    )


def _homes(record: Record, host: str) -> dict[str, str]:
    """Return on which other host machines are, by UUID: where they live, if they do anywhere."""
    homes = {found.domain.uuid: found.host for found in record.machines() if found.host != host}
    lives = ((one.machine, one.host) for one in record.live_executions())
    return homes | {machine: place for machine, place in lives if machine in homes and place != host}
