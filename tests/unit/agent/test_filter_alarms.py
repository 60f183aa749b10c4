"""Alarms of the firewall: each is told once, whoever tells them at the same time, and none is lost."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from agentlab import QUICK, FailingRecords, Fault
from filterlab import POLICY, FilterLab
from memoryrecords import MemoryRecords

from undercroft.agent.host import now
from undercroft.errors import OperationError
from undercroft.firewall.stored import to_text
from undercroft.ports.records import Record


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


class Interrupted(list[str]):
    """A log in which another thread tells alarms while the first line is written."""

    def __init__(self, lab: FilterLab) -> None:
        super().__init__()
        self._lab = lab
        self.failures: list[BaseException] = []

    def append(self, line: str) -> None:
        super().append(line)
        if len(self) == 1:
            other = threading.Thread(target=self._tell)
            other.start()
            other.join()

    def _tell(self) -> None:
        try:
            self._lab.filters._alarms.tell()
        except BaseException as error:
            self.failures.append(error)
            raise


def test_an_alarm_that_two_threads_tell_at_once_is_told_once_and_ends_neither(tmp_path: Path) -> None:
    lab = FilterLab(tmp_path)
    lab.reports = log = Interrupted(lab)
    lab._wired()
    lab.filters._touched()
    lab.filters._alarms.tell()
    assert log.failures == []
    assert len(lab.alarms()) == 1


def test_an_alarm_that_comes_while_another_is_told_is_told_as_well(tmp_path: Path) -> None:
    lab = FilterLab(tmp_path)

    class Second(list[str]):
        def append(self, line: str) -> None:
            super().append(line)
            if len(self) == 1:
                lab.filters._touched()

    lab.reports = Second()
    lab._wired()
    lab.filters._touched()
    lab.filters._alarms.tell()
    lab.filters._alarms.tell()
    assert len(lab.alarms()) == 2


def test_an_alarm_that_the_record_does_not_take_is_told_later_with_those_that_came_since(
    tmp_path: Path,
) -> None:
    """It is told from where nobody catches what fails, which would end the agent."""
    lab = FilterLab(tmp_path)
    lab.records = FailingRecords(lab.records, Fault(1))  # type: ignore[assignment]
    lab._wired()
    lab.filters._alarms.alarm("proof", "the first packet")
    assert lab.alarms() == []
    lab.filters._alarms.alarm("proof", "the second packet")
    assert lab.alarms() == ["the second packet (and 1 times more since the last alarm)"]


class FullRecords(MemoryRecords):
    """A record that can be read, and once it is full takes nothing but what another host writes."""

    is_full = False

    @contextmanager
    def transaction(self) -> Iterator[Record]:
        if self.is_full:
            raise OperationError("no space left on device")
        with super().transaction() as record:
            yield record


def test_an_alarm_that_cannot_be_told_keeps_the_table_from_nothing(tmp_path: Path) -> None:
    lab = FilterLab(tmp_path)
    lab.records = records = FullRecords()
    lab.apply()
    other = replace(POLICY, flows=POLICY.flows[1:])

    async def scene() -> None:
        async with lab.running():
            await lab.until(lab.is_proven, "it is proven")
            records.is_full = True
            lab.filters._touched()
            with MemoryRecords.transaction(records) as record:
                record.put_applied_policy(to_text(other), other.digest, "alice", "", now())
            await lab.until(lambda: lab.firewall.enforcer.policy == other, "the policy is in force")
            assert lab.alarms() == []
            records.is_full = False
            await lab.until(lab.alarms, "the alarm is told once there is room")

    asyncio.run(scene())
