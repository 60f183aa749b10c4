"""The tree as a value: order, tips, what was lost, damage, size."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from undercroft.lineage.tree import Tree, build
from undercroft.model.execution import Execution, Origin, RecordedState, StateKind
from undercroft.model.verdict import Action, Decision

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
WEB = "web"


def _ran(number: int, parent: int | str = "", machine: str = WEB, **more: object) -> Execution:
    at = BEGIN + timedelta(hours=number)
    ended = {"ended_at": at + timedelta(minutes=30), "ending": "stopped"}
    return Execution(
        str(number),
        machine,
        machine,
        "alpha",
        more.pop("origin", Origin.START),  # type: ignore[arg-type]
        str(parent),
        "",
        at,
        **{**ended, **more},  # type: ignore[arg-type]
    )


def _live(number: int, parent: int | str = "", machine: str = WEB) -> Execution:
    return _ran(number, parent, machine, ended_at=None, ending="")


def _reached(tree: Tree) -> list[str]:
    found, waiting = [], list(tree.roots)
    while waiting:
        eid = waiting.pop()
        found.append(eid)
        waiting += tree.nodes[eid].children
    return found


def test_children_stand_in_order_of_time_and_the_main_one_leads_to_here() -> None:
    executions = [_ran(1), _ran(4, 1, origin=Origin.REVERT), _live(3, 2), _ran(2, 1)]
    tree = build(WEB, executions)
    assert tree.roots == ("1",)
    assert tree.nodes["1"].children == ("2", "4")
    assert tree.nodes["1"].main == "2"  # execution 3 lives, although 4 began later
    assert [eid for eid, node in tree.nodes.items() if node.here] == ["3"]
    assert {eid for eid, node in tree.nodes.items() if node.kept} == {"1", "2", "3"}
    assert (tree.live, tree.rollbacks) == (1, 1)


def test_a_related_machine_has_its_own_place_and_loses_nothing() -> None:
    tree = build(WEB, [_ran(1), _live(2, 1), _ran(3, 1, "copy", origin=Origin.CLONE), _ran(4, 3, "copy")])
    assert tree.nodes["1"].main == "2"
    assert {eid for eid, node in tree.nodes.items() if node.here} == {"2", "4"}
    assert all(node.kept for node in tree.nodes.values())


def test_two_lives_at_once_are_an_alarm() -> None:
    tree = build(WEB, [_ran(1), _live(2, 1), _live(3, 1)])
    assert [alarm.kind for alarm in tree.alarms] == ["two-live"]
    assert tree.alarms[0].executions == ("2", "3")
    assert tree.nodes["2"].kept
    assert [eid for eid, node in tree.nodes.items() if node.here] == ["3"]


def test_a_start_that_failed_is_nowhere_anybody_is() -> None:
    tree = build(WEB, [_ran(1), _ran(2, 1, ending="failed")])
    assert tree.nodes["1"].here
    assert not tree.nodes["2"].kept


def test_snapshots_and_answers_stand_with_their_execution() -> None:
    states = [
        RecordedState("snapshot:web:s:1", StateKind.SNAPSHOT, WEB, "s", "1", BEGIN),
        RecordedState("end:1", StateKind.END, WEB, "web", "1", BEGIN),
    ]
    decisions = [
        _decided("1", Action.ALLOW, 1.0),
        _decided("no", Action.REFUSE, 1.5),
        _decided("first", Action.REFUSE, 0.5),
    ]
    tree = build(WEB, [_ran(1), _ran(2, 1)], states, decisions)
    assert [state.name for state in tree.nodes["1"].taken] == ["s"]
    assert tree.nodes["1"].decision == decisions[0]
    assert tree.nodes["1"].refusals == (decisions[1],)
    assert tree.refusals == (decisions[2],)


def test_a_missing_parent_makes_a_root_that_says_so() -> None:
    tree = build(WEB, [_ran(1, "gone")])
    assert tree.roots == ("1",)
    assert tree.nodes["1"].damage == "its parent gone is not on record"


def test_parents_in_a_circle_are_cut_at_the_earliest() -> None:
    tree = build(WEB, [_ran(1, 3), _ran(2, 1), _ran(3, 2), _ran(4, 3), _ran(5, 5)])
    assert tree.roots == ("1", "5")
    assert tree.nodes["1"].damage == tree.nodes["5"].damage == "its parents run in a circle"
    assert sorted(_reached(tree)) == ["1", "2", "3", "4", "5"]


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans(), st.integers(0, 2)), max_size=10))
def test_every_execution_stands_in_the_tree_once_whatever_the_parents(
    drawn: list[tuple[int, bool, int]],
) -> None:
    executions = [
        (_live if live else _ran)(number, parent, f"m{machine}")
        for number, (parent, live, machine) in enumerate(drawn)
    ]
    tree = build("m0", executions)
    assert sorted(_reached(tree)) == sorted(execution.eid for execution in executions)
    for node in tree.nodes.values():
        assert node.main in {"", *node.children}


def test_ten_thousand_executions_are_one_walk() -> None:
    line = [_ran(number, number - 1 if number else "") for number in range(10_000)]
    tree = build(WEB, line)
    assert len(_reached(tree)) == 10_000


def _decided(eid: str, action: Action, hours: float) -> Decision:
    at = BEGIN + timedelta(hours=hours)
    return Decision(f"{eid:>032}", WEB, "web", eid, action, False, "too old", at, "agent")
