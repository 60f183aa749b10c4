"""libvirt's events: in order, after the hook's, kept while the record is away, made up for by a survey."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agentlab import NAME, UUID, FailingRecords, Fault, Lab
from memoryrecords import MemoryRecords

from undercroft.agent import events as module
from undercroft.agent.events import Events
from undercroft.agent.host import now
from undercroft.errors import InputError, OperationError
from undercroft.model.domain import Domain, Power
from undercroft.ports.fleet import Happening, MachineEvent


def told(happening: Happening, detail: str = "") -> MachineEvent:
    return MachineEvent(happening, detail, UUID, NAME, now())


class Stage:
    """The watcher with a libvirt that tells what a test has it tell; `behind` has hooks that are not read."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder, MemoryRecords())
        self.lab._wired()
        self.heard: list[tuple[str, str]] = []
        self.behind: set[str] = set()
        self.judged: list[str] = []
        self.events = Events(
            self.lab.host,
            self.lab.scans,
            self.judged.extend,
            lambda word, reason: self.heard.append((word, reason)),
            self.behind.__contains__,
            self.lab.filters,
        )

    def libvirt_tells(self, *events: MachineEvent) -> None:
        async def tell() -> AsyncIterator[MachineEvent]:
            for event in events:
                yield event

        self.lab.asked.__dict__["events"] = tell

    @property
    def power(self) -> Power | None:
        """What the record says of the machine."""
        with self.lab.records.reading() as record:
            found = record.find_machines(UUID)
        return found[0].domain.power if found else None

    @property
    def executions(self) -> int:
        """How many executions are on record."""
        with self.lab.records.reading() as record:
            return len(record.own_executions(UUID))

    @property
    def survey_wanted(self) -> bool:
        """Whether a survey was asked for, because something was missed."""
        return self.events._surveys._missed

    def runs(self) -> None:
        self.lab.fleet.change(replace(self.lab.fleet.domain(UUID), power=Power.RUNNING))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    stage = Stage(tmp_path)
    yield stage
    stage.lab.host.close()


def test_connections_that_come_and_go_are_told_with_the_reason_and_a_survey_follows(stage: Stage) -> None:
    stage.libvirt_tells(told(Happening.CONNECTED), told(Happening.LOST, "it hangs"))
    asyncio.run(stage.events._listen())
    assert stage.heard == [("connected", ""), ("lost", "it hangs")]
    assert not stage.events.connected
    assert stage.survey_wanted


def test_events_that_wait_are_taken_in_one_transaction_in_order(stage: Stage) -> None:
    stage.runs()
    asyncio.run(stage.events._take([told(Happening.STARTED, "booted"), told(Happening.STOPPED, "destroyed")]))
    with stage.lab.records.reading() as record:
        (life,) = record.own_executions(UUID)
    assert (life.ending, life.live) == ("stopped", False)
    assert set(stage.judged) == {f"machine:{UUID}", f"snapshot:{UUID}:old"}


def test_an_event_waits_for_what_the_hook_told_before_it(stage: Stage) -> None:
    stage.behind.add(UUID)

    async def run() -> None:
        taking = asyncio.create_task(stage.events._take([told(Happening.STARTED, "booted")]))
        await asyncio.sleep(0.1)
        assert stage.executions == 0
        stage.behind.clear()
        await taking

    stage.runs()
    asyncio.run(run())
    assert stage.executions == 1


def test_a_hook_s_event_that_fails_for_ever_keeps_none_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOOKS_FIRST_S", 0.05)
    stage.behind.add(UUID)
    stage.runs()
    asyncio.run(stage.events._take([told(Happening.STARTED, "booted")]))
    assert stage.executions == 1


def test_events_stay_while_the_record_is_away_and_count_once(stage: Stage) -> None:
    stage.runs()
    records = stage.lab.records
    stage.lab.host.records = FailingRecords(records, Fault(2))
    asyncio.run(stage.events._take([told(Happening.STARTED, "booted")]))
    assert stage.executions == 1
    assert any("it is tried again" in line for line in stage.lab.reports)


def test_what_can_never_be_recorded_is_told_and_a_survey_makes_up_for_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def malformed(*_: object) -> None:
        raise InputError("malformed")

    monkeypatch.setattr(module, "machine_event", malformed)
    stage.runs()
    asyncio.run(stage.events._take([told(Happening.STARTED, "booted")]))
    assert any("a survey makes up for it: malformed" in line for line in stage.lab.reports)
    assert stage.survey_wanted
    assert stage.executions == 0


def test_where_libvirt_fails_the_machine_is_as_it_was_seen_last_and_a_survey_follows(stage: Stage) -> None:
    asyncio.run(stage.events._take([told(Happening.DEFINED)]))

    def fails(_: str) -> Domain:
        raise OperationError("libvirt: Connection reset by peer")

    stage.lab.asked.__dict__["domain"] = fails
    mark = stage.lab.host.mark()
    stage.events._surveys._missed = False
    asyncio.run(stage.events._take([told(Happening.CHANGED)]))
    assert stage.power is Power.OFF
    assert stage.lab.host.mark() == mark  # a survey that is being taken knows better than what was seen last
    assert stage.survey_wanted


def test_a_machine_that_is_gone_is_gone_on_record(stage: Stage) -> None:
    asyncio.run(stage.events._take([told(Happening.DEFINED)]))
    assert stage.power is Power.OFF
    stage.lab.fleet.undefine(UUID)
    asyncio.run(stage.events._take([told(Happening.UNDEFINED)]))
    with stage.lab.records.reading() as record:
        assert record.machines() == ()


@pytest.mark.parametrize("has_snapshots", [True, False])
def test_a_machine_with_snapshots_that_goes_on_is_surveyed_as_one_may_just_have_been_taken(
    stage: Stage, has_snapshots: bool
) -> None:
    stage.runs()
    if not has_snapshots:
        stage.lab.fleet.change(replace(stage.lab.fleet.domain(UUID), snapshots=()))
    stage.events._surveys._wanted.clear()
    asyncio.run(stage.events._take([told(Happening.RESUMED, "unpaused")]))
    assert stage.events._surveys._wanted.is_set() is has_snapshots
