from dataclasses import replace

import pytest

from undercroft.assurance.firewall.surroundings import (
    BridgeFacts,
    Danger,
    OtherChain,
    PortFacts,
    Surroundings,
    TrafficFilter,
    judge,
)

PORT = PortFacts("vnet0", "virbr0", shields_host=True)
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
            OtherChain("bridge", "libvirt", "I-vnet0", "prerouting", -300),
            OtherChain("netdev", "t", "c", "ingress", 0, device="eth0", effects=("fwd",)),
        ),
        filters=(TrafficFilter("vnet0", "ingress", "police"), TrafficFilter("eth0", "ingress", "pedit")),
    )
    assert judge(facts) == ()


@pytest.mark.parametrize(
    ("chain", "danger"),
    [
        (OtherChain("bridge", "t", "c", "prerouting", -1, effects=("meta mark",)), Danger.BYPASS),
        (OtherChain("bridge", "t", "c", "prerouting", -1, effects=("broute",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "ingress", 0, "vnet0", ("fwd",)), Danger.BYPASS),
        (OtherChain("netdev", "t", "c", "egress", 0, "vnet0", ("payload",)), Danger.REWRITE),
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
        (TrafficFilter("eth0", "ingress", "mirred redirect"), Danger.BYPASS),
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
        (replace(PORT, shields_host=False), Danger.BYPASS),
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
        (BridgeFacts("virbr0", group_forward_mask=8), Danger.ASSUMPTION),
        (BridgeFacts("virbr0", stp=True), Danger.ASSUMPTION),
    ],
)
def test_each_flag_of_a_bridge_that_defeats_the_filter_is_a_finding(
    bridge: BridgeFacts, danger: Danger
) -> None:
    assert dangers(replace(CLEAN, bridges=(bridge,))) == [(danger, "bridge virbr0")]


def test_chains_of_ip_count_where_the_bridge_calls_them() -> None:
    nat = OtherChain("ip", "nat", "PREROUTING", "prerouting", -100, effects=("nat",))
    called = replace(CLEAN, bridge_calls=("bridge-nf-call-iptables",))
    assert [danger for danger, _ in dangers(called)] == [Danger.ASSUMPTION]
    assert [danger for danger, _ in dangers(replace(called, chains=(nat,)))] == [Danger.REWRITE]


def test_what_could_not_be_read_is_a_finding_and_the_worst_stands_first() -> None:
    facts = replace(CLEAN, unread=("tc of vnet0: not permitted",), ebtables=("broute",))
    assert dangers(facts) == [(Danger.BYPASS, "ebtables broute"), (Danger.UNKNOWN, "surroundings")]
