"""The applied policy's text: every policy comes back as it was; nothing else is taken for one."""

import json
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from firewallworld import POLICIES
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.errors import StateError
from undercroft.firewall.policy import (
    MAX_HOPS,
    Drift,
    FirewallPolicy,
    Flow,
    LabelRule,
    LogRate,
    NamedAddresses,
    Never,
    OtherPorts,
    Peer,
    PeerKind,
    Ports,
    Protocol,
    Service,
    VlanGrant,
)
from undercroft.firewall.stored import from_text, to_text
from undercroft.model.execution import Origin
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True).filter(
    lambda text: text not in {"world", "host", "any"}
)
TEXTS = st.text(max_size=20)
NETWORKS = st.one_of(
    st.builds(
        lambda number, bits: IPv4Network((number >> (32 - bits) << (32 - bits), bits)),
        st.integers(0, 2**32 - 1),
        st.integers(0, 32),
    ),
    st.builds(
        lambda number, bits: IPv6Network((number >> (128 - bits) << (128 - bits), bits)),
        st.integers(0, 2**128 - 1),
        st.integers(0, 128),
    ),
)
PEERS = st.one_of(
    st.sampled_from([Peer(PeerKind.ANY), Peer(PeerKind.WORLD), Peer(PeerKind.HOST)]),
    st.builds(Peer, st.just(PeerKind.LABEL), NAMES),
    st.builds(
        Peer,
        st.just(PeerKind.NETWORK),
        st.just("") | NAMES,
        st.lists(NETWORKS, min_size=1, max_size=3).map(tuple),
    ),
)
SERVICES = st.one_of(
    st.just(Service(Protocol.ICMP)),
    st.builds(
        lambda protocol, low, more: Service(protocol, low, min(low + more, 65_535)),
        st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP]),
        st.integers(1, 65_535),
        st.integers(0, 1023),
    ),
)
SPANS_S = st.sampled_from([1, 60, 3600])
PATTERNS = st.lists(TEXTS, max_size=2).map(tuple)
POLICY_VALUES = st.builds(
    FirewallPolicy,
    labels=st.lists(
        st.builds(
            LabelRule,
            NAMES,
            st.builds(Match, PATTERNS, PATTERNS, PATTERNS, PATTERNS, PATTERNS),
            st.lists(st.sampled_from(Verdict), max_size=2).map(tuple),
            place=TEXTS,
            origins=st.lists(st.sampled_from(Origin), max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    flows=st.lists(
        st.builds(
            Flow, PEERS, PEERS, st.lists(SERVICES, min_size=1, max_size=3).map(tuple), st.booleans(), TEXTS
        ),
        max_size=3,
    ).map(tuple),
    nevers=st.lists(
        st.builds(
            Never,
            PEERS,
            PEERS,
            st.lists(PEERS, max_size=2).map(tuple),
            st.lists(SERVICES, max_size=2).map(tuple),
            st.integers(1, MAX_HOPS),
            TEXTS,
        ),
        max_size=2,
    ).map(tuple),
    addresses=st.lists(
        st.builds(NamedAddresses, NAMES, st.lists(NETWORKS, max_size=2).map(tuple), TEXTS),
        max_size=3,
        unique_by=lambda named: named.name,
    ).map(tuple),
    ports=st.builds(
        Ports,
        st.lists(st.sampled_from(["vnet", "tap"]), max_size=2).map(tuple),
        st.lists(st.sampled_from(["eth0", "bond0.7"]), max_size=2).map(tuple),
        st.sampled_from(OtherPorts),
    ),
    log=st.builds(
        LogRate,
        st.integers(0, 100),
        st.sampled_from([1, 60, 3600]),
        st.integers(0, 9),
        st.integers(0, 65_535),
    ),
    tcp_state_s=st.integers(1, 86_400),
    other_state_s=st.integers(1, 86_400),
    drift=st.sampled_from(Drift),
    openings_per_s=st.integers(1, 100_000),
    vlans=st.lists(
        st.builds(VlanGrant, NAMES, st.lists(st.integers(1, 4094), min_size=1, max_size=2).map(tuple), TEXTS),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=200, deadline=None)
@given(POLICY_VALUES)
def test_every_policy_comes_back_with_its_places_and_its_digest(policy):
    text = to_text(policy)
    assert text.isascii()
    again = from_text(text)
    assert again == policy
    assert again.digest == policy.digest
    assert to_text(again) == text


def changed(path, value):
    """Return the text of a policy with one value changed."""
    stored = json.loads(to_text(POLICIES[0]))
    place = stored
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return json.dumps(stored, sort_keys=True, separators=(",", ":"))


SERVICE = ("policy", "flows", 0, "services", 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("9" * 10_000, "no JSON"),
        ("null", "format 'None'"),
        (changed(("format",), 99), "format '99', this version reads 1"),
        (to_text(POLICIES[0])[:-1], "no JSON"),
        (to_text(POLICIES[0]) + " ", "written otherwise"),
        (json.dumps(json.loads(to_text(POLICIES[0]))), "written otherwise"),
        (changed(("policy", "more"), 1), "policy has 'more', which Undercroft"),
        (changed((*SERVICE, "more"), 1), "services has 'more', which Undercroft"),
        (changed(("more",), 1), "it has 'more', which Undercroft"),
        (changed(("policy", "flows"), {}), "flows: expected a list"),
        (changed((*SERVICE, "high"), 70_000), "service tcp 5432 to 70000 is none"),
        (changed((*SERVICE, "low"), 0), "is none"),
        (changed((*SERVICE, "low"), 5432.0), "expected an integer"),
        (changed((*SERVICE, "protocol"), "gre"), "expected one of tcp, udp"),
        (changed(("policy", "flows", 0, "services"), []), "a flow without services"),
        (changed(("policy", "flows", 0, "source", "kind"), "network"), "peer network"),
        (changed(("policy", "flows", 0, "source", "networks"), ["10.0.0.1/8"]), "is no network"),
        (changed(("policy", "labels", 0, "name"), "no name"), "label 'no name' is no name"),
        (changed(("policy", "ports", "uplinks"), ["eth0\n"]), "device"),
        (changed(("policy", "log", "per_s"), 7), "log in 7 seconds"),
        (
            changed(("policy", "vlans"), [{"label": "web", "ids": [4095], "place": ""}]),
            "VLANs of label 'web'",
        ),
        (changed(("policy", "tcp_state_s"), 0), "idle flows kept for 0 seconds"),
    ],
)
def test_what_is_no_policy_is_refused_with_what_is_wrong_and_the_cure(text, said):
    with pytest.raises(StateError, match="apply the policy again") as error:
        from_text(text)
    assert said in str(error.value)


EARLIER = Path(__file__).parent / "stored"
"""Texts as earlier versions wrote them. They are never written anew: what is on record stays as it is."""


@pytest.mark.parametrize("path", sorted(EARLIER.iterdir()), ids=lambda path: path.name)
def test_what_an_earlier_version_put_on_record_is_read_with_the_defaults_of_what_has_come_since(path):
    policy = from_text(path.read_text())
    assert [rule.name for rule in policy.labels] == ["web", "db", "quarantine", "restored"]
    assert policy.labels[3].origins == (Origin.RESTORE, Origin.REVERT)
    assert (len(policy.flows), len(policy.nevers), policy.nevers[1].hops) == (3, 2, 2)
    assert policy.vlans == (VlanGrant("db", (7, 8), "policy.yaml:20"),)
    assert policy.ports == Ports(("vnet", "tap"), ("eth0",), OtherPorts.OUTSIDE)
    assert (policy.drift, policy.tcp_state_s, policy.openings_per_s) == (Drift.REPORT, 3600, 1000)
    assert from_text(to_text(policy)) == policy


def test_a_field_that_has_come_since_has_its_default():
    """As those of today stand for those that are to come: all of a policy's fields have defaults."""
    stored = json.loads(to_text(POLICIES[0]))
    for gone in ("drift", "vlans", "tcp_state_s", "ports", "log"):
        del stored["policy"][gone]
    for rule in stored["policy"]["labels"]:
        del rule["origins"]
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"))
    policy = from_text(text)
    assert policy.flows == POLICIES[0].flows
    assert (policy.drift, policy.vlans, policy.ports) == (Drift.REPAIR, (), Ports())
    assert all(rule.origins == () for rule in policy.labels)


def test_a_field_that_was_always_there_may_not_be_missing():
    stored = json.loads(to_text(POLICIES[0]))
    del stored["policy"]["flows"][0]["services"]
    with pytest.raises(StateError, match="the fields of Flow are"):
        from_text(json.dumps(stored, sort_keys=True, separators=(",", ":")))


def test_a_never_without_an_end_is_refused():
    policy = replace(FirewallPolicy(), nevers=(Never(Peer(PeerKind.WORLD), Peer(PeerKind.HOST), hops=9),))
    with pytest.raises(StateError, match="over 9 hops"):
        from_text(to_text(policy))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_refused(text):
    with pytest.raises(StateError):
        from_text(text)
