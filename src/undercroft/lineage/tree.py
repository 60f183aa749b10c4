"""The tree of executions as a value: who descends from whom, what was lost, and where a machine is now.

Guarantees: every execution stands in the tree exactly once, whatever a damaged record says of parents; those
whose parent is missing, or whose parents run in a circle, are roots that say so. Nothing recurses: ten
thousand executions are one walk.

    tree = build(uuid, executions, states, decisions)
    for eid in tree.roots: tree.nodes[eid].children
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from undercroft.lineage.alarms import Alarm, alarms
from undercroft.model.execution import Execution, Origin, RecordedState, StateKind
from undercroft.model.verdict import Action, Decision

_ROLLBACKS = frozenset({Origin.REVERT, Origin.BACKUP, Origin.FORK})


@dataclass(frozen=True, slots=True)
class Node:
    """One execution in its place.

    Attributes:
        execution: it.
        children: the eids of those that continue it or branch off, in order of time.
        main: the child on the way to where the machine is now, else the last; "" for none.
        began_from: the recorded state that it began from, None for none.
        taken: the snapshots and save images that were taken in it, in order of time.
        decision: what was answered to its start, None where nothing is on record.
        refusals: what was refused to its machine after it began and before the next execution did.
        here: its machine is here now: it lives, or was the last that did.
        kept: a machine is in it or descends from it. What is not kept was rolled back, and does not live.
        damage: why it is a root although it has a parent, "" where it is none or has none.
    """

    execution: Execution
    children: tuple[str, ...] = ()
    main: str = ""
    began_from: RecordedState | None = None
    taken: tuple[RecordedState, ...] = ()
    decision: Decision | None = None
    refusals: tuple[Decision, ...] = ()
    here: bool = False
    kept: bool = False
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """The executions of a machine and of those related to it.

    Attributes:
        machine: UUID of the machine that was asked for.
        nodes: by eid, in order of their start.
        roots: eids, in order of time.
        alarms: two lives at once.
        refusals: what was refused to the machine before its first execution.
    """

    machine: str
    nodes: Mapping[str, Node]
    roots: tuple[str, ...]
    alarms: tuple[Alarm, ...] = ()
    refusals: tuple[Decision, ...] = ()

    @property
    def rollbacks(self) -> int:
        """How often a machine went back."""
        return sum(node.execution.origin in _ROLLBACKS for node in self.nodes.values())

    @property
    def live(self) -> int:
        """How many executions live."""
        return sum(node.execution.live for node in self.nodes.values())


def build(
    machine: str,
    executions: Iterable[Execution],
    states: Iterable[RecordedState] = (),
    decisions: Iterable[Decision] = (),
) -> Tree:
    """Return the tree.

    Args:
        machine: UUID of the machine that was asked for.
        executions: its own and its relatives', in any order; a doubled eid counts once.
        states: recorded states of any of them; a state of another machine is of no use, and does no harm.
        decisions: what was answered to their starts.
    """
    by_eid = {known.eid: known for known in sorted(executions, key=lambda one: (one.started_at, one.eid))}
    parents, damage = _parents(by_eid)
    children: dict[str, list[str]] = defaultdict(list)
    for eid, parent in parents.items():
        children[parent].append(eid)
    tips = _tips(by_eid.values())
    live = [execution for execution in by_eid.values() if execution.live]
    kept = _kept((*tips.values(), *(execution.eid for execution in live)), parents)
    here = _path(tips.get(machine, ""), parents)
    by_key, taken = _states(states)
    answered, refused, early = _decisions(decisions, by_eid, machine)
    nodes = {
        eid: Node(
            execution,
            children=tuple(children[eid]),
            main=_main(children[eid], here, kept),
            began_from=by_key.get(execution.state),
            taken=tuple(taken.get(eid, ())),
            decision=answered.get(eid),
            refusals=tuple(refused.get(eid, ())),
            here=tips.get(execution.machine) == eid,
            kept=eid in kept,
            damage=damage.get(eid, ""),
        )
        for eid, execution in by_eid.items()
    }
    return Tree(machine, nodes, tuple(children[""]), alarms(live), tuple(early))


def _parents(by_eid: Mapping[str, Execution]) -> tuple[dict[str, str], dict[str, str]]:
    """Return each execution's parent, "" for roots, and why some are roots against their word."""
    parents: dict[str, str] = {}
    damage: dict[str, str] = {}
    for eid, execution in by_eid.items():
        parents[eid] = execution.parent if execution.parent in by_eid else ""
        if execution.parent and not parents[eid]:
            damage[eid] = f"its parent {execution.parent} is not on record"
    sound: set[str] = set()
    for eid in by_eid:
        path: dict[str, None] = {}
        while eid and eid not in sound and eid not in path:
            path[eid] = None
            eid = parents[eid]  # noqa: PLW2901 - the walk to the root
        if eid in path:
            circle = list(path)[list(path).index(eid) :]
            first = min(circle, key=lambda one: (by_eid[one].started_at, one))
            parents[first] = ""
            damage[first] = "its parents run in a circle"
        sound.update(path)
    return parents, damage


def _tips(executions: Iterable[Execution]) -> dict[str, str]:
    """Return where each machine is: in the live execution that began last, else in the last that ran."""
    tips: dict[str, Execution] = {}
    for execution in executions:
        before = tips.get(execution.machine)
        if before is None or execution.live or (not before.live and execution.ending != "failed"):
            tips[execution.machine] = execution
    return {machine: execution.eid for machine, execution in tips.items()}


def _path(eid: str, parents: Mapping[str, str]) -> set[str]:
    path: set[str] = set()
    while eid:
        path.add(eid)
        eid = parents[eid]
    return path


def _kept(tips: Iterable[str], parents: Mapping[str, str]) -> set[str]:
    kept: set[str] = set()
    for tip in tips:
        eid = tip
        while eid and eid not in kept:
            kept.add(eid)
            eid = parents[eid]
    return kept


def _main(children: Sequence[str], here: set[str], kept: set[str]) -> str:
    """Return the child that the line goes on with: to where the machine is, to any machine, or the last."""
    for wanted in (here, kept):
        if found := [child for child in children if child in wanted]:
            return found[-1]
    return children[-1] if children else ""


def _states(
    states: Iterable[RecordedState],
) -> tuple[dict[str, RecordedState], dict[str, list[RecordedState]]]:
    by_key: dict[str, RecordedState] = {}
    taken: dict[str, list[RecordedState]] = defaultdict(list)
    for state in sorted(states, key=lambda one: (one.taken_at, one.key)):
        by_key[state.key] = state
        if state.eid and state.kind in {StateKind.SNAPSHOT, StateKind.SAVE}:
            taken[state.eid].append(state)
    return by_key, taken


def _decisions(
    decisions: Iterable[Decision], by_eid: Mapping[str, Execution], machine: str
) -> tuple[dict[str, Decision], dict[str, list[Decision]], list[Decision]]:
    """Return the answers by execution, the refusals by the execution before them, and those before all."""
    answered: dict[str, Decision] = {}
    refused: dict[str, list[Decision]] = defaultdict(list)
    early: list[Decision] = []
    begun: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    for eid, execution in by_eid.items():
        begun[execution.machine].append((execution.started_at, eid))
    for decision in sorted(decisions, key=lambda one: (one.at, one.ident)):
        if decision.eid in by_eid:
            answered[decision.eid] = decision
        elif decision.action is Action.REFUSE:
            before = [eid for at, eid in begun[decision.machine] if at <= decision.at]
            if before:
                refused[before[-1]].append(decision)
            elif decision.machine == machine:
                early.append(decision)
    return answered, refused, early
