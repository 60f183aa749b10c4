"""Bursts of starts through the real handler, while libvirt hangs: all answered, each on record once."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from agentlab import POLICY, QUICK, UUID, Lab
from memoryrecords import MemoryRecords

from undercroft.adapters import hookfiles
from undercroft.errors import OperationError
from undercroft.model.domain import Domain
from undercroft.ports.records import Records
from undercroft.store.fleet.records import open_records

AT_ONCE = 100


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)


@pytest.fixture(params=[("memory", 300), ("sqlite", 100)], ids=lambda kind: str(kind[0]))
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Records, int]]:
    kind, count = request.param
    made = MemoryRecords() if kind == "memory" else open_records(str(tmp_path / "fleet.db"))
    with closing(made):
        yield made, count


class HangingLab(Lab):
    """A lab whose libvirt answers nothing until the test is over."""

    def __init__(self, folder: Path, records: Records) -> None:
        super().__init__(folder, records, policy=POLICY)
        self.over = threading.Event()
        for name in ("domain", "survey"):
            setattr(self.asked, name, self._hang)

    def _hang(self, *_: object) -> None:
        self.over.wait(60)
        raise OperationError("libvirt: it does not answer")

    def ask(self, number: int) -> tuple[bytes, str]:
        """Call the hook's two calls of one start, and return the answer to the first."""
        uuid = f"{number:08x}{UUID[8:]}"
        domain: Domain = replace(self._domain(), uuid=uuid, name=f"web{number}")
        event = self._event(domain, "prepare", "begin", f"{number:032x}")
        answer = self._call(self._keep(event))
        self._tell(domain, "started", f"{number:032x}")
        return answer, event.ident


def test_bursts_are_answered_while_libvirt_hangs_and_each_start_is_on_record_once(
    records: tuple[Records, int], tmp_path: Path
) -> None:
    record_of, count = records
    lab = HangingLab(tmp_path / "lab", record_of)

    async def run() -> list[tuple[bytes, str]]:
        loop = asyncio.get_running_loop()
        async with lab.running():
            asked: list[tuple[bytes, str]] = []
            for start in range(0, count, AT_ONCE):
                burst = range(start, min(start + AT_ONCE, count))
                asked += await asyncio.gather(
                    *(loop.run_in_executor(hooks, lab.ask, number) for number in burst)
                )
            while hookfiles.spooled(lab.places.state):
                await asyncio.sleep(0.01)
            lab.over.set()
            return asked

    with ThreadPoolExecutor(AT_ONCE) as hooks:  # processes of their own, where they are real
        asked = asyncio.run(run())
    assert all(b'"allow"' in answer for answer, _ in asked)
    with record_of.reading() as record:
        decided = Counter(decision.ident for decision in record.decisions(limit=10_000))
        executions = record.executions()
    assert decided == Counter(ident for _, ident in asked)
    assert sorted(one.eid for one in executions) == [f"{number:032x}" for number in range(count)]
    assert all("it was seen running" in one.evidence for one in executions), "each call came after the other"


def test_what_a_hook_decides_without_the_answer_that_is_on_record_is_on_record_beside_it(
    tmp_path: Path,
) -> None:
    """The agent was killed between its record and its answer."""
    lab = Lab(tmp_path / "lab", MemoryRecords(), policy=POLICY)
    event = lab._event(lab._domain(), "prepare", "begin", "ab" * 16)
    alone = replace(event, alone=True, decided="quarantine", reason="the agent is away")

    async def run() -> None:
        async with lab.running():
            await asyncio.to_thread(lab._call, lab._keep(event))
            for _ in range(2):  # once more where it was killed before the file was removed
                lab._keep(alone)
                while hookfiles.spooled(lab.places.state):
                    await asyncio.sleep(0.01)

    asyncio.run(run())
    with lab.records.reading() as record:
        made = Counter((one.by, one.action.value) for one in record.decisions(UUID))
        late = [entry for entry in record.log_entries() if "came too late for the hook" in entry.body]
    assert made["agent", "allow"]
    assert made["hook", "quarantine"] == 1
    assert len(late) == 1
