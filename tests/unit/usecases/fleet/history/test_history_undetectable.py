"""What leaves no trace, as docs/LINEAGE.md lists it: each test shows that it is not detected or not told.

Beside each stands the control: the same deed with the trace that the document names, which is detected.
"""

from dataclasses import replace

import pytest
from lives import Machine, World
from memoryrecords import MemoryRecords

from undercroft.model.execution import Origin
from undercroft.ports.fleet import Happening


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


def test_a_roll_back_to_a_state_that_was_never_read_is_a_change_without_a_name(world: World) -> None:
    web = world.machine("web01")
    unread = web.content
    first, second = _lived(world, web), _lived(world, web)
    world._replace(web, unread, (Origin.BACKUP, ""))
    assert _origin(world, world.start(web)) == (Origin.UNKNOWN, second, False)
    world.stop(web)
    world.backup(web, first)  # control: that state had been read
    assert _origin(world, world.start(web)) == (Origin.BACKUP, first, True)


def test_a_write_that_spares_the_superblocks_is_not_seen(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    world.touch(web)  # the file was written, its fingerprint is the same
    assert _origin(world, world.start(web)) == (Origin.START, first, True)
    world.stop(web)
    world.tamper(web)  # control: a mount, as guestmount does one
    assert _origin(world, world.start(web))[0] is Origin.UNKNOWN


def test_a_forged_fingerprint_passes_for_the_state_that_it_copies(world: World) -> None:
    web = world.machine("web01")
    first = _lived(world, web)
    left = web.content
    world.tamper(web)
    web.content = left  # whoever writes the superblocks back has forged it
    assert _origin(world, world.start(web)) == (Origin.START, first, True)


def test_a_roll_back_while_nobody_had_read_the_end_passes_for_a_start_in_doubt(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.leave_agent()
    world.stop(web)
    world.tamper(web)
    world.return_agent()
    assert _origin(world, world.start(web)) == (Origin.START, first, False)


def test_a_revert_to_the_current_snapshot_while_the_agent_was_away_is_only_a_doubt(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    snap = world.snapshot(web, "s")
    world.survey()
    world.leave_agent()
    second = world.revert(web, snap)
    world.return_agent()
    assert _origin(world, second) == (Origin.START, first, False)
    third = world.revert(web, snap)  # control: the agent is there
    assert _origin(world, third) == (Origin.REVERT, first, True)


def test_a_snapshot_loaded_through_the_monitor_between_two_looks_is_only_a_pause(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    world.leave_agent()
    web.tainted = ("custom-monitor",)
    world.event(web, Happening.RESUMED, "unpaused")
    world.return_agent()
    assert list(world.executions()) == [first]
    assert world.event(web, Happening.RESUMED, "unpaused") is not None  # control


def test_a_save_image_with_an_edited_header_is_another_image(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    save = world.save(web)
    world.restore(save)
    world.stop(web)
    edited = replace(save.image, sample="00" * 32, modified_ns=save.image.modified_ns + 10**13)
    save.image = edited
    origin, parent, certain = _origin(world, world.restore(save))
    assert (origin, parent, certain) == (Origin.FORK, first, False)  # told by its parent, not by its bytes


def test_two_hosts_with_records_of_their_own_do_not_see_each_others_lives() -> None:
    alpha, beta = World(MemoryRecords(), "alpha"), World(MemoryRecords(), "beta")
    web = alpha.machine("web01")
    alpha.start(web)
    copy = Machine("web01", web.uuid, web.content, web.lineage, web.inode)
    beta.machines.append(copy)
    beta.now = alpha.now
    beta.start(copy)
    assert beta.survey() == alpha.survey() == ()
    shared = World(alpha.records, "gamma")  # control: one record
    shared.machines.append(Machine("web01", web.uuid, web.content, web.lineage, web.inode))
    shared.now = alpha.now
    shared.start(shared.machines[0])
    assert [alarm.kind for alarm in shared.survey()] == ["two-live"]  # type: ignore[attr-defined]


def test_a_record_that_was_put_back_with_the_disks_knows_nothing(world: World) -> None:
    records = MemoryRecords()
    world = World(records)
    web = world.machine("web01")
    first = _lived(world, web)
    before, content = records._state.copied(), web.content
    _lived(world, web)
    records._state = before  # host root has put both back
    world._replace(web, content, (Origin.BACKUP, first))
    assert _origin(world, world.start(web))[:2] == (Origin.START, first)


def test_an_ordinary_pause_under_a_used_monitor_is_taken_for_a_load(world: World) -> None:
    web = world.machine("web01")
    first = world.start(web)
    assert world.event(web, Happening.RESUMED, "unpaused") is None  # control: nobody used the monitor
    web.tainted = ("custom-monitor",)
    paused = world.event(web, Happening.RESUMED, "unpaused")
    assert paused is not None
    assert (paused.origin, paused.parent, paused.certain) == (Origin.LOAD, first, False)


def test_a_copy_of_a_running_machine_without_any_uuid_is_a_first_start(world: World) -> None:
    web = world.machine("web01")
    world.start(web)
    copy = world.machine("web02")  # its content was never read at the original
    assert _origin(world, world.start(copy)) == (Origin.FIRST, "", True)
