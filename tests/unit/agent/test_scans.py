"""The queue of scans: what could not be read is read again, soon where a network waits for it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from memoryrecords import MemoryRecords

from undercroft.agent import scans
from undercroft.agent.scans import Put, Scans, Wish
from undercroft.errors import OperationError
from undercroft.model.domain import Power
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.usecases.fleet.reading.rescan import MachineScans
from undercroft.usecases.fleet.reading.scanning import Scanned
from undercroft.usecases.fleet.subjects import machine_key

KEY = "0a0b0c0d-0000-4000-8000-000000000001"


def pauses(wish: Wish, failures: int, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses before a subject is read again that fails so often, and then does not."""
    waited: list[float] = []
    tried: list[str] = []

    async def campaign() -> None:
        loop = asyncio.get_running_loop()

        def later(delay_s: float, call: Any, *arguments: Any) -> None:
            waited.append(delay_s)
            loop.call_soon(call, *arguments)

        async def work(_: Any, batch: dict[str, Wish]) -> Put:
            tried.extend(batch)
            if len(tried) <= failures:
                raise OperationError("another job holds it")
            return Put()

        monkeypatch.setattr(loop, "call_later", later)
        host: Any = SimpleNamespace(domain=lambda _: None, work=work, problem=lambda *_: None)
        queue = Scans(host, lambda _: None, lambda *_: None)
        queue.add(KEY, wish)
        task = asyncio.create_task(queue.run())
        while len(tried) <= failures:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(campaign())
    return waited


def test_a_network_that_waits_for_a_look_waits_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(Wish(settle=True), 5, monkeypatch) == [2, 5, 15, 60, 60]


def test_whatever_else_could_not_be_read_waits_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pauses(Wish(), 2, monkeypatch) == [scans.RETRY_S] * 2


