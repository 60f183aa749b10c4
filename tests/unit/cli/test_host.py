"""`undercroft host` over a real record: what it prints, what it refuses, and its exit codes."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import firewallrecord as fleet
import jsonschema
import pytest

from undercroft.cli.program import run
from undercroft.cli.render.hosts import render_hosts
from undercroft.cli.render.terminal import Terminal
from undercroft.model.filter import FilterState
from undercroft.store.fleet.records import open_records
from undercroft.usecases.firewall.values import Holding
from undercroft.usecases.fleet.views.values import HostRow

SCHEMA = Path(__file__).parents[3] / "docs/schema/hosts-v1.json"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
FORGET = ["host", "forget", "host1", "--reason", "burned, ticket 4711", "--record"]


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A policy in force on two hosts, of which the second was heard just now."""
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    fleet.fill(records)
    policy = fleet.apply(records)
    now = datetime.now(UTC)
    with records.transaction() as record:
        for host, at in (("host1", fleet.values.NOW), ("host2", now)):
            record.put_filter_state(FilterState(host, policy.number, policy.digest, 7, 3, at, "", at))
    records.close()
    return path


def row(host: str, heard_s: float | None = 5, **changes: object) -> HostRow:
    heard_at = None if heard_s is None else NOW - timedelta(seconds=heard_s)
    values = {"stopped": False, "silent": False, "machines": 3, "running": 2, "policy": 1}
    return HostRow(host, heard_at, quiet_s=120, **values | {"filter": Holding.PROVEN} | changes)  # type: ignore[arg-type]


def test_the_list_says_who_is_silent_and_what_to_do(
    database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["host", "list", "--record", database]) == 0
    shown = capsys.readouterr().out
    heading, first, second, cure, *more = shown.splitlines()
    assert heading.split() == ["HOST", "AGENT", "MACHINES", "RUNNING", "POLICY", "FIREWALL"]
    assert first.startswith("host1  heard ")
    assert first.endswith("proven, agent away")
    assert second.split() == ["host2", "heard", "just", "now", "2", "2", "1", "proven"]
    assert cure.startswith("host1: its agent is silent; if the host is gone for good: undercroft host forget")
    assert not any("host2" in line for line in more)


def test_the_list_for_programs_is_as_its_schema_says(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["host", "list", "--record", database, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [(one["host"], one["silent"], one["filter"]) for one in found["hosts"]] == [
        ("host1", True, "away"),
        ("host2", False, "proven"),
    ]


def test_a_dead_host_is_forgotten_and_then_there_is_nothing_of_it(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*FORGET, database]) == 0
    said = capsys.readouterr()
    assert said.err == "host1 is forgotten, with 5 machines and 5 live executions on record there\n"
    assert said.out == ""
    assert run(["host", "list", "--record", database]) == 0
    assert "host1" not in capsys.readouterr().out
    assert run([*FORGET, database]) == 3
    assert (
        "host1: nothing on record is on a host of this name; hosts on record: host2"
        in capsys.readouterr().err
    )


def test_the_firewall_s_status_names_the_cure_of_a_host_that_is_away(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["firewall", "status", "--record", database]) == 4
    shown = " ".join(capsys.readouterr().out.split())
    assert "if host1 is gone for good: undercroft host forget host1" in shown
    assert run([*FORGET, database]) == 0
    assert run(["firewall", "status", "--record", database]) == 0


def test_which_of_its_machines_are_another_host_s_now_is_told(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = open_records(database)
    with records.transaction() as record:
        record.put_domain("host2", fleet.HOST1[0].uuid, fleet.HOST1[0], datetime.now(UTC))
    records.close()
    assert run([*FORGET, database]) == 0
    assert "web01: it is on host2 from now on\n" in capsys.readouterr().err


def test_a_host_that_was_heard_just_now_is_refused_but_by_an_order_that_says_so(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    alive = ["host", "forget", "host2", "--reason", "fenced", "--record", database]
    assert run(alive) == 1
    said = capsys.readouterr().err
    assert "host2: its agent was heard" in said
    assert "systemctl stop undercroft" in said
    assert "--anyway" in said
    assert run([*alive, "--anyway"]) == 0


def test_this_very_host_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, here = str(tmp_path / "here.db"), socket.gethostname()
    records = open_records(path)
    fleet.fill(records, here)
    records.close()
    assert run(["host", "forget", here, "--reason", "x", "--anyway", "--record", path]) == 1
    assert "it is this very host" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["forget", "host1"], ["forget", "host1", "--reason", " "], ["forget"]])
def test_it_asks_for_a_host_and_a_reason(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["host", *arguments]) == 2
    said = capsys.readouterr().err
    assert "--reason" in said or "HOST" in said


@pytest.mark.parametrize("command", [[], ["list"], ["forget"]])
def test_help_shows_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["host", *command, "--help"]) == 0
    assert f"undercroft host {command[0] if command else 'list'}" in capsys.readouterr().out


def test_no_line_is_wider_than_a_terminal_whatever_the_host_is_called() -> None:
    rows = (
        row("storage-node-17.rack-4.example.org", heard_s=9000, silent=True, filter=Holding.AWAY),
        row("h\x1b[2J", heard_s=None, silent=True, stopped=False, policy=0, filter=Holding.QUALIFIED),
        row("down", heard_s=7200, silent=True, stopped=True, filter=None),
    )
    text = render_hosts(rows, Terminal(width=80), NOW, "down")
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert "stopped 2 h ago" in text
    assert "never heard" in text
    assert "down: its agent is silent; to start it: undercroft up" in text


def test_a_record_of_no_host_says_how_to_begin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    open_records(str(tmp_path / "empty.db")).close()
    assert run(["host", "list", "--record", str(tmp_path / "empty.db")]) == 0
    assert "undercroft up" in capsys.readouterr().out
