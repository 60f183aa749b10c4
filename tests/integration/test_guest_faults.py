"""The guest service killed, its disk full, its TPM put back: nothing is lost, nothing is silent."""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.guesthost import (
    GENEROUS_S,
    PlayedGuest,
    ServiceProcess,
    attached_again,
    eid,
    machine,
)
from tests.support.softwaretpm import SoftwareTpm

from undercroft.adapters.durablefiles import FolderFiles
from undercroft.assurance import trace, tracelines
from undercroft.errors import StateError
from undercroft.guestservice import service as guestservice
from undercroft.guestservice.keep import Keep
from undercroft.guestservice.tracing import Trace
from undercroft.guestservice.vaults import Vaults

INCREMENT, COUNTER, SPEND, REVOKE = 1, 2, 3, 11
OK, FAILED = 0, 8


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path)
    yield made.start()
    made.close()


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    if not importlib.util.find_spec("tpm2_pytss") or not shutil.which("swtpm"):
        pytest.skip("needs tpm2-pytss and swtpm")
    made = SoftwareTpm(tmp_path / "tpm")
    made.start()
    yield made
    made.stop()


def met(service: ServiceProcess, number: int = 1) -> PlayedGuest:
    with service.client() as client:
        return PlayedGuest(client, machine(number)).meet()


def restarted(service: ServiceProcess, *guests: PlayedGuest) -> None:
    """Kill the service, start it anew, and hand all sockets over again."""
    service.kill()
    service.start()
    for guest in guests:
        attached_again(guest, service)


def test_killed_in_the_middle_of_groups_nothing_acknowledged_is_lost_and_numbers_are_answered_as_before(
    service: ServiceProcess,
) -> None:
    guests = [met(service, each) for each in range(1, 4)]
    given: dict[tuple[int, int], list[object]] = {}
    asked: dict[int, list[int]] = {}
    for _ in range(3):
        for at, guest in enumerate(guests):
            first = guest.ask(*[[INCREMENT, b"a", 1]] * 16)
            asked[at] = list(range(first, first + 16))
        while not guests[0].answers:
            guests[0].pump()
        service.kill()  # whatever was under way
        for at, guest in enumerate(guests):
            while guest.pump(0.01):
                pass
            given |= {(at, number): answer for number, answer in guest.answers.items()}
        service.start()
        for at, guest in enumerate(guests):
            attached_again(guest, service)
            answers = guest.answer(*[[INCREMENT, b"a", 1]] * 16, first=asked[at][0])
            for number, answer in zip(asked[at], answers, strict=True):
                assert given.setdefault((at, number), answer) == answer
            guest.answers.clear()
    for at in range(3):
        values = [answer[2] for (whose, _), answer in sorted(given.items()) if whose == at]
        assert len(values) == 48
        assert values == sorted(set(values)), "no value twice, none lower"


