"""Surveys: what was missed is asked about, also where it is told of while a survey is being taken."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from agentlab import HOST, NAME, UUID, Lab
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.agent.surveys import Surveys
from undercroft.errors import OperationError
from undercroft.model.domain import Domain, Power, Survey
from undercroft.model.execution import Execution, Origin

EID = "e" * 32


class Stage:
    """A host whose machine is reverted while nobody hears it; `confirmed` has who was asked about."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder, MemoryRecords())
        self.lab._wired()
        self.confirmed: list[str] = []
        host = self.lab.host
        self.surveys = Surveys(host, self.lab.scans, self._confirm, self._after_hooks, lambda: None)

    def _confirm(self, _: Domain, execution: Execution) -> None:
        self.confirmed.append(execution.eid)

    async def _after_hooks(self, _: Iterable[str]) -> None:
        pass

    def revert_unheard(self) -> None:
        """Have the machine run as what it was reverted to, with libvirt's event lost."""
        fleet = self.lab.fleet
        fleet.change(replace(fleet.domain(UUID), power=Power.RUNNING))
        with self.lab.records.transaction() as record:
            begun = now() - timedelta(minutes=1)
            record.put_execution(Execution(EID, UUID, NAME, HOST, Origin.REVERT, "", "", begun))

    def during(self, what: Callable[[], None]) -> None:
        """Do something once, while libvirt is asked for the next survey."""
        survey = self.lab.fleet.survey

        def surveyed() -> Survey:
            found = survey()
            self.lab.asked.__dict__.pop("survey")
            what()
            return found

        self.lab.asked.__dict__["survey"] = surveyed

    def endings(self) -> list[str]:
        """Return how the machine's executions have ended."""
        with self.lab.records.reading() as record:
            return [one.ending for one in record.own_executions(UUID)]

    async def survey(self) -> list[str]:
        """Survey, and return who was asked about."""
        self.confirmed.clear()
        await self.surveys.survey()
        return list(self.confirmed)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.lab.host.close()


def test_what_is_told_as_missed_while_a_survey_is_taken_is_asked_about_by_the_next(stage: Stage) -> None:
    async def campaign() -> None:
        assert await stage.survey() == []

        def meanwhile() -> None:
            stage.surveys.soon(missed=True)
            stage.revert_unheard()

        stage.surveys.soon(missed=True)
        stage.during(meanwhile)  # libvirt has answered already: this survey does not see it run
        assert await stage.survey() == []
        assert await stage.survey() == [EID]

    asyncio.run(campaign())


def test_a_survey_that_is_asked_for_only_now_and_then_asks_about_nobody(stage: Stage) -> None:
    async def campaign() -> None:
        await stage.survey()
        stage.revert_unheard()
        stage.surveys.soon()
        assert await stage.survey() == []

    asyncio.run(campaign())


def test_what_was_missed_is_still_asked_about_after_a_survey_that_failed(stage: Stage) -> None:
    async def campaign() -> None:
        await stage.survey()
        stage.revert_unheard()
        stage.surveys.soon(missed=True)

        def fails() -> None:
            raise OperationError("libvirt does not answer")

        stage.during(fails)
        with pytest.raises(OperationError, match="does not answer"):
            await stage.survey()
        assert await stage.survey() == [EID]

    asyncio.run(campaign())


def test_a_machine_that_stops_while_a_survey_is_taken_is_left_to_its_events(stage: Stage) -> None:
    """Its hook has told of the end, libvirt's event has not; a look at it from before comes in late."""

    async def campaign() -> None:
        stage.revert_unheard()
        running = stage.lab.fleet.domain(UUID)
        await stage.survey()
        stage.lab.fleet.change(replace(running, power=Power.OFF))
        with stage.lab.records.transaction() as record:
            record.put_execution(replace(record.own_executions(UUID)[0], ended_at=now(), ending="stopped"))

        stage.surveys.soon(missed=True)
        stage.during(lambda: stage.lab.host.changed(UUID, running))
        await stage.survey()
        assert stage.endings() == ["stopped"]
        assert stage.surveys._missed  # another look is due, should its event never come
        await stage.survey()
        assert stage.lab.host.domain(UUID) == stage.lab.fleet.domain(UUID)
        assert stage.endings() == ["stopped"]

    asyncio.run(campaign())
