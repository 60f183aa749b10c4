"""Each way in which a machine may begin, from libvirt's hooks and events to the origin on record."""

from datetime import timedelta

import pytest
from lives import Machine, World
from memoryrecords import MemoryRecords

from undercroft.model.execution import Origin
from undercroft.model.fleet import Scan
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.ports.fleet import Happening
from undercroft.usecases.fleet.history.facts import Looked
from undercroft.usecases.fleet.history.states import image_seen


@pytest.fixture
def world() -> World:
    return World(MemoryRecords())


def _origin(world: World, eid: str) -> tuple[Origin, str, bool]:
    known = world.executions()[eid]
    return known.origin, known.parent, known.certain


def _lived(world: World, machine: Machine) -> str:
    eid = world.start(machine)
    world.stop(machine)
    return eid


def test_a_machine_that_nobody_knows_starts_first_and_then_continues_itself(world: World) -> None:
    web = world.machine("web01")
    first, second = _lived(world, web), _lived(world, web)
    assert _origin(world, first) == (Origin.FIRST, "", True)
    assert _origin(world, second) == (Origin.START, first, True)
    assert world.executions()[second].state == f"end:{first}"
    assert world.executions()[second].ending == "stopped"


def test_a_touched_file_with_equal_disks_is_a_start(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    world.touch(web)
    assert _origin(world, world.start(web)) == (Origin.START, first, True)


def test_disks_that_were_not_read_are_a_start_only_if_their_files_are_unwritten(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    _blind(world)
    assert _origin(world, world.start(web)) == (Origin.START, first, True)
    world.stop(web)
    second = web.eid
    world.touch(web)
    assert _origin(world, world.start(web)) == (Origin.UNKNOWN, second, False)


def test_disks_changed_into_a_state_that_nobody_has_seen_are_unknown(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    world.tamper(web)
    assert _origin(world, world.start(web)) == (Origin.UNKNOWN, first, False)


def test_a_saved_machine_is_restored_once_and_then_forked(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    assert world.executions()[first].ending == "saved"
    restored = world.restore(save)
    world.stop(web)
    forked = world.restore(save)
    assert _origin(world, restored) == (Origin.RESTORE, first, True)
    assert _origin(world, forked) == (Origin.FORK, first, True)
    assert world.executions()[forked].state == world.executions()[restored].state != ""


def test_a_save_image_put_aside_is_restored_to_the_execution_that_it_holds(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    kept = world.save(web)
    for _time in range(2):
        _lived(world, web)
    world.start(web)
    world.save(web)
    restored = world.restore(kept)
    assert _origin(world, restored) == (Origin.RESTORE, first, True)
    assert any("other executions ran since" in line for line in world.executions()[restored].evidence)


def test_a_save_that_only_the_hook_told_of_is_not_taken_for_one_that_ended_shortly_before() -> None:
    world = World(MemoryRecords(), pause_s=2)
    web = world.machine("web01")
    world.start(web)
    restored = world.restore(world.save(web))
    world.leave_agent()
    again = world.restore(world.save(web))
    world.return_agent()
    assert _origin(world, again) == (Origin.RESTORE, restored, False)


def test_a_managed_save_whose_image_nobody_saw_continues_what_was_saved_last(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    assert _origin(world, world.restore(save, seen=False)) == (Origin.RESTORE, first, True)


def test_a_restore_that_only_libvirts_event_tells_of_is_one(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.save(web)
    restored = world._begin(web, (Origin.RESTORE, first), "restored")
    assert _origin(world, restored) == (Origin.RESTORE, first, True)


def test_a_burst_of_other_machines_hides_no_announced_restore(world: World) -> None:
    """They are found among the machine's own entries, however many those of others lie between."""
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    world._pause()
    world._hook(web, "restore", "begin", save=save.image)
    with world.records.transaction() as record:
        at = record.log_entries()[-1].at
        for number in range(1500):
            record.log("verdict", f"machine:{number}", {}, at)
    web.content = save.content
    restored = world._begin(web, (Origin.RESTORE, first), "restored")
    known = world.executions()[restored]
    assert (known.origin, known.parent, known.certain) == (Origin.RESTORE, first, True)
    assert known.state.startswith("save:")


def test_a_broken_save_image_that_ends_in_a_boot_is_no_restore(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    world._hook(web, "restore", "begin", save=save.image)
    booted = world._begin(web, (Origin.START, first), "booted")
    origin, parent, certain = _origin(world, booted)
    assert (origin, parent, certain) == (Origin.UNKNOWN, first, False)


def test_two_reverts_to_one_snapshot_are_siblings(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    second = world.start(web)
    snap = world.snapshot(web, "before")
    reverts = [world.revert(web, snap), world.revert(web, snap)]
    assert _origin(world, second) == (Origin.START, first, True)
    assert [_origin(world, eid) for eid in reverts] == [(Origin.REVERT, second, True)] * 2
    states = {world.executions()[eid].state for eid in reverts}
    assert states == {f"snapshot:{web.uuid}:before:{snap.taken.created_at_s}"}
    assert world.executions()[reverts[0]].ending == "stopped"


def test_a_snapshot_applied_behind_libvirts_back_is_a_revert(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    snap = world.snapshot(web, "clean")
    _lived(world, web)
    world.apply(web, snap)
    assert _origin(world, world.start(web)) == (Origin.REVERT, first, True)


def test_a_snapshot_applied_before_anything_ran_since_takes_nothing_back(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    world.apply(web, world.snapshot(web, "clean"))
    assert _origin(world, world.start(web)) == (Origin.START, first, True)


def test_a_revert_of_a_machine_that_is_off_shows_at_its_next_start(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    snap = world.snapshot(web, "clean")
    _lived(world, web)
    assert world.revert(web, snap) == ""
    assert _origin(world, world.start(web)) == (Origin.REVERT, first, True)


def test_snapshots_with_equal_superblocks_leave_the_choice_open(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    one = world.snapshot(web, "one")
    world.snapshot(web, "two")
    world.stop(web)
    _lived(world, web)
    world.apply(web, one)
    origin, parent, certain = _origin(world, world.start(web))
    assert (origin, parent, certain) == (Origin.REVERT, first, False)


def test_a_backup_put_under_a_stopped_machine_is_one(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    _lived(world, web)
    world.backup(web, first)
    started = world.start(web)
    assert _origin(world, started) == (Origin.BACKUP, first, True)
    assert world.executions()[started].state == f"end:{first}"


def test_a_copied_image_under_a_new_machine_is_a_clone(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    copy = world.clone(web, "web02")
    assert _origin(world, world.start(copy)) == (Origin.CLONE, first, True)


def test_a_copy_of_a_running_machine_is_told_by_its_filesystems_only(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    key = f"machine:{web.uuid}"
    with world.records.transaction() as record:
        record.put_subject(Subject(key, SubjectKind.MACHINE, "web01", "alpha", web.uuid))
        record.put_scan(Scan(key, "", "", "", "ff", web.lineage, (), (), world.now))
    copy = world.machine("web02", lineage=web.lineage)
    started = world.start(copy)
    assert _origin(world, started) == (Origin.CLONE, first, False)
    assert any("UUIDs of web01" in line for line in world.executions()[started].evidence)


def test_a_linked_clone_descends_from_its_backing_image(world: World) -> None:
    golden = world.number()
    with world.records.transaction() as record:
        for path in ("/t/golden.qcow2", "/t/copy-of-golden.qcow2"):
            image_seen(record, "alpha", path, world.fingerprint(golden), world.now)
    clone = world.machine("web01", golden)
    clone.base = "/t/golden.qcow2"
    started = world.start(clone)
    assert _origin(world, started) == (Origin.CLONE, "", True)
    assert world.executions()[started].state == "image:alpha:/t/golden.qcow2"


def test_a_machine_defined_anew_on_the_same_file_is_told_by_it(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    renamed = world.machine("web01", web.content)
    renamed.inode, renamed.written = web.inode, web.written
    started = world.start(renamed)
    assert _origin(world, started) == (Origin.CLONE, first, True)
    assert any("defined anew" in line for line in world.executions()[started].evidence)


def test_a_pause_under_a_monitor_that_somebody_used_begins_an_execution(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    assert world.event(web, Happening.RESUMED, "unpaused") is None
    web.tainted = ("custom-monitor",)
    loaded = world.event(web, Happening.RESUMED, "unpaused")
    assert loaded is not None
    assert (loaded.origin, loaded.parent, loaded.certain) == (Origin.LOAD, first, False)
    assert world.executions()[first].ending == "superseded"
    world.stop(web)  # the hook still has the first id
    assert world.executions()[loaded.eid].ending == "stopped"


def test_the_pause_of_a_snapshot_with_memory_begins_none(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    web.tainted = ("custom-monitor",)
    world.snapshot(web, "s")
    world.event(web, Happening.RESUMED, "unpaused")
    assert len(world.executions()) == 1
    world.event(web, Happening.RESUMED, "unpaused")  # control: the snapshot was loaded a moment later
    assert [known.origin for known in world.executions().values()] == [Origin.FIRST, Origin.LOAD]


def test_a_snapshot_of_an_earlier_execution_that_is_loaded_a_moment_later_is_not_taken_for_its_taking(
    world: World,
) -> None:
    world.pause_s = 1.0
    web = world.machine("web01")
    world.start(web)
    web.tainted = ("custom-monitor",)
    snap = world.snapshot(web, "s")
    world.event(web, Happening.RESUMED, "unpaused")
    reverted = world.revert(web, snap)
    loaded = world.event(web, Happening.RESUMED, "unpaused")
    assert loaded is not None
    assert (loaded.origin, loaded.parent) == (Origin.LOAD, reverted)


def test_what_was_loaded_inside_does_not_take_the_start_of_the_revert_that_follows(world: World) -> None:
    world.pause_s = 1.0
    web = world.machine("web01")
    world.start(web)
    snaps = []
    for name in ("first", "second"):
        snaps.append(world.snapshot(web, name))
        world.event(web, Happening.RESUMED, "unpaused")
    first, second = snaps
    web.tainted = ("custom-monitor",)
    loaded = world.event(web, Happening.RESUMED, "unpaused")
    assert loaded is not None
    assert loaded.origin is Origin.LOAD
    for snap in (second, first):  # virsh goes to each by a process of its own
        eid = world.revert(web, snap)
        assert world.executions()[eid].state.split(":")[2] == snap.name


def test_the_events_that_follow_a_restore_begin_nothing_more(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    restored = world.restore(world.save(web))
    world.event(web, Happening.RESUMED, "from-snapshot")
    assert world.executions()[restored].origin is Origin.RESTORE
    assert len(world.executions()) == 2


def test_a_resume_that_comes_before_its_start_begins_nothing_more(world: World) -> None:
    web = world.machine("web01")
    web.tainted = ("custom-monitor",)
    world._hook(web, "prepare", "begin", eid="ab" * 16)
    web.live = True
    world.event(web, Happening.RESUMED, "unpaused")
    world.event(web, Happening.STARTED, "booted")
    assert list(world.executions()) == ["ab" * 16]


def test_disks_read_after_the_revert_are_not_what_the_killed_execution_left(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.stop(web)
    snap = world.snapshot(web, "clean")
    second = world.start(web)
    world._pause()
    world.write(web)
    web.live = False
    web.ends[second] = web.content
    world._hook(web, "stopped", "end", eid=second)
    world._replace(web, snap.content, (Origin.REVERT, first))
    world._look(web)  # the agent was quicker than libvirt's event
    world.event(web, Happening.STOPPED, "from-snapshot")
    assert _origin(world, world.start(web))[:2] == (Origin.REVERT, first)


def test_a_machine_from_another_host_continues_there_where_the_record_knows_it() -> None:
    records = MemoryRecords()
    alpha, beta = World(records, "alpha"), World(records, "beta")
    web = alpha.machine("web01")
    first = alpha.start(web)
    moved = Machine("web01", web.uuid, web.content, web.lineage, web.inode)
    beta.machines.append(moved)
    beta.now = alpha.now
    beta._hook(moved, "migrate", "begin")
    eid = beta._begin(moved, (Origin.MIGRATE, first), "migrated")
    assert beta.survey() == ()  # both are there for a moment
    beta.event(moved, Happening.RESUMED, "migrated")
    known = beta.executions()
    assert (known[eid].origin, known[eid].parent, known[eid].certain) == (Origin.MIGRATE, first, True)
    assert known[first].ending == "migrated"


def test_an_announced_migration_of_what_runs_here_says_nothing_of_its_next_start(world: World) -> None:
    """libvirt refuses it once its hook was called: whoever may ask would choose how a start begins."""
    web = world.machine("web01")
    first = world.start(web)
    world.now += timedelta(hours=1)
    world._hook(web, "migrate", "begin")
    world.now -= timedelta(hours=1)  # the stop takes an hour
    world.stop(web)
    world._hook(web, "prepare", "begin", eid="e" * 32, looked=world.looked(web))
    assert _origin(world, "e" * 32)[:2] == (Origin.START, first)


def test_a_machine_from_a_host_without_records_has_no_parent(world: World) -> None:
    web = world.machine("web01")
    world._hook(web, "migrate", "begin")
    eid = world._begin(web, (Origin.MIGRATE, ""), "migrated")
    assert _origin(world, eid) == (Origin.MIGRATE, "", False)


def _blind(world: World) -> None:
    """Let no fingerprint be read any more."""
    world.looked = lambda machine: Looked(None, (world.file(machine),))  # type: ignore[method-assign]
