from dataclasses import replace

import pytest

from undercroft.assurance.firewall.hostfacts import (
    ANYWHERE,
    BridgeFacts,
    Flowtable,
    OtherChain,
    PortFacts,
    Surroundings,
    TrafficFilter,
)
from undercroft.assurance.firewall.hostfindings import Finding, folded
from undercroft.assurance.firewall.portjudgement import SHIELD
from undercroft.assurance.firewall.surroundings import Danger, judge

PORT = PortFacts("vnet0", "virbr0", group_forward_mask=SHIELD)
CLEAN = Surroundings("undercroft", ports=(PORT,), bridges=(BridgeFacts("virbr0"),))


def dangers(facts: Surroundings) -> list[tuple[Danger, str]]:
    return [(finding.danger, finding.thing) for finding in judge(facts)]


def test_a_plain_bridge_with_a_plain_port_has_no_findings() -> None:
    assert judge(CLEAN) == ()


def test_tables_that_are_not_on_the_bridge_and_filters_that_only_drop_are_no_findings() -> None:
    facts = replace(
        CLEAN,
        chains=(
            OtherChain("ip", "nat", "PREROUTING", "prerouting", -100, effects=("nat",)),
            OtherChain("ip6", "mangle", "FORWARD", "forward", -150, effects=("field",)),
            OtherChain("bridge", "libvirt", "I-vnet0", "prerouting", -300),
            OtherChain("netdev", "t", "c", "ingress", 0, "eth0", ("fwd",), ("ifb0",)),
            OtherChain("netdev", "t", "c", "ingress", 0, "eth0", ("payload", "meta mark")),
        ),
        filters=(
            TrafficFilter("vnet0", "ingress", "police"),
            TrafficFilter("eth0", "ingress", "pedit"),
            TrafficFilter("eth0", "ingress", "mirred redirect", "ifb0"),
            TrafficFilter("eth0", "egress", "qdisc red"),
        ),
        flowtables=(Flowtable("inet", "t", "f", ("eth0", "eth1")),),
    )
    assert judge(facts) == ()


