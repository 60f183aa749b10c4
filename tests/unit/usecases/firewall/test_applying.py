"""A policy put into force: what is refused, what is on record, and what the hosts say."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import firewallrecord as fleet
import pytest
import recordvalues as values
from memoryrecords import MemoryRecords

from undercroft.errors import StateError
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.stored import from_text
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.usecases.firewall.applying import (
    AWAY_AFTER,
    ApplyOrder,
    put_into_force,
    status,
    wait_until_held,
)
from undercroft.usecases.firewall.inforce import planned, policy_in_force
from undercroft.usecases.firewall.values import Holding, Status


@pytest.fixture
def records() -> Iterator[MemoryRecords]:
    found = MemoryRecords()
    fleet.fill(found)
    yield found
    found.close()


def apply(records: MemoryRecords, policy: FirewallPolicy | None) -> AppliedPolicy:
    with records.reading() as record:
        plan = planned(record, policy, {})
    with records.transaction() as record:
        return put_into_force(record, plan, ApplyOrder(policy, "alice", "ticket 1", values.NOW))


def tell(records: MemoryRecords, host: str, number: int, *, problem: str = "", proven: bool = True) -> None:
    with records.transaction() as record:
        record.put_filter_state(
            FilterState(host, number, "d", 7, 2, values.NOW if proven else None, problem, values.NOW)
        )


def holdings(found: Status) -> dict[str, Holding]:
    return {host.host: host.holding for host in found.hosts}


def wait(records: MemoryRecords, during: object = None) -> tuple[Status, int]:
    """Wait for 5 s of a clock of its own; `during` is called at each sleep."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if callable(during):
            during()

    found = wait_until_held(
        records, wait_s=5, clock_s=lambda: sum(slept), sleep=sleep, now=lambda: values.NOW
    )
    return found, len(slept)


def test_an_applied_policy_is_on_record_whole_with_who_and_why(records: MemoryRecords) -> None:
    applied = apply(records, fleet.policy())
    assert (applied.number, applied.by, applied.reason) == (1, "alice", "ticket 1")
    assert from_text(applied.body) == fleet.policy()
    with records.reading() as record:
        assert policy_in_force(record) == (1, fleet.policy())


def test_a_policy_that_no_host_could_hold_is_not_put_on_record(records: MemoryRecords) -> None:
    text = fleet.POLICY.replace("never:\n", "never:\n  - {from: web, to: admin, services: [tcp/5432]}\n")
    with pytest.raises(StateError, match="web to admin"):
        apply(records, fleet.policy(text))
    with records.reading() as record:
        assert record.applied_policy() is None


def test_a_withdrawal_is_applied_too_and_only_once(records: MemoryRecords) -> None:
    with pytest.raises(StateError, match="nothing to withdraw"):
        apply(records, None)
    apply(records, fleet.policy())
    assert apply(records, None).body == ""
    with pytest.raises(StateError, match="nothing to withdraw"):
        apply(records, None)


def test_somebody_elses_policy_is_not_replaced_unseen(records: MemoryRecords) -> None:
    with records.reading() as record:
        plan = planned(record, fleet.policy(), {})
    fleet.apply(records, fleet.POLICY.replace("5432", "5439"))
    order = ApplyOrder(fleet.policy(), "alice", "", values.NOW)
    with pytest.raises(StateError, match="policy 1 was applied meanwhile"), records.transaction() as record:
        put_into_force(record, plan, order)


def test_each_host_with_machines_is_waited_for_until_it_has_told(records: MemoryRecords) -> None:
    apply(records, fleet.policy())
    told = iter(("host1", "host2"))
    found, naps = wait(records, lambda: tell(records, next(told), 1))
    assert holdings(found) == {"host1": Holding.PROVEN, "host2": Holding.PROVEN}
    assert naps == 2


def test_a_host_that_says_why_not_is_not_waited_for_any_longer(records: MemoryRecords) -> None:
    apply(records, fleet.policy())
    tell(records, "host1", 1, problem="the kernel refuses", proven=False)
    tell(records, "host2", 1)
    found, naps = wait(records)
    assert holdings(found) == {"host1": Holding.PROBLEM, "host2": Holding.PROVEN}
    assert naps == 0


def test_a_host_that_holds_it_and_has_trouble_with_one_machine_is_told_from_one_that_does_not(
    records: MemoryRecords,
) -> None:
    apply(records, fleet.policy())
    tell(records, "host1", 1, problem="web30: address 10.0.0.1 is web01's")
    tell(records, "host2", 1, problem="the kernel refuses", proven=False)
    found, _ = wait(records)
    assert holdings(found) == {"host1": Holding.QUALIFIED, "host2": Holding.PROBLEM}


def test_a_proof_of_the_policy_before_is_none_of_this_one(records: MemoryRecords) -> None:
    fleet.apply(records)
    later = ApplyOrder(fleet.policy(fleet.POLICY.replace("5432", "5439")), "a", "", values.later(1))
    with records.reading() as record:
        plan = planned(record, later.policy, {})
    with records.transaction() as record:
        put_into_force(record, plan, later)
    tell(records, "host1", 2)
    with records.reading() as record:
        assert holdings(status(record, values.NOW))["host1"] is Holding.HELD


def test_what_a_host_said_of_an_earlier_policy_is_no_answer(records: MemoryRecords) -> None:
    apply(records, fleet.policy())
    tell(records, "host1", 1)
    tell(records, "host2", 1, proven=False)
    assert apply(records, fleet.policy(fleet.POLICY.replace("5432", "5439"))).number == 2
    found, naps = wait(records)
    assert naps > 1
    assert holdings(found) == {"host1": Holding.BEHIND, "host2": Holding.BEHIND}


def test_a_host_that_never_told_is_silent_and_one_without_a_proof_is_not_proven(
    records: MemoryRecords,
) -> None:
    apply(records, fleet.policy())
    tell(records, "host2", 1, proven=False)
    with records.reading() as record:
        assert holdings(status(record, values.NOW)) == {"host1": Holding.SILENT, "host2": Holding.HELD}


def test_a_withdrawal_needs_no_proof(records: MemoryRecords) -> None:
    apply(records, fleet.policy())
    number = apply(records, None).number
    tell(records, "host1", number, proven=False)
    with records.reading() as record:
        found = status(record, values.NOW)
    assert holdings(found)["host1"] is Holding.PROVEN
    assert found.applied == replace(found.applied, withdrawn=True) if found.applied else False


def test_an_agent_that_tells_nothing_any_more_is_away_whatever_it_said(records: MemoryRecords) -> None:
    apply(records, fleet.policy())
    tell(records, "host1", 1)
    tell(records, "host2", 1, problem="two machines have its address")
    with records.reading() as record:
        at_once = holdings(status(record, values.NOW))
        later = holdings(status(record, values.NOW + AWAY_AFTER + timedelta(seconds=1)))
    assert at_once == {"host1": Holding.PROVEN, "host2": Holding.QUALIFIED}
    assert later == {"host1": Holding.AWAY, "host2": Holding.AWAY}
