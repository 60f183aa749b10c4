"""Two hosts' guest services and one machine that moves: what each says of its vault."""

from collections.abc import Iterator

import pytest
from tests.support.guesthost import MACHINE, PlayedGuest, ServiceProcess, eid, machine
from tests.support.softwaretpm import SoftwareTpm

from undercroft.errors import InputError, StateError
from undercroft.vault.answers import EPOCH_LIMIT, SPAN

INCREMENT, COUNTER, SPEND, SEAL, GUARD, REVOKE, RANDOM, STATUS = 1, 2, 3, 6, 10, 11, 12, 13
OK, REFUSED, FENCED = 0, 1, 2


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServiceProcess, ServiceProcess]]:
    made = [ServiceProcess(tmp_path_factory.mktemp("h")).start() for _ in range(2)]
    yield made[0], made[1]
    for each in made:
        each.close()


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path_factory.mktemp("h"))
    yield made.start()
    made.close()


def moved(service: ServiceProcess, number: int, **how: object) -> PlayedGuest:
    """The machine on a host, in another execution."""
    with service.client() as client:
        return PlayedGuest(client, MACHINE, eid(number), 1000 * number, **how).meet()


def test_control_a_machine_that_moves_to_an_empty_vault_repeats_values_and_spends_twice(
    hosts: tuple[ServiceProcess, ServiceProcess],
) -> None:
    first = moved(hosts[0], 1)
    before = first.answer([INCREMENT, b"builds", 3], [SPEND, b"token", True], [REVOKE, b"laptop"])
    second = moved(hosts[1], 2)
    after = second.answer([INCREMENT, b"builds", 3], [SPEND, b"token", True], [GUARD, b"laptop"])
    assert before[0] == after[0], "the same three values"
    assert [before[1][0], after[1][0]] == [OK, OK], "spent twice"
    assert after[2][2] is True, "what was revoked is valid"


def test_away_from_its_vaults_home_a_guest_has_seeds_and_is_told_where_its_vault_is(
    hosts: tuple[ServiceProcess, ServiceProcess],
) -> None:
    first = moved(hosts[0], 1)
    given = first.answer([INCREMENT, b"builds", 3], [SPEND, b"token", True], [REVOKE, b"laptop"])
    assert [one[0] for one in given] == [OK] * 3
    with hosts[0].client() as client:
        assert client.detach(MACHINE, eid(1), ended=True)
    second = moved(hosts[1], 2, elsewhere="host1")
    assert not second.fence
    assert second.seeds, "fresh randomness needs no vault"
    asked = ([INCREMENT, b"builds", 3], [SPEND, b"token", True], [GUARD, b"laptop"], [COUNTER, b"builds"])
    for answer in second.answer(*asked):
        assert answer == [FENCED, 0, "its vault is kept by host1: bring the machine back there"]
    drawn, status = second.answer([RANDOM, 16], [STATUS])
    assert (drawn[0], len(drawn[2])) == (OK, 16)
    assert status[0] == OK
    assert "kept by host1" in status[2]
    with hosts[1].client() as client:
        (shown,) = client.guests()
        assert (shown["fence"], shown["elsewhere"], shown["confirmed"]) == (False, "host1", True)
        assert list(client.vaults()) == [], "nothing began here"
        client.detach(MACHINE, eid(2), ended=True)
    back = moved(hosts[0], 3)
    again = back.answer([INCREMENT, b"builds", 1], [SPEND, b"token", True], [GUARD, b"laptop"])
    assert again[0][:3] == [OK, 1, given[0][2] + 3]
    assert (again[1][0], again[2][2]) == (REFUSED, False)


