"""A scan of many states: bounded, shared, and never silent about what it left out."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from reports import NOW, assessment
from reports import inventory as inventory_of

from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo, Snapshot
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json, encode
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.report import MAX_STATES, scan_machine
from undercroft.usecases.target import from_images


class CannedReader:
    """Answers every job with the same values, as a fake beside the real readers of the acceptance tests."""

    sandboxed = True

    def __init__(self, snapshots: int) -> None:
        self.snapshots = tuple(Snapshot(str(n), f"s{n}", n, 0, 1 << 20) for n in range(1, snapshots + 1))
        self.broken = ""

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        del descriptors
        if job == "inspect":
            return encode(ImageInfo(DiskFormat.QCOW2, 1 << 20, snapshots=self.snapshots))
        if self.broken and self.broken in str(arguments):
            raise InputError("the reader died")
        return encode(inventory_of())

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
def image(tmp_path: Path) -> str:
    (tmp_path / "web01.qcow2").write_bytes(bytes(512))
    return str(tmp_path / "web01.qcow2")


def test_more_states_than_the_limit_are_a_problem_and_the_newest_are_scanned(image: str) -> None:
    with OpenMachine(from_images([image]), CannedReader(MAX_STATES + 20)) as machine:
        report = scan_machine(machine, lambda _: assessment(), scanned_at=NOW, sandboxed=True)
    assert len(report.states) == MAX_STATES
    assert [report.states[0].name, report.states[-1].name] == ["current", f"s{MAX_STATES + 20}"]
    assert "21 older snapshots were left out" in report.states[0].problems[-1]
    assert not report.complete


def test_states_with_the_same_content_share_it_and_are_assessed_once(image: str) -> None:
    asked: list[Inventory] = []

    def assess(inventory: Inventory) -> Assessment:
        asked.append(inventory)
        return assessment()

    with OpenMachine(from_images([image]), CannedReader(50)) as machine:
        report = scan_machine(machine, assess, scanned_at=datetime.now(UTC), sandboxed=True)
    assert len(asked) == 1
    packages = {id(state.inventory.packages) for state in report.states if state.inventory}
    assert len(packages) == 1


def test_a_state_that_kills_its_reader_loses_itself_only(image: str) -> None:
    reader = CannedReader(2)
    reader.broken = "'snapshot': '1'"
    with OpenMachine(from_images([image]), reader) as machine:
        report = scan_machine(machine, lambda _: assessment(), scanned_at=NOW, sandboxed=True)
    assert [state.problems for state in report.states] == [(), ("the reader died",), ()]
