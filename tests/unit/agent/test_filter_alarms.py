"""Alarms of the firewall: each is told once, whoever tells them at the same time, and none is lost."""

import threading
from pathlib import Path

import pytest
from agentlab import QUICK, FailingRecords, Fault
from filterlab import FilterLab


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
