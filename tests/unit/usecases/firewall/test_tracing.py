"""Traced flows: the rule that decides, the nearest ones, and the way through the tables of the hosts."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import firewallrecord as fleet
import pytest
import recordvalues as values
from hypothesis import given, settings
from hypothesis import strategies as st
from memoryrecords import MemoryRecords

from undercroft.errors import InputError, NotFoundError
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.policy import FirewallPolicy, Service
from undercroft.firewall.tracking import StateKind
from undercroft.model.domain import Power
from undercroft.usecases.firewall.answers import Trace
from undercroft.usecases.firewall.members import Members, members
from undercroft.usecases.firewall.parties import Question, party_of, service_of
from undercroft.usecases.firewall.tracing import tracing

ADDRESSES = {"host1": (ip_address("10.0.0.254"), ip_address("fe80::fe"))}


@pytest.fixture(scope="module")
def records() -> Iterator[MemoryRecords]:
    found = MemoryRecords()
    fleet.fill(found)
    yield found
    found.close()


def everyone(records: MemoryRecords, policy: FirewallPolicy) -> Members:
    with records.reading() as record:
        return members(record, policy, ADDRESSES)


def trace(
    records: MemoryRecords,
    source: str,
    target: str,
    service: str,
    text: str = fleet.POLICY,
    state: StateKind = StateKind.TUPLES,
) -> Trace:
    policy = fleet.policy(text)
    found = everyone(records, policy)
    question = Question(*(party_of(end, found, policy) for end in (source, target)), service_of(service))
    return tracing(question, found, policy, state=state)


@pytest.mark.parametrize("state", list(StateKind))
def test_an_allowed_flow_names_its_rule_and_both_packets_pass(
    records: MemoryRecords, state: StateKind
) -> None:
    found = trace(records, "web01", "db01", "tcp/5432", state=state)
    assert found.allowed
    assert found.rule == "policy.yaml:12"
    assert [(way.packet, way.path, way.accept) for way in found.ways] == [
        ("the first packet", "vnet1 to vnet3", True),
        ("its answer", "vnet3 to vnet1", True),
    ]
    assert found.ways[0].steps[0].chain == "from-port"


def test_a_denied_flow_names_the_nearest_rules_and_where_the_packet_is_dropped(
    records: MemoryRecords,
) -> None:
    found = trace(records, "web01", "db01", "tcp/22")
    assert not found.allowed
    assert found.rule == ""
    assert found.nearest[0].startswith("policy.yaml:12: web to db tcp/5432: another service")
    assert any("another source" in line for line in found.nearest)
    (way,) = found.ways
    assert not way.accept


def test_between_two_hosts_both_tables_are_asked(records: MemoryRecords) -> None:
    found = trace(records, "web01", "db02", "tcp/5432")
    assert found.allowed
    assert [(way.host, way.path) for way in found.ways] == [
        ("host1", "vnet1 to eth0"),
        ("host2", "eth0 to vnet6"),
        ("host2", "vnet6 to eth0"),
        ("host1", "eth0 to vnet1"),
    ]


def test_the_world_comes_in_by_the_uplink_and_without_one_through_the_host(records: MemoryRecords) -> None:
    assert trace(records, "world", "web01", "tcp/443").ways[0].path == "eth0 to vnet1"
    routed = trace(
        records, "world", "web01", "tcp/443", fleet.POLICY.replace("uplinks: [eth0]", "uplinks: []")
    )
    assert routed.allowed
    assert routed.ways[0].path == "the host to vnet1"


def test_an_address_means_the_machine_whose_it_is(records: MemoryRecords) -> None:
    assert trace(records, "10.0.0.1", "10.0.0.3", "tcp/5432").allowed
    assert trace(records, "192.0.2.10", "web01", "tcp/443").allowed
    assert not trace(records, "198.51.100.7", "db01", "tcp/443").allowed


def test_a_quarantined_machine_reaches_the_patch_mirror_and_nothing_else(records: MemoryRecords) -> None:
    assert trace(records, "sick01", "192.0.2.10", "tcp/443").allowed
    assert not trace(records, "sick01", "world", "udp/53").allowed
    assert not trace(records, "sick01", "web01", "tcp/443").allowed


def test_the_host_is_asked_at_its_own_address(records: MemoryRecords) -> None:
    text = fleet.POLICY.replace("firewall:\n", "firewall:\n  - {from: web, to: host, allow: [udp/53]}\n")
    found = trace(records, "web01", "host", "udp/53", text)
    assert found.allowed
    assert [way.path for way in found.ways] == ["vnet1 to the host", "the host to vnet1"]
    assert not trace(records, "web01", "10.0.0.254", "udp/53").allowed


def test_a_machine_without_an_address_is_reached_by_nobody_whatever_the_rules_say(
    records: MemoryRecords,
) -> None:
    text = fleet.POLICY.replace("from: web, to: db", "from: web, to: [db, nowhere]")
    found = trace(records, "web01", "nowhere01", "tcp/5432", text)
    assert not found.allowed
    assert found.rule == "policy.yaml:12"
    assert "nowhere01 has no address" in found.notes[0]


def test_a_machine_that_is_off_has_a_rule_and_no_way() -> None:
    records = MemoryRecords()
    fleet.fill(records)
    off = replace(
        fleet.HOST1[0],
        power=Power.OFF,
        libvirt_id=0,
        interfaces=(replace(fleet.HOST1[0].interfaces[0], tap=""),),
    )
    with records.transaction() as record:
        record.put_survey(values.survey(off, *fleet.HOST1[1:], host="host1"))
    found = trace(records, "web01", "db01", "tcp/5432")
    assert not found.allowed
    assert found.rule == "policy.yaml:12"
    assert "web01 does not run" in found.notes[0]
    assert "no packet can be on its way" in found.reason


def test_a_table_that_was_read_is_followed_instead_of_the_compiled_one(records: MemoryRecords) -> None:
    policy = fleet.policy()
    found = everyone(records, policy)
    view = found.fleets["host1"]
    sets = [port.labels for port in view.ports] + [item.labels for item in view.elsewhere]
    ruleset = compile_ruleset(policy, view, assigned(Classes(), sets), StateKind.TUPLES)
    emptied = Ruleset(ruleset.table, {**ruleset.elements, "classes": {}, "sources4": {}})
    question = Question(*(party_of(end, found, policy) for end in ("web01", "db01")), service_of("tcp/5432"))
    for table, allowed in ((ruleset, True), (emptied, False)):
        answer = tracing(question, found, policy, read={"host1": table})
        assert answer.allowed is allowed
        assert answer.ways[0].table == "kernel"
    assert "the first packet does not pass host1" in answer.reason


@pytest.mark.parametrize(
    ("source", "target", "service", "error", "says"),
    [
        ("mail", "db01", "tcp/1", NotFoundError, "possible: one of these, world, host"),
        ("web", "db01", "tcp/1", NotFoundError, "this is a label; name a machine that has it: web01, web02"),
        ("world", "host", "tcp/1", InputError, "neither is a machine"),
        ("web01", "db01", "http", InputError, "tcp/443"),
        ("web01", "db01", "tcp/1-2", InputError, "name one"),
    ],
)
def test_what_is_no_question_is_refused_with_what_is_possible(
    records: MemoryRecords, source: str, target: str, service: str, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        trace(records, source, target, service)


def test_a_name_of_the_policy_s_addresses_is_asked_by_its_name(records: MemoryRecords) -> None:
    found = trace(records, "sick01", "patch-mirror", "tcp/443")
    assert found.allowed
    assert found.target == "patch-mirror at 192.0.2.10"
    assert not trace(records, "web01", "patch-mirror", "tcp/443").allowed


NAMES = (
    "patch-mirror",
    "web01",
    "web02",
    "db01",
    "lost01",
    "db02",
    "sick01",
    "world",
    "host",
    "192.0.2.10",
    "10.0.0.254",
)
SERVICES = ("tcp/5432", "tcp/5433", "tcp/443", "tcp/22", "udp/53", "icmp", "sctp/1")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(SERVICES), st.sampled_from(StateKind))
def test_the_rules_answer_and_the_tables_agree_for_every_pair(
    records: MemoryRecords, source: str, target: str, service: str, state: StateKind
) -> None:
    policy = fleet.policy()
    found = everyone(records, policy)
    ends = party_of(source, found, policy), party_of(target, found, policy)
    if ends[0].member is None and ends[1].member is None:
        return
    if ends[0].member is not None and ends[0].member == ends[1].member:
        return  # its own port: the bridge does not send it back
    answer = tracing(Question(*ends, service_of(service)), found, policy, state=state)
    if answer.ways:
        assert answer.allowed == bool(answer.rule)
        assert all(way.accept for way in answer.ways) == bool(answer.rule)


def test_a_service_is_one_port_or_echo() -> None:
    assert str(service_of("icmp")) == "icmp"
    assert service_of("udp/53") == Service(service_of("udp/53").protocol, 53, 53)
