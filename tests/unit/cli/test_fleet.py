"""`undercroft fleet`: which rows it shows, and what scripts may rely on."""

import json
from dataclasses import replace
from pathlib import Path

import fleetdata
import pytest
from fleetdata import NOW
from memoryrecords import MemoryRecords

from undercroft.cli.exitcode import ExitCode
from undercroft.cli.fleet import FailOn, Filter, exit_code
from undercroft.cli.program import run
from undercroft.model.domain import DomainSnapshot
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.store.fleet.records import open_records
from undercroft.usecases.fleet.subjects import snapshot_subject
from undercroft.usecases.fleet.views.fleet import fleet_view
from undercroft.usecases.fleet.views.values import FleetRow


@pytest.fixture(scope="module")
def rows() -> tuple[FleetRow, ...]:
    records = MemoryRecords()
    fleetdata.fill(records)
    with records.reading() as record:
        return fleet_view(record, NOW).rows


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("record") / "fleet.db"
    records = open_records(str(path))
    fleetdata.fill(records)
    records.close()
    return path


@pytest.fixture(autouse=True)
def _own_record(monkeypatch: pytest.MonkeyPatch, database: Path) -> None:
    monkeypatch.setenv("UNDERCROFT_FLEET_DATABASE", str(database))


def names(rows: tuple[FleetRow, ...], wanted: Filter) -> list[str]:
    return [row.name for row in wanted.rows(rows)]


def test_no_filter_wants_all(rows: tuple[FleetRow, ...]) -> None:
    assert Filter().rows(rows) == rows


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(verdicts=frozenset({Verdict.QUARANTINED})), ["db01"]),
        (
            Filter(kinds=frozenset({SubjectKind.TEMPLATE, SubjectKind.IMAGE})),
            [f"{fleetdata.IMAGES}/golden.qcow2", "golden-debian12", f"{fleetdata.IMAGES}/forgotten.qcow2"],
        ),
        (Filter(label="ci"), [fleetdata.RUNNER.name]),
        (Filter(owner="dba"), ["db01", "db01@clean", "db02"]),
        (
            Filter(name="WEB0[12]"),
            ["web01", "web01@installed", "web01@before-upgrade", "web01@nightly", "web02"],
        ),
        (Filter(name="*@before-*"), ["web01@before-upgrade"]),
        (Filter(host="elsewhere"), []),
        (Filter(owner="dba", verdicts=frozenset({Verdict.STEADY})), ["db02"]),
    ],
)
def test_filters_together_narrow(rows: tuple[FleetRow, ...], wanted: Filter, expected: list[str]) -> None:
    assert names(rows, wanted) == expected


def some(rows: tuple[FleetRow, ...], *names: str) -> list[FleetRow]:
    return [row for row in rows if row.name in names]


@pytest.mark.parametrize(
    ("shown", "fail_on", "code"),
    [
        ((), None, ExitCode.CLEAN),
        (("web02",), FailOn.DRIFTING, ExitCode.CLEAN),
        (("web02", "web01"), None, ExitCode.CLEAN),
        (("web02", "web01"), FailOn.DRIFTING, ExitCode.FINDINGS),
        (("db01",), FailOn.DRIFTING, ExitCode.FINDINGS),
        (("web01",), FailOn.QUARANTINED, ExitCode.CLEAN),
        (("db01",), FailOn.QUARANTINED, ExitCode.FINDINGS),
        (("mail01",), None, ExitCode.INCOMPLETE),
        (("mail01", "db01"), FailOn.QUARANTINED, ExitCode.INCOMPLETE),
        (("mail01",), FailOn.UNKNOWN, ExitCode.FINDINGS),
        (("web01",), FailOn.UNKNOWN, ExitCode.CLEAN),
    ],
)
def test_the_exit_code_is_that_of_the_rows_shown(
    rows: tuple[FleetRow, ...], shown: tuple[str, ...], fail_on: FailOn | None, code: ExitCode
) -> None:
    assert exit_code(some(rows, *shown), fail_on) is code


