"""`undercroft vault` over a real guest service and a software TPM: what it prints, refuses and exits with."""

import base64
import json
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from tests.support.guesthost import MACHINE, PlayedGuest, ServiceProcess, eid, machine
from tests.support.softwaretpm import SoftwareTpm

from undercroft.cli.program import run
from undercroft.model.vaulthome import VaultHome
from undercroft.store.fleet.records import open_records

SCHEMAS = Path(__file__).parents[2] / "docs/schema"
SOCKET = "UNDERCROFT_GUEST_SOCKET"
INCREMENT, SPEND, APPEND, SEAL, PUBLIC, REVOKE = 1, 3, 4, 6, 9, 11
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[SoftwareTpm]:
    made = SoftwareTpm(tmp_path / "tpm")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def service(tmp_path: Path, chip: SoftwareTpm, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServiceProcess]:
    made = ServiceProcess(tmp_path, tpm=chip.tcti)
    monkeypatch.setenv(SOCKET, str(made.socket))
    monkeypatch.setenv("UNDERCROFT_STATE", str(tmp_path / "none"))
    yield made.start()
    made.close()


def filled(service: ServiceProcess, execution: int = 1) -> PlayedGuest:
    """A guest that has some of everything."""
    with service.client() as client:
        guest = PlayedGuest(client, MACHINE, eid(execution)).meet()
    done = guest.answer(
        [INCREMENT, b"builds", 7],
        [SPEND, b"token", True],
        [APPEND, b"audit", 0, bytes(32), b"the entry itself"],
        [SEAL, b"database", 0, b"what is sealed"],
        [PUBLIC, b"signer"],
        [REVOKE, b"laptop"],
    )
    assert [each[0] for each in done] == [0] * 6
    return guest


