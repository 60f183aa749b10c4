"""`undercroft firewall` over a real record: what it prints, and its exit codes."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import firewallrecord as fleet
import jsonschema
import pytest
import recordvalues as values

from undercroft.cli.program import run
from undercroft.model.filter import FilterState
from undercroft.store.fleet.records import open_records

SCHEMAS = Path(__file__).parents[3] / "docs/schema"


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "fleet.db")
    records = open_records(path)
    fleet.fill(records)
    records.close()
    return path


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    path.write_text(fleet.POLICY)
    return str(path)


def tell(database: str, host: str, number: int, problem: str = "", *, void: bool = False) -> None:
    records = open_records(database)
    now = datetime.now(UTC) + timedelta(seconds=30)
    proven = None if problem and not void else now
    with records.transaction() as record:
        record.put_filter_state(
            FilterState(host, number, "d", 42, 2, proven, problem, now, now, int(void), voided=void)
        )
    records.close()


def applied(database: str, policy: str) -> None:
    assert run(["firewall", "apply", "--policy", policy, "--record", database, "--wait", "0"]) == 0


def test_a_plan_changes_nothing(database: str, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["firewall", "plan", "--policy", policy, "--record", database]) == 0
    shown = capsys.readouterr().out
    assert "nothing is filtered now" in shown
    assert "OPEN THEN" in shown
    assert "lost01: no label fits it" in shown
    records = open_records(database)
    with records.reading() as record:
        assert record.applied_policy() is None
    records.close()


def test_a_plan_for_programs_has_everything(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["firewall", "plan", "--policy", policy, "--record", database, "-f", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "undercroft/firewall-plan/1"
    assert found["changes"] is True
    assert {"source": "web", "target": "db", "opens": ["tcp/5432"], "closes": []}.items() <= next(
        flow for flow in found["flows"] if (flow["source"], flow["target"]) == ("web", "db")
    ).items()


def test_a_policy_with_mistakes_or_contradictions_is_no_plan(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(fleet.POLICY.replace("from: world, to: web", "from: world, to: [web, db]"))
    assert run(["firewall", "plan", "--policy", str(path), "--record", database]) == 1
    assert "never from world to db" in capsys.readouterr().err
    path.write_text(fleet.POLICY.replace("to: db, allow: [tcp/5432]", "to: dbb, allow: [tcp/5432]"))
    assert run(["firewall", "apply", "--policy", str(path), "--record", database]) == 1
    assert "wrong.yaml:12" in capsys.readouterr().err
    path.write_text("version: 1\n")
    assert run(["firewall", "apply", "--policy", str(path), "--record", database]) == 1
    assert "would close every machine" in capsys.readouterr().err


def test_applying_waits_for_the_hosts_and_says_per_host_what_it_holds(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["firewall", "apply", "--policy", policy, "--record", database, "--reason", "ticket 1"]
    assert run([*arguments, "--wait", "0.1"]) == 4
    shown = capsys.readouterr()
    assert "policy 1 is on record" in shown.err
    assert "host1: no agent has ever told of its filter; start one there: undercroft up" in shown.out
    tell(database, "host1", 2)
    tell(database, "host2", 2, "the kernel lacks conntrack")
    assert run([*arguments, "--wait", "30"]) == 1
    shown = capsys.readouterr()
    assert "Policy 2" in shown.out
    assert "ticket 1" in shown.out
    assert "host2: the kernel lacks conntrack" in shown.out
    tell(database, "host2", 2)
    assert run(["firewall", "status", "--record", database]) == 0


def test_a_withdrawal_goes_on_record_and_takes_no_policy(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    withdraw = ["firewall", "apply", "--withdraw", "--record", database, "--wait", "0"]
    assert run(withdraw) == 1
    assert "nothing to withdraw" in capsys.readouterr().err
    applied(database, policy)
    assert run([*withdraw, "--policy", policy]) == 2
    assert run(["firewall", "plan", "--withdraw", "--record", database]) == 0
    assert "everything opens" in capsys.readouterr().out
    assert run(withdraw) == 0
    assert run(["firewall", "status", "--record", database]) == 4
    assert "withdrawn (2)" in capsys.readouterr().out
    assert run(["firewall", "show", "web01", "--record", database]) == 3


def test_status_before_the_first_policy_says_that_nothing_is_filtered(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["firewall", "status", "--record", database])
    assert "No firewall policy is in force: nothing is filtered." in capsys.readouterr().out


def test_a_machine_is_shown_under_the_policy_in_force_or_under_another(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["firewall", "show", "web01", "--record", database]) == 3
    assert "no firewall policy is in force" in capsys.readouterr().err
    assert run(["firewall", "show", "web01", "--record", database, "--policy", policy]) == 0
    assert "a policy that is not applied" in capsys.readouterr().out
    applied(database, policy)
    capsys.readouterr()
    assert run(["firewall", "show", "web01", "--record", database]) == 0
    shown = capsys.readouterr().out
    assert "applied policy 1" in shown
    assert "10.0.0.1 (its metadata)" in shown
    assert run(["firewall", "show", "nowhere01", "--record", database]) == 4
    assert run(["firewall", "show", "mail", "--record", database]) == 3


@pytest.mark.parametrize(
    ("question", "code", "says"),
    [
        (("web01", "db01", "tcp/5432"), 0, "allowed"),
        (("web01", "db01", "tcp/22"), 1, "NEAREST RULES"),
        (("world", "web01", "icmp"), 0, "eth0 to vnet1"),
        (("sick01", "web01", "icmp"), 1, "no rule allows it"),
    ],
)
def test_a_trace_exits_with_whether_the_flow_is_allowed(
    database: str,
    policy: str,
    question: tuple[str, ...],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    applied(database, policy)
    capsys.readouterr()
    assert run(["firewall", "trace", *question, "--record", database]) == code
    assert says in capsys.readouterr().out
    assert run(["firewall", "trace", *question, "--record", database, "-f", "json"]) == code
    assert json.loads(capsys.readouterr().out)["allowed"] is (code == 0)


def test_the_map_needs_no_record_for_a_file_and_goes_into_a_picture(
    database: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = str(tmp_path / "none.db")
    assert run(["firewall", "map", "--policy", policy, "--record", nowhere]) == 0
    assert "Who may talk to whom" in capsys.readouterr().out
    applied(database, policy)
    picture = tmp_path / "map.svg"
    assert run(["firewall", "map", "--record", database, "--svg", str(picture)]) == 0
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")
    capsys.readouterr()
    assert run(["firewall", "map", "--record", database, "-f", "json"]) == 0
    assert {"name": "web", "kind": "label", "machines": 2} in json.loads(capsys.readouterr().out)["places"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("plan",), "plan"),
        (("plan", "--withdraw"), "plan"),
        (("status",), "status"),
        (("show", "web01"), "machine"),
        (("show", "sick01"), "machine"),
        (("trace", "web01", "db02", "tcp/5432"), "trace"),
        (("map",), "map"),
    ],
)
def test_what_programs_get_has_the_documented_shape(
    arguments: tuple[str, ...], name: str, database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(database, policy)
    tell(database, "host1", 1)
    capsys.readouterr()
    chosen = ("--policy", policy) if arguments == ("plan",) else ()
    run(["firewall", *arguments, *chosen, "--record", database, "-f", "json"])
    schema = json.loads((SCHEMAS / f"firewall-{name}-v1.json").read_text())
    jsonschema.validate(json.loads(capsys.readouterr().out), schema)


@pytest.mark.parametrize("command", ["plan", "apply", "status", "show", "trace", "map", "prove"])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["firewall", command, "--help"]) == 0
    assert f"undercroft firewall {command}" in capsys.readouterr().out.partition("Example:")[2]


def test_what_stands_against_a_policy_or_is_wrong_with_the_fleet_has_an_exit_code_of_its_own(
    database: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = tmp_path / "against.yaml"
    never = "never:\n  - {from: web, to: admin, services: [tcp/5432]}\n"
    against.write_text(fleet.POLICY.replace("never:\n", never))
    # Only a machine that has both labels makes it so.
    assert run(["policy", "check", str(against)]) == 0
    assert run(["firewall", "plan", "--policy", str(against), "--record", database]) == 1
    assert "CANNOT BE APPLIED\n  never from web to admin" in capsys.readouterr().out
    assert run(["firewall", "apply", "--policy", str(against), "--record", database]) == 1
    assert "web to admin+db tcp/5432" in capsys.readouterr().err
    twice = fleet.machine(30, "web30", "10.0.0.1")
    records = open_records(database)
    with records.transaction() as record:
        record.put_survey(values.survey(twice, host="host3"))
    records.close()
    assert run(["firewall", "plan", "--policy", policy, "--record", database]) == 4
    shown = capsys.readouterr().out
    assert "PROBLEMS\n  web30: address 10.0.0.1 is web01's" in shown
    assert run(["firewall", "apply", "--policy", policy, "--record", database, "--wait", "0"]) == 0


def test_a_table_that_is_proven_and_passed_by_is_told_as_that(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    applied(database, policy)
    tell(database, "host1", 1)
    tell(
        database,
        "host2",
        1,
        "bypass around the table: port vnet6: tc takes its frames; tc qdisc del",
        void=True,
    )
    capsys.readouterr()
    assert run(["firewall", "status", "--record", database]) == 1
    shown = capsys.readouterr().out
    assert "void: passed by" in shown
    assert "1 finding" in shown
    assert "tc qdisc del" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert run(["firewall", "status", "--record", database, "-f", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["hosts"][1]["state"]["voided"] is True


def test_what_cannot_be_meant_is_told_before_anything_else_is(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["firewall", "plan", "--withdraw", "--policy", policy, "--record", database]) == 2
    assert run(["firewall", "apply", "--withdraw", "--record", database]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "nothing to withdraw" in told.err


def test_a_question_that_is_none_is_not_answered_by_no(
    database: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--policy", policy, "--record", database]
    assert run(["firewall", "trace", "web01", "db01", "tcp/22", *asked]) == 1
    assert run(["firewall", "trace", "web01", "db01", "22", *asked]) == 2
    assert run(["firewall", "trace", "world", "host", "tcp/22", *asked]) == 2
    assert run(["firewall", "trace", "web01", "nobody", "tcp/22", *asked]) == 3
    assert "undercroft fleet lists the machines" in capsys.readouterr().err


def test_a_policy_check_says_what_it_has_of_the_firewall(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["policy", "check", policy]) == 0
    assert "5 labels, 6 rules, which keep to 2 nevers" in " ".join(capsys.readouterr().out.split())


def test_a_policy_check_says_which_nevers_are_judged_with_the_record(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "policy.yaml"
    never = "  - {from: web, to: [10.0.0.3, 10.9.0.0/16], services: [tcp/5432]}\n"
    path.write_text(fleet.POLICY.replace("never:\n", f"never:\n{never}"))
    assert run(["policy", "check", str(path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = "whose addresses lie in its networks is judged by plan, apply and each host's proof"
    assert shown.count(told) == 1
    assert run(["firewall", "plan", "--policy", str(path), "--record", database]) == 1
    assert "web to db01 (10.0.0.3) tcp/5432" in " ".join(capsys.readouterr().out.split())
    assert run(["firewall", "apply", "--policy", str(path), "--record", database]) == 1
    path.write_text(fleet.POLICY)
    assert run(["policy", "check", str(path)]) == 0
    assert "is judged" not in capsys.readouterr().out


def test_no_line_is_wider_than_a_terminal_of_eighty_columns(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text(fleet.POLICY)
    applied(database, "policy.yaml")
    tell(database, "host1", 1, "two machines have the address 10.0.0.1: web01 and lost01; give one another")
    asked = ["plan --policy policy.yaml", "status", "show web01", "show sick01", "show nowhere01", "map"]
    asked += [f"trace {ends}" for ends in ("web01 db01 tcp/5432", "db02 web01 tcp/22", "world web02 icmp")]
    for words in asked:
        capsys.readouterr()
        assert run(["firewall", *words.split(), "--record", database]) in {0, 1, 4}
        shown = capsys.readouterr().out
        assert shown
        assert [line for line in shown.splitlines() if len(line) > 80] == [], words
