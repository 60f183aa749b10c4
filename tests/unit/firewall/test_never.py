"""What a policy allows and forbids at once is found, with a flow and both places."""

from dataclasses import replace

from firewallworld import ANY, POLICY, WORLD, label, networks, tcp

from undercroft.firewall.never import contradictions
from undercroft.firewall.policy import FirewallPolicy, Flow, Never


def found(policy, *nevers, label_sets=()):
    return [str(item) for item in contradictions(replace(policy, nevers=nevers), label_sets)]


FLOWS = FirewallPolicy(
    labels=POLICY.labels,
    flows=(
        Flow(WORLD, label("web"), (tcp(443), tcp(80)), place="p:1"),
        Flow(label("web"), label("db"), (tcp(5432),), place="p:2"),
        Flow(label("quarantine"), networks("192.0.2.10/32", name="mirror"), (tcp(443),), place="p:3"),
    ),
)


def test_a_policy_that_keeps_its_word_has_no_contradiction():
    mirror = networks("192.0.2.10/32", name="mirror")
    assert found(FLOWS, Never(label("quarantine"), ANY, (mirror,)), Never(WORLD, label("db"))) == []


def test_a_named_address_is_of_the_world_to_a_never_unless_it_is_excepted_or_a_label():
    """Its machine may go, and then whoever has the address outside is meant."""
    named = networks("10.0.0.7/32", name="web01")
    policy = replace(FLOWS, flows=(Flow(named, label("db"), (tcp(22),), place="p:9"),))
    (told,) = found(policy, Never(WORLD, label("db")))
    assert "10.0.0.7/32 to db tcp/22 (p:9)" in told
    assert found(policy, Never(WORLD, label("db"), (named,))) == []
    labelled = replace(policy, flows=(Flow(label("web01"), label("db"), (tcp(22),), place="p:9"),))
    assert found(labelled, Never(WORLD, label("db"))) == []


def test_a_forbidden_flow_is_named_with_both_places():
    (said,) = found(FLOWS, Never(WORLD, label("web"), services=(tcp(80),), place="p:9"))
    assert said == (
        "never from world to web (p:9), but allowed: world to web tcp/80 (p:1); change one of them"
    )


def test_without_its_exception_the_quarantine_has_a_way_out():
    (said,) = found(FLOWS, Never(label("quarantine"), ANY, place="p:9"))
    assert "quarantine to mirror tcp/443 (p:3)" in said


def test_a_way_over_several_flows_is_found_only_where_it_is_asked_for():
    assert found(FLOWS, Never(WORLD, label("db"), hops=1)) == []
    (said,) = found(FLOWS, Never(WORLD, label("db"), hops=2, place="p:9"))
    assert "allowed: world to web tcp/443 (p:1), then web to db tcp/5432 (p:2)" in said


def test_the_world_is_no_step_on_a_way():
    policy = replace(FLOWS, flows=(*FLOWS.flows[:1], Flow(label("db"), WORLD, (tcp(1),), place="p:4")))
    assert found(policy, Never(label("db"), label("web"), hops=4)) == []


def test_machines_with_two_labels_are_looked_at_where_there_are_any():
    never = Never(WORLD, label("db"))
    assert found(FLOWS, never) == []
    assert found(FLOWS, never, label_sets=[frozenset({"web", "db"})]) != []


def test_networks_are_compared_by_their_addresses():
    policy = replace(FLOWS, flows=(Flow(networks("10.0.0.0/8"), label("db"), (tcp(1),), place="p:1"),))
    assert found(policy, Never(networks("10.2.0.0/16"), label("db"))) != []
    assert found(policy, Never(networks("11.0.0.0/8"), label("db"))) == []
    assert found(policy, Never(WORLD, label("db"))) != []