def printed(capsys: Captured, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert run(["vault", *arguments]) == code
    said = capsys.readouterr()
    return said.out, said.err


def test_a_vault_that_another_host_keeps_is_marked_and_so_is_a_guest_without_one(
    service: ServiceProcess, tmp_path: Path, capsys: Captured
) -> None:
    guest, path = filled(service), str(tmp_path / "fleet.db")
    with service.client() as client:
        other = PlayedGuest(client, machine(3), eid(3), 3000, elsewhere="host8").meet()
    with closing(open_records(path)) as records, records.transaction() as record:
        record.put_vault_home(VaultHome(MACHINE, "host9", 3, 0, datetime.now(UTC)), "host9", "first")
    listed, _ = printed(capsys, "ls", "--record", path)
    assert listed.count("its vault is kept by") == 2
    assert "web01: its vault is kept by host9; what is here of it is not served" in " ".join(listed.split())
    assert "kept by host8" in listed
    shown, _ = printed(capsys, "show", MACHINE, "--record", path)
    assert "kept by host9 by the record" in shown
    (one,) = document(capsys, "vaults", "ls", "--record", path)["vaults"]  # type: ignore[misc]
    assert one["elsewhere"] == "host9"
    assert document(capsys, "vault", "show", MACHINE, "--record", path)["elsewhere"] == "host9"
    for each in (guest, other):
        each.close()


def document(capsys: Captured, schema: str, *arguments: str, code: int = 0) -> dict[str, object]:
    out, _ = printed(capsys, *arguments, "-f", "json", code=code)
    found: dict[str, object] = json.loads(out)
    jsonschema.validate(found, json.loads((SCHEMAS / f"{schema}-v1.json").read_text()))
    return found


def test_a_vault_is_shown_without_what_it_keeps_secret(service: ServiceProcess, capsys: Captured) -> None:
    guest = filled(service)
    listed, _ = printed(capsys, "ls")
    assert "web01" in listed
    assert "final spends on an anchor in the TPM" in listed
    shown, _ = printed(capsys, "show", "web01")
    assert eid(1) in shown
    for part in ("builds", str((2 << 40) + 7), "token", "height 1", "database", "ed25519", "laptop"):
        assert part in shown
    for secret in ("what is sealed", "the entry itself"):
        assert secret not in shown
    found = document(capsys, "vault", "show", MACHINE)
    entries = found["entries"]
    assert isinstance(entries, dict)
    assert entries["counters"] == [{"name": "builds", "value": (2 << 40) + 7}]
    (key,) = entries["keys"]
    assert base64.b64decode(key["public"]) == guest.answer([PUBLIC, b"signer"])[0][2]
    (one,) = document(capsys, "vaults", "ls")["vaults"]  # type: ignore[misc]
    assert (one["machine"], one["name"], one["holder"], one["lives"]) == (MACHINE, "web01", eid(1), True)
    printed(capsys, "show", "web02", code=3)
    printed(capsys, "show", machine(9), code=3)
    guest.close()


def test_names_that_a_guest_chose_harm_no_terminal_and_hide_nothing(
    service: ServiceProcess, capsys: Captured
) -> None:
    """Pages by count alone let such names grow past what a packet holds, and then nobody saw any of them."""
    with service.client() as client:
        guest = PlayedGuest(client).meet()
    names = [b"\x1b[2J\x9b" + bytes([at]) + b"\x00" * 100 + "\u202e\n\\".encode() for at in range(120)]
    for at in range(0, len(names), 60):
        guest.answer(*([INCREMENT, name, 1] for name in names[at : at + 60]))
    shown, _ = printed(capsys, "show", MACHINE, "counters")
    assert not [each for each in shown if unicodedata.category(each).startswith("C") and each != "\n"]
    entries = document(capsys, "vault", "show", MACHINE, "counters")["entries"]
    assert isinstance(entries, dict)
    found = [base64.b64decode(one["name_base64"]) for one in entries["counters"]]
    assert sorted(found) == sorted(names)
    guest.close()


def test_two_machines_of_one_name_are_told_apart_by_their_uuids(
    service: ServiceProcess, capsys: Captured
) -> None:
    with service.client() as client:
        guests = [PlayedGuest(client, machine(at), eid(at)).meet() for at in (1, 2)]
    _, said = printed(capsys, "show", "web01", code=1)
    assert machine(1) in said
    assert machine(2) in said
    for guest in guests:
        guest.close()


def test_a_log_that_fits_is_told_to_and_is_never_adopted(service: ServiceProcess, capsys: Captured) -> None:
    filled(service).close()
    shown, _ = printed(capsys, "verify")
    assert "all fits" in shown
    assert "each with a head that fits" in shown
    found = document(capsys, "vault-verify", "verify")
    assert found["counter"] == found["logged_counter"] == 2
    assert found["index"] == found["logged_index"] != ""
    _, said = printed(capsys, "adopt", "--reason", "nothing happened", "--yes", code=1)
    assert "nothing to adopt" in said


def test_a_byte_that_was_altered_on_the_disk_is_found_while_the_vaults_are_served(
    service: ServiceProcess, capsys: Captured
) -> None:
    filled(service).close()
    (log,) = service.state.glob("log-*")
    with open(log, "r+b") as file:
        file.seek(300)
        file.write(b"\xff\xff\xff\xff")
    shown, _ = printed(capsys, "verify", code=1)
    assert "does not fit" in shown
    assert document(capsys, "vault-verify", "verify", code=1)["fits"] is False


def test_an_earlier_image_of_the_disk_is_refused_explained_and_adopted(
    service: ServiceProcess, capsys: Captured, tmp_path: Path
) -> None:
    """What the administrator sees at night: each message leads to the next command."""
    guest = filled(service)
    service.kill()
    shutil.copytree(service.state, tmp_path / "earlier")
    service.start()
    guest.close()
    service.stop()
    shutil.rmtree(service.state)
    shutil.copytree(tmp_path / "earlier", service.state)
    service.start()
    _, said = printed(capsys, "ls", code=1)
    assert "earlier image of the disk" in said
    assert "undercroft vault verify" in said
    shown, said = printed(capsys, "verify", code=1)
    assert "the TPM's counter: 3, and the log has 2" in shown
    assert "undercroft vault adopt --reason" in said
    found = document(capsys, "vault-verify", "verify", code=1)
    assert (found["fits"], found["counter"], found["logged_counter"], found["state"]) == (
        False,
        3,
        2,
        "refused",
    )
    shown, said = printed(capsys, "adopt", "--reason", "ticket 4711", code=2)
    assert "1 start of which it knows nothing" in " ".join(shown.split())
    assert "can be spent again" in shown
    assert "--yes" in said
    _, said = printed(capsys, "adopt", "--reason", "ticket 4711", "--yes")
    assert "adopted; epoch 4 is served" in said
    assert "all fits" in printed(capsys, "verify")[0]
    assert "without an end: epoch 2;" in printed(capsys, "ls")[0]


def test_what_nobody_can_adopt_says_what_to_mend(
    service: ServiceProcess, chip: SoftwareTpm, capsys: Captured
) -> None:
    filled(service).close()
    service.kill()
    chip.stop()
    service.start()
    for command in (("ls",), ("verify",), ("adopt", "--reason", "ticket 4711", "--yes")):
        shown, said = printed(capsys, *command, code=1)
        assert "the TPM cannot be opened" in shown + said
    chip.start()
    shown, said = printed(capsys, "verify", code=1)
    assert "could not be read" in shown  # the service has no TPM until it starts anew
    assert "systemctl restart undercroft-guest.service" in said
    service.stop()
    service.start()
    printed(capsys, "verify")


def test_without_a_tpm_nobody_can_tell_that_the_log_is_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    service = ServiceProcess(tmp_path)
    monkeypatch.setenv(SOCKET, str(service.socket))
    service.start()
    shown, said = printed(capsys, "verify", code=4)
    assert "not protected" in shown
    assert "no TPM vouches" in said
    service.stop()
    service.close()
    _, said = printed(capsys, "ls", code=1)
    assert "the guest service does not run" in said
    assert "systemctl start" in said