def test_killed_in_the_middle_of_a_frame_the_next_session_is_whole(service: ServiceProcess) -> None:
    guest = met(service)
    (one,) = guest.answer([INCREMENT, b"a", 1])
    guest.session.send([5, guest.session.standing.next_request, [[INCREMENT, b"a", 1]] * 16])
    data = guest.sent()
    guest.line.sendall(data[: len(data) // 2])
    restarted(service, guest)
    (two,) = guest.answer([INCREMENT, b"a", 1])
    assert two[2] > one[2]


def test_a_guest_that_reboots_in_the_middle_of_its_requests_goes_on_above_them(
    service: ServiceProcess,
) -> None:
    guest = met(service)
    first = guest.ask(*[[INCREMENT, b"a", 1]] * 16)
    guest.reboot()
    guest.meet()
    assert guest.session.standing.next_request == first + 16
    assert guest.answer([INCREMENT, b"a", 1])[0][2] & 0xFFFF == 17


def test_a_guest_put_back_while_the_service_was_away_is_found_by_what_was_kept(
    service: ServiceProcess,
) -> None:
    guest = met(service)
    guest.answer([INCREMENT, b"a", 1])
    kept = guest.snapshot()
    guest.answer([INCREMENT, b"a", 1])
    service.kill()
    guest.put_back(kept)
    service.start()
    with service.watch() as watch:
        rewound(guest, service)
        told = watch.until("rewound", eid(1), GENEROUS_S)
        assert told
        assert told.fields["proof"] == "standing"
    service.kill()
    service.start()
    with service.watch() as watch:  # and what was proven is kept too
        rewound(guest, service)
        assert watch.until("rewound", eid(1), GENEROUS_S)
        with service.client() as client:
            with pytest.raises(StateError, match="renew"):
                client.again(machine(1), eid(1))
            assert client.renew(machine(1), eid(2))
            guest.execution = eid(2)
            guest.meet()


def rewound(guest: PlayedGuest, service: ServiceProcess) -> None:
    """Hand the socket over, and let the guest answer what comes."""
    guest.close()
    with service.client() as client:
        guest.attach(client)
    for _ in range(20):
        guest.pump(0.02)


def test_control_without_what_was_kept_it_is_not_found(service: ServiceProcess) -> None:
    guest = met(service)
    guest.answer([INCREMENT, b"a", 1])
    kept = guest.snapshot()
    guest.answer([INCREMENT, b"a", 1])
    service.kill()
    guest.put_back(kept)
    (service.state / "seen").unlink()
    service.start()
    attached_again(guest, service)
    assert guest.session.open


def test_what_was_confirmed_is_known_after_a_restart_and_no_other_seed_is_given(
    service: ServiceProcess,
) -> None:
    guest = met(service)
    with service.client() as client:
        guest.until(lambda: next(client.guests())["confirmed"])
    restarted(service, guest)
    assert len(guest.seeds) == 1
    with service.client() as client:
        assert next(client.guests())["generation"] == guest.generation


def test_epochs_and_generations_grow_over_every_restart_and_the_trace_says_so(
    service: ServiceProcess,
) -> None:
    guest = met(service)
    generations = [guest.generation]
    for _ in range(2):
        restarted(service, guest)
        with service.client() as client:
            client.again(machine(1), eid(1))
        guest.until(lambda: guest.generation > generations[-1])
        generations.append(guest.generation)
    assert generations == sorted(set(generations))
    service.stop()
    events = tracelines.read(service.trace.read_bytes().splitlines(keepends=True))
    assert [event.epoch for event in events if isinstance(event, trace.Served)] == [1, 2, 3]
    seeded = [event.generation for event in events if isinstance(event, trace.Seeded)]
    assert set(generations) <= set(seeded)
    assert len(seeded) == len(set(seeded))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_on_a_full_disk_changes_are_refused_reads_go_on_and_room_is_enough_to_go_on(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(small)], check=True)
    service = ServiceProcess(small)
    try:
        service.start()
        guest = met(service)
        (one,) = guest.answer([INCREMENT, b"a", 1])
        filler = small / "filler"
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65536))
            except OSError:
                pass
        content, refused = os.urandom(32_000), 0
        for number in range(1_000):
            (answer,) = guest.answer([6, b"blob-%d" % number, 0, content])
            if answer[0] == FAILED:
                refused = number
                break
            assert answer[0] == OK
        assert refused, "the disk was never full"
        assert "disk is full" in answer[2]
        assert guest.answer([COUNTER, b"a"]) == [[OK, 1, one[2]]]
        filler.unlink()
        guest.answer([6, b"blob-%d" % refused, 0, content])  # may be refused: room is looked for after it
        (two,) = guest.answer([6, b"blob-%d" % refused, 0, content])
        assert two[0] == OK, two
        assert guest.answer([INCREMENT, b"a", 1])[0][2] > one[2]
        with service.client() as client:
            assert client.verify()["fits"]
    finally:
        service.close()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_an_earlier_image_of_the_disk_is_refused_until_it_is_adopted_on_record(
    tmp_path: Path, chip: SoftwareTpm
) -> None:
    service = ServiceProcess(tmp_path, tpm=chip.tcti)
    try:
        service.start()
        guest = met(service)
        assert guest.answer([SPEND, b"token", True])[0][:2] == [OK, 2], "anchored"
        service.kill()
        shutil.copytree(service.state, tmp_path / "earlier")
        service.start()
        attached_again(guest, service)
        assert guest.answer([SPEND, b"other", True])[0][:2] == [OK, 2]
        service.kill()
        shutil.rmtree(service.state)
        shutil.copytree(tmp_path / "earlier", service.state)
        service.start()
        with service.client() as client:
            status = client.status()
            assert (status["state"], status["epoch"]) == ("refused", 0)
            assert "earlier image of the disk" in status["problem"]
            guest.close()
            with pytest.raises(StateError, match="vault adopt --reason"):
                guest.attach(client)
            assert not client.verify()["fits"]
            with pytest.raises(StateError, match="no vault is served"):
                client.vault(machine(1))
            epoch = client.adopt("the disk died")
            with pytest.raises(StateError, match="nothing to adopt"):
                client.adopt("again")
            assert client.status()["state"] == "serving"
        attached_again(guest, service)
        assert guest.answer([INCREMENT, b"a", 1])[0][2] >> 40 == epoch
        assert service.stop()[0] == 0
        events = tracelines.read(service.trace.read_bytes().splitlines(keepends=True))
        kinds = [type(event) for event in events]
        assert kinds.index(trace.Refused) < kinds.index(trace.Adopted)
    finally:
        service.close()


def test_a_tpm_that_is_named_and_not_there_is_refused_and_not_done_without(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, tpm=f"swtpm:path={tmp_path}/none")
    try:
        service.start()
        with service.client() as client:
            assert client.status()["state"] == "refused"
            assert "TPM" in client.status()["problem"]
    finally:
        service.close()


def test_an_end_as_it_should_be_makes_nothing_void(tmp_path: Path, chip: SoftwareTpm) -> None:
    service = ServiceProcess(tmp_path, tpm=chip.tcti)
    try:
        service.start()
        guest = met(service)
        assert guest.answer([REVOKE, b"key"])[0][:2] == [OK, 1], "only synced"
        assert service.stop()[0] == 0
        service.start()
        with service.client() as client:
            assert client.status()["voids"] == []
            epoch = client.status()["epoch"]
        service.kill()
        service.start()
        with service.client() as client:
            assert client.status()["voids"] == [epoch]
    finally:
        service.close()


def test_a_tpm_that_comes_late_is_waited_for(
    tmp_path: Path, chip: SoftwareTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip.stop()
    monkeypatch.setattr(guestservice, "RETRY_S", 0.01)
    files, said = FolderFiles(tmp_path / "state"), []
    vaults = Vaults(files, chip.tcti, clock=lambda: 1_000_000, random=os.urandom)
    vaults.open()
    assert vaults.may_pass
    service = guestservice.Service(vaults, Keep(files), Trace(None), said.append)
    service.serve()
    for _ in range(5):
        service.loop.turn(0.02)
    assert vaults.engine is None
    chip.start()
    end = time.monotonic() + GENEROUS_S
    while vaults.engine is None:
        assert time.monotonic() < end
        service.loop.turn(0.02)
    assert said[-1] == "the vaults are served now"
    service.stop()
    files.release()
