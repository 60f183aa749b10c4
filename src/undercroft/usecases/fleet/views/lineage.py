"""The tree of a machine's executions, from the record."""

from collections.abc import Iterable
from datetime import UTC, datetime

from undercroft.lineage.tree import Tree, build
from undercroft.model.execution import Execution, RecordedState, StateKind
from undercroft.model.fleet import MachineRecord
from undercroft.ports.records import Record
from undercroft.usecases.fleet.views.machine import find_machine

_MAX_DECISIONS = 20_000
"""The latest ones; of what lies further back the tree shows no answer."""
_FEW = 32
"""More machines than this are asked for their states at once."""
_IMAGE = "image:"


def lineage_view(record: Record, name: str) -> tuple[MachineRecord, Tree]:
    """Return a machine and the tree of its executions, with those of the machines related to it.

    Raises:
        NotFoundError: no machine of that name or UUID is on record.
    """
    machine = find_machine(record, name)
    uuid = machine.domain.uuid
    executions = record.executions(uuid)
    decisions = record.decisions(uuid, _MAX_DECISIONS)
    return machine, build(uuid, executions, _states(record, executions), decisions)


def _states(record: Record, executions: Iterable[Execution]) -> Iterable[RecordedState]:
    """Yield the states of these machines, and the images that they were made from by their keys alone."""
    machines = {execution.machine for execution in executions}
    if len(machines) > _FEW:
        yield from record.states()
        return
    for machine in sorted(machines):
        yield from record.states(machine)
    for key in sorted({known.state for known in executions if known.state.startswith(_IMAGE)}):
        path = key.removeprefix(_IMAGE).partition(":")[2]
        yield RecordedState(key, StateKind.IMAGE, "", path, "", datetime.fromtimestamp(0, UTC))
