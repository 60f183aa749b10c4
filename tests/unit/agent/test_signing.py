"""The log's head: signed once for each new end, told now and then, and told that it is not."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentlab import FailingRecords, Fault, Lab
from memoryrecords import MemoryRecords

from undercroft.agent import signing
from undercroft.agent.host import now
from undercroft.agent.signing import HEAD_MARK, Signing
from undercroft.ports.records import Records


class Stage:
    """A host whose log grows as a test has it grow."""

    def __init__(self, folder: Path, records: Records) -> None:
        self.lab = Lab(folder, records)
        self.lab._wired()
        self.signing = Signing(self.lab.host)

    def grow(self) -> None:
        with self.lab.records.transaction() as record:
            record.log("agent", "alpha", {}, now())

    def heads(self) -> list[int]:
        """Return the numbers of the heads that were told."""
        told = [line.removeprefix(HEAD_MARK) for line in self.lab.reports if line.startswith(HEAD_MARK)]
        return [json.loads(line)["number"] for line in told]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, MemoryRecords())
    yield stage
    stage.lab.host.close()


def test_a_head_is_told_at_once_then_now_and_then_and_the_last_one_always(stage: Stage) -> None:
    for _ in range(3):
        stage.grow()
        stage.signing.sign()
    assert stage.heads() == [1]
    stage.signing.sign(last=True)
    assert stage.heads() == [1, 3]
    stage.signing.sign(last=True)
    assert stage.heads() == [1, 3], "nothing is new"
    assert len(stage.lab.places.heads.read_text().splitlines()) == 3


def test_once_its_time_has_come_the_newest_head_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "REPORT_HEAD_EVERY_S", 0.0)
    for _ in range(2):
        stage.grow()
        stage.signing.sign()
    assert stage.heads() == [1, 2]


def test_a_log_that_cannot_be_signed_is_told_once_a_while_and_signed_when_it_can(stage: Stage) -> None:
    stage.grow()
    records = stage.lab.host.records
    for number in (1, 1, 0):
        stage.lab.host.records = FailingRecords(records, Fault(number))
        stage.signing.sign()
    assert sum("head is not signed" in line for line in stage.lab.reports) == 1
    assert stage.heads() == [1]
