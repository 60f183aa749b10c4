"""The firewall in the record, whatever holds it: the fake, SQLite and PostgreSQL."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from recordvalues import NOW, domain, execution, judgement, later, subject, survey, uuid
from sqlalchemy import text

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import NotFoundError, OperationError
from undercroft.model.domain import Domain, Interface, Ownership, Power
from undercroft.model.execution import Origin
from undercroft.model.filter import (
    FLOWS_KEPT,
    MAX_PROBLEM_CHARACTERS,
    AppliedPolicy,
    FilterState,
    LiveOrigin,
    MovedFlows,
)
from undercroft.model.verdict import SubjectKind, Verdict
from undercroft.ports.records import Record, Records
from undercroft.store.fleet.records import SqlRecords

HOSTILE = "x\x00\x1b[2J\udcff\\x00é\u202e"
STATE = FilterState("host1", 1, "d1", 7, 3, NOW, "", NOW)
FLOWS = MovedFlows(uuid(1), "host1", NOW, {"flows4": (b"\x00\xff" * 8, b"b"), "flows6": ()})


def _logged(record: Record, kind: str) -> list[tuple[str, dict[str, object]]]:
    return [(entry.subject, json.loads(entry.body)) for entry in record.log_entries() if entry.kind == kind]


def test_no_policy_is_in_force_until_one_is_applied(records: Records):
    with records.reading() as record:
        assert record.applied_policy() is None
        assert record.filter_states() == ()
        assert record.moved_flows(uuid(1)) is None


def test_each_policy_that_is_applied_has_the_next_number_and_is_the_one_in_force(records: Records):
    with records.transaction() as record:
        first = record.put_applied_policy("{}", "d1", "root", "", NOW)
    with records.transaction() as record:
        record.put_applied_policy("{}", "d2", "root", "why", later(1))
        record.put_applied_policy("{}", "d1", "root", "back", later(-60))
    with records.reading() as record:
        assert first == AppliedPolicy(1, "d1", "{}", "root", "", NOW)
        assert record.applied_policy() == AppliedPolicy(3, "d1", "{}", "root", "back", later(-60))


def test_a_number_of_a_transaction_that_was_given_up_is_given_again(records: Records):
    with suppress(NotFoundError), records.transaction() as record:
        record.put_applied_policy("{}", "d1", "root", "", NOW)
        record.inventory("0" * 64)
    with records.transaction() as record:
        assert record.put_applied_policy("{}", "d2", "root", "", NOW).number == 1


def test_who_applied_what_and_why_is_in_the_log(records: Records):
    with records.transaction() as record:
        record.put_applied_policy("{}", "d1", "alice", "first rules", NOW)
        assert _logged(record, "firewall") == [
            ("d1", {"number": 1, "digest": "d1", "by": "alice", "reason": "first rules"})
        ]


def test_a_policy_of_any_length_and_any_text_comes_back_as_it_was(records: Records):
    body = HOSTILE + "0123456789" * 100_000
    with records.transaction() as record:
        put = record.put_applied_policy(body, "d1", HOSTILE, HOSTILE, NOW)
    with records.reading() as record:
        assert record.applied_policy() == put == AppliedPolicy(1, "d1", body, HOSTILE, HOSTILE, NOW)


def test_one_that_only_reads_applies_nothing(records: Records):
    with records.reading() as record:
        for write in (
            lambda: record.put_applied_policy("{}", "d", "root", "", NOW),
            lambda: record.put_filter_state(STATE),
            lambda: record.drop_filter_state(STATE.host),
            lambda: record.put_moved_flows(FLOWS),
            lambda: record.drop_moved_flows(FLOWS.machine),
        ):
            with pytest.raises(OperationError, match="only reads"):
                write()


def test_the_state_of_each_hosts_filter_is_the_last_one_that_it_said(records: Records):
    other = replace(STATE, host=HOSTILE, proven_at=None, problem=HOSTILE)
    with records.transaction() as record:
        record.put_filter_state(STATE)
        record.put_filter_state(other)
        record.put_filter_state(replace(STATE, generation=8, at=later(1)))
    with records.reading() as record:
        assert record.filter_states() == (replace(STATE, generation=8, at=later(1)), other)


def test_what_a_host_has_said_is_forgotten_alone_and_told_anew_as_for_the_first_time(records: Records):
    other = replace(STATE, host=HOSTILE)
    with records.transaction() as record:
        record.put_filter_state(STATE)
        record.put_filter_state(other)
        record.drop_filter_state("host1")
        record.drop_filter_state("host1")
    with records.transaction() as record:
        assert record.filter_states() == (other,)
        record.put_filter_state(STATE)
        assert record.filter_states() == (STATE, other)
        assert [subject for subject, _ in _logged(record, "filter")] == ["host1", HOSTILE, "host1"]


def test_only_another_policy_or_problem_of_a_filter_is_logged(records: Records):
    told = {"number": 1, "digest": "d1", "machines": 3, "problem": ""}
    with records.transaction() as record:
        record.put_filter_state(STATE)
        record.put_filter_state(replace(STATE, generation=8, machines=4, proven_at=later(1), at=later(1)))
        record.put_filter_state(replace(STATE, problem="drift", at=later(2)))
        record.put_filter_state(replace(STATE, problem="drift", at=later(3)))
        record.put_filter_state(replace(STATE, number=2, digest="d2", at=later(4)))
        assert _logged(record, "filter") == [
            ("host1", told),
            ("host1", {**told, "problem": "drift"}),
            ("host1", {**told, "number": 2, "digest": "d2"}),
        ]


def test_a_host_whose_problem_is_endless_spoils_no_other_hosts_view(records: Records):
    endless = replace(STATE, problem="port " * 100_000)
    for _ in range(2):
        with records.transaction() as record:
            record.put_filter_state(endless)
    with records.reading() as record:
        (found,) = record.filter_states()
        assert len(found.problem) == MAX_PROBLEM_CHARACTERS
        assert found == endless.bounded()
        assert len(_logged(record, "filter")) == 1


def test_flows_that_nobody_takes_are_forgotten_when_others_come(records: Records):
    """A host that never was, or a machine that has gone on: each would leave its flows for ever."""
    now = datetime.now(UTC)
    old, young = (replace(FLOWS, at=now - FLOWS_KEPT * many) for many in (2, 0.5))
    with records.transaction() as record:
        record.put_moved_flows(old)
        assert record.moved_flows(old.machine) == old
        record.put_moved_flows(replace(young, machine=uuid(2)))
        record.put_moved_flows(replace(old, machine=uuid(3)))
    with records.reading() as record:
        found = [record.moved_flows(uuid(number)) is not None for number in (1, 2, 3)]
    assert found == [False, True, True]


def test_flows_of_a_machine_that_moved_are_there_until_they_are_dropped(records: Records):
    later_flows = replace(FLOWS, host="host2", elements={"flows4": (b"c",)})
    with records.transaction() as record:
        record.put_moved_flows(FLOWS)
        assert record.moved_flows(FLOWS.machine) == FLOWS
        record.put_moved_flows(later_flows)
    with records.transaction() as record:
        assert record.moved_flows(FLOWS.machine) == later_flows
        record.drop_moved_flows(FLOWS.machine)
        record.drop_moved_flows(uuid(2))
    with records.reading() as record:
        assert record.moved_flows(FLOWS.machine) is None


def test_policies_that_are_applied_at_once_have_numbers_of_their_own(database: Callable[[], Records]):
    opened = [database() for _ in range(4)]

    def apply(records: Records) -> None:
        for _ in range(5):
            with records.transaction() as record:
                record.put_applied_policy("{}", "d", "root", "", NOW)

    threads = [threading.Thread(target=apply, args=(records,)) for records in opened]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with opened[0].reading() as record:
        verify_log(record.log_entries(), (), "")
        numbers = [body["number"] for _, body in _logged(record, "firewall")]
    for records in opened:
        records.close()
    assert numbers == list(range(1, 21))


MAC = "52:54:00:00:00:01"


def _machine(*addresses: str, mac: str = MAC, metadata: tuple[str, ...] = ()) -> Domain:
    interfaces = (Interface(mac, "network", "lab", "virbr7", addresses=addresses),)
    return domain(1, "web01", interfaces=interfaces, ownership=Ownership(addresses=metadata))


def _since(records: Records) -> list[list[set[str]]]:
    """Return what each machine has, what it has longest first."""
    with records.reading() as record:
        machines = record.networked_machines()
    return [
        [{claim for claim, since in one.since.items() if since == at} for at in sorted({*one.since.values()})]
        for one in machines
    ]


def test_what_the_filter_needs_of_machines_is_what_their_record_says(records: Records):
    first = replace(_machine("192.0.2.7", metadata=("192.0.2.9",)), power=Power.RUNNING, tainted=("x",))
    second = domain(2, HOSTILE)
    with records.transaction() as record:
        record.put_survey(survey(first, domain(3), host="host1"))
        record.put_survey(survey(second, host="host2", at=later(5)))
        record.put_survey(survey(first, host="host1", at=later(9)))  # the third is gone
    with records.reading() as record:
        found = {machine.uuid: machine for machine in record.networked_machines()}
    assert [(one.host, one.name, one.last_seen) for one in found.values()] == [
        ("host1", "web01", later(9)),
        ("host2", HOSTILE, later(5)),
    ]
    assert found[first.uuid].domain == replace(first, tainted=())
    assert found[second.uuid].domain == second


def test_a_machine_has_an_address_since_it_has_it_without_a_break(records: Records):
    steps = [
        _machine("192.0.2.7"),
        _machine("192.0.2.7", "192.0.2.8", metadata=(f"192.0.2.9@{MAC}",)),
        _machine("192.0.2.8", metadata=("192.0.2.9",)),
        _machine("192.0.2.7", "192.0.2.8"),
    ]
    for number, step in enumerate(steps):
        with records.transaction() as record:
            record.put_survey(survey(step, at=later(number)))
            record.put_survey(survey(step, at=later(number + 0.5)))
            record.put_domain("host1", step.uuid, step, later(number + 0.7))
    assert _since(records) == [[{MAC, uuid(1)}, {"192.0.2.8"}, {"192.0.2.7"}]]


@pytest.mark.parametrize("by_hook", [False, True])
def test_a_machine_that_was_gone_has_nothing_from_before(records: Records, by_hook: bool):
    """Nor where a hook dates it as it was seen last: a thief would keep a machine in the drawer for it."""
    old = _machine("192.0.2.7")
    other = domain(2, "other", interfaces=_machine("192.0.2.7", mac="52:54:00:00:00:02").interfaces)
    with records.transaction() as record:
        record.put_survey(survey(old))
        record.put_survey(survey(at=later(1)))
    with records.transaction() as record:
        record.put_domain("host1", other.uuid, other, later(2))
    with records.transaction() as record:
        if by_hook:
            record.put_domain("host1", old.uuid, old, NOW)
        else:
            record.put_survey(survey(old, other, at=later(3)))
        first, second = sorted(record.networked_machines(), key=lambda one: one.since["192.0.2.7"])
    assert (first.uuid, second.uuid) == (other.uuid, old.uuid)


@pytest.mark.parametrize("order", ["hook", "survey", "late"])
def test_a_machine_that_is_migrated_goes_on_having_what_it_has(records: Records, order: str):
    moved = _machine("192.0.2.7", "192.0.2.8")
    comes = execution(2, uuid(1), origin=Origin.MIGRATE, host="host2")
    with records.transaction() as record:
        record.put_survey(survey(_machine("192.0.2.7"), host="host1"))
        record.put_execution(execution(1, uuid(1), host="host1"))
    with records.transaction() as record:
        if order != "late":
            record.put_execution(comes)
        if order == "survey":
            record.put_survey(survey(moved, host="host2", at=later(5)))
        else:
            record.put_domain("host2", moved.uuid, moved, later(5))
        if order == "late":  # the hook was alone, and is heard after a survey
            record.put_execution(comes)
        record.put_survey(survey(host="host1", at=later(6)))
    assert _since(records) == [[{MAC, uuid(1), "192.0.2.7"}, {"192.0.2.8"}]]


@pytest.mark.parametrize("origin", [None, Origin.START, Origin.MIGRATE])
def test_a_machine_of_the_same_uuid_on_another_host_has_nothing_of_the_older_ones(
    records: Records, origin: Origin | None
):
    """What is being migrated is not the older one either, where another one lives that it may have been."""
    false = _machine("192.0.2.7")
    with records.transaction() as record:
        record.put_survey(survey(false, host="host1"))
        record.put_execution(execution(1, uuid(1), host="host1"))
    with records.transaction() as record:
        record.put_survey(survey(false, host="host2"))
        if origin is not None:
            record.put_execution(execution(2, uuid(1), host="host2", origin=Origin.START))
    if origin is Origin.MIGRATE:
        with records.transaction() as record:
            record.put_domain("host3", false.uuid, false, NOW)
            record.put_execution(execution(3, uuid(1), host="host3", origin=origin))
    with records.reading() as record:
        first, *others = sorted(record.networked_machines(), key=lambda one: one.host)
    assert all(one.since[claim] > first.since[claim] for one in others for claim in first.since)
    assert len({one.since[uuid(1)] for one in others}) == 1


def test_a_machine_that_has_come_from_a_false_one_has_nothing_of_the_true_one_once_the_false_one_is_gone(
    records: Records,
):
    """Who defines a machine of another's UUID, and migrates it, would else have that by undefining it."""
    false = _machine("192.0.2.7")
    comes = execution(3, uuid(1), host="host3", origin=Origin.MIGRATE)
    with records.transaction() as record:
        record.put_survey(survey(_machine("192.0.2.7", "192.0.2.8"), host="host1"))  # it is off
    with records.transaction() as record:
        record.put_survey(survey(false, host="host2"))
        record.put_execution(execution(2, uuid(1), host="host2", origin=Origin.START))
    with records.transaction() as record:
        record.put_domain("host3", false.uuid, false, NOW)
        record.put_execution(comes)
    with records.transaction() as record:
        gone = execution(2, uuid(1), host="host2", origin=Origin.START, ended_at=later(5))
        record.put_execution(replace(gone, ending="migrated"))
        record.put_survey(survey(host="host2", at=later(6)))
        record.put_survey(survey(_machine("192.0.2.7", "192.0.2.8"), host="host3", at=later(7)))
        record.put_execution(replace(comes, evidence=("it was looked at",)))
    with records.reading() as record:
        true, other = sorted(record.networked_machines(), key=lambda one: one.host)
    assert all(other.since[claim] > true.since[claim] for claim in true.since)


