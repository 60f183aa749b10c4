"""A record's hook events, executions and recorded states."""

from collections.abc import Iterable

from sqlalchemy import Column, bindparam, or_, select

from undercroft.model.execution import Execution, HookEvent, RecordedState
from undercroft.store.fleet import logged, tables
from undercroft.store.fleet.codec import from_text, from_texts
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.logpart import LogPart
from undercroft.store.fleet.session import VALUE, chunks
from undercroft.store.fleet.tables import micros

_LATEST_OWN = (
    select(tables.execution.c.body)
    .where(tables.execution.c.machine == bindparam(VALUE))
    .order_by(tables.execution.c.started_at.desc(), tables.execution.c.eid.desc())
    .limit(bindparam("most"))
)


_NUMBER = select(tables.execution.c.number).where(tables.execution.c.eid == bindparam(VALUE))
_AS_TOLD = (
    select(tables.execution.c.body)
    .where(tables.execution.c.machine == bindparam(VALUE))
    .order_by(tables.execution.c.number)
)


class LineagePart(LogPart):
    """The methods of lineage."""

    def take_event(self, event: HookEvent) -> bool:
        """See `ports.records.Record.take_event`."""
        row = {
            "ident": event.ident,
            "at_ns": event.at_ns,
            "machine": event.uuid,
            "body": to_text(event),
        }
        return self._add(tables.event, row, "ident")

    def put_execution(self, execution: Execution) -> None:
        """See `ports.records.Record.put_execution`."""
        self._may_write()
        before = self.execution(execution.eid)
        if before == execution:
            return
        row = {
            "eid": execution.eid,
            "machine": execution.machine,
            "parent": execution.parent,
            "started_at": micros(execution.started_at),
            "ended_at": None if execution.ended_at is None else micros(execution.ended_at),
            "body": to_text(execution),
            "number": self._number_of(execution) if before else self.log_head()[1] + 1,
        }
        self._put(tables.execution, [row])
        self._append(list(logged.execution_lines(before, execution, self._shared.now())))

    def _number_of(self, execution: Execution) -> int:
        number: int = self._all(_NUMBER, {VALUE: execution.eid})[0][0]
        return number

    def execution(self, eid: str) -> Execution | None:
        """See `ports.records.Record.execution`."""
        bodies = self._bodies_where(tables.execution.c.eid, eid)
        return from_text(Execution, bodies[0], f"execution {eid}") if bodies else None

    def executions(self, machine: str = "") -> tuple[Execution, ...]:
        """See `ports.records.Record.executions`."""
        own = (
            self._executions_by(tables.execution.c.machine, [machine]) if machine else self._every_execution()
        )
        found = {value.eid: value for value in own}
        above = found
        while machine and above:
            wanted = {value.parent for value in above.values()} - {"", *found}
            above = {value.eid: value for value in self._executions_by(tables.execution.c.eid, wanted)}
            found |= above
        below = {value.eid for value in own}
        while machine and below:
            children = self._executions_by(tables.execution.c.parent, below)
            below = {value.eid for value in children} - {*found}
            found |= {value.eid: value for value in children}
        return _in_order(found.values())

    def own_executions(self, machine: str, limit: int = 0) -> tuple[Execution, ...]:
        """See `ports.records.Record.own_executions`."""
        if limit:
            bodies = self._bodies(_LATEST_OWN, {VALUE: machine, "most": limit})
        else:
            bodies = self._bodies_where(tables.execution.c.machine, machine)
        return _in_order(from_texts(Execution, bodies, "execution"))

    def executions_as_told(self, machine: str) -> tuple[Execution, ...]:
        """See `ports.records.Record.executions_as_told`."""
        return tuple(from_texts(Execution, self._bodies(_AS_TOLD, {VALUE: machine}), "execution"))

    def live_executions(self) -> tuple[Execution, ...]:
        """See `ports.records.Record.live_executions`."""
        statement = select(tables.execution.c.body).where(tables.execution.c.ended_at.is_(None))
        return _in_order(from_texts(Execution, self._bodies(statement), "execution"))

    def put_state(self, state: RecordedState) -> None:
        """See `ports.records.Record.put_state`."""
        row = {
            "key": state.key,
            "machine": state.machine,
            "fingerprint": state.fingerprint,
            "sample": state.sample,
            "taken_at": micros(state.taken_at),
            "body": to_text(state),
        }
        self._put(tables.state, [row])

    def state(self, key: str) -> RecordedState | None:
        """See `ports.records.Record.state`."""
        bodies = self._bodies_where(tables.state.c.key, key)
        return from_text(RecordedState, bodies[0], f"state {key}") if bodies else None

    def states(self, machine: str = "") -> tuple[RecordedState, ...]:
        """See `ports.records.Record.states`."""
        by = tables.state.c.machine
        return _oldest_first(
            self._bodies_where(by, machine) if machine else self._bodies(select(tables.state.c.body))
        )

    def states_like(self, *, fingerprint: str = "", sample: str = "") -> tuple[RecordedState, ...]:
        """See `ports.records.Record.states_like`."""
        wanted = ((tables.state.c.fingerprint, fingerprint), (tables.state.c.sample, sample))
        alike = [column == value for column, value in wanted if value]
        if not alike:
            return ()
        return _oldest_first(self._bodies(select(tables.state.c.body).where(or_(*alike))))[::-1]

    def _every_execution(self) -> list[Execution]:
        return from_texts(Execution, self._bodies(select(tables.execution.c.body)), "execution")

    def _executions_by(self, column: Column[str], values: Iterable[str]) -> list[Execution]:
        found: list[Execution] = []
        for some in chunks(values):
            bodies = self._bodies(select(tables.execution.c.body).where(column.in_(some)))
            found += from_texts(Execution, bodies, "execution")
        return found


def _in_order(executions: Iterable[Execution]) -> tuple[Execution, ...]:
    return tuple(sorted(executions, key=lambda value: (value.started_at, value.eid)))


def _oldest_first(bodies: list[str]) -> tuple[RecordedState, ...]:
    found = from_texts(RecordedState, bodies, "state")
    return tuple(sorted(found, key=lambda value: (value.taken_at, value.key)))
