"""The map of a policy: what stands in its cells."""

from firewallrecord import policy

from undercroft.usecases.firewall.answers import FlowMap
from undercroft.usecases.firewall.mapping import flow_map

PLAIN = """\
labels:
  web: {machines: "web*"}
  db: {machines: "db*"}
  quarantine: {verdict: quarantined}
addresses: {mirror: 192.0.2.10}
"""


def cells(found: FlowMap) -> dict[tuple[str, str], tuple[str, ...]]:
    return {(flow.source, flow.target): flow.services for flow in found.flows}


def nevers(found: FlowMap) -> set[tuple[str, str]]:
    return {(never.source, never.target) for never in found.nevers}


def test_labels_come_first_in_the_policys_order_then_networks_the_host_and_the_world() -> None:
    rules = (
        "firewall: [{from: world, to: web, allow: tcp/443},"
        " {from: [10.0.0.0/8, mirror], to: host, allow: icmp}]\n"
    )
    found = flow_map(policy(PLAIN + rules))
    assert [place.name for place in found.places] == [
        "web",
        "db",
        "quarantine",
        "10.0.0.0/8",
        "mirror",
        "host",
        "world",
    ]


def test_rules_for_the_same_pair_are_one_cell_that_names_both() -> None:
    rules = (
        "firewall:\n- {from: web, to: db, allow: tcp/5432}\n- {from: web, to: db, allow: [tcp/5433, icmp]}\n"
    )
    (flow,) = flow_map(policy(PLAIN + rules)).flows
    assert flow.services == ("icmp", "tcp/5432-5433")
    assert flow.places == ("policy.yaml:7", "policy.yaml:8")


def test_everybody_is_not_quarantined_machines_and_the_world_is_every_network_in_it() -> None:
    rules = (
        "firewall: [{from: '*', to: db, allow: tcp/22}, {from: web, to: 224.0.0.0/24, allow: udp/5353},"
        " {from: web, to: mirror, allow: tcp/80}]\n"
    )
    found = cells(flow_map(policy(PLAIN + rules)))
    sources = {source for source, target in found if target == "db"}
    assert sources == {"web", "db", "mirror"}


def test_what_lies_between_two_sides_outside_is_none_of_the_filters() -> None:
    rules = "firewall: [{from: world, to: '*', allow: tcp/443}, {from: web, to: mirror, allow: icmp}]\n"
    assert ("world", "mirror") not in cells(flow_map(policy(PLAIN + rules)))


def test_never_means_everybody_but_its_exceptions() -> None:
    rules = (
        "firewall: [{from: world, to: web, allow: tcp/443}]\n"
        "never: [{from: quarantine, to: '*', except: mirror}, {from: world, to: db}]\n"
    )
    assert nevers(flow_map(policy(PLAIN + rules))) == {
        ("quarantine", "web"),
        ("quarantine", "db"),
        ("quarantine", "world"),
        ("world", "db"),
        ("mirror", "db"),
    }


def test_a_name_that_is_a_machines_lies_in_no_network_and_not_in_the_world() -> None:
    rules = "firewall: [{from: world, to: web, allow: tcp/443}, {from: mirror, to: db, allow: tcp/80}]\n"
    outside = cells(flow_map(policy(PLAIN + rules)))
    machine = cells(flow_map(policy(PLAIN + rules), 1, {"mirror": 1}))
    assert ("mirror", "web") in outside
    assert ("mirror", "web") not in machine
    assert machine["mirror", "db"] == ("tcp/80",)


def test_machines_are_counted_where_somebody_has_looked() -> None:
    counted = flow_map(policy(PLAIN), 3, {"web": 2})
    assert {place.name: place.machines for place in counted.places} == {"web": 2, "db": 0, "quarantine": 0}
    assert {place.machines for place in flow_map(policy(PLAIN)).places} == {None}
