"""What of a managed port, or of its bridge, could defeat the filter.

A bridge keeps the groups 01:80:c2:00:00:0X for itself. Those to ...0e, and to ...00 where it speaks the
spanning tree, go to the host's own stack through no hook, whatever packet is in them. One that the port or
the bridge forwards instead is like any other frame: it comes to the table first.
Source: br_handle_frame (net/bridge/br_input.c) of Linux 6.18; measured in tests/integration.
"""

from collections.abc import Iterator

from undercroft.assurance.firewall.hostfacts import BridgeFacts, PortFacts
from undercroft.assurance.firewall.hostfindings import Danger, Finding

STP_GROUP, LLDP_GROUP = 1 << 0x00, 1 << 0x0E
SHIELD = 0xFFFD
"""The groups that a managed port should forward: all but ...01 (pause), which the kernel always drops."""


def of_port(port: PortFacts, bridge: BridgeFacts | None) -> Iterator[Finding]:
    """Yield what of a port, and of the bridge that it is on, defeats the filter."""
    name = f"port {port.device}"
    if not port.bridge and not port.up:
        return  # It is closed: nothing comes in or goes out.
    if not port.bridge or port.bridge_kind != "bridge":
        found = f"it is on {f'a {port.bridge_kind}' if port.bridge else 'no bridge'}, which has no such hooks"
        yield Finding(Danger.BYPASS, name, found, "put it on a bridge of the kernel's, or stop the machine")
    yield from _of_taken(name, port)
    if bridge is not None:
        yield from _of_groups(name, port, bridge)
    yield from _of_flags(name, port)
    if port.mac and port.bridge and port.bridge_kind == "bridge":
        yield from _of_station(name, port)
    if not port.protocol_free:
        found = "the device has addresses of its own: the host can speak through it past the table"
        cure = f"sysctl net.ipv6.conf.{port.device}.disable_ipv6=1; ip addr flush dev {port.device}"
        yield Finding(Danger.ASSUMPTION, name, found, cure)


def of_bridge(bridge: BridgeFacts) -> Iterator[Finding]:
    """Yield what of a bridge defeats the filter. Groups that it forwards pass the hooks: no finding."""
    if bridge.vlan_filtering:
        found = "it filters VLANs, so a frame's tag may change between the chains"
        cure = f"ip link set {bridge.name} type bridge vlan_filtering 0"
        yield Finding(Danger.ASSUMPTION, f"bridge {bridge.name}", found, cure)


def _of_taken(name: str, port: PortFacts) -> Iterator[Finding]:
    """Tell of what takes a port's frames before the bridge's hooks do."""
    if port.xdp:
        found = "an XDP program sees its frames first, and may send them anywhere"
        yield Finding(Danger.BYPASS, name, found, f"ip link set dev {port.device} xdp off")
    if port.offloaded:
        yield Finding(Danger.BYPASS, name, "hardware forwards its frames", "turn the offload off")
    for upper in port.uppers:
        found = f"the device {upper} on top of it takes frames before the bridge does"
        yield Finding(Danger.BYPASS, name, found, f"ip link del {upper}")


def _of_groups(name: str, port: PortFacts, bridge: BridgeFacts) -> Iterator[Finding]:
    mask = port.group_forward_mask | bridge.group_forward_mask
    cure = f"ip link set {port.device} type bridge_slave group_fwd_mask {SHIELD:#x}"
    open_groups = [] if mask & LLDP_GROUP else ["01:80:c2:00:00:0e"]
    if bridge.stp and not mask & STP_GROUP:
        open_groups.append("01:80:c2:00:00:00")
        found = f"{bridge.name} speaks the spanning tree with it, and so gives the machine a say in it"
        yield Finding(Danger.DISTURBANCE, name, found, cure)
    if open_groups:
        found = f"packets in frames to {' and '.join(open_groups)} go to the host's own stack through no hook"
        yield Finding(Danger.BYPASS, name, found, cure)


def _of_station(name: str, port: PortFacts) -> Iterator[Finding]:
    """Tell where the bridge takes the machine to be: it learns that from frames that no hook sees, too."""
    cure = f"bridge fdb replace {port.mac} dev {port.device} master static sticky"
    if port.found_at not in {"", port.device}:
        found = f"{port.bridge} sends what is for its machine ({port.mac}) out of {port.found_at}"
        yield Finding(Danger.COPY, name, found, f"look who speaks as it there; {cure}")
    elif not port.fixed:
        found = f"a frame from elsewhere that bears its machine's MAC ({port.mac}) takes what is for it there"
        yield Finding(Danger.DISTURBANCE, name, found, cure)


def _of_flags(name: str, port: PortFacts) -> Iterator[Finding]:
    setting = f"bridge link set dev {port.device}"
    if port.proxy:
        found = "the bridge answers ARP or ND for others"
        cure = f"{setting} neigh_suppress off; ip link set {port.device} type bridge_slave proxy_arp off"
        yield Finding(Danger.ASSUMPTION, name, found, cure)
    if port.hairpin:
        found = "frames may leave where they came in"
        yield Finding(Danger.ASSUMPTION, name, found, f"{setting} hairpin off")
    if port.vlan_tunnel:
        yield Finding(Danger.REWRITE, name, "VLANs become tunnels and back", f"{setting} vlan_tunnel off")
    if not port.learning:
        found = "nothing is learned there, so frames to it are flooded"
        yield Finding(Danger.COPY, name, found, f"{setting} learning on")
    if port.promiscuity > 1:
        yield Finding(Danger.COPY, name, "somebody listens (promiscuous mode)", "look for the listener")
