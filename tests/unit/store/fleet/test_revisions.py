"""Databases of earlier revisions: what was on record then says the same now."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from recordvalues import NOW, UUID, decision, inventory, later, survey
from sqlalchemy import text

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import DamagedError, OperationError
from undercroft.model.channel import GuestChannel, Heard
from undercroft.model.disk import Volume, VolumeStatus
from undercroft.model.domain import (
    ChainEntry,
    DiskKind,
    Domain,
    DomainCheckpoint,
    DomainDisk,
    Interface,
    Ownership,
    Power,
)
from undercroft.model.filter import FilterState
from undercroft.model.fleet import HeldTap, Hold
from undercroft.model.vaulthome import VaultHome
from undercroft.store.fleet.digests import to_text
from undercroft.store.fleet.engine import WRITES, connect, parse_url
from undercroft.store.fleet.records import open_records
from undercroft.store.fleet.tables import key_text, micros

HOST = "h\udcffst"
MACHINE_0001 = (
    '{"autostart":false,"beside":[],"checkpoints":[],"disks":[{"chain":[{"data_file":"","format":"qcow2",'
    '"path":"/images/base.qcow2"}],"data_file":"","device":"disk","encrypted":false,"format":"qcow2",'
    '"kind":"file","path":"/images/a.qcow2","problem":"","readonly":false,"shareable":false,"target":"vda"}],'
    '"genid":false,"interfaces":[{"bridge":"virbr0","kind":"network","mac":"52:54:00:00:00:01",'
    '"source":"default","tap":"vnet0"},{"bridge":"br1","kind":"bridge","mac":"52:54:00:00:00:02",'
    '"source":"br1","tap":""}],"libvirt_id":0,"loaded":"","managed_save":"","name":"web01","ownership":'
    '{"expires_on":"2027-01-31","labels":["web"],"owner":"web team","problem":"","template":false},'
    '"persistent":true,"power":"off","problem":"","snapshots":[],"tainted":[],'
    '"uuid":"6f0c0f6e-0000-4000-8000-000000000001"}'
)
MACHINE = Domain(
    UUID,
    "web01",
    Power.OFF,
    disks=(
        DomainDisk(
            "vda",
            "disk",
            DiskKind.FILE,
            "/images/a.qcow2",
            "qcow2",
            (ChainEntry("/images/base.qcow2", "qcow2"),),
        ),
    ),
    interfaces=(
        Interface("52:54:00:00:00:01", "network", "default", "virbr0", "vnet0"),
        Interface("52:54:00:00:00:02", "bridge", "br1", "br1"),
    ),
    ownership=Ownership("web team", ("web",), date(2027, 1, 31)),
)
HOLD_0001 = (
    '{"eid":"00000000000000000000000000000001","machine":"6f0c0f6e-0000-4000-8000-000000000001",'
    '"pending":true,"reason":"r","since":"2026-03-01T12:00:00.123456+00:00","taps":[{"bridge":"virbr0",'
    '"tap":"vnet0"}]}'
)
DECISION = replace(decision(), machine=UUID)
HOLD = Hold(UUID, f"{1:032x}", (HeldTap("vnet0", "virbr0"),), "r", NOW, True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.xdist_group("postgres"))])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Makes a database of a revision with these rows, and returns its URL."""

    def make(revision: str, *statements: tuple[str, dict[str, object]]) -> str:
        url = f"sqlite:///{tmp_path / 'fleet.db'}"
        if request.param == "postgresql":
            server = request.getfixturevalue("postgres")
            url = server.url(server.new_database())
        engine = connect(parse_url(url))
        with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            config = Config()
            config.set_main_option("script_location", "undercroft.store.fleet:migrations")
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            for statement, values in statements:
                connection.execute(text(statement), values)
        engine.dispose()
        return url

    return make


def _machine(uuid: str, body: str) -> tuple[str, dict[str, object]]:
    values: dict[str, object] = {"host": key_text(HOST), "uuid": uuid, "at": micros(NOW), "body": body}
    return "INSERT INTO machine VALUES (:host, :uuid, 'web01', :at, :at, NULL, :body)", values


def _hold(body: str) -> tuple[str, dict[str, object]]:
    return "INSERT INTO hold VALUES (:machine, :body)", {"machine": UUID, "body": body}


def _decision() -> tuple[str, dict[str, object]]:
    """Return a decision as it was before the hook could leave interfaces open."""
    value = json.loads(to_text(DECISION))
    del value["leaves_open"]
    return (
        "INSERT INTO decision (ident, machine, at, body) VALUES (:ident, :machine, :at, :body)",
        {"ident": DECISION.ident, "machine": UUID, "at": micros(DECISION.at), "body": json.dumps(value)},
    )


def test_what_the_first_revision_held_is_as_it_was(earlier: Callable[..., str]):
    rows = _machine(UUID, MACHINE_0001), _hold(HOLD_0001), _decision()
    records = open_records(earlier("0001", *rows))
    with records.reading() as record:
        assert record.decisions() == (DECISION,)
        (found,) = record.machines(HOST)
        assert (found.host, found.domain, found.first_seen) == (HOST, MACHINE, NOW)
        assert record.holds() == (HOLD,)
        (networked,) = record.networked_machines()
        assert networked.domain == replace(MACHINE, disks=())
        assert networked.since == dict.fromkeys((UUID, "52:54:00:00:00:01", "52:54:00:00:00:02"), NOW)
        assert record.machines_with(["52:54:00:00:00:02"]) == (networked,)
    with records.transaction() as record:
        record.put_survey(survey(MACHINE, host=HOST, at=later(1)))
        record.put_hold(HOLD)
        assert record.log_entries() == ()  # the same once more is nothing new
        assert record.put_applied_policy("{}", "d", "root", "", datetime.now(UTC)).number == 1
        verify_log(record.log_entries(), (), "")
    records.close()


