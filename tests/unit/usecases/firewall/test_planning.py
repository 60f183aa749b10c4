"""What a plan says: flows by groups, labels, closed machines, ports, and what stands against it."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address

import firewallrecord as fleet
import pytest
import recordvalues as values
from memoryrecords import MemoryRecords

from undercroft.firewall.policy import FirewallPolicy
from undercroft.model.domain import Interface
from undercroft.usecases.firewall.inforce import planned
from undercroft.usecases.firewall.planning import BridgePort
from undercroft.usecases.firewall.values import FlowChange, Plan


@pytest.fixture
def records() -> Iterator[MemoryRecords]:
    found = MemoryRecords()
    fleet.fill(found)
    yield found
    found.close()


def plan(records: MemoryRecords, text: str | None = fleet.POLICY, *ports: BridgePort) -> Plan:
    policy: FirewallPolicy | None = fleet.policy(text) if text else None
    with records.reading() as record:
        return planned(record, policy, {}, ports)


def changes(found: Plan) -> dict[tuple[str, str], FlowChange]:
    return {(change.source, change.target): change for change in found.flows}


def test_before_the_first_policy_everything_is_open_and_the_plan_lists_what_stays_so(
    records: MemoryRecords,
) -> None:
    found = plan(records)
    assert not found.filtered
    assert found.applied is None
    assert found.changes
    assert changes(found)["web", "db"].opens == ("tcp/5432",)
    assert all(not change.closes for change in found.flows)
    assert not found.against


def test_the_policy_in_force_changes_nothing(records: MemoryRecords) -> None:
    fleet.apply(records)
    found = plan(records)
    assert not found.changes
    assert found.flows == ()
    assert found.labels == ()


def test_a_service_that_goes_closes_and_one_that_comes_opens_with_its_rule(records: MemoryRecords) -> None:
    fleet.apply(records)
    found = plan(
        records,
        fleet.POLICY.replace("allow: [tcp/5432]", "allow: [tcp/5432-5434]").replace(
            "[tcp/443, icmp]", "[tcp/443]"
        ),
    )
    assert changes(found)["web", "db"] == FlowChange("web", "db", ("tcp/5433-5434",), (), ("policy.yaml:12",))
    assert changes(found)["world", "web"].closes == ("icmp",)
    assert found.changes


def test_a_machine_whose_labels_change_is_a_group_of_its_own_that_says_so(records: MemoryRecords) -> None:
    fleet.apply(records)
    found = plan(records, fleet.POLICY.replace('web: {machines: "web*"}', 'web: {machines: "web01"}'))
    (changed,) = found.labels
    assert (changed.machine, changed.before, changed.after) == ("web02", ("web",), ())
    assert changes(found)["no label, was web", "db"].closes == ("tcp/5432",)
    assert ("web", "db") not in changes(found)


def test_ten_machines_that_are_filtered_alike_are_one_line(records: MemoryRecords) -> None:
    many = [fleet.machine(n, f"web{n}", f"10.0.1.{n}") for n in range(20, 30)]
    with records.transaction() as record:
        record.put_survey(values.survey(*many, host="host3"))
    found = plan(records)
    (group,) = (group for group in found.groups if group.name == "web")
    assert len(group.machines) == 12
    assert len([change for change in found.flows if (change.source, change.target) == ("web", "db")]) == 1


def test_a_group_of_one_machine_opens_nothing_to_itself(records: MemoryRecords) -> None:
    found = changes(plan(records))
    assert ("db", "db") not in found
    assert ("db", "admin+db") in found


def test_networks_that_only_repeat_what_the_world_says_are_left_out(records: MemoryRecords) -> None:
    found = changes(plan(records))
    assert ("world", "web") in found
    assert ("patch-mirror", "web") not in found
    assert ("quarantine", "patch-mirror") in found


def test_a_withdrawal_opens_everything(records: MemoryRecords) -> None:
    fleet.apply(records)
    found = plan(records, None)
    assert found.digest == ""
    assert found.changes
    assert found.flows == found.closed == ()


def test_named_addresses_that_no_rule_names_do_not_tell_machines_apart(records: MemoryRecords) -> None:
    (web,) = (group for group in plan(records).groups if group.name == "web")
    assert web.machines == ("web01", "web02")
    named = fleet.POLICY.replace("firewall:\n", "firewall:\n  - {from: web02, to: web, allow: [tcp/22]}\n")
    assert {"web", "web+web02"} <= {group.name for group in plan(records, named).groups}


def test_machines_without_a_label_or_an_address_are_told_to_be_closed(records: MemoryRecords) -> None:
    closed = {item.machine: item.problem for item in plan(records).closed}
    assert set(closed) == {"lost01", "nowhere01"}
    assert "no label" in closed["lost01"]
    assert "no address" in closed["nowhere01"]


def test_a_contradiction_names_a_flow_and_stands_against_it(records: MemoryRecords) -> None:
    # Only machines that have both labels may: which of them there are the policy alone does not tell.
    text = fleet.POLICY.replace("never:\n", "never:\n  - {from: web, to: admin, services: [tcp/5432]}\n")
    assert plan(records, text).against
    assert "web to admin+db tcp/5432" in plan(records, text).against[0]


@pytest.mark.parametrize(
    ("network", "way"),
    [
        ("10.0.0.3", "web to db01 (10.0.0.3) tcp/5432"),
        ("10.0.0.6/31", "web to db02 (10.0.0.6) tcp/5432"),
        ("10.0.0.254", "web to host host1 (10.0.0.254) tcp/22"),
        ("10.0.1.0/24", ""),
    ],
)
def test_a_never_s_network_means_who_has_an_address_in_it_on_whichever_host(
    records: MemoryRecords, network: str, way: str
) -> None:
    flow = "  - {from: web, to: host, allow: [tcp/22]}\n"
    never = f"  - {{from: web, to: {network}, services: [tcp/22, tcp/5432]}}\n"
    policy = fleet.policy(fleet.POLICY.replace("never:\n", f"{flow}never:\n{never}"))
    with records.reading() as record:
        found = planned(record, policy, {"host1": (IPv4Address("10.0.0.254"),)})
    assert len(found.against) == bool(way)
    assert way in "".join(found.against)


def test_two_machines_with_one_address_are_a_problem_of_the_fleet_and_nothing_against_the_policy(
    records: MemoryRecords,
) -> None:
    twice = fleet.machine(30, "web30", "10.0.0.1")
    with records.transaction() as record:
        record.put_survey(values.survey(twice, host="host3"))
    found = plan(records)
    assert not found.against
    assert any("10.0.0.1" in problem for problem in found.problems)


def test_ports_that_the_policy_does_not_name_are_told_with_what_becomes_of_them(
    records: MemoryRecords,
) -> None:
    odd = fleet.machine(31, "web31", "10.0.0.31")
    odd = replace(
        odd,
        interfaces=(replace(odd.interfaces[0], tap="tap31"), Interface(fleet.mac(32), "hostdev")),
    )
    with records.transaction() as record:
        record.put_survey(values.survey(odd, host="host3"))
    ports = [BridgePort(name, "br0") for name in ("eth0", "eth1", "vnet1", "vnet99")]
    told = "\n".join(plan(records, fleet.POLICY, *ports).ports)
    assert "tap31 of web31 on host3" in told
    assert "hostdev interface is no port of a bridge" in told
    assert "eth1 on br0" in told
    assert "ports.uplinks" in told
    assert "eth0" not in told
    assert "vnet1 on" not in told
    assert "vnet99" not in told
    assert "none of ports.uplinks" not in told
    assert "none of ports.uplinks (eth0)" in plan(records, fleet.POLICY, BridgePort("eth1", "br0")).ports[-2]


def test_an_applied_policy_that_cannot_be_read_is_a_problem_and_does_not_keep_a_new_one_out(
    records: MemoryRecords,
) -> None:
    with records.transaction() as record:
        record.put_applied_policy("{}", "d", "root", "", values.NOW)
    found = plan(records)
    assert any("the applied policy on record" in problem for problem in found.problems)
    assert not found.against
