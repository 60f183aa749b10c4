"""The firewall's keys of a policy: what they come to, and that every mistake has its line and its cure."""

from dataclasses import replace
from datetime import date
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.errors import InputError
from undercroft.firewall.classes import Classes, assigned, labels_of
from undercroft.firewall.policy import Drift, FirewallPolicy, OtherPorts, Peer, PeerKind, Protocol, Service
from undercroft.firewall.reading import check, load_firewall
from undercroft.model.execution import Origin
from undercroft.model.verdict import Verdict
from undercroft.steady import reading as steady
from undercroft.steady.policy import Target

EXAMPLE = """\
version: 1
labels: {web: {machines: "web*"}, db: {machines: "db*"}, quarantine: {verdict: quarantined}}
services: {postgres: tcp/5432}
addresses: {patch-mirror: 192.0.2.10, web01: [10.0.0.1, "2001:db8::1"]}
firewall:
  - {from: web, to: db, allow: [postgres, icmp], log: true}
  - {from: [world, 10.0.0.0/8], to: web, allow: [tcp/443, tcp/8000-8010]}
  - {from: quarantine, to: patch-mirror, allow: tcp/443}
never:
  - {from: quarantine, to: "*", except: patch-mirror}
  - {from: world, to: db}
ports: {machines: [vnet, tap], uplinks: eth0, others: outside}
firewall_log: {packets: 5, per: minute, burst: 7, group: 3}
"""
OF_THE_ISSUE = """\
labels:   {web: {machines: "web*"}, db: {machines: "db*"}, quarantine: {verdict: quarantined}}
firewall:
  - {from: web, to: db, allow: [tcp/5432]}
  - {from: world, to: web, allow: [tcp/443, tcp/80]}
  - {from: quarantine, to: patch-mirror, allow: [tcp/443]}
never:
  - {from: quarantine, to: "*", except: patch-mirror}
  - {from: world, to: db}
"""


def problems(text):
    return [str(problem) for problem in check([("p.yaml", text.encode())]).problems]


def test_a_policy_is_what_its_keys_say():
    policy = load_firewall([("p.yaml", EXAMPLE.encode())])
    first, second, third, fourth = policy.flows
    assert (str(first.source), str(first.target), first.log, first.place) == ("web", "db", True, "p.yaml:6")
    assert first.services == (Service(Protocol.TCP, 5432, 5432), Service(Protocol.ICMP))
    assert [str(flow.source) for flow in (second, third)] == ["world", "10.0.0.0/8"]
    assert str(third.services[1]) == "tcp/8000-8010"
    assert fourth.target.kind is PeerKind.NETWORK
    assert [str(network) for network in fourth.target.networks] == ["192.0.2.10/32"]
    assert policy.ports.uplinks == ("eth0",)
    assert policy.ports.others is OtherPorts.OUTSIDE
    assert (policy.log.packets, policy.log.per_s, policy.log.burst, policy.log.group) == (5, 60, 7, 3)
    assert policy.quarantine_labels == {"quarantine"}


def test_the_rest_of_the_policy_is_read_from_the_same_file():
    assert steady.check([("p.yaml", EXAMPLE.encode())], date(2026, 1, 1)).problems == ()
    assert check([("p.yaml", b"version: 1\ndefaults: {fixable: 3d}\n")]).policy == FirewallPolicy()