@pytest.mark.parametrize(
    ("chain", "danger"),
    [
        (OtherChain("bridge", "t", "c", "prerouting", -1, effects=("meta mark",)), Danger.BYPASS),
        (OtherChain("bridge", "t", "c", "prerouting", -1, effects=("broute",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "ingress", 0, "vnet0", ("fwd",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "egress", 0, "vnet0", ("payload",)), Danger.REWRITE),
        (OtherChain("netdev", "t", "c", "ingress", 0, "vnet0", ("meta mark",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "ingress", 0, "eth0", ("fwd",), ("vnet0",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "ingress", 0, "eth0", ("dup",), ("virbr0",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "ingress", 0, "eth0", ("fwd",), (ANYWHERE,)), Danger.UNKNOWN),
        (OtherChain("netdev", "t", "c", "egress", 0, "virbr0", ("meta mark",)), Danger.ASSUMPTION),
        (OtherChain("ip", "t", "c", "forward", 0, effects=("meta mark",)), Danger.ASSUMPTION),
        (OtherChain("netdev", "t", "c", "ingress", 0, "virbr0", ("payload",)), Danger.REWRITE),
        (OtherChain("ip6", "t", "c", "forward", 0, effects=("payload",)), Danger.ASSUMPTION),
        (OtherChain("inet", "t", "c", "forward", 0, effects=("queue",)), Danger.ASSUMPTION),
        (OtherChain("ip", "t", "c", "forward", 0, effects=("target NEW",)), Danger.UNKNOWN),
        (OtherChain("bridge", "t", "c", "prerouting", -1, effects=("expression new",)), Danger.UNKNOWN),
        (OtherChain("bridge", "t", "c", "forward", 1, effects=("queue",)), Danger.REWRITE),
        (OtherChain("bridge", "t", "c", "forward", 1, effects=("dup",)), Danger.COPY),
        (OtherChain("bridge", "t", "c", "forward", 1, readable=False), Danger.UNKNOWN),
    ],
)
def test_a_chain_of_another_table_is_found_by_what_its_rules_can_do(
    chain: OtherChain, danger: Danger
) -> None:
    name = f"chain {chain.family} t c"
    assert dangers(replace(CLEAN, chains=(chain,))) == [(danger, name)]


@pytest.mark.parametrize(
    ("item", "danger"),
    [
        (TrafficFilter("eth0", "ingress", "mirred redirect", "vnet0"), Danger.BYPASS),
        (TrafficFilter("eth0", "ingress", "mirred mirror", "vnet0"), Danger.BYPASS),
        (TrafficFilter("eth0", "ingress", "mirred redirect", ANYWHERE), Danger.UNKNOWN),
        (TrafficFilter("eth0", "ingress", "bpf"), Danger.UNKNOWN),
        (TrafficFilter("vnet0", "ingress", "bpf"), Danger.BYPASS),
        (TrafficFilter("virbr0", "egress", "skbedit"), Danger.BYPASS),
        (TrafficFilter("vnet0", "egress", "connmark"), Danger.BYPASS),
        (TrafficFilter("vnet0", "egress", "qdisc new"), Danger.UNKNOWN),
        (TrafficFilter("vnet0", "ingress", "skbedit"), Danger.BYPASS),
        (TrafficFilter("vnet0", "egress", "pedit"), Danger.REWRITE),
        (TrafficFilter("vnet0", "egress", "mirred mirror"), Danger.COPY),
        (TrafficFilter("vnet0", "egress", "ife"), Danger.UNKNOWN),
    ],
)
def test_a_filter_of_tc_is_found_by_what_it_does(item: TrafficFilter, danger: Danger) -> None:
    assert dangers(replace(CLEAN, filters=(item,))) == [
        (danger, f"tc filter {item.direction} of {item.device}")
    ]


@pytest.mark.parametrize(
    ("port", "danger"),
    [
        (replace(PORT, xdp=True), Danger.BYPASS),
        (replace(PORT, bridge=""), Danger.BYPASS),
        (replace(PORT, bridge_kind="openvswitch"), Danger.BYPASS),
        (replace(PORT, uppers=("vnet0.5",)), Danger.BYPASS),
        (replace(PORT, offloaded=True), Danger.BYPASS),
        (replace(PORT, group_forward_mask=0), Danger.BYPASS),
        (replace(PORT, vlan_tunnel=True), Danger.REWRITE),
        (replace(PORT, hairpin=True), Danger.ASSUMPTION),
        (replace(PORT, proxy=True), Danger.ASSUMPTION),
        (replace(PORT, protocol_free=False), Danger.ASSUMPTION),
        (replace(PORT, learning=False), Danger.COPY),
        (replace(PORT, promiscuity=2), Danger.COPY),
    ],
)
def test_each_flag_of_a_port_that_defeats_the_filter_is_a_finding(port: PortFacts, danger: Danger) -> None:
    assert dangers(replace(CLEAN, ports=(port,))) == [(danger, "port vnet0")]


@pytest.mark.parametrize(
    ("bridge", "danger"),
    [
        (BridgeFacts("virbr0", vlan_filtering=True), Danger.ASSUMPTION),
    ],
)
def test_each_flag_of_a_bridge_that_defeats_the_filter_is_a_finding(
    bridge: BridgeFacts, danger: Danger
) -> None:
    assert dangers(replace(CLEAN, bridges=(bridge,))) == [(danger, "bridge virbr0")]


def test_chains_of_ip_count_where_the_bridge_calls_them() -> None:
    nat = OtherChain("ip", "nat", "PREROUTING", "prerouting", -100, effects=("nat",))
    plain = OtherChain("ip", "filter", "FORWARD", "forward", 0)
    called = replace(CLEAN, bridge_calls=("bridge-nf-call-iptables",))
    assert judge(called) == ()
    assert judge(replace(CLEAN, chains=(plain, nat))) == ()
    assert [danger for danger, _ in dangers(replace(called, chains=(plain,)))] == [Danger.ASSUMPTION]
    assert [danger for danger, _ in dangers(replace(called, chains=(nat,)))] == [Danger.REWRITE]


def test_what_could_not_be_read_is_a_finding_and_the_worst_stands_first() -> None:
    facts = replace(CLEAN, unread=("tc of vnet0: not permitted",), ebtables=("broute",))
    assert dangers(facts) == [(Danger.BYPASS, "ebtables broute"), (Danger.UNKNOWN, "surroundings")]


@pytest.mark.parametrize(("port_mask", "bridge_mask"), [(0x4000, 0), (0, 0x4000), (0xFFFD, 0)])
def test_a_group_that_port_or_bridge_forwards_comes_to_the_table_and_is_no_finding(
    port_mask: int, bridge_mask: int
) -> None:
    port = replace(PORT, group_forward_mask=port_mask)
    bridge = BridgeFacts("virbr0", group_forward_mask=bridge_mask)
    assert judge(replace(CLEAN, ports=(port,), bridges=(bridge,))) == ()


def test_a_port_that_is_closed_is_no_finding_and_one_that_is_only_off_its_bridge_is() -> None:
    off = replace(PORT, bridge="", protocol_free=False)
    assert judge(replace(CLEAN, ports=(replace(off, up=False),))) == ()
    assert judge(replace(CLEAN, ports=(off,)))[0].danger is Danger.BYPASS


def test_a_bridge_that_speaks_the_spanning_tree_needs_a_port_that_forwards_its_group() -> None:
    talking = BridgeFacts("virbr0", stp=True, group_forward_mask=0x4000)
    assert judge(replace(CLEAN, bridges=(talking,))) == ()
    open_port = replace(PORT, group_forward_mask=0)
    found = judge(replace(CLEAN, ports=(open_port,), bridges=(talking,)))
    assert [finding.danger for finding in found] == [Danger.BYPASS, Danger.DISTURBANCE]
    assert "01:80:c2:00:00:00 " in found[0].found
    assert "01:80:c2:00:00:0e" not in found[0].found


def test_marks_that_the_table_itself_takes_away_are_no_finding_and_those_after_it_are() -> None:
    facts = replace(CLEAN, priorities=(("prerouting", -450), ("forward", -450)))
    before = OtherChain("bridge", "t", "c", "prerouting", -451, effects=("meta mark",))
    assert judge(replace(facts, chains=(before,))) == ()
    for chain in (replace(before, priority=-450), replace(before, hook="forward")):
        assert [finding.danger for finding in judge(replace(facts, chains=(chain,)))] == [Danger.BYPASS]


def test_a_flow_table_with_a_port_or_its_bridge_is_a_bypass() -> None:
    facts = replace(CLEAN, flowtables=(Flowtable("inet", "t", "f", ("eth0", "virbr0", "vnet0")),))
    (finding,) = judge(facts)
    assert (finding.danger, finding.thing) == (Danger.BYPASS, "flow table inet t f")
    assert finding.found.endswith("virbr0, vnet0")


def test_findings_that_are_alike_are_told_once() -> None:
    alike = [Finding(Danger.COPY, f"port vnet{number}", "open", f"close {number}") for number in range(3)]
    worse = Finding(Danger.BYPASS, "bridge b", "wrong", "mend")
    assert folded([*alike, worse]) == (
        worse,
        Finding(Danger.COPY, "port vnet0 and 2 more", "open", "close 0; the others alike"),
    )


def test_what_voids_a_certificate_is_what_passes_changes_or_contradicts() -> None:
    assert [danger for danger in Danger if danger.voids] == [
        Danger.BYPASS,
        Danger.REWRITE,
        Danger.ASSUMPTION,
    ]
