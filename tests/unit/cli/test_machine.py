"""`undercroft machine`: what it shows, and how it changes a definition."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fleetdata
import pytest
from fleetdata import DB02, WEB01
from memoryfleet import MemoryFleet

from undercroft.cli import machine as command
from undercroft.cli.exitcode import ExitCode
from undercroft.cli.program import run
from undercroft.model.domain import Ownership
from undercroft.store.fleet.records import open_records


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "fleet.db"
    records = open_records(str(path))
    fleetdata.fill(records)
    records.close()
    monkeypatch.setenv("UNDERCROFT_FLEET_DATABASE", str(path))
    return path


@pytest.fixture
def fleet(database: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryFleet:
    fleet = MemoryFleet(fleetdata.SURVEY.domains)

    @contextmanager
    def libvirt(_connect: str) -> Iterator[MemoryFleet]:
        yield fleet

    monkeypatch.setattr(command, "_libvirt", libvirt)
    return fleet


def logged(database: Path) -> list[str]:
    records = open_records(str(database))
    with records.reading() as record:
        found = [entry.body for entry in record.log_entries() if entry.kind == "mend"]
    records.close()
    return found


@pytest.mark.usefixtures("database")
def test_a_machine_is_shown_by_name_and_by_uuid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine", "web01"]) == ExitCode.CLEAN
    by_name = capsys.readouterr().out
    assert run(["machine", WEB01.uuid]) == ExitCode.CLEAN
    assert capsys.readouterr().out == by_name
    assert by_name.startswith("web01  running on host1")


@pytest.mark.usefixtures("database")
def test_a_machine_that_is_not_known_whole_is_incomplete(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine", "mail01", "-f", "json"]) == ExitCode.INCOMPLETE
    assert json.loads(capsys.readouterr().out)["complete"] is False


@pytest.mark.usefixtures("database")
def test_a_name_that_nobody_has_is_not_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine", "web1"]) == ExitCode.NOT_FOUND
    assert "did you mean web01" in capsys.readouterr().err


def test_genid_is_added_after_a_yes(
    fleet: MemoryFleet, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["machine", "db02", "--mend", "genid", "--yes"]) == 0
    assert fleet.domain(DB02.uuid).genid
    assert "takes effect at the next start" in capsys.readouterr().err
    assert len(logged(database)) == 1


def test_nothing_changes_where_nobody_can_be_asked(
    fleet: MemoryFleet, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["machine", "db02", "--mend", "genid"]) == ExitCode.USAGE
    assert "--yes" in capsys.readouterr().err
    assert not fleet.domain(DB02.uuid).genid
    assert logged(database) == []


def test_an_ownership_is_written_and_told(fleet: MemoryFleet, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--owner", "ops", "--label", "b", "--label", "a", "--expires", "2026-05-01", "--template"]
    assert run(["machine", "web01", *arguments, "-y"]) == 0
    found = fleet.domain(WEB01.uuid).ownership
    assert (found.owner, found.labels, str(found.expires_on), found.template) == (
        "ops", ("a", "b"), "2026-05-01", True,
    )  # fmt: skip
    assert "owner ops, labels a, b, expires 2026-05-01, a template" in capsys.readouterr().err


def test_empty_texts_and_never_take_away(fleet: MemoryFleet) -> None:
    assert run(["machine", "web02", "--owner", "", "--label", "", "--expires", "never", "-y"]) == 0
    assert fleet.domain(fleetdata.WEB02.uuid).ownership == Ownership()


def test_addresses_are_written_as_they_are_compared(
    fleet: MemoryFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--address", "2001:DB8:0::7@52:54:00:AA:00:01", "--address", "192.0.2.7"]
    assert run(["machine", "web01", *arguments, "-y"]) == 0
    expected = ("192.0.2.7", "2001:db8::7@52:54:00:aa:00:01")
    assert fleet.domain(WEB01.uuid).ownership.addresses == expected
    assert f"addresses {', '.join(expected)}" in capsys.readouterr().err
    assert run(["machine", "web01", "--address", "", "-y"]) == 0
    assert fleet.domain(WEB01.uuid).ownership == WEB01.ownership


@pytest.mark.parametrize("text", ["192.0.2.0/24", "ff02::1", "192.0.2.7@x", "web01", "fe80::1%eth0"])
def test_an_address_that_is_none_is_wrong_usage_and_changes_nothing(
    fleet: MemoryFleet, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert run(["machine", "web01", "--address", text, "-y"]) == ExitCode.USAGE
    assert "ADDRESS or ADDRESS@MAC" in capsys.readouterr().err
    assert fleet.calls == []


def test_a_day_that_is_none_is_wrong_usage(fleet: MemoryFleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["machine", "web02", "--expires", "soon", "-y"]) == ExitCode.USAGE
    assert "YYYY-MM-DD" in capsys.readouterr().err
    assert fleet.calls == []


def test_a_machine_that_is_gone_cannot_be_changed(
    fleet: MemoryFleet, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = open_records(str(database))
    with records.transaction() as record:
        record.put_survey(fleetdata.Survey(fleetdata.HOST, "", fleetdata.NOW, ()))
    records.close()
    assert run(["machine", "web01", "--owner", "x", "-y"]) == ExitCode.ERROR
    assert "it is gone since 2025-06-01 12:00" in capsys.readouterr().err
    assert fleet.calls == []


def test_what_libvirt_refuses_ends_with_its_words(
    fleet: MemoryFleet, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.fail("no libvirtd here")
    assert run(["machine", "web01", "--owner", "x", "-y"]) == ExitCode.ERROR
    assert "no libvirtd here" in capsys.readouterr().err
    assert logged(database) == []
