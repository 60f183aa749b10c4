"""The hosts of one record: when each was last heard, and what is on record of it as being there."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from undercroft.model.filter import FilterState
from undercroft.model.fleet import MachineRecord
from undercroft.ports.records import Record
from undercroft.usecases.firewall.applying import status
from undercroft.usecases.firewall.values import HostHolding
from undercroft.usecases.fleet.views.values import QUIET, HostRow

FILTER_QUIET = timedelta(minutes=2)
"""Past this without a word of its filter the agent of a host that filters is silent: it has one each 30 s."""

_WORDS = frozenset({"agent", "alarm", "filter", "policy"})
"""Kinds of entries whose subject is a host: its agent has written them."""
_LOOKED_BACK = 50


def hosts_view(record: Record, now: datetime) -> tuple[HostRow, ...]:
    """Return the hosts that have anything on record that is there, by name. Raises OperationError.

    Args:
        record: an open transaction.
        now: with a time zone.
    """
    told = status(record, now)
    holdings = {found.host: found for found in told.hosts}
    is_filtering = told.applied is not None and not told.applied.withdrawn
    machines: dict[str, list[MachineRecord]] = {}
    for machine in record.machines():
        machines.setdefault(machine.host, []).append(machine)
    hosts = {subject.host for subject in record.subjects()}
    hosts |= {execution.host for execution in record.live_executions()}
    return tuple(
        _row(record, host, machines.get(host, ()), holdings.get(host), now, filters=is_filtering)
        for host in sorted({*hosts, *holdings} - {""})
    )


def _row(
    record: Record,
    host: str,
    machines: Sequence[MachineRecord],
    told: HostHolding | None,
    now: datetime,
    *,
    filters: bool,
) -> HostRow:
    state = told.state if told else None
    heard_at, stopped = _heard(record, host, machines, state)
    quiet = FILTER_QUIET if filters and state else QUIET
    return HostRow(
        host=host,
        heard_at=heard_at,
        stopped=stopped,
        silent=stopped or heard_at is None or now - heard_at > quiet,
        quiet_s=int(quiet.total_seconds()),
        machines=len(machines),
        running=sum(machine.domain.power.has_process for machine in machines),
        policy=state.number if state else 0,
        filter=told.holding if told and (filters or state) else None,
    )


def _heard(
    record: Record, host: str, machines: Iterable[MachineRecord], state: FilterState | None
) -> tuple[datetime | None, bool]:
    """Return when a host's agent was last heard, and whether its last word was that it stops."""
    entries = [
        entry for entry in record.log_entries(0, _LOOKED_BACK, host, last=True) if entry.kind in _WORDS
    ]
    heard = [machine.last_seen for machine in machines] + [entry.at for entry in entries[-1:]]
    heard += [state.at] if state else []
    stopped = bool(entries) and json.loads(entries[-1].body).get("agent") == "stopped"
    return max(heard, default=None), stopped
