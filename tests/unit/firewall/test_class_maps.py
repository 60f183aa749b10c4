"""Maps of machines give classes, and a class gives its chain: what is found of the one without the other."""

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from ipaddress import ip_address

import pytest
from firewallworld import CLASSES, FLEET, POLICIES, VLAN_POLICY, ip_packet, ruleset
from netns import in_own_network

from undercroft.adapters.nftables import Nftables
from undercroft.firewall import marks
from undercroft.firewall.decisions import Path, PathKind
from undercroft.firewall.kernel import Lookup, Rule, Ruleset
from undercroft.firewall.packets import parse
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.simulate import Memory, follow

WEB = marks.data(marks.of_class(CLASSES.number(frozenset({"web"}))))


def passes(rules: Ruleset) -> bool:
    """Tell whether web01 gets to web20 elsewhere, as to the world it may and to its like it may not."""
    port = FLEET.ports[0]
    target = ip_address("2001:db8::20").packed
    packet = ip_packet(6, port.ipv6[0].packed, target, 6, struct.pack(">HH", 40000, 443) + bytes(16))
    frame = parse(b"\x02" + bytes(5) + port.mac + b"\x86\xdd" + packet)
    assert frame is not None
    return follow(rules, frame, Path(PathKind.FORWARD, port.tap, "eth0"), Memory()).accept


def without_chain(rules: Ruleset) -> Ruleset:
    """Return what a packet may meet while a class goes: its machines, looked up before it has gone."""
    kept = {key: verdict for key, verdict in rules.elements["class-targets"].items() if key != WEB}
    return replace(rules, elements={**rules.elements, "class-targets": kept})


def denies_a_class_without_chain(rule: Rule) -> bool:
    names = [item.set_name for item in rule.expressions if isinstance(item, Lookup)]
    return names == ["places6"]


def test_a_machine_whose_class_has_gone_meanwhile_is_not_taken_for_somebody_outside() -> None:
    assert not passes(ruleset())
    assert not passes(without_chain(ruleset()))


def test_control_without_the_rule_behind_the_look_up_it_is_taken_for_the_world() -> None:
    rules = without_chain(ruleset())
    chains = tuple(
        replace(chain, rules=tuple(rule for rule in chain.rules if not denies_a_class_without_chain(rule)))
        for chain in rules.table.chains
    )
    assert passes(replace(rules, table=replace(rules.table, chains=chains)))


@pytest.mark.skipif(not shutil.which("nft"), reason="nft is no part of the product")
@pytest.mark.parametrize("policy", [*POLICIES, VLAN_POLICY])
@in_own_network
def test_nft_lists_the_kernels_table(policy: FirewallPolicy) -> None:
    with Nftables() as kernel:
        kernel.replace(ruleset(policy))
        done = subprocess.run(["nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert any("rule" in item for item in json.loads(done.stdout)["nftables"])
