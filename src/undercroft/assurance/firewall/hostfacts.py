"""Facts of a host around the table: `adapters.surroundings` gathers them, `surroundings` judges them."""

from dataclasses import dataclass

ANYWHERE = "?"
"""Stands for the device that something sends to, where that is not told."""


@dataclass(frozen=True, slots=True)
class OtherChain:
    """A base chain that is not the table's own.

    Attributes:
        family: "bridge", "netdev", "inet", "ip", "ip6" or "arp".
        table: its table; of the legacy iptables with " (legacy)" behind its name.
        chain: its name.
        hook: "prerouting", "ingress", ...
        priority: as the kernel has it.
        device: of a chain at a device's ingress or egress, "" for others. A chain at several is several.
        effects: what its rules, and chains that they jump to, can do beside a verdict: "meta mark",
            "payload", "fwd", "dup", "nat", "broute", "queue", ...; of what is not known, its name.
        targets: devices that "fwd" and "dup" send to, `ANYWHERE` where that is not told.
        readable: False where its rules could not be read.
    """

    family: str
    table: str
    chain: str
    hook: str
    priority: int
    device: str = ""
    effects: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    readable: bool = True


@dataclass(frozen=True, slots=True)
class TrafficFilter:
    """Something that tc, or a program of BPF at a device, does with frames.

    Attributes:
        device: where.
        direction: "ingress", "egress", or "xdp".
        action: its kind: "mirred redirect", "bpf", "police"; "filter X" for a filter that is not known.
        target: the device that it sends to, `ANYWHERE` where that is not told, "" where it sends nothing.
    """

    device: str
    direction: str
    action: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Flowtable:
    """A flow table of nftables: it sends packets on that come in at these devices, past bridge and rules."""

    family: str
    table: str
    name: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A managed port of a bridge.

    Attributes:
        device: its name.
        bridge: the bridge that it is on, "" for none.
        up: it takes and sends frames; one that is down and on no bridge is closed.
        bridge_kind: "bridge", "openvswitch", ... as the link's kind has it.
        hairpin: frames may leave where they came in.
        learning: the bridge learns addresses behind it.
        proxy: the bridge answers ARP or ND for others (`proxy_arp`, `neigh_suppress`).
        vlan_tunnel: VLANs are mapped to tunnels.
        offloaded: hardware forwards.
        xdp: a program is attached.
        promiscuity: how many have set it, 1 being the bridge itself.
        uppers: devices on top of it but for the bridge: VLAN devices, macvlan.
        group_forward_mask: which of the groups that a bridge keeps for itself, 01:80:c2:00:00:0X, it
            forwards when they come from here; they pass the hooks then.
        protocol_free: the device itself has neither an IPv4 nor an IPv6 address.
        mac: of its machine, as `bridge fdb` writes it; "" where that was not asked for.
        found_at: the port behind which its bridge looks for that MAC, "" for none.
        fixed: no frame makes the bridge look for it elsewhere.
    """

    device: str
    bridge: str
    bridge_kind: str = "bridge"
    up: bool = True
    hairpin: bool = False
    learning: bool = True
    proxy: bool = False
    vlan_tunnel: bool = False
    offloaded: bool = False
    xdp: bool = False
    promiscuity: int = 1
    uppers: tuple[str, ...] = ()
    group_forward_mask: int = 0
    protocol_free: bool = True
    mac: str = ""
    found_at: str = ""
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class BridgeFacts:
    """A bridge with managed ports; the mask is of the reserved groups that it forwards from any port."""

    name: str
    vlan_filtering: bool = False
    group_forward_mask: int = 0
    stp: bool = False
    call_iptables: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Facts of one host.

    Attributes:
        table: name of the table that was proven.
        priorities: hook -> priority of its base chain there.
        chains: base chains of all other tables.
        flowtables: of all tables.
        filters: of all devices.
        ports: managed ports.
        bridges: that they are on.
        bridge_calls: sysctls "bridge-nf-call-iptables", "-ip6tables", "-arptables" that are set.
        ebtables: tables of the legacy ebtables that hold rules ("broute", "nat", "filter").
        encapsulations: of the host's IPv6 routes: "seg6", "ioam6", ...
        tunnels: devices at which a tunnel ends on the host, and its kind: "vxlan0 (vxlan)".
        unread: what could not be read, each with the reason.
    """

    table: str
    priorities: tuple[tuple[str, int], ...] = ()
    chains: tuple[OtherChain, ...] = ()
    flowtables: tuple[Flowtable, ...] = ()
    filters: tuple[TrafficFilter, ...] = ()
    ports: tuple[PortFacts, ...] = ()
    bridges: tuple[BridgeFacts, ...] = ()
    bridge_calls: tuple[str, ...] = ()
    ebtables: tuple[str, ...] = ()
    encapsulations: tuple[str, ...] = ()
    tunnels: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
