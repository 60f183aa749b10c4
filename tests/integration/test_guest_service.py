"""The guest service as a process, with guests that the test plays: seeds, vaults, orders, events."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.guesthost import GENEROUS_S, MACHINE, PlayedGuest, ServiceProcess, eid

INCREMENT, COUNTER, SPEND = 1, 2, 3


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path)
    yield made.start()
    made.close()


def test_a_guest_is_attached_seeded_confirmed_and_served(service: ServiceProcess) -> None:
    with service.client() as client, service.watch() as watch:
        guest = PlayedGuest(client).meet()
        assert guest.fence
        confirmed = watch.until("confirmed", eid(1), GENEROUS_S) if guest.pump(0.2) else None
        assert confirmed
        assert confirmed.machine == MACHINE
        assert (confirmed.fields["credited"], confirmed.fields["generation"]) == (True, guest.generation)
        assert guest.generation == (client.status()["epoch"] << 40) + 1
        first, second = guest.answer([INCREMENT, b"builds", 5], [COUNTER, b"builds"])
        assert first[:2] == [0, 1]
        assert second == [0, 1, first[2] + 4]
        (shown,) = client.guests()
        assert (shown["state"], shown["confirmed"], shown["helper"]) == ("open", True, "played 1")
        guest.close()
        assert watch.until("gone", eid(1), GENEROUS_S)
    assert service.stop()[0] == 0
    assert os.stat(service.state).st_mode & 0o777 == 0o700
