"""What follows from what commands did: a reading, or a survey; a record that is away keeps nothing back."""

import asyncio
from pathlib import Path

import pytest
from agentlab import UUID, FailingRecords, Fault, Lab
from memoryrecords import MemoryRecords

from undercroft.agent import orders
from undercroft.agent.host import now
from undercroft.agent.orders import Orders


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_a_release_is_followed_by_a_reading_a_removal_by_a_survey_and_a_forgotten_host_by_confirmations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    monkeypatch.setattr(orders, "LOOK_EVERY_S", 0.01)
    records = MemoryRecords()
    lab = Lab(tmp_path, records)
    lab._wired()
    lab.host.records = FailingRecords(records, Fault(fails))
    done: list[str] = []
    with records.transaction() as record:
        record.put_survey(lab.fleet.survey())
        record.log("release", UUID, {"outcome": "done"}, now())

    async def run() -> None:
        told = (done.append, lambda: done.append("a survey"), lambda: done.append("confirmations"))
        following = asyncio.create_task(Orders(lab.host, *told).run())
        async with asyncio.timeout(60):
            while UUID not in done:
                await asyncio.sleep(0.01)
            with records.transaction() as record:
                record.log("retention", UUID, {"outcome": "removed"}, now())
            while "a survey" not in done:
                await asyncio.sleep(0.01)
            with records.transaction() as record:
                record.log("host", "another", {"outcome": "forgotten"}, now())
            while "confirmations" not in done:
                await asyncio.sleep(0.01)
        following.cancel()

    asyncio.run(run())
    lab.host.close()
    assert done == [UUID, "a survey", "confirmations"]
