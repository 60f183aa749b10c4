"""`undercroft vault adopt MACHINE`: a vault gets another home only where its machine runs, and on record."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from recordvalues import NOW, domain, execution, later

from undercroft.cli.program import run
from undercroft.model.domain import Power
from undercroft.model.vaulthome import VaultHome
from undercroft.store.fleet.records import open_records

HERE = socket.gethostname()
WEB = replace(domain(1, "web\x1b01"), power=Power.RUNNING)
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A machine that is on record on two hosts, since one of them died; its vault is that one's."""
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    with records.transaction() as record:
        for host in ("host1", HERE):
            record.put_domain(host, WEB.uuid, WEB, NOW)
        record.put_execution(execution(1, WEB.uuid, host="host1", ended_at=later(5), ending="lost"))
        record.put_execution(execution(2, WEB.uuid, host=HERE))
        record.put_vault_home(VaultHome(WEB.uuid, "host1", 41, 0, NOW), "host1", "first")
    records.close()
    return path


def test_a_vault_is_adopted_with_a_warning_and_a_reason_in_the_log(database: str, capsys: Captured) -> None:
    adopted = ["vault", "adopt", WEB.uuid, "--record", database, "--reason", "it burned, 4712", "--yes"]
    assert run(adopted) == 0
    said = capsys.readouterr()
    assert "can be spent again, final ones too" in said.out
    assert "go on above epoch 41" in said.out
    assert "\x1b01" not in said.out + said.err
    records = open_records(database)
    with records.reading() as record:
        home = record.vault_home(WEB.uuid)
        entry = json.loads(record.log_entries()[-1].body)
    records.close()
    assert home is not None
    assert (home.host, home.epoch, home.above) == (HERE, 0, 41)
    assert (entry["outcome"], entry["before"], entry["reason"]) == ("adopted", "host1", "it burned, 4712")
    assert run(adopted) == 1
    assert "kept by this host" in capsys.readouterr().err


def test_nothing_is_adopted_while_the_machine_runs_where_its_vault_is(
    database: str, capsys: Captured
) -> None:
    records = open_records(database)
    with records.transaction() as record:
        record.put_execution(execution(3, WEB.uuid, host="host1"))
    records.close()
    assert run(["vault", "adopt", WEB.uuid, "--record", database, "--reason", "r", "--yes"]) == 1
    assert "it runs on host1" in capsys.readouterr().err


def test_without_a_confirmation_nothing_changes(database: str, capsys: Captured) -> None:
    assert run(["vault", "adopt", WEB.uuid, "--record", database, "--reason", "r"]) == 2
    assert run(["vault", "adopt", WEB.uuid, "--record", database, "--reason", " ", "--yes"]) == 2
    records = open_records(database)
    with records.reading() as record:
        assert record.vault_home(WEB.uuid) == VaultHome(WEB.uuid, "host1", 41, 0, NOW)
    records.close()