def test_a_drifting_machine_that_was_not_read_whole_is_incomplete_a_steady_one_by_policy_is_not(
    rows: tuple[FleetRow, ...],
) -> None:
    (drifting,), (steady,) = some(rows, "web01"), some(rows, "web02")
    assert exit_code([replace(drifting, complete=False)]) is ExitCode.INCOMPLETE
    assert exit_code([replace(steady, complete=False)]) is ExitCode.CLEAN


def test_the_table_comes_from_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet"]) == ExitCode.INCOMPLETE
    output = capsys.readouterr().out
    assert output.startswith("12 machines: 1 quarantined")
    assert "warning: the record may be behind" in output


def test_json_has_the_wanted_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "-f", "json", "--owner", "dba", "--fail-on", "quarantined"]) == ExitCode.FINDINGS
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]] == [
        "db01",
        "db01@clean",
        "db02",
    ]


def test_quiet_is_only_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "-q", "--name", "web01", "--fail-on", "drifting"]) == ExitCode.FINDINGS
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def one_steady_machine(tmp_path: Path, rows: tuple[FleetRow, ...]) -> list[str]:
    """A record whose one machine is steady, with a snapshot that nobody has judged; its options."""
    path = tmp_path / "one.db"
    records = open_records(str(path))
    fleetdata.fill(records)
    with records.transaction() as record:
        steady = next(row for row in rows if row.name == "web02")
        domain = next(one.domain for one in record.machines() if one.domain.uuid == steady.machine)
        taken = DomainSnapshot("unjudged", "", 1_700_000_000, "shutoff", "internal", current=False)
        record.put_domain(steady.host, domain.uuid, replace(domain, snapshots=(taken,)), NOW)
        record.put_subject(snapshot_subject(steady.host, domain, "unjudged"))
    records.close()
    return ["--record", str(path), "--name", "web02"]


@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_a_snapshot_that_is_folded_below_its_machine_counts_for_nothing(
    one_steady_machine: list[str], quiet: tuple[str, ...]
) -> None:
    call = ["fleet", *one_steady_machine, *quiet]
    assert run(call) == ExitCode.CLEAN
    assert run([*call, "--fail-on", "unknown"]) == ExitCode.CLEAN
    assert run([*call, "--snapshots"]) == ExitCode.INCOMPLETE
    assert run([*call, "--snapshots", "--fail-on", "unknown"]) == ExitCode.FINDINGS
    assert run([*call, "-f", "json"]) == ExitCode.INCOMPLETE
    assert run([*call, "--kind", "snapshot"]) == ExitCode.INCOMPLETE, "it has a row of its own"


def test_an_alarm_fails_only_where_it_is_asked_for(rows: tuple[FleetRow, ...]) -> None:
    (steady,) = some(rows, "web02")
    alarmed = replace(steady, alarms=("two live executions",))
    assert exit_code([alarmed]) is ExitCode.CLEAN
    assert exit_code([alarmed], FailOn.DRIFTING) is ExitCode.CLEAN
    assert exit_code([alarmed], FailOn.ALARM) is ExitCode.FINDINGS
    assert exit_code([steady], FailOn.ALARM) is ExitCode.CLEAN


def test_nothing_that_matches_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "--name", "nobody"]) == ExitCode.CLEAN
    assert "0 of 21 match" in capsys.readouterr().out


def test_where_there_is_no_record_the_way_to_one_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.db"
    assert run(["fleet", "--record", str(missing)]) == ExitCode.NOT_FOUND
    assert "undercroft up" in capsys.readouterr().err
    assert not missing.exists()


def test_a_verdict_that_there_is_not_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "--verdict", "fine"]) == ExitCode.USAGE
    assert "'steady', 'drifting', 'quarantined', 'unknown'" in capsys.readouterr().err
