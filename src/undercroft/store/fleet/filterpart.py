"""A record's firewall: the policy that was applied, what each host's kernel holds, and flows on the move."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Text, func, or_, select, type_coerce

from undercroft.errors import DamagedError, OperationError
from undercroft.model.execution import Origin
from undercroft.model.filter import (
    FLOWS_KEPT,
    AppliedPolicy,
    FilterState,
    LiveOrigin,
    MovedFlows,
    NetworkedMachine,
)
from undercroft.model.verdict import Verdict
from undercroft.store.fleet import logged, tables
from undercroft.store.fleet.codec import from_text
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.logpart import LogPart
from undercroft.store.fleet.networked import networked
from undercroft.store.fleet.session import chunks
from undercroft.store.fleet.tables import micros, moment

_POLICY = tables.applied_policy.c
_LAST = (
    select(_POLICY.number, _POLICY.digest, _POLICY.body, _POLICY.by, _POLICY.reason, _POLICY.at)
    .order_by(_POLICY.number.desc())
    .limit(1)
)

_MACHINE = tables.machine.c
_MACHINES = select(_MACHINE.host, _MACHINE.last_seen, _MACHINE.network).where(_MACHINE.gone_at.is_(None))
_CLAIM = tables.claim.c
_NAMED = tables.machine.alias().c
_LIVE = select(tables.execution.c.body, tables.execution.c.started_at, tables.execution.c.number).where(
    tables.execution.c.ended_at.is_(None)
)
_SUBJECT = type_coerce(tables.judgement.c.subject, Text)
_VERDICTS = select(_SUBJECT, tables.judgement.c.verdict).where(
    or_(_SUBJECT.startswith("machine:"), _SUBJECT.startswith("template:"))
)


_HEAD_CHARS = 80
_NEVER = datetime.fromtimestamp(0, UTC)
_AT = re.compile(r'\{"at":"([^"]{1,60})"')
"""How the canonical JSON of `StoredFlows` begins."""


@dataclass(frozen=True, slots=True)
class StoredSet:
    """The keys of one set, in hexadecimal."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredFlows:
    """`MovedFlows` as it stands in its row: JSON has neither bytes nor keys of its own choice."""

    machine: str
    host: str
    at: datetime
    elements: tuple[StoredSet, ...]


