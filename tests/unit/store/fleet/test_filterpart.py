"""The firewall in the record, whatever holds it: the fake, SQLite and PostgreSQL."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from recordvalues import NOW, later, uuid

from undercroft.assurance.auditheads import verify_log
from undercroft.errors import NotFoundError, OperationError
from undercroft.model.filter import MAX_PROBLEM_CHARACTERS, AppliedPolicy, FilterState, MovedFlows
from undercroft.ports.records import Record, Records

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