def test_checkpoints_and_disks_of_the_second_revision_are_brought_along(earlier: Callable[..., str]):
    body = json.loads(MACHINE_0001) | {"checkpoints": ["c1", "c2"]}
    body["ownership"]["addresses"] = []
    for interface in body["interfaces"]:
        interface["addresses"] = []
    rows = {"host": key_text(HOST), "uuid": UUID, "at": micros(NOW), "body": json.dumps(body)}
    insert = "INSERT INTO machine VALUES (:host, :uuid, 'web01', :at, :at, NULL, :body, '')"
    records = open_records(earlier("0002", (insert, rows)))
    taken = DomainCheckpoint("c1"), DomainCheckpoint("c2")
    with records.reading() as record:
        (found,) = record.machines(HOST)
        assert found.domain == replace(MACHINE, checkpoints=taken)
        assert [disk.identity for disk in found.domain.disks] == [""]
    records.close()


def test_what_hosts_said_of_their_filters_before_is_brought_along_and_nobody_has_looked_around(
    earlier: Callable[..., str],
):
    state = FilterState(HOST, 3, "d", 7, 2, NOW, "it leaks", later(1))
    body = json.loads(to_text(state))
    for name in ("around_at", "findings", "voided"):
        del body[name]
    rows = [(HOST, json.dumps(body)), ("damaged", "{")]
    insert = "INSERT INTO filter_state VALUES (:host, :body)"
    url = earlier("0004", *((insert, {"host": key_text(host), "body": body}) for host, body in rows))
    records = open_records(url)
    with records.transaction() as record:
        damaged, whole = record.filter_states()
        assert whole == state
        assert damaged.host == "damaged"
        assert "filter state of damaged is damaged" in damaged.problem
        record.put_filter_state(state)
        assert record.log_entries() == (), "it says the same as before"
    records.close()


def test_a_row_that_was_damaged_before_the_revision_is_told_when_it_is_read(earlier: Callable[..., str]):
    bodies = ("{", "[]", "null", "{}", '{"ownership":{},"interfaces":3}', "[" * 5000)
    machines = [_machine(f"u{number}", body) for number, body in enumerate(bodies)]
    records = open_records(earlier("0001", *machines, _hold(HOLD_0001)))
    with records.reading() as record:
        assert record.holds() == (HOLD,)
        for read in (record.machines, record.networked_machines):
            with pytest.raises(OperationError, match="machine is damaged"):
                read()
    records.close()


def test_thousands_of_machines_of_the_first_revision_are_brought_along(earlier: Callable[..., str]):
    bodies = [json.loads(MACHINE_0001) | {"uuid": f"u{number:05}"} for number in range(1200)]
    rows = [_machine(body["uuid"], json.dumps(body)) for body in bodies]
    records = open_records(earlier("0001", *rows))
    with records.reading() as record:
        assert {known.domain.interfaces for known in record.machines()} == {MACHINE.interfaces}
    records.close()


def test_machines_and_holds_of_the_fifth_revision_have_no_channel_and_wait_for_no_seed(
    earlier: Callable[..., str],
):
    machine, hold = json.loads(to_text(MACHINE)), json.loads(to_text(HOLD))
    del machine["channel"], machine["channel_path"], hold["reseed"]
    rows = {"host": key_text(HOST), "uuid": UUID, "at": micros(NOW), "body": json.dumps(machine)}
    insert = "INSERT INTO machine VALUES (:host, :uuid, 'web01', :at, :at, NULL, :body, '')"
    records = open_records(earlier("0005", (insert, rows), _hold(json.dumps(hold))))
    with records.reading() as record:
        assert record.machines(HOST)[0].domain == MACHINE
        assert record.holds() == (HOLD,)
        assert (record.reseed("00"), record.channels(), record.quiesced()) == (None, {}, {})
    records.close()


def test_a_vault_of_the_sixth_revision_is_at_home_where_its_channel_was_handed_over_last(
    earlier: Callable[..., str],
):
    known = GuestChannel(UUID, "host7", f"{1:032x}", Heard.SILENT, NOW)
    insert = "INSERT INTO channel VALUES (:machine, :body)"
    whole = (insert, {"machine": UUID, "body": to_text(known)})
    records = open_records(earlier("0006", whole, (insert, {"machine": "damaged", "body": "{"})))
    with records.reading() as record:
        assert record.vault_homes() == {UUID: VaultHome(UUID, "host7", 0, 0, NOW)}
    records.close()


def test_an_inventory_of_the_seventh_revision_names_no_modules_and_no_members(earlier: Callable[..., str]):
    known = inventory()
    volume = Volume("vda", 1, 1 << 20, 1 << 30, "ext4", "", "", "", VolumeStatus.READ)
    known = replace(known, coverage=replace(known.coverage, volumes=(volume,)))
    assert known.packages
    value = json.loads(to_text(known))
    for each in value["packages"]:
        del each["module"]
    for each in value["coverage"]["volumes"]:
        del each["members"]
    insert = "INSERT INTO inventory (digest, software, body) VALUES (:digest, 's', :body)"
    rows = ((insert, {"digest": "d", "body": json.dumps(value)}), (insert, {"digest": "x", "body": "{"}))
    records = open_records(earlier("0007", *rows))
    with records.reading() as record:
        assert record.inventory("d") == known
        with pytest.raises(DamagedError):
            record.inventory("x")
    records.close()
