"""The agent with a real guest service, where a machine's vault is another host's, and becomes this one's."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from agentlab import HOST, QUICK, UUID
from channellab import REQUIRED, ChannelLab
from memoryrecords import MemoryRecords
from recordvalues import NOW
from tests.support.guesthost import ServiceProcess

from undercroft.agent import channels, events, guestevents, orders, surveys
from undercroft.agent.orders import Orders
from undercroft.model.vaulthome import VaultHome
from undercroft.usecases.vaults.homes import adopt


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in QUICK:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(channels, "AGAIN_S", (0.02, 0.1))
    monkeypatch.setattr(guestevents, "AGAIN_S", 0.01)
    monkeypatch.setattr(events, "HOOKS_FIRST_S", 0.5)
    monkeypatch.setattr(orders, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(surveys, "WORD_WITHIN", timedelta(seconds=0.2))


@pytest.fixture
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path_factory.mktemp("c"))
    yield made.start()
    made.close()


def test_a_port_opens_away_from_the_vaults_home_and_an_adoption_is_followed_at_once(
    service: ServiceProcess,
) -> None:
    records = MemoryRecords()
    with records.transaction() as record:
        record.put_vault_home(VaultHome(UUID, "host9", 7, 0, NOW), "host9", "first")
    lab = ChannelLab(service.folder, records, service, policy=REQUIRED)

    def guest() -> tuple[object, object]:
        with service.client() as client:
            found = [(one["elsewhere"], one["fence"]) for one in client.guests()]
        return found[0] if found else ("", None)

    async def run() -> None:
        async with lab.running():
            await lab.until(lab.is_known, "it is known")
            assert await lab.start()
            await lab.until(lab.is_open, "its guest has confirmed: that needs no vault")
            assert guest() == ("host9", False)
            following = Orders(
                lab.host, lambda _: None, lambda: None, lambda: None, lab.channels.changed
            ).run()
            task = asyncio.create_task(following)
            with records.transaction() as record:
                adopt(record, UUID, HOST, by="alice", reason="host9 burned", now=NOW)
            await lab.until(lambda: guest() == ("", True), "its vault is here now")
            assert lab.is_open()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(run())
    finally:
        lab.close()
    with records.reading() as record:
        home = record.vault_home(UUID)
    with service.client() as client:
        assert home is not None
        assert (home.host, home.epoch, home.above) == (HOST, client.status()["epoch"], 7)
        assert home.epoch > 7
