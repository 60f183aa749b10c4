"""Machines that migrate between two agents of one record: what is filtered when, and flows that go along."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from agentlab import HOST, NAME, QUICK, TAP, UUID, WAIT_S
from filterlab import FilterLab, without_snapshots

from undercroft.agent.host import now
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.elements import key_of
from undercroft.model.domain import Power
from undercroft.model.execution import Execution, Origin
from undercroft.model.filter import MovedFlows
from undercroft.ports.fleet import Happening

MINE, OTHER = ip_address("192.0.2.7").packed, ip_address("192.0.2.1").packed
FLOW = key_of(OTHER, MINE, b"\x06", (443).to_bytes(2, "big"), (50_000).to_bytes(2, "big"))
FOREIGN = key_of(OTHER, OTHER, b"\x06", (443).to_bytes(2, "big"), (50_000).to_bytes(2, "big"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def lab(tmp_path: Path) -> FilterLab:
    lab = FilterLab(tmp_path)
    lab.apply()
    without_snapshots(lab)
    return lab


def play(lab: FilterLab, scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            assert await lab.start()
            await lab.until(lab.is_proven, "it runs and is proven")
            await scene()

    asyncio.run(run())


def is_arriving(lab: FilterLab) -> bool:
    (port,) = lab.firewall.labels.ports(UUID)
    return port.arriving


def pause(lab: FilterLab) -> None:
    """Let the machine be paused, as one is that has not come yet."""
    domain = lab.fleet._put(replace(lab.fleet.domain(UUID), power=Power.PAUSED))
    lab.fleet.emit(Happening.CHANGED, "", domain)


async def comes(lab: FilterLab) -> None:
    """Begin a migration of the machine from another host, and wait until it is under way."""
    await lab.stop()
    await lab.until(lab.is_over, "it is off")
    with lab.records.transaction() as record:
        record.put_execution(Execution("e9" * 16, UUID, NAME, "host2", Origin.START, "", "", now()))
    await announce(lab)
    await asyncio.to_thread(lab.fleet.migrate_in, UUID)


async def announce(lab: FilterLab) -> None:
    """Be libvirt, which tells its hook of a migration before it looks whether it can be."""
    await asyncio.to_thread(lab._tell, lab.fleet.domain(UUID), "migrate", "")


def flows(lab: FilterLab) -> set[bytes]:
    return set(lab.packet_filter.read(TABLE_NAME).elements["flows4"])


def remember(lab: FilterLab, key: bytes) -> None:
    """Be a packet that the kernel remembers."""
    table = lab.packet_filter.read(TABLE_NAME).table
    lab.packet_filter.change(table, {"flows4": {key: None}}, {})


def moved(lab: FilterLab) -> MovedFlows | None:
    with lab.records.reading() as record:
        return record.moved_flows(UUID)


def test_flows_of_a_machine_that_leaves_are_on_record_before_it_goes_on_elsewhere(lab: FilterLab) -> None:
    async def scene() -> None:
        remember(lab, FLOW)
        lab.fleet.emit(Happening.SUSPENDED, "migrated", lab.fleet.domain(UUID))
        await lab.until(lambda: moved(lab) is not None, "they are on record")

    play(lab, scene)
    found = moved(lab)
    assert found is not None
    assert (found.host, dict(found.elements)) == (HOST, {"flows4": (FLOW,)})


def test_a_machine_that_leaves_by_post_copy_speaks_from_elsewhere_while_its_process_is_here(
    lab: FilterLab,
) -> None:
    """It never runs here again, and its process ends once all of its memory has gone."""
    loosened: list[str] = []

    async def scene() -> None:
        lab.firewall.labels.shield = lambda port: loosened.append(port.tap) if port.arriving else None
        remember(lab, FLOW)
        domain = lab.fleet._put(replace(lab.fleet.domain(UUID), power=Power.PAUSED))
        lab.fleet.emit(Happening.SUSPENDED, "migrated", domain)
        await lab.until(lambda: moved(lab) is not None, "its flows are on record")
        assert not is_arriving(lab), "it may fail, and go on here"
        lab.fleet.emit(Happening.SUSPENDED, "postcopy", domain)
        await lab.until(lambda: is_arriving(lab), "packets in its name are believed from outside")
        assert loosened == [TAP]
        lab.filters.changed()
        await lab.until(lab.is_proven, "whoever looks at all machines sees it too")
        assert is_arriving(lab)
        await lab.stop()
        await lab.until(lab.is_over, "its process has ended")
        assert lab.firewall.labels.ports(UUID) == ()
        assert await lab.start()
        await lab.until(lab.is_proven, "it runs here anew")
        assert not is_arriving(lab)

    play(lab, scene)


def test_a_machine_that_goes_on_here_after_all_speaks_from_here_alone(lab: FilterLab) -> None:
    async def scene() -> None:
        lab.fleet.emit(Happening.SUSPENDED, "postcopy", lab.fleet.domain(UUID))
        await lab.until(lambda: is_arriving(lab), "it has left")
        lab.fleet.emit(Happening.RESUMED, "unpaused", lab.fleet.domain(UUID))
        await lab.until(lambda: not is_arriving(lab), "it runs here")

    play(lab, scene)


@pytest.mark.parametrize("detail", ["migrated", "postcopy"])
def test_a_machine_that_comes_is_filtered_as_arriving_until_it_runs_here_and_gets_its_flows(
    lab: FilterLab, detail: str
) -> None:
    begun = Execution("e9" * 16, UUID, NAME, "host2", Origin.START, "", "", now())

    async def scene() -> None:
        await lab.stop()
        await lab.until(lab.is_over, "it is off")
        with lab.records.transaction() as record:
            record.put_execution(begun)
            elements = {"flows4": (FLOW, FOREIGN)}
            record.put_moved_flows(MovedFlows(UUID, "host2", now(), elements))
        domain = lab.fleet.domain(UUID)
        await asyncio.to_thread(lab._tell, domain, "migrate", "")
        await asyncio.to_thread(lab.fleet.migrate_in, UUID)
        assert lab.seen[-1] == (True, frozenset({"web"}))
        assert is_arriving(lab)
        lab.filters.changed()
        await asyncio.sleep(0.1)
        assert is_arriving(lab), "whoever looks at all machines sees it too"
        lab.fleet.resume(UUID, detail)
        await lab.until(lambda: not is_arriving(lab), "it runs here")
        await lab.until(lambda: FLOW in flows(lab), "it has its flows")
        await lab.until(lambda: moved(lab) is None, "they are taken")

    play(lab, scene)
    assert FOREIGN not in flows(lab), "what another host says counts for the machine that came only"


def test_an_agent_that_comes_back_amid_a_migration_knows_that_it_is_one(lab: FilterLab) -> None:
    begun = Execution("e9" * 16, UUID, NAME, "host2", Origin.START, "", "", now())

    async def scene() -> None:
        with lab.records.transaction() as record:
            (own,) = [one for one in record.own_executions(UUID) if one.live]
            record.put_execution(replace(own, origin=Origin.MIGRATE))
            record.put_execution(begun)
        pause(lab)
        await lab.until(lambda: is_arriving(lab), "it is arriving")

    play(lab, scene)


def test_a_machine_that_came_and_goes_on_to_another_host_is_not_arriving_again(lab: FilterLab) -> None:
    async def scene() -> None:
        with lab.records.transaction() as record:
            (own,) = [one for one in record.own_executions(UUID) if one.live]
            record.put_execution(replace(own, origin=Origin.MIGRATE))
            record.put_execution(Execution("e9" * 16, UUID, NAME, "host2", Origin.MIGRATE, "", "", now()))
        await asyncio.to_thread(lab.firewall.labels.follow)
        assert not is_arriving(lab), "until it has gone, its packets come from its port alone"

    play(lab, scene)


def test_an_agent_that_comes_back_takes_over_the_flows_of_a_machine_that_came_without_it(
    lab: FilterLab,
) -> None:
    async def nothing() -> None:
        return

    async def again() -> None:
        async with lab.running():
            await lab.until(lambda: FLOW in flows(lab), "it has its flows")
            await lab.until(lambda: moved(lab) is None, "they are taken")

    play(lab, nothing)
    with lab.records.transaction() as record:
        (own,) = [one for one in record.own_executions(UUID) if one.live]
        record.put_execution(replace(own, origin=Origin.MIGRATE, started_at=now()))
        record.put_moved_flows(MovedFlows(UUID, "host2", now(), {"flows4": (FLOW, FOREIGN)}))
    asyncio.run(again())
    assert FOREIGN not in flows(lab)


@pytest.mark.parametrize("origin", [Origin.START, Origin.MIGRATE])
def test_whoever_asks_for_a_migration_of_a_machine_that_runs_here_opens_nothing_to_its_addresses(
    lab: FilterLab, origin: Origin
) -> None:
    """libvirt calls the hook, and refuses then: nothing ever takes it back."""

    async def scene() -> None:
        with lab.records.transaction() as record:
            (own,) = [one for one in record.own_executions(UUID) if one.live]
            record.put_execution(replace(own, origin=origin))
        await announce(lab)
        await lab.until(lab.is_quiet, "it is taken")
        await asyncio.to_thread(lab.firewall.labels.follow)
        assert not is_arriving(lab)

    play(lab, scene)


@pytest.mark.parametrize("detail", ["unpaused", ""], ids=["resumed later", "nobody heard of it"])
def test_a_machine_has_come_once_it_runs_here_however_that_is_told(lab: FilterLab, detail: str) -> None:
    async def scene() -> None:
        await comes(lab)
        assert is_arriving(lab)
        lab.fleet.resume(UUID, detail)
        async with asyncio.timeout(WAIT_S):
            while not detail and is_arriving(lab):  # an event that was taken late may follow a survey
                await lab.events._surveys.survey()
                await asyncio.sleep(0.05)
        await lab.until(lambda: not is_arriving(lab), "it runs here")
        if not detail:
            pause(lab)
        await lab.until(lab.is_quiet, "it is taken")
        await asyncio.to_thread(lab.firewall.labels.follow)
        assert not is_arriving(lab), "it stays here while it is paused"

    play(lab, scene)


def test_a_machine_that_came_before_any_policy_does_not_arrive_with_the_first(tmp_path: Path) -> None:
    lab = FilterLab(tmp_path)
    without_snapshots(lab)

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.action, "it is known")
            await announce(lab)
            await asyncio.to_thread(lab.fleet.migrate_in, UUID)
            lab.fleet.resume(UUID)
            await lab.until(lab.is_quiet, "it is taken")
            lab.apply()
            await lab.until(lab.is_proven, "it is in force")
            assert not is_arriving(lab)

    asyncio.run(scene())


def test_what_a_hook_announced_long_ago_to_an_agent_that_was_away_is_over(lab: FilterLab) -> None:
    async def nothing() -> None:
        return

    async def again() -> None:
        async with lab.running():
            await lab.until(lab.is_proven, "it is proven again")
            await asyncio.sleep(0.1)
            await asyncio.to_thread(lab.firewall.labels.follow)
            assert not is_arriving(lab)

    play(lab, nothing)
    with lab.records.transaction() as record:
        (own,) = [one for one in record.own_executions(UUID) if one.live]
        record.put_execution(replace(own, origin=Origin.MIGRATE, started_at=now() - timedelta(minutes=10)))
    lab._keep(lab._event(lab.fleet.domain(UUID), "migrate", "begin", ""))
    asyncio.run(again())