def test_names_may_be_used_before_another_file_gives_them():
    rules = b"version: 1\nfirewall: [{from: web, to: db, allow: sql}]\n"
    names = b"version: 1\nlabels: {web: {machines: w}, db: {owner: me}}\nservices: {sql: tcp/1}\n"
    assert len(load_firewall([("a", rules), ("b", names)]).flows) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "firewall: [{from: wrld, to: '*', allow: icmp}]",
            "2:19: firewall[1].from: found 'wrld'; did you mean",
        ),
        ("firewall: [{from: 10.0.0.1/8, to: host, allow: icmp}]", "say 10.0.0.0/8"),
        ("firewall: [{from: world, to: host}]", "firewall[1]: allow is missing"),
        ("firewall: [{from: world, to: host, allow: []}]", "found an empty list"),
        ("firewall: [{from: world, to: host, allow: tcp/70000}]", "ports go from 1 to 65535"),
        ("firewall: [{from: world, to: host, allow: tcp/1-5000}]", "at most 1024 ports"),
        ("firewall: [{from: world, to: host, allow: tcp/9-5}]", "the lower one first"),
        ("firewall: [{from: world, to: host, allow: icmp, log: yes}]", "possible: true, false"),
        ("firewall: {from: world}", "firewall: found a mapping; a list is possible"),
        ("never: [{from: world, to: host, hops: 0}]", "1 is possible, a direct flow"),
        ("never: [{from: world, to: host, hops: 99}]", "a whole number from 0 to 8"),
        ("labels: {world: {machines: a}}", "labels: found 'world'"),
        ("labels: {web: {}}", "names no machine"),
        ("labels: {web: {verdict: sick}}", "possible: steady, drifting, quarantined, unknown"),
        ("addresses: {a: 10.0.0.0/8}", "an IPv4 or IPv6 address is possible"),
        ("services: {a: tcp/x}", "services.a: found 'tcp/x'"),
        ("ports: {uplinks: a-very-long-device}", "at most 15 characters"),
        ("ports: {others: maybe}", "possible: denied, outside"),
        ("firewall_log: {per: year}", "possible: second, minute, hour"),
        ("firewall_log: {group: 65536}", "a whole number from 0 to 65535"),
        ("firewall_drift: ignore", "firewall_drift: found 'ignore'; possible: repair, report"),
        ("firewall_drift: [repair]", "firewall_drift: found a list; possible: repair, report"),
        ("firewall_openings: 0", "found 0, with which nothing can be opened; leave it out"),
        ("firewall_openings: 200000", "a whole number from 0 to 100000"),
        (
            "labels: {back: {origin: restored}}",
            "labels.back.origin: found 'restored'; did you mean 'restore'",
        ),
        ("labels: {back: {origin: []}}", "labels.back.origin: found an empty list; possible: first, start"),
        ("labels: {back: {verdict: []}}", "labels.back.verdict: found an empty list; possible: steady"),
        ("labels: {back: []}", "labels.back: found an empty list; leave the label out"),
        ("labels: {back: {origins: restore}}", "labels.back: found the key 'origins'; did you mean 'origin'"),
        ("addresses: {a: 'fe80::1%eth0'}", "an IPv4 or IPv6 address is possible"),
        ("firewall: [{from: 'fe80::1%eth0', to: host, allow: icmp}]", "found 'fe80::1%eth0'"),
    ],
)
def test_a_mistake_has_its_place_and_its_cure(line, said):
    found = problems(f"version: 1\n{line}\n")
    assert any(said in problem and problem.startswith("p.yaml:2:") for problem in found), found


def test_all_mistakes_are_told_at_once():
    text = "version: 1\nfirewall:\n  - {from: a, to: b, allow: x}\n  - {from: c, to: host, allow: icmp}\n"
    assert len(problems(text)) == 4
    with pytest.raises(InputError, match="firewall\\[2\\]"):
        load_firewall([("p.yaml", text.encode())])


def test_the_digest_is_of_what_is_said_and_not_of_where():
    one = load_firewall([("p.yaml", EXAMPLE.encode())])
    moved = load_firewall([("q.yaml", b"# moved\n" + EXAMPLE.encode())])
    other = load_firewall([("p.yaml", EXAMPLE.replace("5432", "5433").encode())])
    assert one.digest == moved.digest != other.digest


