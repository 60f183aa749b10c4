"""A machine that was patched while it was off counts as patched from its start on, not from the next read."""

import asyncio
from pathlib import Path

import pytest
from advisorydata import inventory
from agentlab import QUICK, SNAPSHOT, UUID, Lab, LabAdvisor
from comebackdata import NEW, PATCHED, UNPATCHED
from memoryrecords import MemoryRecords

from undercroft.model.inventory import OsRelease, Package
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Action


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


def test_the_floor_rises_with_the_start_and_holds_for_a_rollback_right_after_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, MemoryRecords())
    lab.disks[CURRENT] = UNPATCHED

    def versions() -> set[str]:
        with lab.records.reading() as record:
            return {entry.version for entry in record.floor(UUID).entries}

    async def run() -> None:
        async with lab.running():
            await lab.until(lambda: lab.action() is not None, "it is judged")
            assert NEW not in versions()
            lab.disks[CURRENT] = PATCHED
            assert await lab.start()
            await lab.until(lambda: NEW in versions(), "what it started with counts")
            await lab.stop()
            lab.disks[CURRENT] = UNPATCHED  # put back before anything has read how it left its disks
            assert await lab.start()
            await lab.until(lab.is_quarantined, "it is below its floor")

    asyncio.run(run())
    assert lab.action() is Action.QUARANTINE


def test_an_alma_machine_that_is_reverted_behind_its_patch_starts_in_quarantine(tmp_path: Path) -> None:
    """The patched version stands between two errata, and the floor in the publisher's words."""

    def state(version: str):
        os = OsRelease("almalinux", "9.4", "", "AlmaLinux 9.4 (Seafoam Ocelot)", "/etc/os-release")
        return inventory(Package("rpm", "openssl", version, "x86_64", "openssl", version), os=os)

    lab = Lab(tmp_path, MemoryRecords())
    lab.advisor = LabAdvisor.of_alma("1:3.0.7-25.el9_3")
    lab.disks[CURRENT], lab.disks[SNAPSHOT] = state("1:3.0.7-27.el9"), state("1:3.0.1-23.el9_0")

    def floor() -> list[str]:
        with lab.records.reading() as record:
            return [entry.version for entry in record.floor(UUID).entries]

    async def run() -> None:
        async with lab.running():
            await lab.until(lambda: lab.action() is not None, "it is judged")
            assert await lab.start()
            await lab.until(lambda: bool(floor()), "what it started with counts")
            await lab.until(lab.is_open, "patched it may send")  # the control
            assert await lab.revert()
            await lab.until(lab.is_quarantined, "it is below its floor")

    asyncio.run(run())
    assert floor() == ["1:3.0.7-25.el9_3"]
    assert lab.action() is Action.QUARANTINE
