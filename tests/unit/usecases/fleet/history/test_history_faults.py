"""Hooks and events that are lost, late, doubled or alone; starts that fail or are refused."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lives import Machine, World
from memoryrecords import MemoryRecords

from undercroft.model.domain import DomainSnapshot
from undercroft.model.execution import Origin
from undercroft.ports.fleet import Happening
from undercroft.usecases.fleet.history.states import snapshot_seen, snapshots_listed


@pytest.fixture
def world() -> World:
    return World(MemoryRecords())


def test_a_refused_start_leaves_no_execution_but_an_entry_in_the_log(world: World) -> None:
    web = world.machine("web01")
    world.start(web, refused=True)
    assert world.executions() == {}
    with world.records.reading() as record:
        bodies = [entry.body for entry in record.log_entries(subject=web.uuid)]
    assert len(bodies) == 1
    assert '"refused":true' in bodies[0]
    assert "too old" in bodies[0]


def test_a_start_that_failed_is_no_link_in_the_chain(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.stop(web)
    world.start(web, fails=True)
    third = world.start(web)
    known = world.executions()
    assert [execution.ending for execution in known.values()] == ["stopped", "failed", ""]
    assert (known[third].origin, known[third].parent) == (Origin.START, first)


def test_a_restore_that_failed_did_not_continue_the_image(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    world._hook(web, "restore", "begin", save=save.image)
    world._hook(web, "prepare", "begin", eid="ab" * 16)
    world._hook(web, "release", "end", eid="ab" * 16)
    restored = world.restore(save)
    known = world.executions()[restored]
    assert (known.origin, known.parent) == (Origin.RESTORE, first)


def test_everything_twice_is_counted_once(world: World) -> None:
    once = World(MemoryRecords())
    for each in (world, once):
        each.twice = each is world
        web = each.machine("web01")
        each.start(web)
        snap = each.snapshot(web, "s")
        each.revert(web, snap)
        each.restore(each.save(web))
    assert world.executions() == once.executions()


def test_what_happened_while_the_agent_was_away_is_taken_from_the_spool(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.stop(web)
    world.leave_agent()
    second = world.start(web)
    world.stop(web)
    world.return_agent()
    known = world.executions()[second]
    assert (known.origin, known.parent, known.certain, known.ending) == (
        Origin.UNKNOWN,
        first,
        False,
        "stopped",
    )


def test_a_late_stop_ends_the_execution_that_it_names_and_no_other(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.hooks = False
    web.live = False
    world.hooks = True
    second = world.start(web)
    assert world.executions()[first].ending == "superseded"
    world._hook(web, "stopped", "end", eid=first)
    known = world.executions()
    assert known[first].ending == "stopped"
    assert known[second].live


def test_a_late_prepare_is_put_where_it_belongs(world: World) -> None:
    web = world.machine("web01")
    world.leave_agent()
    first = world.start(web)
    late, world._spool = world._spool, []
    world.agent = True
    web.live = False
    second = world.start(web)
    for event in late:
        world._deliver(event, world.looked(web))
    known = world.executions()
    assert known[first].ending == "superseded"
    assert known[first].ended_at == known[second].started_at
    assert known[second].live


def test_a_start_without_any_hook_is_told_by_its_event(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.stop(web)
    world.hooks = False
    world.start(web)
    (second,) = [known for eid, known in world.executions().items() if eid != first]
    assert second.origin is Origin.UNKNOWN
    assert (second.parent, second.certain, second.live) == (first, False, True)
    assert "no hook saw it begin" in second.evidence
    world.stop(web)
    assert world.executions()[second.eid].ending == "stopped"


def test_a_guest_that_sleeps_and_wakes_makes_no_executions_of_its_own(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    for _ in range(20):
        world.event(web, Happening.SUSPENDED, "suspended-to-memory")
        world.event(web, Happening.STARTED, "wakeup")
    known = world.executions()
    assert list(known) == [first]
    assert known[first].live


def test_a_revert_without_any_hook_is_told_by_its_event(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    snap = world.snapshot(web, "s")
    world.hooks = False
    world.revert(web, snap)
    (second,) = [known for eid, known in world.executions().items() if eid != first]
    assert (second.origin, second.parent, second.certain) == (Origin.REVERT, first, True)
    assert world.executions()[first].ending == "stopped"


def test_a_machine_that_lived_for_a_second_gets_its_event_after_its_end(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    snap = world.snapshot(web, "s")
    first = web.eid
    held: list[tuple[Happening, str]] = []
    world.event = lambda _machine, happening, detail: held.append((happening, detail))  # type: ignore[method-assign, assignment, return-value]
    second = world.revert(web, snap)
    world.stop(web)
    del world.event  # type: ignore[attr-defined]
    world.now -= timedelta(hours=1) - timedelta(seconds=10)
    for happening, detail in held:
        world.event(web, happening, detail)
    known = world.executions()
    assert (known[second].origin, known[second].parent) == (Origin.REVERT, first)


def test_a_running_machine_without_history_is_found(world: World) -> None:
    web = world.machine("web01")
    web.live, web.libvirt_id = True, 4
    assert world.survey() == ()
    world.survey()
    (found,) = world.executions().values()
    assert (found.origin, found.certain) == (Origin.FIRST, False)
    assert "it was found running" in found.evidence


def test_a_machine_that_is_off_has_no_live_execution(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    web.live = False
    world.now += timedelta(minutes=1)
    world.survey()
    known = world.executions()[first]
    assert known.ending == "lost"
    assert known.ended_at == world.now


def test_a_machine_that_is_being_prepared_is_not_lost(world: World) -> None:
    web = world.machine("web01")
    world._hook(web, "prepare", "begin", eid="ab" * 16)
    world.survey()
    assert world.executions()["ab" * 16].live


def test_another_process_of_a_machine_is_another_execution(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.survey()
    web.libvirt_id += 7
    world.now += timedelta(hours=1)
    world.survey()
    known = world.executions()
    assert known[first].ending == "superseded"
    (second,) = [execution for eid, execution in known.items() if eid != first]
    assert (second.parent, second.certain) == (first, False)


def test_a_revert_while_the_agent_was_away_shows_in_libvirts_current_snapshot(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    old = world.snapshot(web, "old")
    world.snapshot(web, "new")
    world.survey()
    world.leave_agent()
    second = world.revert(web, old)
    world.return_agent()
    known = world.executions()[second]
    assert (known.origin, known.parent, known.certain) == (Origin.REVERT, first, True)


def test_a_deleted_snapshot_makes_its_parent_current_and_is_no_revert(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.snapshot(web, "old")
    world.snapshot(web, "new")
    world.survey()
    world.stop(web)
    world.leave_agent()
    second = world.start(web)
    web.snaps.pop()
    web.current = "old"
    world.return_agent()
    assert world.executions()[second].origin is not Origin.REVERT
    assert world.executions()[second].parent == first
    with world.records.reading() as record:
        gone = {state.name: state.gone_at is not None for state in record.states(web.uuid)}
    assert (gone["old"], gone["new"]) == (False, True)


def test_two_lives_of_one_machine_are_an_alarm_once() -> None:
    records = MemoryRecords()
    alpha, beta = World(records, "alpha"), World(records, "beta")
    web = alpha.machine("web01")
    alpha.start(web)
    copy = Machine("web01", web.uuid, web.content, web.lineage, web.inode)
    beta.machines.append(copy)
    beta.now = alpha.now
    beta.start(copy)
    (alarm,) = beta.survey()
    assert alarm.kind == "two-live"  # type: ignore[attr-defined]
    assert beta.survey() == alpha.survey() == ()
    with records.reading() as record:
        assert [entry.kind for entry in record.log_entries()].count("alarm") == 1


def test_one_image_under_two_running_machines_is_an_alarm(world: World) -> None:
    web, other = world.machine("web01"), world.machine("web02")
    world.start(web)
    world.start(other)
    same = world._disk(web)
    world._disk = lambda machine: same  # type: ignore[method-assign]
    (alarm,) = world.survey()
    assert alarm.kind == "shared-image"  # type: ignore[attr-defined]
    assert world.survey() == ()
    world._disk = lambda machine: replace(same, shareable=True)  # type: ignore[method-assign]
    assert world.survey() == ()


def test_a_fork_beside_its_original_is_an_alarm() -> None:
    records = MemoryRecords()
    alpha, beta = World(records, "alpha"), World(records, "beta")
    web = alpha.machine("web01")
    alpha.start(web)
    save = alpha.save(web)
    alpha.restore(save)
    beta.now = alpha.now
    copy = Machine("web01", web.uuid, web.content, web.lineage, web.inode)
    beta.machines.append(copy)
    save.machine = copy
    forked = beta.restore(save)
    assert beta.executions()[forked].origin is Origin.FORK
    assert {alarm.kind for alarm in beta.survey()} == {"two-live", "fork"}  # type: ignore[attr-defined]


def test_a_snapshot_belongs_to_the_execution_that_lived_when_it_was_taken(world: World) -> None:
    web = world.machine("web01")
    world.pause_s = 0.2
    first = world.start(web)
    snap = world.snapshot(web, "hasty")
    second = world.revert(web, snap)  # within the same second
    known = world.executions()[second]
    assert (known.origin, known.parent) == (Origin.REVERT, first)


def test_a_snapshot_older_than_all_that_is_known_has_no_execution(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    with world.records.transaction() as record:
        old = snapshot_seen(record, web.uuid, DomainSnapshot("old", "", 5, "running", "internal"))
    assert old.eid == ""


def test_a_snapshot_whose_image_was_read_before_libvirt_listed_it_is_one(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    world.stop(web)
    read = DomainSnapshot("before", "", int(world.now.timestamp()), "shutoff", "no")
    listed = replace(read, created_at_s=read.created_at_s - 1)
    older = replace(read, created_at_s=read.created_at_s - 2)
    domain = replace(world.domain(web), snapshots=(listed,))
    with world.records.transaction() as record:
        snapshot_seen(record, web.uuid, older)
        snapshots_listed(record, replace(domain, snapshots=(older,)), world.now)
        snapshot_seen(record, web.uuid, read)
        assert snapshots_listed(record, domain, world.now) == ()
        states = {state.taken_at.timestamp(): state.gone_at for state in record.states(web.uuid)}
    gone = {
        at: gone_at is not None
        for at, gone_at in states.items()
        if at in {older.created_at_s, read.created_at_s, listed.created_at_s}
    }
    assert gone == {older.created_at_s: True, read.created_at_s: False}