def test_machines_are_found_by_what_they_have_now_on_any_host(records: Records):
    first = _machine("192.0.2.7", "2001:DB8::7", metadata=(f"192.0.2.9@{MAC}", "nonsense"))
    tapped = replace(first.interfaces[0], tap="vnet0")
    with records.transaction() as record:
        record.put_survey(survey(replace(first, interfaces=(tapped,)), domain(3, "db01"), host="host1"))
        record.put_survey(survey(domain(3, "renamed"), host="host2"))

    def found(*things: str, names: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        with records.reading() as record:
            return [(one.name, one.host) for one in record.machines_with(things, names)]

    for thing in ("192.0.2.7", "2001:db8::7", "192.0.2.9", MAC, "tap vnet0 of host1"):
        assert found(thing) == [("web01", "host1")], thing
    assert found("tap vnet0 of host2", "nonsense", uuid(1)) == found() == []
    assert found(names=("db01",)) == found(names=("renamed",)) == [("db01", "host1"), ("renamed", "host2")]
    with records.transaction() as record:
        record.put_domain("host1", first.uuid, _machine("192.0.2.8"), NOW)
    assert found("192.0.2.7", "tap vnet0 of host1", "192.0.2.9") == []
    assert found("192.0.2.8", MAC) == [("web01", "host1")]


def test_where_executions_live_and_how_they_began_is_told_in_order(records: Records):
    with records.transaction() as record:
        record.put_execution(execution(2, uuid(1), origin=Origin.REVERT, started_at=later(2)))
        record.put_execution(execution(1, uuid(2), origin=Origin.START, started_at=later(2), host="host2"))
        record.put_execution(execution(3, uuid(3), ended_at=later(9), ending="stopped"))
    with records.reading() as record:
        assert record.live_origins() == (
            LiveOrigin(uuid(2), "host2", Origin.START, later(2), 2),
            LiveOrigin(uuid(1), "host1", Origin.REVERT, later(2), 1),
        )
        assert record.live_origins([uuid(1), "?"]) == record.live_origins()[1:]


def test_executions_are_told_in_the_order_in_which_the_record_learned_of_them(records: Records):
    """Whatever the clocks of their hosts say, and whatever becomes of them."""
    with records.transaction() as record:
        for number, at in ((1, 50), (2, -50), (3, 0)):
            record.put_execution(execution(number, uuid(1), started_at=later(at), host=f"host{number}"))
        record.put_execution(execution(4, uuid(2)))
    with records.transaction() as record:
        ended = execution(1, uuid(1), started_at=later(50), host="host1", ended_at=later(60))
        record.put_execution(ended)
    with records.reading() as record:
        assert [one.host for one in record.executions_as_told(uuid(1))] == ["host1", "host2", "host3"]
        assert {one.host: one.number for one in record.live_origins([uuid(1)])} == {"host2": 2, "host3": 3}


def test_verdicts_are_those_of_machines_and_templates(records: Records):
    kinds = (SubjectKind.MACHINE, SubjectKind.TEMPLATE, SubjectKind.SNAPSHOT, SubjectKind.IMAGE)
    with records.transaction() as record:
        for kind in kinds:
            record.put_subject(subject(f"{kind}:1", kind=kind))
        record.put_judgements([judgement(f"{kind}:1", verdict=Verdict.DRIFTING) for kind in kinds])
    with records.reading() as record:
        assert record.verdicts() == {"machine:1": Verdict.DRIFTING, "template:1": Verdict.DRIFTING}


def test_a_damaged_row_is_told_and_no_machine_is_left_out(database: Callable[[], Records]):
    records = database()
    assert isinstance(records, SqlRecords)
    with records.transaction() as record:
        record.put_survey(survey(domain(1), domain(2)))
        record.put_execution(execution(1))
        record.put_subject(subject("machine:1"))
        record.put_judgements([judgement("machine:1")])
    for statement in (
        "UPDATE machine SET network = '{}' WHERE name = 'vm0001'",
        "UPDATE execution SET body = '[]'",
        "UPDATE judgement SET verdict = 'fine'",
    ):
        with records.engine.begin() as connection:
            connection.execute(text(statement))
    with records.reading() as record:
        for read in (record.networked_machines, record.live_origins, record.verdicts):
            with pytest.raises(OperationError, match="damaged"):
                read()
    records.close()
