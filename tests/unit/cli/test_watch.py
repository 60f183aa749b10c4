"""`undercroft watch`: where it begins, what it leaves out, and how it ends."""

import json
from pathlib import Path

import fleetdata
import pytest

from undercroft.cli import watch
from undercroft.cli.exitcode import ExitCode
from undercroft.cli.program import run
from undercroft.store.fleet.records import open_records

INTERRUPTED = 130


@pytest.fixture(autouse=True)
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fleet.db"
    records = open_records(str(path))
    fleetdata.fill(records)
    records.close()
    monkeypatch.setenv("UNDERCROFT_FLEET_DATABASE", str(path))

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watch, "_pause", interrupted)


def watched(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert run(["watch", "-f", "json", *arguments]) == INTERRUPTED
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_it_begins_with_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    assert watched(capsys) == []


def test_it_can_begin_at_a_number_or_with_the_last_entries(capsys: pytest.CaptureFixture[str]) -> None:
    everything = watched(capsys, "--since", "0")
    assert [line["number"] for line in everything] == list(range(1, len(everything) + 1))
    assert watched(capsys, "--since", "30") == everything[30:]
    assert watched(capsys, "--last", "2") == everything[-2:]
    assert watched(capsys, "--last", "100000") == everything


def test_both_beginnings_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--since", "1", "--last", "1"]) == ExitCode.USAGE
    assert "--since or --last" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["db01", fleetdata.DB01.uuid])
def test_only_what_is_about_one_machine(capsys: pytest.CaptureFixture[str], name: str) -> None:
    lines = watched(capsys, "--since", "0", "--machine", name)
    assert {line["name"] for line in lines} == {"db01", "db01@clean"}
    assert {line["kind"] for line in lines} == {"verdict", "hold", "execution", "ending", "decision"}


def test_a_machine_that_nobody_knows_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["watch", "--machine", "nobody"]) == ExitCode.NOT_FOUND
    assert "nobody: no machine on record" in capsys.readouterr().err


def test_the_table_has_a_line_for_each_day_and_leaves_heartbeats_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["watch", "--last", "4"]) == INTERRUPTED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2025-05-23"
    assert lines[2] == "2025-06-01"
    assert [line.split()[1] for line in lines if ":" in line] == ["web01", "db01", "old-archive"]
