"""The spoofing matrix on a real bridge: every forged frame in every encapsulation, from one machine's tap.

The policy lets everybody open the services that the frames use; nothing but their being forged keeps them.
Beside it stands a filter in the manner of libvirt's nwfilter and of linear rules of nft: it names what is
forbidden and lets the rest by.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from firewallworld import ANY, FLEET, LABELS, OUTSIDE_MAC, PING, ip_packet, ruleset, tcp, udp
from netns import call_in_own_network
from spoofs import (
    B4,
    B6,
    ENCAPSULATIONS,
    HONEST,
    SPOOFS,
    TCP,
    V4,
    V6,
    WORLD4,
    WORLD6,
    A,
    B,
    V,
    ethernet,
    wrapped,
)
from wire import BRIDGE_MAC, Wire

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.policy import FirewallPolicy, Flow, Ports

OPEN = FirewallPolicy(
    labels=LABELS,
    flows=(Flow(ANY, ANY, (tcp(443), udp(53), udp(67, 68), udp(546, 547), PING), place="p:1"),),
    ports=Ports(uplinks=("eth0",)),
)
PORTS = (*(port.tap for port in FLEET.ports), "eth0")
TARGET_MACS = (B.mac, V.mac, OUTSIDE_MAC, BRIDGE_MAC, b"\xff" * 6, bytes.fromhex("333300000001"))

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


def cells() -> Iterator[tuple[str, str, list[bytes]]]:
    """Yield encapsulation, spoof, and the frames of that cell, to every target that a frame can have."""
    for encapsulation in ENCAPSULATIONS:
        for spoof, frames in SPOOFS.items():
            made = [wrapped(encapsulation, target + frame[6:]) for frame in frames for target in TARGET_MACS]
            possible = [frame for frame in made if frame is not None]
            if possible:
                yield encapsulation, spoof, possible


def leaking(wire: Wire) -> list[tuple[str, str]]:
    """Return the cells of which a frame came out anywhere."""
    found = []
    for encapsulation, spoof, frames in cells():
        came_out = [wire.put(A.tap, frame) for frame in frames]
        if any(came_out):
            found.append((encapsulation, spoof))
    return found


def open_flows(wire: Wire) -> None:
    """Let B open flows to V and to the world, of which forged errors tell."""
    for version, own, others in ((4, B4, (V4, WORLD4)), (6, B6, (V6, WORLD6))):
        for other in others:
            mac = V.mac if other in {V4, V6} else OUTSIDE_MAC
            packet = ip_packet(version, own, other, 6, TCP)
            kind = 0x0800 if version == 4 else 0x86DD
            assert wire.put(B.tap, ethernet(packet, kind, B.mac, mac))


def test_no_forged_frame_gets_anywhere_in_any_encapsulation() -> None:
    def test() -> None:
        with Wire(PORTS) as wire, Nftables() as kernel:
            kernel.replace(ruleset(OPEN))
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
