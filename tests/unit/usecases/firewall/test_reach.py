"""What sides may open of each other: held to what the policy's meaning says of single ports."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.firewall.fleet import Fleet
from undercroft.firewall.grants import Side
from undercroft.firewall.permission import End, Permission
from undercroft.firewall.policy import (
    PORT_PROTOCOLS,
    FirewallPolicy,
    Flow,
    LabelRule,
    NamedAddresses,
    Peer,
    PeerKind,
    Protocol,
    Service,
)
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match
from undercroft.usecases.firewall.reach import (
    allowed,
    labels_text,
    machine_sides,
    outside_sides,
    unused_names,
)
from undercroft.usecases.firewall.services import includes

LABELS = (
    LabelRule("web", Match(names=("web*",))),
    LabelRule("db", Match(names=("db*",))),
    LabelRule("quarantine", Match(), (Verdict.QUARANTINED,)),
)
SETS = tuple(map(frozenset, ((), ("web",), ("db",), ("web", "db"), ("quarantine",), ("mirror",))))
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.10/32", "224.0.0.0/24", "fe80::/64", "2001:db8::/32")
SERVICES = (
    Service(Protocol.TCP, 22, 22),
    Service(Protocol.TCP, 20, 30),
    Service(Protocol.UDP, 53, 53),
    Service(Protocol.ICMP),
)

peers = st.one_of(
    st.sampled_from([Peer(PeerKind.WORLD), Peer(PeerKind.HOST), Peer(PeerKind.ANY)]),
    st.sampled_from(["web", "db", "quarantine"]).map(lambda name: Peer(PeerKind.LABEL, name)),
    st.sampled_from(NETWORKS).map(lambda text: Peer(PeerKind.NETWORK, networks=(ip_network(text),))),
    st.just(Peer(PeerKind.NETWORK, "mirror", (ip_network("192.0.2.10/32"),))),
)
flows = st.builds(Flow, peers, peers, st.lists(st.sampled_from(SERVICES), min_size=1, max_size=3).map(tuple))
policies = st.lists(flows, max_size=6).map(lambda found: FirewallPolicy(LABELS, tuple(found)))


def end_of(side: Side, sides: tuple[Side, ...]) -> End | None:
    """Return an end that a side stands for: of a network, an address that lies in no smaller one."""
    if side.labels is not None:
        return End(side.labels)
    if side.name == "host":
        return End(is_host=True)
    if side.zone is None:
        return End(address=ip_address("8.8.8.8"))
    smaller = [
        other.zone.network
        for other in sides
        if other.zone and other.zone.network.prefixlen > side.zone.network.prefixlen
    ]
    addresses = (side.zone.network[0], side.zone.network[-1])
    found = next((one for one in addresses if not any(one in network for network in smaller)), None)
    return End(address=found) if found is not None else None


@settings(max_examples=60, deadline=None)
@given(policies)
def test_sides_may_open_what_the_meaning_of_the_policy_allows_port_by_port(policy: FirewallPolicy) -> None:
    sides = (*machine_sides(SETS), *outside_sides([policy]))
    found = allowed(policy, sides)
    permission = Permission(policy, Fleet(""))
    for source, one in enumerate(sides):
        for target, other in enumerate(sides):
            ends = end_of(one, sides), end_of(other, sides)
            if None in ends or not (one.is_machine or other.is_machine):
                assert (source, target) not in found or None in ends
                continue
            for service in SERVICES:
                port = service.low or None
                number = PORT_PROTOCOLS.get(service.protocol, 1)
                meant = permission.allowing(*ends, number, port)  # type: ignore[arg-type]
                single = replace(service, high=service.low)
                pair = found.get((source, target))
                assert (meant is not None) == (pair is not None and includes(pair.services, single))


def test_names_of_addresses_count_where_some_rule_names_them() -> None:
    named = NamedAddresses("web01", (ip_network("10.0.0.1/32"),))
    policy = FirewallPolicy(LABELS, addresses=(named, replace(named, name="web")))
    assert unused_names([policy]) == {"web01"}
    using = replace(policy, flows=(Flow(Peer(PeerKind.NETWORK, "web01"), Peer(PeerKind.HOST), SERVICES),))
    assert unused_names([policy, using]) == frozenset()
    assert unused_names([]) == frozenset()


def test_labels_are_called_in_one_order() -> None:
    assert labels_text({"web", "db"}) == "db+web"
    assert labels_text(()) == "no label"
