"""What `doctor` says of the packet filter, on hosts of which one thing after the other is broken."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from filterproofs import POLICY, ruleset
from memoryfilter import MemoryFilter

from undercroft.assurance.firewall.hostfacts import BridgeFacts, PortFacts, Surroundings, TrafficFilter
from undercroft.assurance.firewall.portjudgement import SHIELD
from undercroft.errors import DeniedError, NotFoundError
from undercroft.firewall.policy import LogRate, OtherPorts, Ports
from undercroft.firewall.stored import to_text
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.usecases.fleet.doctor.check import looked
from undercroft.usecases.fleet.doctor.filter import FILTER_LOOKS, FilterHost
from undercroft.usecases.fleet.doctor.health import Check, Health

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
APPLIED = AppliedPolicy(3, POLICY.digest, to_text(POLICY), "root", "", AT)
STATE = FilterState("host1", 3, POLICY.digest, 7, 2, AT, "", AT)
PORTS = tuple(PortFacts(f"vnet{number}", "br0", group_forward_mask=SHIELD) for number in (1, 2))
FACTS = Surroundings("undercroft", ports=PORTS, bridges=(BridgeFacts("br0"),))
LINKS = (("eth0", "br0"), ("vnet1", "br0"), ("vnet2", "br0"))


def host() -> FilterHost:
    """A host on which a policy is in force."""
    kernel = MemoryFilter()
    kernel.replace(ruleset(2))
    return of(kernel)


def of(kernel: MemoryFilter) -> FilterHost:
    return FilterHost(
        "host1",
        kernel.features,
        kernel.tables,
        taps=lambda prefixes: ("vnet1", "vnet2"),
        gather=lambda table, taps, priorities: FACTS,
        bridge_ports=lambda: LINKS,
        applied=lambda: (APPLIED, STATE),
    )


def found(host: FilterHost) -> dict[str, Check]:
    """Return the last check of each name."""
    return {
        check.name: check
        for name, look, cure in FILTER_LOOKS
        for check in looked(name, lambda look=look: look(host), cure)  # type: ignore[misc]
    }


def test_a_host_that_filters_as_it_should_has_nothing_to_mend() -> None:
    checks = found(host())
    assert {name: check.health for name, check in checks.items()} == dict.fromkeys(
        ("packet filter", "firewall", "around the firewall", "uplinks"), Health.OK
    )
    assert "sets of addresses and ports" in checks["packet filter"].found
    assert "2 machines, proven on 2026-03-01" in checks["firewall"].found


def test_without_a_policy_nothing_is_filtered_and_nothing_is_wrong() -> None:
    for applied in ((None, None), (replace(APPLIED, body="", digest=""), STATE)):
        checks = found(replace(of(MemoryFilter()), applied=lambda applied=applied: applied))  # type: ignore[misc]
        assert checks["firewall"].found == "no policy is in force: nothing is filtered"
        assert {check.health for check in checks.values()} == {Health.OK}
        assert "around the firewall" not in checks


def test_a_record_that_is_not_there_yet_is_no_policy() -> None:
    def missing() -> tuple[None, None]:
        raise NotFoundError("no record")

    assert found(replace(of(MemoryFilter()), applied=missing))["firewall"].health is Health.OK


def test_a_table_that_is_left_though_nothing_is_in_force_is_told() -> None:
    check = found(replace(host(), applied=lambda: (None, None)))["firewall"]
    assert check.health is Health.WARN
    assert "nft delete table bridge undercroft" in check.cure


@pytest.mark.parametrize(
    ("state", "health", "words"),
    [
        (None, Health.FAIL, "has said nothing of it"),
        (replace(STATE, number=2), Health.FAIL, "this host's agent has policy 2"),
        (replace(STATE, problem="web01 and web02 claim 10.0.0.1"), Health.FAIL, "web01 and web02 claim"),
        (replace(STATE, proven_at=None), Health.WARN, "not proven yet"),
    ],
)
def test_what_the_agent_says_of_the_policy_is_told(
    state: FilterState | None, health: Health, words: str
) -> None:
    check = found(replace(host(), applied=lambda: (APPLIED, state)))["firewall"]
    assert check.health is health
    assert words in check.found
    assert check.cure


def test_a_policy_without_a_table_in_the_kernel_is_a_failure_whatever_the_record_says() -> None:
    check = found(of(MemoryFilter()))["firewall"]
    assert check.health is Health.FAIL
    assert "the kernel has no table undercroft" in check.found


def test_a_kernel_that_cannot_hold_the_policy_is_a_failure_and_a_warning_before_there_is_one() -> None:
    kernel = MemoryFilter()
    kernel.can = replace(kernel.can, dynamic_sets=False)
    assert found(of(kernel))["packet filter"].health is Health.FAIL
    check = found(replace(of(kernel), applied=lambda: (None, None)))["packet filter"]
    assert check.health is Health.WARN
    assert "dynamic sets" in check.cure


def test_a_kernel_that_tells_of_nothing_costs_what_is_told_of_denials() -> None:
    kernel = MemoryFilter()
    kernel.can = replace(kernel.can, logs=False, conntrack=True)
    quiet = replace(POLICY, log=LogRate(0))
    applied = replace(APPLIED, body=to_text(quiet))
    check = found(replace(of(kernel), applied=lambda: (applied, STATE)))["packet filter"]
    assert check.health is Health.WARN
    assert "what is denied is told nowhere" in check.found
    assert "tracks connections" in check.found


@pytest.mark.parametrize(
    ("facts", "health", "words"),
    [
        (
            replace(FACTS, filters=(TrafficFilter("vnet1", "ingress", "bpf"),)),
            Health.FAIL,
            "bypass: tc filter",
        ),
        (replace(FACTS, bridges=(BridgeFacts("br0", vlan_filtering=True),)), Health.FAIL, "it filters VLANs"),
        (replace(FACTS, unread=("tc: not permitted",)), Health.UNKNOWN, "tc: not permitted"),
        (
            replace(FACTS, ports=tuple(replace(port, promiscuity=2) for port in PORTS)),
            Health.WARN,
            "copy: port vnet1 and 1 more: somebody listens",
        ),
    ],
)
def test_what_is_around_the_table_is_told_once_with_its_cure(
    facts: Surroundings, health: Health, words: str
) -> None:
    check = found(replace(host(), gather=lambda table, taps, priorities: facts))["around the firewall"]
    assert check.health is health
    assert words in check.found
    assert check.cure


def test_a_bridge_that_no_uplink_leads_out_of_is_named_once_for_each_port() -> None:
    links = (*LINKS, ("eth1", "br1"), ("vnet3", "br1"), ("eth2", "br2"))
    three = replace(host(), taps=lambda prefixes: ("vnet1", "vnet2", "vnet3"))
    check = found(replace(three, bridge_ports=lambda: links))["uplinks"]
    assert check.health is Health.WARN
    assert check.found.endswith("nobody outside by eth1 on br1")
    open_policy = replace(POLICY, ports=Ports(others=OtherPorts.OUTSIDE))
    applied = replace(APPLIED, body=to_text(open_policy))
    other = replace(host(), bridge_ports=lambda: links, applied=lambda: (applied, STATE))
    assert "uplinks" not in found(other)


def test_a_tap_is_a_machine_s_port_whatever_it_is_called_as_the_table_has_it() -> None:
    links = (*LINKS, ("db-nic", "br1"), ("eth1", "br1"), ("spare", "br1"))
    named_by_others = replace(
        host(), bridge_ports=lambda: links, taps=lambda prefixes: ("db-nic", "spare", "vnet1", "vnet2")
    )
    check = found(named_by_others)["uplinks"]
    assert check.health is Health.WARN
    assert check.found.endswith("nobody outside by eth1 on br1")


def test_a_tap_that_the_policy_calls_an_uplink_is_told_as_the_table_closes_it() -> None:
    policy = replace(POLICY, ports=Ports(uplinks=("eth0", "tap0"), others=OtherPorts.OUTSIDE))
    bridged = replace(
        host(),
        taps=lambda prefixes: ("tap0", "vnet1", "vnet2"),
        applied=lambda: (replace(APPLIED, body=to_text(policy)), STATE),
    )
    check = found(bridged)["uplinks"]
    assert check.health is Health.WARN
    assert check.found.endswith("as it does a machine's: tap0")


def _denied(*_: object) -> None:
    raise DeniedError("nftables: this needs CAP_NET_ADMIN")


@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("features", "packet filter"),
        ("tables", "firewall"),
        ("gather", "around the firewall"),
        ("bridge_ports", "uplinks"),
    ],
)
def test_what_only_root_may_see_is_unknown_to_others_and_keeps_no_other_check_back(
    way: str, name: str
) -> None:
    refused: Callable[..., None] = _denied
    checks = found(replace(host(), **{way: refused}))  # type: ignore[arg-type]
    assert checks[name].health is Health.UNKNOWN
    assert checks[name].cure == "sudo undercroft doctor"
    assert {check.health for other, check in checks.items() if other != name} == {Health.OK}
