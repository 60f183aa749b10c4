"""The states of a machine, and how a user names one."""

import pytest

from undercroft.errors import InputError, NotFoundError
from undercroft.model.disk import Snapshot
from undercroft.usecases.states import external_states, in_order, select_state, states_of
from undercroft.usecases.target import ExternalSnapshot


def snapshot(ident: str, name: str, created_at_s: int = 0) -> Snapshot:
    return Snapshot(ident, name, created_at_s, 0, 1 << 30)


def test_current_comes_first_then_snapshots_in_order_of_time() -> None:
    states = states_of([("vda", [snapshot("1", "late", 20), snapshot("2", "early", 10)])])
    assert [(state.name, state.ident) for state in states] == [("current", ""), ("early", "2"), ("late", "1")]


def test_snapshots_of_several_disks_belong_together_by_name() -> None:
    states = states_of([("vda", [snapshot("1", "s", 5)]), ("vdb", [snapshot("7", "s", 5)]), ("vdc", [])])
    assert [dict(state.snapshots) for state in states] == [{}, {"vda": "1", "vdb": "7"}]


def test_a_name_that_one_disk_holds_twice_is_told_apart_by_id() -> None:
    states = states_of([("vda", [snapshot("1", "s", 5), snapshot("2", "s", 6)])])
    assert [state.ident for state in states] == ["", "1", "2"]
    with pytest.raises(InputError, match="use an ID: 1, 2"):
        select_state(states, "s", "web01")
    assert select_state(states, "2", "web01").created_at_s == 6


def test_a_name_that_is_the_id_of_another_selects_neither() -> None:
    states = states_of([("vda", [snapshot("1", "old", 1), snapshot("2", "1", 2)])])
    with pytest.raises(InputError, match="the ID of another, 'old', for which QEMU takes it; use the ID 2"):
        select_state(states, "1", "web01")
    assert select_state(states, "2", "web01").name == "1"
    assert select_state(states, "old", "web01").ident == "1"


def test_control_a_name_that_is_the_snapshots_own_id_is_no_riddle() -> None:
    states = states_of([("vda", [snapshot("1", "1", 1), snapshot("2", "late", 2)])])
    assert select_state(states, "1", "web01").ident == "1"


def test_a_snapshot_called_current_is_reached_by_its_id() -> None:
    named_current = states_of([("vda", [snapshot("9", "current", 2)])])
    assert select_state(named_current, "9", "web01").name == "current"


def test_an_id_that_two_snapshots_of_different_disks_have_is_told_apart_by_name() -> None:
    states = states_of([("vda", [snapshot("1", "root-snap", 1)]), ("vdb", [snapshot("1", "data-snap", 2)])])
    with pytest.raises(InputError, match="use a name: 'root-snap', 'data-snap'"):
        select_state(states, "1", "web01")
    assert select_state(states, "data-snap", "web01").created_at_s == 2


def test_a_snapshot_without_an_id_is_not_taken_for_the_current_state() -> None:
    assert [state.is_current for state in states_of([("vda", [snapshot("", "odd", 1)])])] == [True, False]


def test_an_unknown_state_is_answered_with_those_that_exist() -> None:
    states = states_of([("vda", [snapshot("1", "before-upgrade")])])
    with pytest.raises(NotFoundError, match=r"'before-upgrade' \(ID 1\)"):
        select_state(states, "before", "web01")


def test_an_external_snapshot_is_the_state_below_the_image_that_it_put_on_top() -> None:
    first = ExternalSnapshot("first", 10, {"vda": "/a/first", "vdb": "/b/first"})
    gone = ExternalSnapshot("gone", 20, {"vda": "/a/branch"})
    chains = [("vda", ["/a/second", "/a/first", "/a/base"]), ("vdb", ["/b/first"]), ("vdc", ["/c"])]
    states = external_states([first, gone], chains)
    assert [(state.name, state.above, state.is_current) for state in states] == [
        ("first", {"vda": 2}, False),  # nothing lies below vdb's image: it is no chain any more
        ("gone", {}, False),
    ]


def test_snapshots_of_both_kinds_are_in_the_order_of_time() -> None:
    internal = states_of([("vda", [snapshot("1", "internal", 15)])])
    external = external_states([ExternalSnapshot("old", 10, {}), ExternalSnapshot("new", 20, {})], [])
    assert [state.name for state in in_order(internal, external)] == ["current", "old", "internal", "new"]
