"""The agent with a real guest service: what opens a port, what closes it again, and what a kill leaves behind.

QEMU is a socket, and its guest a thread that plays the helper; the guest service is the real process.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentlab import QUICK
from channellab import REQUIRED, ChannelLab
from memoryrecords import MemoryRecords
from tests.support.guesthost import ServiceProcess

from undercroft.agent import channels, guestevents
from undercroft.model.channel import Heard
from undercroft.model.execution import Origin

IGNORED = REQUIRED.replace("reseed: required", "reseed: ignored")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(channels, "AGAIN_S", (0.02, 0.1))
    monkeypatch.setattr(channels, "AWAY_S", 0.05)
    monkeypatch.setattr(channels, "ALARM_AFTER_S", 0.3)
    monkeypatch.setattr(guestevents, "AGAIN_S", 0.01)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c")


@pytest.fixture
def service(folder: Path) -> Iterator[ServiceProcess]:
    made = ServiceProcess(folder)
    yield made.start()
    made.close()


Play = Callable[[ChannelLab], Coroutine[Any, Any, None]]


def played(
    folder: Path, service: ServiceProcess, play: Play, policy: str = REQUIRED, **how: bool
) -> ChannelLab:
    """Run the agent while something is played."""
    lab = ChannelLab(folder, MemoryRecords(), service, policy=policy)
    lab.how = how

    async def run() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")
            await play(lab)

    try:
        asyncio.run(run())
    finally:
        lab.close()
    return lab


def test_a_port_opens_once_its_guest_has_confirmed_and_not_before(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        lab.on_run = lambda: seen.append(lab.is_closed())  # type: ignore[method-assign]
        assert await lab.start()
        await lab.until(lab.is_open, "its guest has confirmed")
        assert lab.is_fresh()
        (channel,) = lab._read(lambda record: record.channels()).values()
        assert (channel.heard, channel.helper, channel.kernel) == (Heard.READY, "played 1", "6.1.0-18-amd64")

    seen: list[bool] = []
    played(folder, service, play)
    assert seen == [True], "it was closed when QEMU began"


def test_a_guest_without_the_helper_stays_closed_and_is_told_why(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_waiting, "all but its guest's word is there")
        (hold,) = lab._read(lambda record: record.holds())
        assert "has to confirm fresh randomness" in hold.reason
        await asyncio.sleep(0.3)
        assert lab.is_waiting()

    played(folder, service, play, helps=False)


def test_control_a_guest_without_the_helper_is_open_where_the_policy_does_not_mind(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_open, "it began as it was judged")

    played(folder, service, play, policy=IGNORED, helps=False)


def test_a_seed_that_the_kernel_did_not_credit_opens_nothing(folder: Path, service: ServiceProcess) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lambda: lab.is_fresh() and lab.is_waiting(), "it has confirmed, uncredited")
        await asyncio.sleep(0.1)
        assert lab.is_waiting()

    played(folder, service, play, credits=False)


def test_a_restarted_machine_needs_a_confirmation_of_its_own(folder: Path, service: ServiceProcess) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_open, "its guest has confirmed")
        await lab.stop()
        await lab.until(lab.is_over, "its end is on record")
        lab.how = {"helps": False}
        assert await lab.start()
        await lab.until(lab.is_waiting, "the one before counts for nothing")

    played(folder, service, play)


def test_a_load_that_nobody_told_of_is_an_execution_with_an_alarm_and_closes_until_it_is_fresh(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_open, "its guest has confirmed")
        before = lab.execution()
        assert lab.qemu
        snapshot = lab.qemu.take_snapshot()
        sessions = lab.qemu.sessions
        await asyncio.sleep(2.2)  # pings go on, as each second
        lab.qemu.load(snapshot)
        await lab.until(lambda: lab.execution().eid != before.eid, "the proof is on record")
        after = lab.execution()
        assert (after.origin, after.parent, after.certain) == (Origin.LOAD, before.eid, True)
        assert any("was put back" in one for one in after.evidence)
        (alarm,) = [one for one in lab.alarms() if "rewound" in one]
        assert before.eid in alarm and after.eid in alarm  # noqa: PT018
        await lab.until(lambda: lab.is_open() and lab.is_fresh(), "the new execution has confirmed")
        assert lab.qemu.sessions > sessions
        holds = [one.body for one in lab._read(lambda record: record.log_entries()) if one.kind == "hold"]
        assert '"held":true' in holds[-2] or '"held":true' in holds[-3], "it was closed in between"

    played(folder, service, play)


def test_a_service_that_dies_leaves_ports_as_they_are_and_gets_everything_again(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_open, "its guest has confirmed")
        assert lab.qemu
        service.kill()
        await lab.until(lambda: any("guest-service" in one for one in lab.alarms()), "an alarm")
        assert lab.is_open()
        sessions = lab.qemu.sessions
        service.start()
        await lab.until(lambda: lab.qemu and lab.qemu.sessions > sessions, "it has a session again")
        assert lab.is_open()

    played(folder, service, play)


def test_what_starts_while_the_service_is_away_stays_closed_until_it_is_back(
    folder: Path, service: ServiceProcess
) -> None:
    async def play(lab: ChannelLab) -> None:
        service.kill()
        assert await lab.start()
        await lab.until(lab.is_waiting, "nobody gives it a seed")
        service.start()
        await lab.until(lab.is_open, "its guest has confirmed")

    played(folder, service, play)


def test_an_agent_that_begins_anew_finds_on_record_who_has_confirmed(
    folder: Path, service: ServiceProcess
) -> None:
    records = MemoryRecords()
    lab = ChannelLab(folder, records, service)

    async def first() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")
            assert await lab.start()
            await lab.until(lab.is_open, "its guest has confirmed")

    async def second() -> None:
        assert lab.qemu
        sessions = lab.qemu.sessions
        async with lab.running():
            await lab.until(lambda: lab.channels._here.is_set() and lab.channels._given, "it has the service")
            await asyncio.sleep(0.2)
            assert lab.is_open()
            assert lab.qemu.sessions == sessions, "nobody is asked again"

    asyncio.run(first())
    asyncio.run(second())
    lab.close()
