"""What the terminal's tree and the picture say of an execution, and what both leave out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from undercroft.cli.render.escape import escape, harmless
from undercroft.cli.render.words import age, count
from undercroft.lineage.tree import Node, Tree
from undercroft.model.execution import Execution, Origin, RecordedState, StateKind
from undercroft.model.verdict import Action, Decision

RUN = 3
"""So many plain starts in a row become one line."""

_ORIGINS = {
    Origin.FIRST: "first start",
    Origin.START: "start",
    Origin.RESTORE: "restored",
    Origin.REVERT: "reverted",
    Origin.BACKUP: "start from a backup",
    Origin.CLONE: "clone",
    Origin.FORK: "forked: its RAM was continued before",
    Origin.LOAD: "state loaded inside",
    Origin.MIGRATE: "migrated in",
    Origin.UNKNOWN: "start, disks changed meanwhile",
}
_ACTIONS = {Action.ALLOW: "allowed", Action.QUARANTINE: "quarantined", Action.REFUSE: "refused"}


@dataclass(frozen=True, slots=True)
class Told:
    """One or several executions of one line, as they are shown. `nodes` has one, or a run of plain starts."""

    nodes: tuple[Node, ...]

    @property
    def first(self) -> Node:
        """The only one, or the first of the run."""
        return self.nodes[0]

    @property
    def last(self) -> Node:
        """The only one, or the last of the run."""
        return self.nodes[-1]


def line(tree: Tree, eid: str, hints: Mapping[str, str], *, everything: bool) -> Iterator[Told]:
    """Yield an execution and those on its line: main child after main child, to the line's end.

    Args:
        tree: the tree.
        eid: where the line begins.
        hints: executions that are never part of a run, by eid.
        everything: leave no run of plain starts together.
    """
    run: list[Node] = []
    while eid:
        node = tree.nodes[eid]
        if not everything and eid not in hints and _is_plain(node):
            run.append(node)
        else:
            yield from _runs(run)
            run = []
            yield Told((node,))
        eid = node.main
    yield from _runs(run)


def _runs(run: list[Node]) -> Iterator[Told]:
    if len(run) >= RUN:
        yield Told(tuple(run))
    else:
        yield from (Told((node,)) for node in run)


def _is_plain(node: Node) -> bool:
    execution = node.execution
    return (
        execution.origin is Origin.START
        and execution.certain
        and execution.ending == "stopped"
        and not (node.here or node.taken or node.refusals or node.damage or len(node.children) > 1)
        and (node.decision is None or node.decision.action is Action.ALLOW)
    )


def title(told: Told, machine: str) -> str:
    """Return what began, escaped, with the machine's name where it is another than `machine`."""
    node = told.first
    execution = node.execution
    if len(told.nodes) > 1:
        text = count(len(told.nodes), "start")
    else:
        text = _ORIGINS[execution.origin] + _from(node)
    doubt = "" if execution.certain else " ?"
    other = f"{escape(execution.name)}: " if execution.machine != machine else ""
    damage = f" ({harmless(node.damage)})" if node.damage else ""
    return f"{other}{text}{doubt}{damage}"


def _from(node: Node) -> str:
    state, origin = node.began_from, node.execution.origin
    if state is None or origin in {Origin.START, Origin.FIRST, Origin.UNKNOWN, Origin.FORK}:
        return ""
    name = escape(state.name)
    if origin is Origin.BACKUP:
        return f" of {state.taken_at:%Y-%m-%d %H:%M}"
    return {Origin.CLONE: f" of {name}", Origin.REVERT: f" to {name}"}.get(origin, f" from {name}")


def when(at: datetime) -> str:
    """Return a time to the minute."""
    return f"{at:%Y-%m-%d %H:%M}"


def ended(told: Told) -> str:
    """Return how it ended and how long it ran; for a run, when its last began."""
    execution = told.last.execution
    if len(told.nodes) > 1:
        return f"to {execution.started_at:%Y-%m-%d}"
    if execution.ended_at is None:
        return "running"
    if execution.ending == "failed":
        return "never ran"
    span = age((execution.ended_at - execution.started_at).total_seconds())
    return f"{harmless(execution.ending)}, {span}"


def decision(told: Told) -> str:
    """Return what was answered to its start, "" where nothing is on record."""
    answered = told.first.decision
    return _ACTIONS[answered.action] if answered else ""


def taken(state: RecordedState) -> str:
    """Return what a state is called."""
    kind = "snapshot" if state.kind is StateKind.SNAPSHOT else "saved to"
    return f"{kind} {escape(state.name)}{' (gone)' if state.gone_at else ''}"


def refusal(refused: Decision) -> str:
    """Return what was refused and why."""
    return f"start refused: {harmless(refused.reason)}"


def summary(tree: Tree) -> str:
    """Return the counts for a headline."""
    parts = [count(len(tree.nodes), "execution")]
    if tree.live:
        parts.append(f"{tree.live:,} running")
    if tree.rollbacks:
        parts.append(count(tree.rollbacks, "rollback"))
    refused = len(tree.refusals) + sum(len(node.refusals) for node in tree.nodes.values())
    if refused:
        parts.append(f"{count(refused, 'start')} refused")
    return ", ".join(parts)


def is_lost(execution: Execution, node: Node) -> bool:
    """Whether what it did was rolled back, or never was."""
    return not node.kept or execution.ending == "failed"
