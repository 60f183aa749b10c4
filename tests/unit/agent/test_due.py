"""Who is due for a scan: by the policy's own word on each machine, and not asked for twice in a row."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from agentlab import HOST, SNAPSHOT, UUID, Lab
from memoryrecords import MemoryRecords

from undercroft.agent import due
from undercroft.agent.due import AGAIN, Due
from undercroft.agent.host import now
from undercroft.agent.scans import Wish
from undercroft.model.domain import Power
from undercroft.model.fleet import Scan
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.steady.settingsreader import MIN_SCANNED_WITHIN
from undercroft.usecases.fleet.subjects import survey_subjects

OTHER = "0a0b0c0d-0000-4000-8000-000000000002"
IMAGE = Subject("image:host1:/orphan.qcow2", SubjectKind.IMAGE, "/orphan.qcow2", HOST)
POLICY = """version: 1
defaults: {steady: {scanned_within: 24h}}
rules:
- match: {name: web01}
  steady: {scanned_within: 5m}
- match: {name: /orphan*}
  steady: {scanned_within: 1h}
"""


class Stage:
    """A host with web01, which has a snapshot, with db01, and with an image of no machine."""

    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        self.lab = Lab(folder, MemoryRecords(), policy=policy)
        self.lab._wired()
        self.host = self.lab.host
        fleet = self.lab.fleet
        fleet.define(replace(fleet.domain(UUID), uuid=OTHER, name="db01", snapshots=()))
        self.survey()
        with self.lab.records.transaction() as record:
            for subject in (*survey_subjects(fleet.survey()).values(), IMAGE):
                record.put_subject(subject)
        self.due = Due(self.host, self.lab.scans)
        self.at = now()

    def survey(self) -> None:
        self.host.surveyed(self.lab.fleet.survey(), self.host.mark())

    def read(self, at: datetime, *, inventory: str = "", credentials: str = "", but: str = "?") -> None:
        """Put on record that all subjects were read, but for those whose key holds a text."""
        with self.lab.records.transaction() as record:
            for subject in record.subjects():
                if but not in subject.key:
                    found = inventory, "", credentials
                    record.put_scan(Scan(subject.key, *found, "", "", (), (), at))

    def later(self, **span: int) -> dict[str, Wish]:
        """Return what is due that much later."""
        return dict(self.due.wishes(self.at + timedelta(**span)))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.host.close()


def test_what_was_never_read_is_due_at_once(stage: Stage) -> None:
    assert stage.later().keys() == {UUID, OTHER, IMAGE.key}


def test_each_machine_is_read_again_at_half_of_what_the_policy_says_of_it(stage: Stage) -> None:
    stage.read(stage.at)
    assert stage.later(minutes=2) == {}
    assert stage.later(minutes=3).keys() == {UUID}
    stage.read(stage.at + timedelta(minutes=29), but="image:")
    assert stage.later(minutes=31).keys() == {IMAGE.key}
    stage.read(stage.at + timedelta(hours=11, minutes=58), but=OTHER)
    assert stage.later(hours=12).keys() == set()
    stage.read(stage.at + timedelta(hours=12, minutes=30), but=OTHER)
    assert stage.later(hours=12, minutes=31).keys() == {OTHER}


def test_the_shortest_time_that_a_policy_may_say_can_be_kept(stage: Stage) -> None:
    look = timedelta(seconds=due.LOOK_EVERY_S)
    assert MIN_SCANNED_WITHIN / 2 + look < MIN_SCANNED_WITHIN - look


def test_what_a_scan_does_not_reach_is_asked_for_now_and_then_only(stage: Stage) -> None:
    stage.read(stage.at, but=SNAPSHOT)
    assert stage.later().keys() == {UUID}
    assert stage.later(minutes=1) == {}, "it waits, or cannot be read"
    assert stage.later(seconds=AGAIN.seconds).keys() == {UUID}
    stage.read(stage.at + AGAIN)
    assert stage.later(seconds=AGAIN.seconds + 60) == {}


def test_a_machine_whose_credentials_are_not_known_is_due_for_them_alone(stage: Stage) -> None:
    stage.read(stage.at, inventory="1", but=OTHER)
    stage.read(stage.at, inventory="1", credentials="2", but="web01")
    with stage.lab.records.transaction() as record:
        record.put_scan(Scan(f"machine:{UUID}", "1", "", "", "", "", (), (), stage.at))
    assert stage.later() == {UUID: Wish(credentials=True)}
    stage.read(stage.at, inventory="1", credentials="2")
    assert stage.later(minutes=1) == {}


def test_a_running_machine_is_not_held_for_credentials_as_soon_as_it_was_read(stage: Stage) -> None:
    fleet = stage.lab.fleet
    fleet.change(replace(fleet.domain(OTHER), power=Power.RUNNING))
    stage.survey()
    stage.read(stage.at, inventory="1", credentials="2", but=OTHER)
    with stage.lab.records.transaction() as record:
        record.put_scan(Scan(f"machine:{OTHER}", "1", "", "", "", "", (), (), stage.at))
    assert OTHER not in stage.later(minutes=1)
    assert stage.later(minutes=11)[OTHER] == Wish(credentials=True)


def test_of_a_running_machine_the_snapshots_credentials_are_read_without_holding_it(stage: Stage) -> None:
    fleet = stage.lab.fleet
    fleet.change(replace(fleet.domain(UUID), power=Power.RUNNING))
    stage.survey()
    stage.read(stage.at, inventory="1", credentials="2")
    with stage.lab.records.transaction() as record:
        record.put_scan(Scan(f"snapshot:{UUID}:{SNAPSHOT}", "1", "", "", "", "", (), (), stage.at))
    assert stage.later() == {UUID: Wish(credentials=True, snapshots_alone=True)}