class Stage:
    """A queue over a host in memory; `read` has what was read, in order, and `bare` who lacks credentials."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scans, "CALM_S", 0.0)
        self.read: list[tuple[str, bool]] = []
        self.bare: tuple[str, ...] = ()
        self.live: set[str] = set()
        self.gate = asyncio.Event()
        self.gate.set()
        self.alone: list[tuple[str, bool]] = []
        host: Any = SimpleNamespace(
            domain=self._domain, work=self._work, ask=self._ask, problem=lambda *_: None
        )
        self.queue = Scans(host, lambda _: None, lambda *_: None)

    async def _ask(self, _held: Any, domain: Any, wish: Wish, _settled: Any) -> dict[str, Wish]:
        self.alone.append((domain.name, wish.snapshots_alone))
        return {}

    def _domain(self, key: str) -> Any:
        power = Power.RUNNING if key in self.live else Power.OFF
        return SimpleNamespace(name=key, power=power)

    async def _work(self, _: Any, batch: dict[str, Wish]) -> Put:
        self.read += [(key, wish.credentials) for key, wish in batch.items()]
        await self.gate.wait()
        return Put(tuple(batch), tuple(key for key in batch if key in self.bare))

    async def until(self, count: int) -> list[tuple[str, bool]]:
        """Run the queue until so much was read, and a little longer."""
        task = asyncio.create_task(self.queue.run())
        while len(self.read) < count:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        return self.read


def test_credentials_are_read_last_once_and_one_machine_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def campaign() -> None:
        stage = Stage(monkeypatch)
        stage.bare = ("a", "b")
        stage.queue.add("old", Wish(credentials=True))
        for key in ("a", "b", "c"):
            stage.queue.add(key)
        assert not stage.queue.idle
        assert await stage.until(6) == [
            *(("a", False), ("b", False), ("c", False)),
            *(("old", True), ("a", True), ("b", True)),
        ]

    asyncio.run(campaign())


def test_who_is_in_a_hurry_finds_a_worker_while_credentials_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async def campaign() -> None:
        stage = Stage(monkeypatch)
        stage.gate.clear()  # the reader is slow
        stage.queue.add("old", Wish(credentials=True))
        stage.queue.add("older", Wish(credentials=True))
        assert stage.queue.idle, "no verdict waits"
        task = asyncio.create_task(stage.until(2))
        while not stage.read:
            await asyncio.sleep(0)
        stage.queue.add("a", first=True)
        assert await task == [("old", True), ("a", False)]

    asyncio.run(campaign())


def test_a_machine_that_was_started_meanwhile_is_not_held_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    async def campaign() -> None:
        stage = Stage(monkeypatch)
        stage.queue.add("started", Wish(credentials=True))
        stage.queue.add("off", Wish(credentials=True))
        stage.live.add("started")
        assert await stage.until(1) == [("off", True)]
        assert stage.alone == [("started", True)], "its snapshots are read all the same"

    asyncio.run(campaign())


def test_credentials_wait_until_nothing_else_was_read_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def campaign() -> None:
        stage = Stage(monkeypatch)
        monkeypatch.setattr(scans, "CALM_S", 3600.0)
        stage.bare = ("a",)
        stage.queue.add("a")
        assert await stage.until(1) == [("a", False)]
        monkeypatch.setattr(scans, "CALM_AT_MOST_S", 0.0)
        stage.queue._patient_until = 0.0
        assert await stage.until(2) == [("a", False), ("a", True)], (
            "where it is never calm, they are read too"
        )

    asyncio.run(campaign())


def test_the_first_of_a_thousand_is_on_record_before_many_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[int] = []

    async def campaign() -> None:
        stage = Stage(monkeypatch)
        work = stage._work

        async def counted(call: Any, batch: dict[str, Wish]) -> Put:
            sizes.append(len(batch))
            return await work(call, batch)

        stage.queue._host.work = counted
        for number in range(1000):
            stage.queue.add(f"{number:04}")
        await stage.until(1000)

    asyncio.run(campaign())
    assert sizes[:6] == [1, 2, 4, 8, 16, scans.BATCH]
    assert max(sizes) == scans.BATCH
    assert sum(sizes) == 1000


def test_a_waiting_network_waits_for_no_credentials_and_they_are_read_in_the_same_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[tuple[str, bool]] = []
    subject = SimpleNamespace(state=CURRENT)
    domain: Any = SimpleNamespace(name="running", uuid="running", power=Power.RUNNING, snapshots=("before",))

    @contextmanager
    def still(_: Any) -> Iterator[str]:
        done.append(("held", True))
        yield "still"
        done.append(("held", False))

    def scan(*_: Any, credentials: bool = False) -> Any:
        done.append(("current", credentials))
        return SimpleNamespace(scanned=[SimpleNamespace(subject=subject)])

    def scan_snapshots(*_: Any, credentials: bool = False) -> Any:
        done.append(("snapshots", credentials))
        return SimpleNamespace(scanned=[])

    def settle(*_: Any) -> str:
        done.append(("settled", True))
        return "settled"

    async def call(what: Any, *given: Any) -> Any:
        return await asyncio.to_thread(what, *given)

    async def campaign() -> list[str]:
        host: Any = SimpleNamespace(
            name="host",
            scanner=None,
            means=None,
            taps=None,
            domain=lambda _: domain,
            point_in_time=still,
            view=lambda: SimpleNamespace(files=None),
            ask=call,
            work=call,
        )
        then: list[str] = []
        read = asyncio.Event()
        queue = Scans(host, lambda _: read.set(), lambda _, found: then.append(str(found)))
        monkeypatch.setattr(queue, "_put", lambda _: Put())
        queue.add("running", Wish(settle=True))
        task = asyncio.create_task(queue.run())
        await read.wait()
        task.cancel()
        return then

    monkeypatch.setattr(scans, "scan_running", scan)
    monkeypatch.setattr(scans, "scan_snapshots", scan_snapshots)
    monkeypatch.setattr(scans, "settle", settle)
    assert asyncio.run(asyncio.wait_for(campaign(), 30)) == ["settled"]
    assert done == [
        ("held", True),
        ("current", False),
        ("settled", True),
        ("current", True),
        ("held", False),
        ("snapshots", True),
    ]


def test_credentials_that_cannot_be_read_are_told_with_whose_they_are_and_why() -> None:
    told: list[str] = []
    host: Any = SimpleNamespace(records=MemoryRecords(), name="host", report=told.append)
    subject = Subject(machine_key(KEY), SubjectKind.MACHINE, "web01", "host", KEY, CURRENT)
    unread = Scanned(subject, None, None, ("unreadable",), datetime.now(UTC), "accounts and keys: no sandbox")
    Scans(host, lambda _: None, lambda *_: None)._put([MachineScans(None, (unread,))])
    assert told == ["web01 (current): accounts and keys: no sandbox; it is tried again"]
