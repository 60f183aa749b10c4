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
DENY_LIST = f"""
table bridge control {{
  chain machine {{
    ether saddr != {A.mac.hex(":")} drop
    ether type arp arp saddr ether != {A.mac.hex(":")} drop
    ether type arp arp saddr ip != {{ {", ".join(map(str, A.ipv4))}, 0.0.0.0 }} drop
    ether type ip ip saddr != {{ {", ".join(map(str, A.ipv4))}, 0.0.0.0 }} drop
    ether type ip udp sport 67 drop
    ether type ip icmp type redirect drop
    ether type ip6 ip6 saddr != {{ {", ".join(map(str, A.all_ipv6))}, :: }} drop
    ether type ip6 udp sport 547 drop
    ether type ip6 icmpv6 type {{ nd-router-advert, nd-redirect }} drop
  }}
  chain from-port {{
    type filter hook prerouting priority -450; policy accept;
    iifname "{A.tap}" jump machine
  }}
}}
"""


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


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft: apt-get install nftables")
def test_control_a_list_of_what_is_forbidden_lets_forged_frames_by() -> None:
    def test() -> list[tuple[str, str]]:
        with Wire(PORTS) as wire:
            subprocess.run(["nft", "-f", "-"], input=DENY_LIST.encode(), check=True)
            return leaking(wire)

    leaks = call_in_own_network(test)
    assert ("plain", "source MAC") not in leaks
    assert ("plain", "IPv4 of a neighbour") not in leaks
    assert ("plain", "ARP sender") not in leaks
    found, whole = Counter(name for name, _ in leaks), Counter(name for name, _, _ in cells())
    print("\n".join(f"| {name} | {whole[name]} | {found[name]} |" for name in whole))  # noqa: T201
    print(f"| all | {whole.total()} | {found.total()} |")  # noqa: T201 - the table of docs/ROBUSTNESS.md
    assert len(whole) >= 30
    # All of its encapsulations leak most of what is in them; plain frames leak what nobody thought of.
    assert all(found[name] >= whole[name] // 2 for name in whole if name != "plain")
    assert found["plain"] >= 10