def test_a_quarantined_machine_has_the_quarantines_label_alone():
    policy = load_firewall([("p.yaml", EXAMPLE.encode())])
    assert labels_of(policy, Target("web01"), Verdict.STEADY) == {"web"}
    assert labels_of(policy, Target("web01"), None) == {"web"}
    assert labels_of(policy, Target("web01"), Verdict.QUARANTINED) == {"quarantine"}
    assert labels_of(FirewallPolicy(), Target("web01"), Verdict.QUARANTINED) == frozenset()


def test_a_label_may_ask_how_the_present_execution_began():
    text = b"labels: {restored: {origin: [restore, revert, restore]}, old: {machines: a*, origin: backup}}\n"
    policy = load_firewall([("p.yaml", text)])
    assert [rule.origins for rule in policy.labels] == [(Origin.RESTORE, Origin.REVERT), (Origin.BACKUP,)]
    assert labels_of(policy, Target("a1"), None, Origin.REVERT) == {"restored"}
    assert labels_of(policy, Target("a1"), None, Origin.BACKUP) == {"old"}
    assert labels_of(policy, Target("b1"), None, Origin.BACKUP) == frozenset()


def test_a_machine_of_which_nobody_knows_how_it_began_has_no_label_of_an_origin():
    policy = load_firewall([("p.yaml", b"labels: {fresh: {origin: [first, start, unknown]}}\n")])
    assert labels_of(policy, Target("a1"), Verdict.STEADY) == frozenset()


def test_a_quarantined_machine_has_no_label_of_its_origin():
    policy = load_firewall([("p.yaml", b"labels: {back: {origin: restore}, q: {verdict: quarantined}}\n")])
    assert labels_of(policy, Target("a1"), Verdict.QUARANTINED, Origin.RESTORE) == {"q"}


def test_what_a_foreign_change_meets_is_repair_unless_the_policy_says_report():
    assert load_firewall([("p.yaml", b"version: 1\n")]).drift is Drift.REPAIR
    reported = load_firewall([("p.yaml", b"firewall_drift: report\n")])
    assert reported.drift is Drift.REPORT
    assert reported.digest != FirewallPolicy().digest


def test_new_flows_have_a_rate_that_the_policy_may_say():
    assert load_firewall([("p.yaml", b"version: 1\n")]).openings_per_s == 1000
    assert load_firewall([("p.yaml", b"firewall_openings: 5000\n")]).openings_per_s == 5000


@pytest.mark.parametrize(
    "line",
    [
        "ports: {others: denied}",
        "firewall_log: {burst: 1}",
        "firewall_log: {per: hour}",
        "firewall_drift: repair",
        "firewall_openings: 1000",
    ],
)
def test_two_files_that_say_the_same_setting_contradict_each_other(line):
    found = check([("a.yaml", line.encode()), ("b.yaml", line.encode())]).problems
    assert [(problem.place.file, "said already at a.yaml:1" in problem.text) for problem in found] == [
        ("b.yaml", True)
    ]


def test_the_example_of_the_documentation_asks_for_the_mirrors_addresses_and_is_whole_with_them():
    found = problems(OF_THE_ISSUE)
    assert [problem.split(":")[1] for problem in found] == ["5", "7"]
    assert all("addresses: {patch-mirror: 192.0.2.10}" in problem for problem in found)
    policy = load_firewall(
        [
            ("p.yaml", OF_THE_ISSUE.encode()),
            ("q.yaml", b'addresses: {patch-mirror: [192.0.2.10, "2001:db8::10"]}'),
        ]
    )
    mirror = Peer(
        PeerKind.NETWORK, "patch-mirror", (ip_network("192.0.2.10/32"), ip_network("2001:db8::10/128"))
    )
    assert [(str(flow.source), str(flow.target)) for flow in policy.flows] == [
        ("web", "db"), ("world", "web"), ("quarantine", "patch-mirror"),
    ]  # fmt: skip
    assert policy.flows[2].target == mirror
    assert policy.nevers[0].exceptions == (mirror,)
    assert labels_of(policy, Target("patch-mirror"), None) == {"patch-mirror"}