def test_a_vault_that_gets_another_home_begins_above_all_that_was_given_out(
    hosts: tuple[ServiceProcess, ServiceProcess],
) -> None:
    for _ in range(3):
        assert hosts[0].stop()[0] == 0
        hosts[0].start()
    first = moved(hosts[0], 1)
    (given,) = first.answer([INCREMENT, b"builds", 5])
    with hosts[0].client() as client:
        above = client.status()["epoch"]
    assert given[2] // SPAN == above == 4
    other = _neighbour(hosts[1])
    (theirs,) = other.answer([INCREMENT, b"x", 1])
    second = moved(hosts[1], 2, elsewhere="host1")
    with hosts[1].client() as client:
        epoch = client.lift(above)
        assert epoch == above + 1
        assert client.lift(above) == epoch, "there it is already"
        assert not list(client.guests()), "who was attached has to be noted anew first"
        for guest in (second, other):
            guest.close()
        with pytest.raises(StateError, match="epoch 5 is served by now, not 1"):
            second.attach(client, epoch=1)
        second.close()
        second.attach(client, epoch=epoch)
        other.attach(client, epoch=epoch)
    second.meet()
    other.meet()
    (after,) = second.answer([INCREMENT, b"builds", 5])
    assert after[:2] == [OK, 1]
    assert after[2] >= epoch * SPAN > given[2] + 5
    (more,) = other.answer([INCREMENT, b"x", 1])
    assert more[2] > theirs[2], "others go on above what they had"
    hosts[1].kill()
    hosts[1].start()
    with hosts[1].client() as client:
        assert client.status()["epoch"] == epoch + 1


def _neighbour(service: ServiceProcess) -> PlayedGuest:
    with service.client() as client:
        return PlayedGuest(client, machine(7), eid(7), 7000).meet()


def test_a_guest_learns_in_its_execution_that_its_vault_is_elsewhere_or_here_again(
    host: ServiceProcess,
) -> None:
    guest = moved(host, 1)
    assert guest.answer([INCREMENT, b"x", 1])[0][0] == OK
    with host.client() as client:
        assert not client.renew(MACHINE, eid(1), elsewhere="host2")
        assert guest.answer([INCREMENT, b"x", 1])[0][0] == FENCED
        assert client.renew(MACHINE, eid(1))
    assert guest.answer([INCREMENT, b"x", 1])[0][0] == OK


def test_words_about_homes_that_are_none_are_refused(host: ServiceProcess) -> None:
    guest = moved(host, 1)
    with host.client() as client:
        with pytest.raises(InputError, match="at most 255"):
            client.renew(MACHINE, eid(1), elsewhere="x" * 256)
        with pytest.raises(InputError, match="an epoch"):
            client.lift(EPOCH_LIMIT)
        with pytest.raises(StateError, match="no epoch can be begun above"):
            client.lift(EPOCH_LIMIT - 1)
        assert client.status()["state"] == "serving"
    assert guest.answer([INCREMENT, b"x", 1])[0][0] == OK


@pytest.mark.parametrize("counted", [True, False])
def test_a_higher_epoch_begins_with_a_tpm_and_in_confinement_and_fits_at_the_next_start(
    tmp_path_factory: pytest.TempPathFactory, counted: bool
) -> None:
    folder = tmp_path_factory.mktemp("h")
    chip = SoftwareTpm(folder / "tpm")
    chip.start()
    service = ServiceProcess(folder, tpm=chip.tcti if counted else "none", confined=not counted)
    try:
        service.start()
        guest = moved(service, 1)
        (before,) = guest.answer([INCREMENT, b"x", 1])
        with service.client() as client:
            epoch = client.lift(900)
            assert epoch > 900
            guest.close()
            guest.attach(client, epoch=epoch)
            guest.meet()
            (after,) = guest.answer([INCREMENT, b"x", 1])
            assert after[2] // SPAN == epoch > before[2] // SPAN
            assert client.verify()["fits"]
        service.kill()
        service.start()
        with service.client() as client:
            status = client.status()
        assert (status["state"], status["epoch"]) == ("serving", epoch + 1)
    finally:
        service.close()
        chip.stop()
