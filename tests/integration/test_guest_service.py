"""The guest service as a process, with guests that the test plays: seeds, vaults, orders, events."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from tests.support.guesthost import GENEROUS_S, MACHINE, PlayedGuest, ServiceProcess, eid, machine

from undercroft.adapters.guestservice import GuestService, Watch
from undercroft.errors import DeniedError, InputError, NotFoundError, StateError

INCREMENT, COUNTER, SPEND, APPEND, LATEST, SEAL, UNSEAL = 1, 2, 3, 4, 5, 6, 7
OK, REFUSED, FENCED, BUSY = 0, 1, 2, 5


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path_factory.mktemp("guests"))
    yield made.start()
    made.close()


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[GuestService]:
    with service.client() as made:
        yield made
        for guest in list(made.guests()):
            made.detach(guest["machine"], guest["execution"], ended=True)


@pytest.fixture
def watch(service: ServiceProcess) -> Iterator[Watch]:
    with service.watch() as made:
        yield made


def heard(guest: PlayedGuest, watch: Watch, event: str, execution: str = eid(1)) -> dict[str, object]:
    """Pump until an event comes; return its fields."""
    end = time.monotonic() + GENEROUS_S
    while time.monotonic() < end:
        guest.pump(0.01)
        found = watch.until(event, execution, 0.01)
        if found is not None:
            return dict(found.fields)
    raise AssertionError(f"no {event}")


def test_a_guest_is_attached_seeded_confirmed_and_served(client: GuestService, watch: Watch) -> None:
    guest = PlayedGuest(client).meet()
    assert guest.fence
    confirmed = heard(guest, watch, "confirmed")
    assert (confirmed["credited"], confirmed["generation"]) == (True, guest.generation)
    assert guest.generation >> 40 == client.status()["epoch"]
    first, second = guest.answer([INCREMENT, b"builds", 5], [COUNTER, b"builds"])
    assert first[:2] == [OK, 1]
    assert second == [OK, 1, first[2] + 4]
    (shown,) = client.guests()
    assert (shown["state"], shown["confirmed"], shown["helper"]) == ("open", True, "played 1")
    guest.close()
    assert watch.until("gone", eid(1), GENEROUS_S)
    assert list(client.guests()) == []


def test_who_begins_to_watch_is_told_how_each_guest_is(client: GuestService, service: ServiceProcess) -> None:
    guest = PlayedGuest(client, machine(2)).meet()
    guest.until(lambda: next(client.guests())["confirmed"])
    with service.watch() as late:
        told = {event.event: event for event in late.ready()}
    assert {"ready", "about", "confirmed"} <= set(told)
    assert told["confirmed"].machine == machine(2)


def test_each_session_has_another_seed_until_one_is_confirmed_and_none_after(
    client: GuestService, watch: Watch
) -> None:
    guest = PlayedGuest(client, machine(3)).meet()
    first = guest.seeds[0]
    heard(guest, watch, "confirmed")
    guest.session.start()  # the helper starts anew
    guest.push()
    guest.meet()
    assert guest.seeds == [first]
    assert client.again(machine(3), eid(1)) is False, "it was not quiesced"
    guest.until(lambda: len(guest.seeds) == 2)
    assert guest.seeds[1] != first


def test_a_wrong_confirmation_opens_nothing(client: GuestService, watch: Watch) -> None:
    guest = PlayedGuest(client, machine(4))
    guest.confirms = False
    guest.meet()
    for generation, tag in ((guest.generation, bytes(32)), (guest.generation + 1, b"x" * 32)):
        guest.session.send([1, generation, tag, True, 64, 0, 0])
    guest.push()
    guest.answer([COUNTER, b"a"])
    assert not next(client.guests())["confirmed"]
    guest.confirm()
    heard(guest, watch, "confirmed")


def test_a_guest_that_was_put_back_is_told_and_served_only_after_renew(
    client: GuestService, watch: Watch
) -> None:
    guest = PlayedGuest(client, machine(5)).meet()
    guest.answer([INCREMENT, b"a", 1])
    kept = guest.snapshot()
    guest.answer([INCREMENT, b"a", 1])
    guest.put_back(kept)
    guest.ask([INCREMENT, b"a", 1])
    told = heard(guest, watch, "rewound")
    assert told["proof"] in ("number", "head")
    assert "put back" in str(told["text"])
    with pytest.raises(StateError, match="renew"):
        client.again(machine(5), eid(1))
    assert client.renew(machine(5), eid(2))
    guest.execution = eid(2)
    guest.until(lambda: guest.session.standing.eid == bytes.fromhex(eid(2)) and guest.session.open)
    assert guest.answer([INCREMENT, b"a", 1])[0][:2] == [OK, 1]


def test_quiesced_guests_are_left_alone_until_again_and_then_get_a_seed(
    client: GuestService, watch: Watch
) -> None:
    guest = PlayedGuest(client, machine(6)).meet()
    heard(guest, watch, "confirmed")
    number = client.quiesce(machine(6), eid(1))
    with pytest.raises(StateError, match="again"):
        client.quiesce(machine(6), eid(1))
    guest.until(lambda: ("quiesce", number) in guest.events)
    guest.session.frozen = True
    guest.session.send([3, number, True, 12, "groups"])
    guest.push()
    assert heard(guest, watch, "quiesced")["processes"] == 12
    seeds = len(guest.seeds)
    assert client.again(machine(6), eid(1)) is True
    guest.until(lambda: len(guest.seeds) == seeds + 1)


def test_a_quiesce_that_breaks_is_told(client: GuestService, watch: Watch) -> None:
    guest = PlayedGuest(client, machine(7)).meet()
    heard(guest, watch, "confirmed")
    number = client.quiesce(machine(7), eid(1))
    guest.until(lambda: ("quiesce", number) in guest.events)
    guest.session.start()  # the helper died of it
    guest.push()
    heard(guest, watch, "silent")
    assert client.again(machine(7), eid(1)) is False


def test_of_forks_that_race_for_one_token_one_wins_and_the_others_are_fenced(
    client: GuestService, watch: Watch
) -> None:
    first = PlayedGuest(client, machine(8), eid(1)).meet()
    forks = [PlayedGuest(client, machine(8), eid(each), forked=True).meet() for each in (2, 3)]
    assert [each.fence for each in forks] == [False, False]
    assert watch.until("fenced", eid(2), GENEROUS_S)
    answers = [each.answer([SPEND, b"token", False])[0] for each in (forks[0], first, forks[1], first)]
    assert [answer[0] for answer in answers] == [FENCED, OK, FENCED, REFUSED]
    assert client.detach(machine(8), eid(1), ended=True)
    assert client.renew(machine(8), eid(2), forked=True, before=eid(2)), "whoever had it has ended"
    assert forks[0].answer([SPEND, b"token", False])[0][0] == REFUSED, "it was spent before the fork too"
    assert forks[0].answer([SPEND, b"other", False])[0][0] == OK


def test_a_later_execution_takes_fence_and_place_of_the_one_before(
    client: GuestService, watch: Watch
) -> None:
    before = PlayedGuest(client, machine(9), eid(1)).meet()
    assert before.answer([INCREMENT, b"a", 1])[0][0] == OK
    after = PlayedGuest(client, machine(9), eid(2)).meet()
    assert after.fence
    while before.line.recv(65536):
        pass  # what came before its socket was closed
    assert [each["execution"] for each in client.guests()] == [eid(2)]
    with pytest.raises(NotFoundError):
        client.detach(machine(9), eid(1), ended=False)


def test_the_same_execution_attached_again_goes_on(client: GuestService) -> None:
    guest = PlayedGuest(client, machine(10)).meet()
    (one,) = guest.answer([INCREMENT, b"a", 1], first=1)
    guest.close()
    guest.attach(client)
    guest.meet()
    assert guest.answer([INCREMENT, b"a", 1], first=1) == [one], "the same number has the same answer"
    assert guest.answer([INCREMENT, b"a", 1])[0][2] == one[2] + 1


def test_a_thousand_requests_in_flight_are_answered_or_busy_and_other_guests_are_served(
    client: GuestService,
) -> None:
    greedy, other = PlayedGuest(client, machine(11)).meet(), PlayedGuest(client, machine(12)).meet()
    numbers = []
    for _ in range(16):
        numbers += range(greedy.session.standing.next_request, greedy.session.standing.next_request + 63)
        greedy.ask(*[[INCREMENT, b"a", 1]] * 63)
    assert other.answer([INCREMENT, b"b", 1])[0][0] == OK
    greedy.until(lambda: all(each in greedy.answers for each in numbers))
    found = {greedy.answers[each][0] for each in numbers}
    assert found <= {OK, BUSY}
    values = [greedy.answers[each][2] for each in numbers if greedy.answers[each][0] == OK]
    assert values == sorted(set(values)), "none twice, none out of order"


def test_answers_larger_than_a_frame_come_in_several(client: GuestService) -> None:
    guest = PlayedGuest(client, machine(13)).meet()
    content = os.urandom(32_768)
    version = guest.answer([SEAL, b"blob", 0, content])[0][2]
    answers = guest.answer(*[[UNSEAL, b"blob", 0]] * 64)
    assert answers == [[OK, 1, version, content]] * 64


def test_who_does_not_read_is_cut_off_and_nobody_else(client: GuestService) -> None:
    slow, other = PlayedGuest(client, machine(14)).meet(), PlayedGuest(client, machine(15)).meet()
    slow.answer([SEAL, b"blob", 0, os.urandom(32_768)])
    slow.line.settimeout(0.3)
    assert not asked(slow, 4_000), "nothing more is taken of who asks and never reads"
    assert other.answer([INCREMENT, b"b", 1])[0][0] == OK
    slow.line.settimeout(None)
    slow.until(lambda: slow.welcomes >= 2, other)


def asked(guest: PlayedGuest, count: int) -> bool:
    """Ask so many batches without reading an answer; whether the host took all of them."""
    try:
        for _ in range(count):
            guest.ask(*[[UNSEAL, b"blob", 0]] * 64)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("kind", ["zeros", "noise", "huge", "frames"])
def test_floods_of_what_is_no_frame_harm_nobody_else(client: GuestService, kind: str) -> None:
    number = sum(kind.encode())
    other = PlayedGuest(client, machine(number)).meet()
    loud = [PlayedGuest(client, machine(10_000 + 10 * number + each)).meet() for each in range(4)]
    piece = {
        "zeros": bytes(65536),
        "noise": os.urandom(65536),
        "huge": b"\x01" * 65536,
        "frames": b"\x04\x05ab\x00" * 13000,
    }[kind]
    stop = threading.Event()

    def flood(line: socket.socket) -> None:
        line.settimeout(0.2)
        while not stop.is_set():
            try:
                line.send(piece)
            except OSError:
                continue

    floods = [threading.Thread(target=flood, args=(each.line,)) for each in loud]
    for each in floods:
        each.start()
    try:
        for _ in range(20):
            assert other.answer([INCREMENT, b"b", 1])[0][0] == OK
    finally:
        stop.set()
        for each in floods:
            each.join()
    assert not next(each for each in client.guests() if each["machine"] == machine(number))["dropped"]


def test_orders_that_are_wrong_are_refused_with_the_reason(
    client: GuestService, service: ServiceProcess
) -> None:
    with pytest.raises(NotFoundError, match="not attached"):
        client.again(MACHINE, eid(7))
    with pytest.raises(NotFoundError, match="no vault"):
        client.vault(machine(99))
    with pytest.raises(InputError, match="UUID"):
        client.again("web01", eid(7))
    with open("/dev/null", "rb") as null, pytest.raises(InputError, match="no socket"):
        client.attach(MACHINE, "web01", eid(1), null.fileno())
    with socket.socket(socket.AF_UNIX) as lonely, pytest.raises(InputError, match="not connected"):
        client.attach(MACHINE, "web01", eid(1), lonely.fileno())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(service.socket))
        for packet in (b"[", b"[]", b"{}", b'{"id": 1}', b'{"id": 1, "order": "dance"}', b"[" * 60_000):
            raw.send(packet)
            assert b'"kind":"input"' in raw.recv(65536)
    assert client.status()["state"] == "serving"


def test_two_agents_connections_both_hear_and_the_guest_is_of_who_attached_it_last(
    client: GuestService, service: ServiceProcess
) -> None:
    with service.client() as second, service.watch() as one, service.watch() as two:
        guest = PlayedGuest(client, machine(17)).meet()
        line = guest.line
        guest.attach(second)
        guest.meet()
        while line.recv(65536):
            pass  # what came before the earlier socket was closed
        line.close()
        for each in (one, two):
            assert each.until("about", eid(1), GENEROUS_S)
        assert guest.answer([INCREMENT, b"a", 1])[0][0] == OK


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_than_root_is_not_answered(service: ServiceProcess) -> None:
    for folder in (service.folder, *service.folder.parents):
        folder.chmod(os.stat(folder).st_mode | 0o055)
    script = (
        "import os, socket, sys; os.setresuid(65534, 65534, 65534)\n"
        "line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); line.connect(sys.argv[1])\n"
        'line.send(b\'{"id":1,"order":"status"}\'); print(line.recv(100))'
    )
    command = [sys.executable, "-c", script, str(service.socket)]
    service.socket.chmod(0o600)
    assert b"PermissionError" in subprocess.run(command, capture_output=True, check=False).stderr
    service.socket.chmod(0o777)  # not by the socket's mode alone
    done = subprocess.run(command, capture_output=True, check=False)
    assert b"order" not in done.stdout
    assert done.stdout in (b"", b"b''\n"), done.stdout
    service.socket.chmod(0o600)
    assert DeniedError.exit_code


def test_verify_reads_the_log_while_guests_are_served(client: GuestService, service: ServiceProcess) -> None:
    guest = PlayedGuest(client, machine(18)).meet()
    for _ in range(20):
        guest.answer(*[[INCREMENT, b"a", 1]] * 16)
    found: list[dict[str, object]] = []
    with service.client() as other:
        asking = threading.Thread(target=lambda: found.append(other.verify()))
        asking.start()
        while asking.is_alive():
            assert guest.answer([INCREMENT, b"a", 1])[0][0] == OK
        asking.join()
    assert found[0]["fits"], found
    assert int(str(found[0]["groups"])) >= 20


def test_vaults_are_listed_in_pages_with_harmless_names(client: GuestService) -> None:
    guest = PlayedGuest(client, machine(19)).meet()
    names = [b"\x1b[31mred\n", *(b"name-%03d" % each for each in range(200))]
    for at in range(0, len(names), 64):
        guest.answer(*[[INCREMENT, each, 1] for each in names[at : at + 64]])
    entries = list(client.entries(machine(19), "counters"))
    assert len(entries) == len({each["name"] for each in entries}) == 201
    assert "\\x1b[31mred\\x0a" in [each["shown"] for each in entries]
    assert client.vault(machine(19))["holder"] == eid(1)
    assert machine(19) in [each["machine"] for each in client.vaults()]
