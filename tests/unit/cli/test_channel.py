"""`undercroft channel status` and what `machine`, `lineage` and `fleet` say of a guest's randomness."""

import json
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from recordvalues import domain, survey

from undercroft.cli.program import run
from undercroft.cli.render.channels import render_channels
from undercroft.cli.render.terminal import Terminal
from undercroft.model.channel import GuestChannel, Heard, Quiesced, Reseed
from undercroft.model.domain import DomainSnapshot, Power
from undercroft.model.execution import Execution, Origin
from undercroft.model.fleet import HeldTap, Hold
from undercroft.model.vaulthome import VaultHome
from undercroft.ports.records import Record
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.history.states import snapshot_seen
from undercroft.usecases.fleet.views.channels import channel_rows
from undercroft.usecases.fleet.views.values import Protection

SCHEMA = Path(__file__).parents[3] / "docs/schema/channels-v1.json"
HOST, HOSTILE = "host1", "x\x1b[31m\u202e"
NOW = datetime.now(UTC)
WORDS = {
    1: Protection.PROTECTED,
    2: Protection.SILENT,
    3: Protection.WAITING,
    4: Protection.NO_HELPER,
    5: Protection.NO_CHANNEL,
    6: Protection.REWOUND,
    7: Protection.UNREACHABLE,
    8: Protection.UNPROTECTED,
    9: Protection.OFF,
    10: Protection.UNKNOWN,
    11: Protection.PROTECTED,
}
_HEARD = {
    1: Heard.READY,
    2: Heard.SILENT,
    3: Heard.READY,
    4: Heard.ATTACHED,
    6: Heard.REWOUND,
    7: Heard.UNREACHABLE,
    8: Heard.READY,
    11: Heard.READY,
}
TAKEN = tuple(DomainSnapshot(name, "", 1000, "running", "internal") for name in ("calm", "open"))
"""Two at the same second: a key has the name as well."""


def eid(number: int) -> str:
    return f"{number:032x}"


def fill(record: Record) -> None:
    """Put one machine of each kind on record; the eleventh was migrated here, and confirmed before."""
    machines = []
    for number in WORDS:
        power = Power.OFF if number == 9 else Power.RUNNING
        machine = replace(domain(number), power=power, libvirt_id=number, channel=number != 5)
        machines.append(replace(machine, snapshots=TAKEN) if number == 1 else machine)
    record.put_survey(survey(*machines, host=HOST, at=NOW))
    for number, machine in zip(WORDS, machines, strict=True):
        if number == 9:
            continue
        origin, parent = (Origin.MIGRATE, eid(100)) if number == 11 else (Origin.START, "")
        record.put_execution(
            Execution(eid(number), machine.uuid, machine.name, HOST, origin, parent, "", NOW)
        )
        if number in _HEARD:
            problem = HOSTILE if number in {6, 7} else ""
            channel = GuestChannel(machine.uuid, HOST, eid(number), _HEARD[number], NOW, HOSTILE, HOSTILE)
            record.put_channels([replace(channel, problem=problem)])
        if number in {1, 2, 6, 8, 11}:
            confirmed = eid(100) if number == 11 else eid(number)
            record.put_reseed(Reseed(confirmed, machine.uuid, 7, number != 8, 64, 0, 0, 57, NOW))
    elsewhere = Execution(eid(100), machines[-1].uuid, "m", "host2", Origin.START, "", "", NOW)
    record.put_execution(replace(elsewhere, ended_at=NOW, ending="migrated"))
    for snapshot in TAKEN:
        state = snapshot_seen(record, machines[0].uuid, snapshot)
        if snapshot.name == "calm":
            record.put_quiesced(Quiesced(state.key, machines[0].uuid, eid(1), 12, NOW))
    taps = (HeldTap("vnet3", "br0"),)
    record.put_hold(Hold(machines[2].uuid, eid(3), taps, "its guest has to confirm", NOW, True, reseed=True))


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "fleet.db")
    with closing(open_records(path)) as records, records.transaction() as record:
        fill(record)
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert run([*arguments]) == code
    return capsys.readouterr().out


def test_each_machine_is_called_what_it_is_worst_first(database: str) -> None:
    with closing(open_records(database)) as records, records.reading() as record:
        rows = channel_rows(record, record.machines())
    found = {row.machine: row.protection for row in rows}
    assert found == {domain(number).uuid: word for number, word in WORDS.items()}
    assert [row.protection for row in rows] == sorted(WORDS.values(), key=list(Protection).index)
    text = render_channels(rows, Terminal(100), NOW)
    assert text.startswith("11 machines: 1 rewound, 1 unprotected, 1 no helper, 1 no channel")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_programs_get_is_as_its_schema_says(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(shown(capsys, "channel", "status", "-f", "json", "--record", database))
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert len(found["machines"]) == len(WORDS)
    one = json.loads(shown(capsys, "channel", "status", domain(1).uuid, "-f", "json", "--record", database))
    assert [row["protection"] for row in one["machines"]] == ["protected"]


def test_a_machine_whose_vault_another_host_keeps_says_so(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(open_records(database)) as records, records.transaction() as record:
        record.put_vault_home(VaultHome(domain(1).uuid, f"host9{HOSTILE}", 3, 0, NOW), "host9", "first")
        record.put_vault_home(VaultHome(domain(2).uuid, HOST, 3, 0, NOW), HOST, "first")
    text = shown(capsys, "channel", "status", "--record", database)
    assert text.count("its vault is kept by") == 1
    assert "\x1b" not in text
    found = json.loads(shown(capsys, "channel", "status", "-f", "json", "--record", database))
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    away = {row["machine"]: row["elsewhere"] for row in found["machines"] if row["elsewhere"]}
    assert list(away) == [domain(1).uuid]
    assert "its vault is kept by host9" in " ".join(
        shown(capsys, "machine", domain(1).uuid, "--record", database, code=4).split()
    )


def test_of_snapshots_with_ram_those_that_were_not_quiesced_are_exposed(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uuid = domain(1).uuid
    view = json.loads(shown(capsys, "machine", uuid, "-f", "json", "--record", database, code=4))
    assert view["exposed"] == ["open"]
    assert view["channel"]["protection"] == "protected"
    assert "exposed  open: each resume" in shown(capsys, "lineage", uuid, "--record", database)
    assert json.loads(shown(capsys, "lineage", uuid, "-f", "json", "--record", database))["exposed"] == [
        "open"
    ]


def test_a_machine_that_waits_for_its_guest_says_so_in_every_view(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uuid = domain(3).uuid
    text = shown(capsys, "machine", uuid, "--record", database, code=4)
    assert "network pending: its guest has to confirm" in text
    assert f"undercroft channel status {domain(3).name}" in text
    rows = json.loads(shown(capsys, "fleet", "-f", "json", "--record", database, code=4))["rows"]
    (row,) = [row for row in rows if row["machine"] == uuid and row["state"] == "current"]
    assert row["network"] == "pending"
