"""The agent with a real guest service: what opens a port, what closes it, and what a kill leaves behind.

QEMU is a socket, and its guest a thread that plays the helper; the guest service is the real process.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agentlab import HOST, QUICK, UUID
from channellab import REQUIRED, ChannelLab
from gatetraces import always, broken, kinds
from memoryrecords import MemoryRecords
from tests.support.guesthost import ServiceProcess

from undercroft.adapters.tracefile import TraceFile, read_traces
from undercroft.agent import channels, events, guestevents, surveys
from undercroft.assurance import trace
from undercroft.errors import OperationError
from undercroft.model.channel import Heard
from undercroft.model.domain import Power
from undercroft.model.execution import Origin
from undercroft.ports.records import Records
from undercroft.usecases.fleet.history.traced import Wanted
from undercroft.usecases.fleet.starts import gate

IGNORED = REQUIRED.replace("reseed: required", "reseed: ignored")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(channels, "AGAIN_S", (0.02, 0.1))
    monkeypatch.setattr(channels, "AWAY_S", 0.05)
    monkeypatch.setattr(channels, "ALARM_AFTER_S", 0.3)
    monkeypatch.setattr(guestevents, "AGAIN_S", 0.01)
    monkeypatch.setattr(events, "HOOKS_FIRST_S", 0.5)
    monkeypatch.setattr(surveys, "WORD_WITHIN", timedelta(seconds=0.2))


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
    folder: Path,
    service: ServiceProcess,
    play: Play,
    policy: str = REQUIRED,
    breaks: tuple[str, ...] = (),
    **how: bool,
) -> ChannelLab:
    """Run the agent while something is played; what it did breaks no invariant but `breaks`."""
    wanted: Wanted = always if policy == REQUIRED else (lambda *_: False)
    lab = ChannelLab(folder, MemoryRecords(), service, policy=policy)
    lab.how = how

    async def run() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")
            await play(lab)

    try:
        asyncio.run(run())
        found = broken(lab.records, HOST, read_traces([service.trace]), wanted)
        assert tuple(each.invariant for each in found) == breaks, found
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

    lab = played(folder, service, play, policy=IGNORED, helps=False)
    found = broken(lab.records, HOST, read_traces([service.trace]))
    assert [each.invariant for each in found] == ["NoOutputBeforeReseed"], "had the policy wanted it"


def test_control_an_agent_whose_gate_is_broken_is_found_by_what_its_record_tells(
    folder: Path, service: ServiceProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lab.is_open, "nothing waits for its guest")

    monkeypatch.setattr(gate, "is_owed", lambda *_: False)
    lab = played(folder, service, play, policy=REQUIRED, breaks=("NoOutputBeforeReseed",), helps=False)
    assert not lab.is_fresh()


def test_a_seed_that_the_kernel_did_not_credit_opens_nothing(folder: Path, service: ServiceProcess) -> None:
    async def play(lab: ChannelLab) -> None:
        assert await lab.start()
        await lab.until(lambda: lab.is_fresh() and lab.is_waiting(), "it has confirmed, uncredited")
        await asyncio.sleep(0.1)
        assert lab.is_waiting()

    played(folder, service, play, credits=False)
    written = kinds(read_traces([service.trace]), trace.Seeded, trace.Confirmed)
    assert set(written) == {"Seeded"}, "to a trace it has confirmed nothing"


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
            await lab.until(
                lambda: lab.channels._here.is_set() and lab.channels.hands.given, "it has the service"
            )
            await asyncio.sleep(0.2)
            assert lab.is_open()
            assert lab.qemu.sessions == sessions, "nobody is asked again"

    asyncio.run(first())
    asyncio.run(second())
    lab.close()
    assert broken(records, HOST, read_traces([service.trace])) == []


class DyingRecords:
    """A record whose agent dies at the nth transaction, at its beginning or before its end.

    From then on nothing of that agent's reaches the record any more.
    """

    def __init__(self, records: Records, dies_at: int = 0) -> None:
        self._records = records
        self._dies_at = dies_at
        self.count = 0
        self.dead = threading.Event()

    def _step(self) -> None:
        self.count += 1
        if self.count == self._dies_at:
            self.dead.set()
        if self.dead.is_set():
            raise OperationError("the agent was killed")

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        self._step()
        with self._records.transaction() as record:
            yield record
            self._step()

    @contextmanager
    def reading(self) -> Iterator[Any]:
        if self.dead.is_set():
            raise OperationError("the agent was killed")
        with self._records.reading() as record:
            yield record

    def close(self) -> None:
        """Nothing is held."""


async def connected(lab: ChannelLab) -> None:
    """Wait until libvirt's events are listened to: the lab's holds its lock while its hooks run."""
    while not lab.events.connected:
        await asyncio.sleep(0.005)


def lived(folder: Path, service: ServiceProcess, dies_at: int) -> int:
    """Have an agent die at a step, and the next one end what was begun; return how many steps there were."""
    folder.mkdir()
    begins_ns = TraceFile.now_ns()
    records = MemoryRecords()
    lab = ChannelLab(folder, records, service)

    async def known() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")

    async def first() -> None:
        dying = DyingRecords(records, dies_at)
        lab.records = dying
        start = None
        try:
            async with lab.running():
                lab.records = records  # what the test sees
                await connected(lab)
                start = asyncio.create_task(lab.start())
                while not (dying.dead.is_set() or lab.is_open()):
                    await asyncio.sleep(0.005)
        except AssertionError:
            assert dying.dead.is_set()
        if start is not None:
            await start  # its hook finds nobody there, and decides alone
        steps.append(dying.count)

    async def second() -> None:
        async with lab.running():
            await connected(lab)
            while lab.fleet.domain(UUID).power is not Power.RUNNING:
                await lab.start()
            await lab.until(lambda: lab.is_open() and lab.is_fresh(), "its guest has confirmed")
            assert lab.alarms() == []

    steps: list[int] = []
    try:
        for part in (known, first, second):
            asyncio.run(part())
        written = [event for event in read_traces([service.trace]) if event.at_ns > begins_ns]
        assert broken(records, HOST, written) == []
    finally:
        lab.close()
    return steps[0]


@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_an_agent_that_is_killed_between_any_two_steps_leaves_what_the_next_one_ends(
    folder: Path, service: ServiceProcess, step: int
) -> None:
    count = lived(folder / "whole", service, 0)
    assert count > 10
    for number in range(1, count + 1, step):
        lived(folder / str(number), service, number)
