"""One machine as the firewall sees it."""

from collections.abc import Iterator

import firewallrecord as fleet
import pytest
import recordvalues as values
from memoryfilter import MemoryFilter
from memoryrecords import MemoryRecords

from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.elements import device
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.tracking import StateKind
from undercroft.model.fleet import Hold
from undercroft.usecases.firewall.answers import KernelHas, Showing
from undercroft.usecases.firewall.members import Members, known_of, members
from undercroft.usecases.firewall.showing import kernel_table, showing
from undercroft.usecases.fleet.views.machine import find_machine


@pytest.fixture
def records() -> Iterator[MemoryRecords]:
    found = MemoryRecords()
    fleet.fill(found)
    yield found
    found.close()


def view(records: MemoryRecords, name: str, text: str = fleet.POLICY, table: Ruleset | str = "") -> Showing:
    policy = fleet.policy(text)
    with records.reading() as record:
        everyone = members(record, policy, {})
        member = everyone.of(find_machine(record, name))
        known = known_of(record, member.record)
    return showing(member, everyone, policy, known, number=1, table=table)


def compiled(records: MemoryRecords, host: str = "host1") -> tuple[Ruleset, Members]:
    policy = fleet.policy()
    with records.reading() as record:
        everyone = members(record, policy, {})
    machines = everyone.machines.values()
    classes = assigned(Classes(), [member.labels for member in machines])
    return compile_ruleset(policy, everyone.fleets[host], classes, StateKind.TUPLES), everyone


def test_each_label_has_the_rule_that_gives_it(records: MemoryRecords) -> None:
    found = {reason.label: reason for reason in view(records, "db02").labels}
    assert found["db"].place == "policy.yaml:4"
    assert found["admin"].place == "policy.yaml:6"
    assert all(reason.counts for reason in found.values())


def test_an_address_tells_who_says_so(records: MemoryRecords) -> None:
    assert view(records, "web01").ports[0].addresses == (
        "10.0.0.1 (its metadata)",
        "2001:db8::1 (its metadata)",
    )
    assert view(records, "web02").ports[0].addresses == ("10.0.0.2 (policy.yaml:9)",)
    assert [reason.label for reason in view(records, "web02").labels] == ["web"], "no rule is about its name"
    about = fleet.POLICY.replace("{from: web, to: world,", "{from: web02, to: web,")
    assert view(records, "web02", about).labels[0].label == "web02"


def test_whom_it_may_reach_and_who_may_reach_it_stand_apart(records: MemoryRecords) -> None:
    found = view(records, "web01")
    reaches = {reach.name: reach for reach in found.reaches}
    assert reaches["db"].services == ("tcp/5432",)
    assert reaches["db"].machines == ("db01",)
    assert reaches["db"].places == ("policy.yaml:12",)
    assert reaches["admin+db"].machines == ("db02",)
    assert set(reaches) == {"db", "admin+db", "world"}
    assert {reach.name for reach in found.reached_by} == {"world", "admin+db"}


def test_a_quarantined_machine_has_the_quarantines_labels_and_its_others_do_not_count(
    records: MemoryRecords,
) -> None:
    text = fleet.POLICY.replace('web: {machines: "web*"}', 'web: {machines: ["web*", "sick*"]}')
    found = view(records, "sick01", text)
    assert found.quarantined
    assert [(reason.label, reason.counts) for reason in found.labels] == [
        ("quarantine", True),
        ("web", False),
    ]
    assert [reach.name for reach in found.reaches] == ["patch-mirror"]
    assert found.reached_by == ()


def test_a_machine_that_is_held_is_quarantined_whatever_was_judged(records: MemoryRecords) -> None:
    with records.transaction() as record:
        record.put_hold(Hold(fleet.HOST1[0].uuid, values.eid(1), (), "it drifts", values.NOW, False))
    assert view(records, "web01").quarantined


def test_what_a_machine_lacks_is_told_with_the_cure(records: MemoryRecords) -> None:
    assert any("no label" in problem for problem in view(records, "lost01").problems)
    assert any("reserve one" in problem for problem in view(records, "nowhere01").problems)
    assert view(records, "web01").problems == ()


def test_the_kernels_elements_are_those_of_the_record(records: MemoryRecords) -> None:
    table, _ = compiled(records)
    found = view(records, "web01", table=table)
    assert found.kernel is KernelHas.SAME
    assert found.differences == ()


@pytest.mark.parametrize(
    ("set_name", "says"),
    [
        ("classes", "no class"),
        ("sources4", "sources4 lacks"),
        ("targets6", "targets6 lacks"),
        ("outside4", "outside4 lacks"),
        ("places4", "places4 lacks"),
    ],
)
def test_an_element_that_the_kernel_lacks_is_found(records: MemoryRecords, set_name: str, says: str) -> None:
    table, _ = compiled(records)
    broken = Ruleset(table.table, {**table.elements, set_name: {}})
    found = view(records, "web01", table=broken)
    assert found.kernel is KernelHas.DIFFERENT
    assert says in found.differences[0]


def test_an_address_that_the_kernel_gives_to_a_port_besides_is_found(records: MemoryRecords) -> None:
    table, _ = compiled(records)
    key = device("vnet1") + bytes.fromhex("5254000000010000") + bytes([10, 0, 0, 99])
    broken = Ruleset(table.table, {**table.elements, "sources4": {**table.elements["sources4"], key: None}})
    found = view(records, "web01", table=broken)
    assert found.kernel is KernelHas.DIFFERENT
    assert "none of its own" in found.differences[0]


def test_a_kernel_without_the_table_is_no_kernel_that_was_not_looked_at(records: MemoryRecords) -> None:
    packet_filter = MemoryFilter()
    missing = kernel_table(packet_filter)
    found = view(records, "web01", table=missing)
    assert found.kernel is KernelHas.DIFFERENT
    assert "nothing is filtered on this host" in found.differences[0]
    assert view(records, "web01", table="only root may read it").kernel is KernelHas.UNKNOWN
    packet_filter.replace(compiled(records)[0])
    assert isinstance(kernel_table(packet_filter), Ruleset)
