"""A guest that forges in each session that it was put back, under the real agent and guest service."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from agentlab import QUICK, UUID, WAIT_S
from channellab import REQUIRED, ChannelLab, Qemu
from memoryrecords import MemoryRecords
from tests.support.guesthost import ServiceProcess

from undercroft.agent import channels, events, guestevents, surveys
from undercroft.model.channel import Heard
from undercroft.usecases.fleet.history import rewinds

AT_MOST = rewinds.AT_ONCE + 3
"""So many executions may a guest that forges proofs have begun when it is slowed."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(channels, "AGAIN_S", (0.02, 0.1))
    monkeypatch.setattr(guestevents, "AGAIN_S", 0.01)
    monkeypatch.setattr(events, "HOOKS_FIRST_S", 0.5)
    monkeypatch.setattr(surveys, "WORD_WITHIN", timedelta(seconds=0.2))


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path_factory.mktemp("c"))
    yield made.start()
    made.close()


def forge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have guests say everything twice: a number that was seen proves that they were put back."""

    def pushed(self: Qemu, line: object) -> None:
        with self.lock:
            data = self.guest.sent() if line is not None else b""
        with suppress(OSError):
            line.sendall(data * 2) if data else None  # type: ignore[attr-defined]

    monkeypatch.setattr(Qemu, "_push", pushed)


def begun(lab: ChannelLab) -> int:
    return len(lab._read(lambda record: record.own_executions(UUID, 1000)))


def alarms(lab: ChannelLab, word: str) -> int:
    return sum(f'"alarm":"{word}"' in one for one in lab.alarms())


@pytest.mark.parametrize("bounded", [True, False])
def test_a_guest_that_forges_rewinds_is_slowed_and_stays_closed(
    service: ServiceProcess, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    forge(monkeypatch)
    if not bounded:
        monkeypatch.setattr(rewinds, "AT_ONCE", 10**6)
    lab = ChannelLab(service.folder, MemoryRecords(), service, policy=REQUIRED)

    async def run() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")
            assert await lab.start()
            if not bounded:
                async with asyncio.timeout(WAIT_S):
                    while begun(lab) <= AT_MOST:  # nothing stops it; it is never quiet
                        await asyncio.sleep(0.05)
                return
            await lab.until(lambda: alarms(lab, "rewinds"), "an alarm says that it is slowed")
            await asyncio.sleep(1.0)
            lab.channels.changed()  # whatever else happens on the host
            await asyncio.sleep(0.5)
            assert begun(lab) <= AT_MOST
            assert alarms(lab, "rewinds") == 1
            assert lab.is_closed()
            (channel,) = lab._read(lambda record: record.channels()).values()
            assert channel.heard is Heard.REWOUND
            assert "one session a minute" in channel.problem

    try:
        asyncio.run(run())
    finally:
        lab.close()
