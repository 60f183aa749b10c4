"""The nth failure of the record, of libvirt and of files over one machine's whole life.

Once the fault is gone, record and taps are what they are without it: no decision lost or doubled, no
execution missing, no tap open that should be closed.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from agentlab import QUICK, FailingRecords, Fault, Lab
from memoryrecords import MemoryRecords

from undercroft.agent import admissionserver
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.starts import admission, network, noted

FILES = (
    (admissionserver, "read_event"),
    (admissionserver, "remove_event"),
    (admissionserver, "spooled"),
    (admission, "write_decision"),
    (network, "read_note"),
    (network, "write_note"),
    (noted, "read_note"),
)
"""Where the agent's parts touch the hook's files."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / str(number) for number in itertools.count())


async def life(lab: Lab) -> None:
    """Known, started, stopped, started, reverted below its floor with virsh, stopped."""
    await lab.until(lab.is_known, "it is known")
    await started(lab)
    await lab.until(lab.is_open, "it began as it was judged")
    await lab.stop()
    await lab.until(lab.is_over, "its end is on record")
    await started(lab)
    await lab.until(lab.is_open, "it began as it was judged, again")
    await reverted(lab)
    await lab.until(lab.is_quarantined, "what it was reverted to is below its floor")
    await lab.stop()
    await lab.until(lab.is_judged, "its last end is on record and judged")


async def started(lab: Lab) -> None:
    """Start it; a hook that got no answer refuses, and the administrator tries again."""
    while not await lab.start():
        assert "the agent is away" in lab.refused[-1]


async def reverted(lab: Lab) -> None:
    """Revert it; the same."""
    while not await lab.revert():
        assert "the agent is away" in lab.refused[-1]


def lived(
    folder: Path,
    records: Records,
    prepare: Callable[[Lab], None] = lambda _: None,
    whole: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the story of a life; where it is known how it ends, it has some time to get there."""
    folder.mkdir()
    lab = Lab(folder, records)
    prepare(lab)

    async def run() -> None:
        async with lab.running():
            await life(lab)
            with suppress(AssertionError):
                await lab.until(lambda: whole in (None, lab.story()), "it ends as it does without a fault")

    asyncio.run(run())
    return lab.story()


STORY = {
    "executions": [
        (0, "first", "", "stopped", False),
        (1, "start", 0, "stopped", False),
        (2, "revert", "", "stopped", False),
    ],
    "decisions": [
        (0, "allow", True, "agent"),
        (1, "allow", True, "agent"),
        (2, "allow", True, "agent"),
        (2, "quarantine", False, "agent"),
    ],
}


def test_a_life_without_faults(folders: Iterator[Path]) -> None:
    story = lived(next(folders), MemoryRecords())
    assert {name: story[name] for name in STORY} == STORY
    assert (story["holds"], story["taps"]) == ([], {})


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.soak)])
def test_the_record_fails_at_any_point(folders: Iterator[Path], step: int) -> None:
    counting = Fault()
    whole = lived(next(folders), FailingRecords(MemoryRecords(), counting))
    for number in range(1, counting.count + 1, step):
        records = FailingRecords(MemoryRecords(), Fault(number))
        assert lived(next(folders), records, whole=whole) == whole, number


def test_a_database_fails_at_some_points(folders: Iterator[Path], tmp_path: Path) -> None:
    counting = Fault()
    with closing(open_records(str(tmp_path / "whole.db"))) as records:
        whole = lived(next(folders), FailingRecords(records, counting))
    for number in range(3, counting.count + 1, 53):
        with closing(open_records(str(tmp_path / f"{number}.db"))) as records:
            failing = FailingRecords(records, Fault(number))
            assert lived(next(folders), failing, whole=whole) == whole, number


def failing_libvirt(fault: Fault) -> Callable[[Lab], None]:
    """Return what has libvirt fail when the agent asks it; the administrator's own calls go through."""

    def prepare(lab: Lab) -> None:
        for name in ("domain", "survey", "destroy"):
            asked = getattr(lab.fleet, name)
            setattr(lab.asked, name, fault.wrapped(asked))

    return prepare


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_libvirt_fails_at_any_point(folders: Iterator[Path], step: int) -> None:
    counting = Fault()
    whole = lived(next(folders), MemoryRecords(), failing_libvirt(counting))
    for number in range(1, counting.count + 1, step):
        fault = Fault(number, "libvirt: Cannot recv data: Connection reset by peer")
        assert lived(next(folders), MemoryRecords(), failing_libvirt(fault), whole) == whole, number


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.soak)])
def test_a_file_fails_at_any_point(
    folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    calls = [(module, name, getattr(module, name)) for module, name in FILES]
    whole = lived(next(folders), MemoryRecords())

    def failing(fault: Fault) -> Fault:
        for module, name, call in calls:
            monkeypatch.setattr(module, name, fault.wrapped(call))
        return fault

    counting = failing(Fault())
    lived(next(folders), MemoryRecords())
    for number in range(1, counting.count + 1, step):
        failing(Fault(number))
        assert lived(next(folders), MemoryRecords(), whole=whole) == whole, number
