"""A `never` with a network means whoever bears an address in it: to the proof, and before it is applied."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import nevermeaning
import pytest
from filterproofs import (
    ANY,
    DB,
    HOST,
    PATIENT,
    POLICY,
    WEB,
    WORLD,
    classes,
    fleet,
    flow,
    label,
    network,
    port,
    ruleset,
    service,
)
from hypothesis import given
from hypothesis import strategies as st

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.nevers import Nevers
from undercroft.assurance.firewall.proof import Prover
from undercroft.errors import StateError
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.elements import port_elements
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.never import Bearer, contradictions
from undercroft.firewall.policy import FirewallPolicy, Flow, LabelRule, Never, Peer, PeerKind
from undercroft.firewall.tracking import StateKind
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match

NUMBERS = classes().numbers


def said(policy: FirewallPolicy, *nevers: Never, machines: Fleet) -> str:
    breach = Nevers(replace(policy, nevers=nevers), NUMBERS)
    return str(breach.breach(breach.bearing(machines)) or "")


def bearers(machines: Fleet) -> list[Bearer]:
    ports = [Bearer(one.machine, one.name, one.labels, (*one.ipv4, *one.all_ipv6)) for one in machines.ports]
    others = [Bearer(one.machine, one.name, one.labels, one.addresses) for one in machines.elsewhere]
    return [Bearer("host", f"host {machines.host}", None, machines.host_addresses), *ports, *others]


def told(policy: FirewallPolicy, *nevers: Never, machines: Fleet) -> list[str]:
    found = contradictions(replace(policy, nevers=nevers), NUMBERS, bearers(machines))
    return [str(one) for one in found]


QUARANTINED = replace(
    POLICY, nevers=(), flows=(flow(label("quarantine"), label("db"), "tcp/22"), *POLICY.flows)
)


def test_a_machine_that_bears_an_address_in_a_never_s_network_is_reached_by_no_allowed_flow() -> None:
    """Without addresses the policy keeps its word; the machine is reached all the same."""
    never = Never(label("quarantine"), network("10.0.0.0/8"), place="p:9")
    policy = replace(QUARANTINED, nevers=(never,))
    assert Nevers(policy, NUMBERS).breach() is None
    assert contradictions(policy) == ()
    answer = Prover().prove(ruleset(6, policy), policy, fleet(6), classes())
    assert isinstance(answer, Counterexample)
    assert answer.theorem == "never quarantine -> 10.0.0.0/8"
    assert answer.says == "the policy allows quarantine -> m1 (10.1.0.1) by tcp/22"
    (contradiction,) = told(policy, never, machines=fleet(6))
    assert "allowed: quarantine to m1 (10.1.0.1) tcp/22" in contradiction


def test_who_bears_no_address_there_is_not_meant() -> None:
    elsewhere = Never(label("quarantine"), network("10.2.0.0/16"))
    policy = replace(QUARANTINED, nevers=(elsewhere,))
    answer = Prover().prove(ruleset(6, policy), policy, fleet(6), classes())
    assert isinstance(answer, Certificate), answer.text()
    assert "nor from or to who bears an address in its networks" in answer.text()
    assert told(policy, elsewhere, machines=fleet(6)) == []


AFTER_THE_FIRST = "web -> m4 (10.1.0.4) by tcp/5432"


@pytest.mark.parametrize(
    ("never", "breach"),
    [
        (Never(label("web"), network("10.1.0.1/32")), "web -> m1 (10.1.0.1) by tcp/5432"),
        (Never(network("10.1.0.0/16"), label("db")), "m3 (10.1.0.3) -> db by tcp/5432"),
        (Never(network("10.2.0.0/16"), label("db")), "e1 (10.2.0.1) -> db by tcp/5432"),
        (Never(label("db"), network("10.0.0.1/32")), "db -> host host1 (10.0.0.1) by tcp/22"),
        (Never(label("web"), network("fe80::/10")), "web -> m1 (fe80::5054:ff:fe00:1) by tcp/5432"),
        (
            Never(label("web"), network("fe80::5054:ff:fe00:1/128")),
            "web -> m1 (fe80::5054:ff:fe00:1) by tcp/5432",
        ),
        (Never(label("web"), network("::/0")), "web -> m1 (2001:db8::1) by tcp/5432"),
        (Never(WORLD, network("10.1.0.1/32"), hops=2), "world -> web -> m1 (10.1.0.1) by tcp/5432"),
        (Never(network("10.1.0.3/32"), network("10.1.0.4/31")), "m3 (10.1.0.3) -> m4 (10.1.0.4) by tcp/5432"),
        (Never(ANY, network("10.1.0.1/32"), services=(service("tcp/22"),)), ""),
        (Never(label("web"), network("10.1.0.0/16"), (network("10.1.0.0/29"),)), ""),
        (Never(label("web"), network("10.1.0.0/16"), (label("db"),)), ""),
        (Never(label("web"), network("10.1.0.0/16"), (network("10.1.0.1/32"),)), AFTER_THE_FIRST),
    ],
)
def test_a_machine_and_the_host_are_meant_by_each_of_their_addresses(never: Never, breach: str) -> None:
    """Machines 1 and 4 are databases, 3 and 6 web servers."""
    assert said(POLICY, never, machines=fleet(6)) == breach
    assert bool(told(POLICY, never, machines=fleet(6))) is bool(breach)


def test_no_machine_reaches_itself() -> None:
    policy = replace(POLICY, flows=(flow(label("web"), label("web"), "tcp/80"),))
    never = Never(network("10.1.0.3/32"), network("10.1.0.3/32"))
    assert said(policy, never, machines=fleet(6)) == ""
    assert told(policy, never, machines=fleet(6)) == []
    both = network("10.1.0.3/32", "10.1.0.6/32")
    assert said(policy, Never(both, both), machines=fleet(6)) == "m3 (10.1.0.3) -> m6 (10.1.0.6) by tcp/80"
    more = replace(never, target=network("10.1.0.0/16"))
    assert said(policy, more, machines=fleet(6)) == "m3 (10.1.0.3) -> m6 (10.1.0.6) by tcp/80"
    assert told(policy, more, machines=fleet(6)) != []


def test_a_machine_with_many_addresses_hides_none_that_has_one() -> None:
    policy = replace(POLICY, flows=(flow(label("web"), label("web"), "tcp/80"),))
    many = replace(port(3, WEB), ipv4=tuple(map(IPv4Address, ("10.77.0.1", "10.77.0.2", "10.77.0.3"))))
    one = replace(port(6, WEB), ipv4=(IPv4Address("10.77.0.6"),))
    never = Never(network("10.77.0.0/16"), network("10.77.0.0/16"))
    machines = replace(fleet(0), ports=(many,))
    assert said(policy, never, machines=machines) == ""
    assert told(policy, never, machines=machines) == []
    machines = replace(machines, ports=(many, one))
    assert said(policy, never, machines=machines) == "m3 (10.77.0.1) -> m6 (10.77.0.6) by tcp/80"
    assert told(policy, never, machines=machines) != []


def test_a_machine_with_two_ports_is_one_machine() -> None:
    policy = replace(POLICY, flows=(flow(label("web"), label("web"), "tcp/80"),))
    never = Never(network("10.77.0.0/16"), network("10.77.0.0/16"))
    first, second = (Bearer("m3", "m3", WEB, (IPv4Address(f"10.77.0.{number}"),)) for number in (1, 2))
    other = Bearer("m6", "m6", WEB | DB, (IPv4Address("10.77.0.6"),))
    asked = replace(policy, nevers=(never,))
    assert contradictions(asked, (), [first, second]) == ()
    assert len(contradictions(asked, (), [first, second, other])) == 1


def test_a_way_leads_through_the_host_and_not_through_what_is_outside() -> None:
    flows = (flow(label("web"), HOST, "tcp/22"), flow(HOST, label("db"), "tcp/22"))
    never = Never(label("web"), label("db"), hops=2)
    assert said(replace(POLICY, flows=flows), never, machines=fleet(0)) == "web -> host -> db by tcp/22"
    outside = network("10.9.0.0/16")
    flows = (flow(label("web"), outside, "tcp/22"), flow(outside, label("db"), "tcp/22"))
    assert said(replace(POLICY, flows=flows), never, machines=fleet(0)) == ""


def test_of_two_that_go_the_same_way_the_second_reaches_the_first() -> None:
    flows = (
        flow(label("web"), label("quarantine"), "tcp/22"),
        flow(label("db"), label("quarantine"), "tcp/22"),
        flow(label("quarantine"), label("web"), "tcp/22"),
    )
    never = Never(network("10.77.0.0/16"), network("10.77.0.3/32"), hops=2)
    first = replace(port(3, WEB), ipv4=(IPv4Address("10.77.0.3"),))
    second = replace(port(1, DB), ipv4=(IPv4Address("10.77.0.1"),))
    policy, machines = replace(POLICY, flows=flows), replace(fleet(0), ports=(first,))
    assert said(policy, never, machines=machines) == ""
    machines = replace(machines, ports=(first, second))
    way = "m1 (10.77.0.1) -> quarantine -> m3 (10.77.0.3) by tcp/22"
    assert said(policy, never, machines=machines) == way
    assert told(policy, never, machines=machines) != []


def test_who_is_excepted_may_lie_on_the_way() -> None:
    never = Never(WORLD, label("db"), (label("web"),), hops=2)
    assert said(POLICY, never, machines=fleet(0)) == "world -> web -> db by tcp/5432"


def test_one_machine_s_new_address_is_compared_with_the_networks_when_its_change_is_proven() -> None:
    policy = replace(QUARANTINED, nevers=(Never(label("quarantine"), network("10.77.0.0/16")),))
    prover = Prover()
    assert isinstance(prover.prove(ruleset(6, policy), policy, fleet(6), classes()), Certificate)
    before = port(1, DB)
    allowed = replace(before, ipv4=(IPv4Address("10.78.0.1"),))
    answer = prover.prove_port(before, allowed, port_elements(allowed, classes()), 7)
    assert isinstance(answer, Certificate)
    moved = replace(before, ipv4=(IPv4Address("10.77.0.1"),))
    answer = prover.prove_port(allowed, moved, port_elements(moved, classes()), 8)
    assert isinstance(answer, Counterexample)
    assert answer.says == "the policy allows quarantine -> m1 (10.77.0.1) by tcp/22"
    with pytest.raises(StateError, match="prove that first"):
        prover.prove_port(moved, allowed, port_elements(allowed, classes()), 9)
    whole = replace(fleet(6), ports=(moved, *fleet(6).ports[1:]))
    table = compile_ruleset(policy, whole, classes(), StateKind.TUPLES)
    answer = prover.prove(table, policy, whole, classes())
    assert isinstance(answer, Counterexample)
    assert answer.theorem == "never quarantine -> 10.77.0.0/16"


def test_a_second_machine_in_a_network_is_what_the_first_one_reaches() -> None:
    """The class and the network are known from the first one; alone it reaches nobody there."""
    policy = replace(
        POLICY,
        flows=(flow(label("web"), label("web"), "tcp/80"),),
        nevers=(Never(network("10.77.0.0/16"), network("10.77.0.0/16")),),
    )
    prover = Prover()
    assert isinstance(prover.prove(ruleset(6, policy), policy, fleet(6), classes()), Certificate)
    for number in (3, 6):
        moved = replace(port(number, WEB), ipv4=(IPv4Address(f"10.77.0.{number}"),))
        answer = prover.prove_port(port(number, WEB), moved, port_elements(moved, classes()), 7)
        assert isinstance(answer, Counterexample if number == 6 else Certificate)
    assert answer.says == "the policy allows m3 (10.77.0.3) -> m6 (10.77.0.6) by tcp/80"


def test_without_a_network_in_a_never_no_address_is_looked_at() -> None:
    nevers = Nevers(POLICY, NUMBERS)
    assert nevers.bearing(fleet(6)) == {}
    known = nevers.bearing(fleet(6))
    assert nevers.bearing_with(known, port(7, WEB)) is known


def test_a_machine_of_a_known_kind_adds_nothing_that_would_have_to_be_looked_at() -> None:
    nevers = Nevers(replace(POLICY, nevers=(Never(label("web"), network("10.1.0.0/16")),)), NUMBERS)
    known = nevers.bearing(fleet(6))
    assert nevers.bearing_with(known, port(9, WEB)) is known
    nobodys_class = replace(port(9, WEB), labels=PATIENT | WEB)
    assert nevers.bearing_with(known, nobodys_class) is known


NAMES = ("web", "db", "sick")
LABEL_SETS = tuple(map(frozenset[str], (("web",), ("db",), ("sick",), (), ("web", "db"), ("dns",))))
NAMED = Peer(PeerKind.NETWORK, "dns", (ip_network("10.1.1.1/32"),))
networks_ = st.lists(st.sampled_from(nevermeaning.NETWORKS), min_size=1, max_size=2, unique=True).map(
    lambda texts: network(*texts)
)
labelled = st.sampled_from([*map(label, NAMES), HOST, NAMED])
peers = st.one_of(labelled, labelled, networks_, st.sampled_from([WORLD, ANY]))
services = st.lists(st.sampled_from([service("tcp/22"), service("tcp/80")]), min_size=1, max_size=2)
flows = st.builds(Flow, st.one_of(labelled, peers), st.one_of(labelled, peers), services.map(tuple))
by_network = st.one_of(networks_, networks_, networks_, peers)
nevers_ = st.builds(
    Never,
    by_network,
    by_network,
    st.one_of(st.just(()), by_network.map(lambda peer: (peer,))),
    st.one_of(st.just(()), services.map(tuple)),
    st.integers(1, 3),
)
ADDRESSES = (
    *("10.0.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.1.1"),
    *("10.1.1.2", "10.1.1.3", "10.2.0.2", "192.0.2.2"),
)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Machines with addresses that are nobody else's, of which the host may have one as well."""
    addresses = draw(st.permutations([IPv4Address(text) for text in ADDRESSES]))
    ports: list[Port] = []
    others: list[Elsewhere] = []
    for number in range(draw(st.integers(1, 4))):
        mine = tuple(addresses.pop() for _ in range(draw(st.integers(1, 2))))
        labels = draw(st.sampled_from(LABEL_SETS))
        if draw(st.booleans()):
            ports.append(replace(port(number + 1, labels), ipv4=mine, ipv6=()))
        else:
            others.append(Elsewhere(f"uuid-{number}e", f"e{number}", mine, labels))
    own = (addresses.pop(),) if draw(st.booleans()) else ()
    return Fleet("host1", own, tuple(ports), tuple(others))


@given(
    st.lists(flows, min_size=1, max_size=4), st.lists(nevers_, min_size=4, max_size=6, unique=True), fleets()
)
def test_a_rule_is_broken_where_some_chain_of_flows_between_somebody_breaks_it(
    allowed: list[Flow], rules: list[Never], machines: Fleet
) -> None:
    numbers = {labels: number for number, labels in enumerate(LABEL_SETS, 1)}
    sick = LabelRule("sick", Match(), (Verdict.QUARANTINED,))
    for never in rules:
        policy = FirewallPolicy(labels=(sick,), flows=tuple(allowed), nevers=(never,))
        expected = nevermeaning.is_broken(policy, LABEL_SETS, machines)
        nevers = Nevers(policy, numbers)
        assert (nevers.breach(nevers.bearing(machines)) is not None) is expected
        assert bool(contradictions(policy, LABEL_SETS, bearers(machines))) is expected
        one_by_one = nevers.bearing(replace(machines, ports=()))
        for one in machines.ports:
            one_by_one = nevers.bearing_with(one_by_one, one)
        assert (nevers.breach(one_by_one) is not None) is expected
