"""The spoofing matrix on a real bridge: every forged frame in every encapsulation, from one machine's tap.

The policy lets everybody open the services that the frames use; nothing but their being forged keeps them.
Beside it stands a filter in the manner of libvirt's nwfilter and of linear rules of nft: it names what is
forbidden and lets the rest by.
"""

import shutil
import subprocess
from collections import Counter

import pytest
from firewallworld import FLEET, ruleset
from netns import call_in_own_network
from spoofmatrix import OPEN, OPEN_WITH_VLANS, cells, leaking, open_flows
from spoofs import HONEST, A, B
from wire import Wire

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.policy import FirewallPolicy

PORTS = (*(port.tap for port in FLEET.ports), "eth0")
MAC, OWN4, OWN6 = A.mac.hex(":"), ", ".join(map(str, A.ipv4)), ", ".join(map(str, A.all_ipv6))
DENY_LIST = f"""
    ether saddr != {MAC} drop
    ether type arp arp saddr ether != {MAC} drop
    ether type arp arp saddr ip != {{ {OWN4}, 0.0.0.0 }} drop
    ether type ip ip saddr != {{ {OWN4}, 0.0.0.0 }} drop
    ether type ip udp sport 67 drop
    ether type ip icmp type redirect drop
    ether type ip6 ip6 saddr != {{ {OWN6}, :: }} drop
    ether type ip6 udp sport 547 drop
    ether type ip6 icmpv6 type {{ nd-router-advert, nd-redirect }} drop
"""
"""What is known to be bad is dropped, all else passes."""
CLEAN_TRAFFIC = f"""
    ether saddr != {MAC} drop
    ether type ip ip saddr 0.0.0.0 ip protocol udp accept
    ether type ip ip saddr {{ {OWN4} }} accept
    ether type arp arp saddr ether {MAC} arp saddr ip {{ {OWN4} }} accept
    ether type ip6 ip6 saddr fe80::/10 meta l4proto udp accept
    ether type ip6 ip6 saddr {{ {OWN6} }} accept
    ether type 0x8035 arp operation 3 arp saddr ether {MAC} accept
    drop
"""
"""libvirt 9's clean-traffic, with no-ipv6-spoofing and allow-ipv6: other protocols are dropped."""


def leaking_past(rules: str) -> list[tuple[str, str]]:
    """Return the cells that leak past rules for what the machine's port sends."""
    table = f"""
table bridge control {{
  chain machine {{ {rules} }}
  chain from-port {{
    type filter hook prerouting priority -450; policy accept;
    iifname "{A.tap}" jump machine
  }}
}}
"""

    def found() -> list[tuple[str, str]]:
        with Wire(PORTS) as wire:
            subprocess.run(["nft", "-f", "-"], input=table.encode(), check=True)
            # The filter is not simply shut.
            assert all(wire.put(A.tap, frame)[B.tap] == [frame] for frame in HONEST)
            return leaking(wire)

    return call_in_own_network(found)


@pytest.mark.parametrize("policy", [OPEN, OPEN_WITH_VLANS], ids=["no VLANs", "VLANs granted"])
def test_no_forged_frame_gets_anywhere_in_any_encapsulation(policy: FirewallPolicy) -> None:
    def test() -> None:
        with Wire(PORTS) as wire, Nftables() as kernel:
            kernel.replace(ruleset(policy))
            open_flows(wire)
            for frame in HONEST:
                assert wire.put(A.tap, frame)[B.tap] == [frame]
            assert leaking(wire) == []

    call_in_own_network(test)


needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")


@needs_nft
def test_control_a_list_of_what_is_forbidden_lets_forged_frames_by() -> None:
    leaks = leaking_past(DENY_LIST)
    assert not {("plain", name) for name in ("source MAC", "IPv4 of a neighbour", "ARP sender")} & {*leaks}
    found, whole = Counter(name for name, _ in leaks), Counter(name for name, _, _ in cells())
    print("\n".join(f"| {name} | {whole[name]} | {found[name]} |" for name in whole))  # noqa: T201
    print(f"| all | {whole.total()} | {found.total()} |")  # noqa: T201 - the table of docs/ROBUSTNESS.md
    assert len(whole) >= 30
    # All of its encapsulations leak most of what is in them; plain frames leak what nobody thought of.
    assert all(found[name] >= whole[name] // 2 for name in whole if name != "plain")
    assert found["plain"] >= 10


@needs_nft
def test_control_libvirts_clean_traffic_stops_other_protocols_and_lets_forged_frames_by_in_ip() -> None:
    found = Counter(name for name, _ in leaking_past(CLEAN_TRAFFIC))
    print(found)  # noqa: T201 - the table of docs/ROBUSTNESS.md
    assert found["plain"] >= 10
    assert found["IP in IPv4"] >= 50
    assert found["802.1Q"] == 0