class FilterPart(LogPart):
    """The methods of the firewall."""

    def put_applied_policy(self, body: str, digest: str, by: str, reason: str, at: datetime) -> AppliedPolicy:
        """See `ports.records.Record.put_applied_policy`. There is one writer, so no number is given twice."""
        self._may_write()
        last = self._all(select(func.max(_POLICY.number)))[0][0] or 0
        policy = AppliedPolicy(last + 1, digest, body, by, reason, at)
        row = {"number": policy.number, "digest": digest, "by": by, "reason": reason, "body": body}
        self._insert(tables.applied_policy, [{**row, "at": micros(at)}])
        self._append([logged.firewall_line(policy)])
        return policy

    def applied_policy(self) -> AppliedPolicy | None:
        """See `ports.records.Record.applied_policy`."""
        rows = self._all(_LAST)
        if not rows:
            return None
        number, digest, body, by, reason, at = rows[0]
        return AppliedPolicy(number, digest, body, by, reason, moment(at))

    def put_filter_state(self, state: FilterState) -> None:
        """See `ports.records.Record.put_filter_state`."""
        state = state.bounded()
        self._may_write()
        try:
            before = self.filter_state(state.host)
        except DamagedError:
            before = None  # it is mended by this one, which is news
        line = logged.filter_line(before, state)
        self._put(tables.filter_state, [{"host": state.host, "body": to_text(state)}])
        if line is not None:
            self._append([line])

    def filter_states(self) -> tuple[FilterState, ...]:
        """See `ports.records.Record.filter_states`. A damaged row spoils no other."""
        table = tables.filter_state.c
        rows = self._all(select(type_coerce(table.host, Text), table.body))
        return tuple(sorted(map(_filter_state, rows), key=lambda state: state.host))

    def filter_state(self, host: str) -> FilterState | None:
        """See `ports.records.Record.filter_state`."""
        bodies = self._bodies_where(tables.filter_state.c.host, host)
        return from_text(FilterState, bodies[0], f"filter state of {host}") if bodies else None

    def drop_filter_state(self, host: str) -> None:
        """See `ports.records.Record.drop_filter_state`."""
        self._write(tables.filter_state.delete().where(tables.filter_state.c.host == host))

    def networked_machines(self, machines: Collection[str] | None = None) -> tuple[NetworkedMachine, ...]:
        """See `ports.records.Record.networked_machines`. Only what it asks for is decoded."""
        return _networked(self._about(_MACHINES, _MACHINE.uuid, machines))

    def machines_with(
        self, things: Collection[str], names: Collection[str] = ()
    ) -> tuple[NetworkedMachine, ...]:
        """See `ports.records.Record.machines_with`."""
        found: dict[tuple[str, str], Row[*tuple[Any, ...]]] = {}
        for some in chunks(sorted(things)):
            having = select(_CLAIM.uuid).where(_CLAIM.claim.in_(some))
            found |= {(row[0], row[2]): row for row in self._all(_MACHINES.where(_MACHINE.uuid.in_(having)))}
        for some in chunks(sorted(names)):
            called = select(_NAMED.uuid).where(_NAMED.name.in_(some))
            found |= {(row[0], row[2]): row for row in self._all(_MACHINES.where(_MACHINE.uuid.in_(called)))}
        return _networked(found.values())

    def live_origins(self, machines: Collection[str] | None = None) -> tuple[LiveOrigin, ...]:
        """See `ports.records.Record.live_origins`."""
        rows = self._about(_LIVE, tables.execution.c.machine, machines)
        try:
            found = [
                (
                    body["eid"],
                    LiveOrigin(body["machine"], body["host"], Origin(body["origin"]), moment(at), number),
                )
                for body, (_, at, number) in zip(_parsed([row[0] for row in rows]), rows, strict=True)
            ]
        except _DAMAGE as error:
            raise _damaged("execution", error) from error
        return tuple(origin for _, origin in sorted(found, key=lambda pair: (pair[1].started_at, pair[0])))

    def verdicts(self, subjects: Collection[str] | None = None) -> Mapping[str, Verdict]:
        """See `ports.records.Record.verdicts`."""
        rows = self._about(_VERDICTS, tables.judgement.c.subject, subjects)
        try:
            return {subject: Verdict(verdict) for subject, verdict in rows}
        except ValueError as error:
            raise _damaged("judgement", error) from error

    def put_moved_flows(self, flows: MovedFlows) -> None:
        """See `ports.records.Record.put_moved_flows`."""
        sets = tuple(
            StoredSet(name, tuple(key.hex() for key in flows.elements[name]))
            for name in sorted(flows.elements)
        )
        self._forget_flows(self._shared.now() - FLOWS_KEPT)
        stored = StoredFlows(flows.machine, flows.host, flows.at, sets)
        self._put(tables.moved_flows, [{"machine": flows.machine, "body": to_text(stored)}])

    def _forget_flows(self, before: datetime) -> None:
        """Forget what was put earlier; of a body only the beginning is read, where its time is."""
        flows = tables.moved_flows.c
        rows = self._all(select(type_coerce(flows.machine, Text), func.substr(flows.body, 1, _HEAD_CHARS)))
        for some in chunks(machine for machine, head in rows if not _is_since(head, before)):
            self._write(tables.moved_flows.delete().where(type_coerce(flows.machine, Text).in_(some)))

    def moved_flows(self, machine: str) -> MovedFlows | None:
        """See `ports.records.Record.moved_flows`."""
        bodies = self._bodies_where(tables.moved_flows.c.machine, machine)
        if not bodies:
            return None
        row = f"flows of {machine}"
        stored = from_text(StoredFlows, bodies[0], row)
        try:
            elements = {item.name: tuple(map(bytes.fromhex, item.keys)) for item in stored.elements}
        except ValueError as error:
            raise OperationError(f"the record's {row} are damaged: {error}") from error
        return MovedFlows(stored.machine, stored.host, stored.at, elements)

    def drop_moved_flows(self, machine: str) -> None:
        """See `ports.records.Record.drop_moved_flows`."""
        self._write(tables.moved_flows.delete().where(tables.moved_flows.c.machine == machine))


def _filter_state(row: Row[*tuple[Any, ...]]) -> FilterState:
    host, body = row
    try:
        return from_text(FilterState, body, f"filter state of {host}")
    except DamagedError as error:
        return FilterState(host, 0, "", 0, 0, None, str(error), _NEVER).bounded()


def _is_since(head: str, before: datetime) -> bool:
    """Tell whether flows are not older; what is damaged counts as old."""
    found = _AT.match(head)
    try:
        return found is not None and datetime.fromisoformat(found[1]) >= before
    except (ValueError, TypeError):
        return False


def _networked(rows: Iterable[Row[*tuple[Any, ...]]]) -> tuple[NetworkedMachine, ...]:
    found = [networked(host, moment(at), text) for host, at, text in rows]
    return tuple(sorted(found, key=lambda machine: (machine.name, machine.host)))


_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


def _parsed(texts: Sequence[str]) -> list[Any]:
    """Return the JSON of many rows, parsed in one go. Raises ValueError for what is none."""
    values: list[Any] = json.loads(f"[{','.join(texts)}]")
    if len(values) != len(texts):
        raise ValueError("a row holds several values")
    return values


def _damaged(table: str, error: Exception) -> OperationError:
    return OperationError(
        f"the record's {table} is damaged: {error}; undercroft audit verify tells whether the log is whole"
    )
