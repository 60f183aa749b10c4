"""The history over a real database is the history over the one in memory, across restarts of the agent."""

from pathlib import Path

from lives import World
from memoryrecords import MemoryRecords

from undercroft.lineage.tree import build
from undercroft.model.execution import Origin
from undercroft.store.fleet.records import open_records


def _first_half(world: World) -> None:
    web = world.machine("web01")
    for _time in range(3):
        world.start(web)
        world.stop(web)
    world.start(web)
    world.snapshot(web, "one")
    world.survey()


def _second_half(world: World) -> None:
    web = world.machines[0]
    world.revert(web, web.snaps[0])
    save = world.save(web)
    world.restore(save)
    world.stop(web)
    world.restore(save)
    world.stop(web)
    world.apply(web, web.snaps[0])
    world.start(web)
    world.stop(web)
    world.backup(web, world.read_ends(web)[0])
    world.start(web)
    world.stop(web)
    world.start(world.clone(web, "web02"))
    world.leave_agent()
    world.start(web)
    world.return_agent()


def test_the_tree_over_sqlite_is_the_tree_in_memory(tmp_path: Path) -> None:
    memory = World(MemoryRecords())
    _first_half(memory)
    _second_half(memory)

    path = str(tmp_path / "fleet.db")
    durable = World(open_records(path))
    _first_half(durable)
    durable.records.close()
    durable.records = open_records(path)
    _second_half(durable)

    assert durable.executions() == memory.executions()
    with durable.records.reading() as left, memory.records.reading() as right:
        assert left.states() == right.states()
        web = durable.machines[0].uuid
        assert build(web, left.executions(web), left.states()) == build(
            web, right.executions(web), right.states()
        )
    durable.records.close()
    origins = [known.origin for known in memory.executions().values()]
    assert {
        Origin.FIRST,
        Origin.START,
        Origin.REVERT,
        Origin.RESTORE,
        Origin.FORK,
        Origin.BACKUP,
        Origin.CLONE,
    } <= set(origins)
