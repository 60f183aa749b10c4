"""The queue of scans: what could not be read is read again, soon where a network waits for it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from undercroft.agent import scans
from undercroft.agent.scans import Scans, Wish
from undercroft.errors import OperationError

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

        async def work(_: Any, batch: dict[str, Wish]) -> tuple[str, ...]:
            tried.extend(batch)
            if len(tried) <= failures:
                raise OperationError("another job holds it")
            return ()

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