def test_a_rule_to_everything_contradicts_the_never_of_the_example_and_names_the_flow():
    text = OF_THE_ISSUE.replace("never:", '  - {from: world, to: "*", allow: tcp/22}\nnever:')
    found = problems(f"{text}addresses: {{patch-mirror: 192.0.2.10}}\n")
    assert found == [
        "p.yaml:9:1: never from world to db (p.yaml:9), but allowed: world to db tcp/22 (p.yaml:6);"
        " change one of them"
    ]


def test_more_pairs_than_are_possible_are_refused_at_the_rule_that_has_them():
    names = ", ".join(f"n{number}" for number in range(101))
    labels = ", ".join(f"n{number}: {{machines: n{number}}}" for number in range(101))
    found = problems(f"labels: {{{labels}}}\nfirewall: [{{from: [{names}], to: [{names}], allow: icmp}}]\n")
    assert len(found) == 1
    assert found[0].startswith("p.yaml:2:")
    assert "more than 10,000 pairs" in found[0]


def test_a_class_keeps_its_number_and_a_freed_number_waits():
    web, db, both = frozenset({"web"}), frozenset({"db"}), frozenset({"web", "db"})
    first = assigned(Classes(), [web, db, web])
    second = assigned(first, [db, both])
    assert second.number(db) == first.number(db)
    assert second.number(both) not in first.numbers.values()


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="abcwdhost:{}[]\"', \n-*/0123456789", max_size=120))
def test_any_text_is_read_or_has_its_mistakes(text):
    found = check([("p.yaml", f"labels: {{web: {{machines: w}}}}\nfirewall: {text}\n".encode())])
    assert (found.policy is None) is bool(found.problems)


LABELS = 'labels: {web: {machines: "web*"}, db: {machines: "db*"}, quarantine: {verdict: quarantined}}\n'


def test_vlans_are_granted_to_labels_by_their_ids():
    text = LABELS + "vlans: {web: [20, 10, 20], db: 5}\naddresses: {gate: 10.0.0.9}\n"
    policy = load_firewall([("p.yaml", text.encode()), ("q.yaml", b"vlans: {gate: [1, 4094]}\n")])
    grants = [(grant.label, grant.ids, grant.place) for grant in policy.vlans]
    assert grants[:2] == [("web", (10, 20), "p.yaml:2"), ("db", (5,), "p.yaml:2")]
    assert grants[2] == ("gate", (1, 4094), "q.yaml:1")
    assert policy.vlans_of(frozenset({"web", "gate", "other"})) == {1, 10, 20, 4094}
    assert policy.vlans_of(frozenset({"quarantine"})) == frozenset()
    without = load_firewall([("p.yaml", LABELS.encode())])
    assert without.digest != replace(without, vlans=policy.vlans).digest


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vlans: {wbe: 5}", "found 'wbe', no label; did you mean 'web'? possible: db, quarantine, web"),
        ("vlans: {web: 0}", "found 0, which is no VLAN; 1 to 4094 are possible"),
        ("vlans: {web: [5, 0]}", "found 0, which is no VLAN"),
        ("vlans: {web: 4095}", "a whole number from 0 to 4094 is possible"),
        ("vlans: {web: []}", "found an empty list; leave the label out"),
        ("vlans: {web: [5], web: [6]}", "web stands already at p.yaml:2:"),
        ("vlans: [web]", "vlans: found a list"),
        ("vlans: {web: {ids: 5}}", "vlans.web: found a mapping"),
        ("vlans: {host: 5}", "a name is letters"),
    ],
)
def test_a_vlan_that_cannot_be_is_a_mistake_with_its_line_and_its_cure(line, said):
    (problem, *_) = problems(LABELS + line + "\n")
    assert problem.startswith("p.yaml:2:")
    assert said in problem
