"""The spoofing matrix: every forged frame in every encapsulation, from one machine's tap, to every target.

leaking(wire)       # [("SNAP", "ARP sender"), ...]: the cells of which a frame came out anywhere
"""

from collections.abc import Iterator
from dataclasses import replace

from firewallworld import ANY, LABELS, OUTSIDE_MAC, PING, ip_packet, tcp, udp
from spoofs import B4, B6, ENCAPSULATIONS, SPOOFS, TCP, V4, V6, WORLD4, WORLD6, A, B, V, ethernet, wrapped
from wire import BRIDGE_MAC
from wiremodel import Taps

from undercroft.firewall.policy import FirewallPolicy, Flow, Ports, VlanGrant

OPEN = FirewallPolicy(
    labels=LABELS,
    flows=(Flow(ANY, ANY, (tcp(443), udp(53), udp(67, 68), udp(546, 547), PING), place="p:1"),),
    ports=Ports(uplinks=("eth0",)),
)
"""Everybody may open the services that the frames use: nothing but their being forged keeps them."""
OPEN_WITH_VLANS = replace(OPEN, vlans=(VlanGrant("web", (5, 6)), VlanGrant("db", (5, 6))))
"""Some tags may be used, and hide nothing."""
TARGET_MACS = (B.mac, V.mac, OUTSIDE_MAC, BRIDGE_MAC, b"\xff" * 6, bytes.fromhex("333300000001"))


def cells() -> Iterator[tuple[str, str, list[bytes]]]:
    """Yield encapsulation, spoof, and the frames of that cell, to every target that a frame can have."""
    for encapsulation in ENCAPSULATIONS:
        for spoof, frames in SPOOFS.items():
            made = [wrapped(encapsulation, target + frame[6:]) for frame in frames for target in TARGET_MACS]
            possible = [frame for frame in made if frame is not None]
            if possible:
                yield encapsulation, spoof, possible


def leaking(wire: Taps) -> list[tuple[str, str]]:
    """Return the cells of which a frame came out anywhere."""
    found = []
    for encapsulation, spoof, frames in cells():
        came_out = [wire.put(A.tap, frame) for frame in frames]
        if any(came_out):
            found.append((encapsulation, spoof))
    return found


def open_flows(wire: Taps) -> None:
    """Let B open flows to V and to the world, of which forged errors tell."""
    for version, own, others in ((4, B4, (V4, WORLD4)), (6, B6, (V6, WORLD6))):
        for other in others:
            mac = V.mac if other in {V4, V6} else OUTSIDE_MAC
            packet = ip_packet(version, own, other, 6, TCP)
            kind = 0x0800 if version == 4 else 0x86DD
            assert wire.put(B.tap, ethernet(packet, kind, B.mac, mac))
