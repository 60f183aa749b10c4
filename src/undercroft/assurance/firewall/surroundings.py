"""What stands around the table and could bypass or rewrite what it filters.

A proof is about one table. It says what a bridge does with a packet only if nothing else takes the packet
before, changes it between the table's chains, or gives it to a machine behind them. `judge` looks at the
facts of a host for that. What a fact could not tell is a finding too.

Sources, of Linux 6: `br_handle_frame` (net/bridge/br_input.c) for what never comes to a hook;
`__netif_receive_skb_core` (net/core/dev.c) for the order of XDP, tc, netdev chains, VLAN devices and bridge;
br_netfilter_hooks.c; nft_meta_bridge.c (`broute`), nft_fwd_netdev.c, nft_dup_netdev.c.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

MARKING = frozenset({"meta mark", "ct mark"})
REDIRECTING = frozenset({"fwd", "broute", "mirred redirect", "bpf", "redirect"})
REWRITING = frozenset({"payload", "pedit", "vlan", "nat", "bpf", "skbmod", "tunnel_key", "exthdr"})
COPYING = frozenset({"dup", "mirred mirror", "tproxy", "queue", "sample"})


class Danger(StrEnum):
    """What a finding means for the proof, worst first.

    BYPASS: packets can pass a machine's port without the table. REWRITE: they can be changed, so that what
    was judged is not what arrives. ASSUMPTION: something that the proof assumes is not so. COPY: traffic can
    be read by others. UNKNOWN: it could not be told.
    """

    BYPASS = "bypass"
    REWRITE = "rewrite"
    ASSUMPTION = "assumption"
    COPY = "copy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that could defeat the filter.

    Attributes:
        danger: how.
        thing: what it is about, as tools name it.
        found: what was found there.
        cure: what to do.
    """

    danger: Danger
    thing: str
    found: str
    cure: str


@dataclass(frozen=True, slots=True)
class OtherChain:
    """A base chain that is not the table's own.

    Attributes:
        family: "bridge", "netdev", "inet", "ip", "ip6" or "arp".
        table: its table.
        chain: its name.
        hook: "prerouting", "ingress", ...
        priority: as the kernel has it.
        device: of a netdev chain, "" for others.
        effects: what its rules, and chains that they jump to, can do beside drop: "meta mark", "payload",
            "fwd", "dup", "nat", "broute", "queue", ...
        readable: False where its rules could not be read.
    """

    family: str
    table: str
    chain: str
    hook: str
    priority: int
    device: str = ""
    effects: tuple[str, ...] = ()
    readable: bool = True


@dataclass(frozen=True, slots=True)
class TrafficFilter:
    """A filter of tc: `direction` is "ingress" or "egress", `action` its kind: "mirred redirect", "bpf"."""

    device: str
    direction: str
    action: str


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A managed port of a bridge.

    Attributes:
        device: its name.
        bridge: the bridge that it is on, "" for none.
        bridge_kind: "bridge", "openvswitch", ... as the link's kind has it.
        hairpin: frames may leave where they came in.
        isolated: it speaks with no other isolated port.
        learning: the bridge learns addresses behind it.
        proxy: the bridge answers ARP or ND for others (`proxy_arp`, `neigh_suppress`).
        vlan_tunnel: VLANs are mapped to tunnels.
        offloaded: hardware forwards.
        xdp: a program is attached.
        promiscuity: how many have set it, 1 being the bridge itself.
        uppers: devices on top of it but for the bridge: VLAN devices, macvlan.
        shields_host: unicast packets in link-layer multicast are dropped (`drop_unicast_in_l2_multicast` of
            IPv4 and of IPv6).
        protocol_free: the device itself has neither an IPv4 nor an IPv6 address.
    """

    device: str
    bridge: str
    bridge_kind: str = "bridge"
    hairpin: bool = False
    isolated: bool = False
    learning: bool = True
    proxy: bool = False
    vlan_tunnel: bool = False
    offloaded: bool = False
    xdp: bool = False
    promiscuity: int = 1
    uppers: tuple[str, ...] = ()
    shields_host: bool = False
    protocol_free: bool = True


@dataclass(frozen=True, slots=True)
class BridgeFacts:
    """A bridge with managed ports; the mask is of the reserved groups that it forwards."""

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
        filters: of tc, on managed ports and on all other devices that may redirect to them.
        ports: managed ports.
        bridges: that they are on.
        bridge_calls: sysctls "bridge-nf-call-iptables", "-ip6tables", "-arptables" that are set.
        ebtables: tables of the legacy ebtables that hold rules ("broute", "nat", "filter").
        unread: what could not be read, each with the reason.
    """

    table: str
    priorities: tuple[tuple[str, int], ...] = ()
    chains: tuple[OtherChain, ...] = ()
    filters: tuple[TrafficFilter, ...] = ()
    ports: tuple[PortFacts, ...] = ()
    bridges: tuple[BridgeFacts, ...] = ()
    bridge_calls: tuple[str, ...] = ()
    ebtables: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def judge(facts: Surroundings) -> tuple[Finding, ...]:
    """Return what could bypass or rewrite what the table filters, worst first; () for nothing."""
    ports = frozenset(port.device for port in facts.ports)
    findings = [
        *(finding for chain in facts.chains for finding in _of_chain(chain, ports)),
        *(finding for item in facts.filters for finding in _of_filter(item, ports)),
        *(finding for port in facts.ports for finding in _of_port(port)),
        *(finding for bridge in facts.bridges for finding in _of_bridge(bridge)),
        *_of_bridge_calls(facts),
        *(_of_ebtables(name) for name in facts.ebtables),
        *(
            Finding(Danger.UNKNOWN, "surroundings", what, "let the agent read it, then prove again")
            for what in facts.unread
        ),
    ]
    order = list(Danger)
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.danger), finding.thing)))


def _of_chain(chain: OtherChain, ports: frozenset[str]) -> Iterator[Finding]:
    if chain.family not in {"bridge", "netdev"} or (chain.family == "netdev" and chain.device not in ports):
        return
    name = f"chain {chain.family} {chain.table} {chain.chain}"
    where = f"{chain.hook}{f' of {chain.device}' if chain.device else ''}, priority {chain.priority}"
    if not chain.readable:
        yield Finding(Danger.UNKNOWN, name, f"at {where}; its rules could not be read", "look at its rules")
    effects = frozenset(chain.effects)
    yield from _of_effects(name, where, effects, "remove the rule, or the table")
    if chain.family == "bridge" and effects & MARKING:
        yield Finding(
            Danger.BYPASS,
            name,
            f"at {where} it sets marks, by which the filter tells classes of machines",
            "let it use another packet field, or remove it",
        )


def _of_effects(name: str, where: str, effects: frozenset[str], cure: str) -> Iterator[Finding]:
    for known, danger, text in (
        (REDIRECTING, Danger.BYPASS, "it can send packets past the bridge's hooks"),
        (REWRITING, Danger.REWRITE, "it can change packets"),
        (COPYING, Danger.COPY, "it can copy packets, or hand them to a program"),
    ):
        found = sorted(effects & known)
        if found:
            yield Finding(danger, name, f"at {where} {text}: {', '.join(found)}", cure)


def _of_filter(item: TrafficFilter, ports: frozenset[str]) -> Iterator[Finding]:
    name = f"tc filter {item.direction} of {item.device}"
    own = item.device in ports
    cure = f"tc filter del dev {item.device} {item.direction}"
    if own and item.action == "skbedit":
        text = "it can set marks, by which the filter tells classes of machines"
        yield Finding(Danger.BYPASS, name, text, cure)
    known = REDIRECTING | REWRITING | COPYING
    if own or item.action in REDIRECTING:
        yield from _of_effects(name, item.direction, frozenset({item.action}), cure)
    if own and item.action not in known | {"skbedit", "drop", "gact", "police"}:
        yield Finding(Danger.UNKNOWN, name, f"what {item.action!r} does is not known", cure)


def _of_port(port: PortFacts) -> Iterator[Finding]:
    name = f"port {port.device}"
    if not port.bridge or port.bridge_kind != "bridge":
        found = f"it is on {f'a {port.bridge_kind}' if port.bridge else 'no bridge'}, which has no such hooks"
        yield Finding(Danger.BYPASS, name, found, "put it on a bridge of the kernel's, or stop the machine")
    yield from _of_taken(name, port)
    setting = f"bridge link set dev {port.device}"
    for wrong, danger, found, cure in (
        (
            port.proxy,
            Danger.ASSUMPTION,
            "the bridge answers ARP or ND for others",
            f"{setting} neigh_suppress off",
        ),
        (port.hairpin, Danger.ASSUMPTION, "frames may leave where they came in", f"{setting} hairpin off"),
        (port.vlan_tunnel, Danger.REWRITE, "VLANs become tunnels and back", f"{setting} vlan_tunnel off"),
        (
            not port.learning,
            Danger.COPY,
            "nothing is learned there, so its frames are flooded",
            f"{setting} learning on",
        ),
        (port.promiscuity > 1, Danger.COPY, "somebody listens (promiscuous mode)", "look for the listener"),
    ):
        if wrong:
            yield Finding(danger, name, found, cure)


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
    if not port.shields_host:
        yield Finding(
            Danger.BYPASS,
            name,
            "frames to the reserved group 01:80:c2:00:00:0e go to the host's own stack through no hook of "
            "the bridge, and unicast packets in them are taken there",
            f"sysctl net.ipv4.conf.{port.device}.drop_unicast_in_l2_multicast=1, and the same of ipv6",
        )
    if not port.protocol_free:
        found = "the device has addresses of its own; it is to be a port of the bridge, and no more"
        yield Finding(Danger.ASSUMPTION, name, found, f"ip addr flush dev {port.device}")


def _of_bridge(bridge: BridgeFacts) -> Iterator[Finding]:
    name = f"bridge {bridge.name}"
    if bridge.vlan_filtering:
        found = "it filters VLANs, so a frame's tag may change between the chains"
        yield Finding(
            Danger.ASSUMPTION, name, found, f"ip link set {bridge.name} type bridge vlan_filtering 0"
        )
    if bridge.group_forward_mask:
        found = f"it forwards reserved groups (mask {bridge.group_forward_mask:#x})"
        yield Finding(
            Danger.ASSUMPTION, name, found, f"ip link set {bridge.name} type bridge group_fwd_mask 0"
        )
    if bridge.stp:
        found = "frames to 01:80:c2:00:00:00 go to its spanning tree through no hook: a machine can speak it"
        yield Finding(Danger.ASSUMPTION, name, found, f"ip link set {bridge.name} type bridge stp_state 0")


def _of_bridge_calls(facts: Surroundings) -> Iterator[Finding]:
    bridges = [bridge.name for bridge in facts.bridges if bridge.call_iptables]
    if not facts.bridge_calls and not bridges:
        return
    where = ", ".join((*facts.bridge_calls, *bridges))
    rewriting = sorted(_rewriting(facts.chains))
    found = "packets on the bridge also pass the chains of inet, ip, ip6 and arp"
    if rewriting:
        yield Finding(
            Danger.REWRITE, where, f"{found}, of which {', '.join(rewriting)} change them", "set it to 0"
        )
    else:
        text = f"{found}, and fragments are joined between the chains"
        yield Finding(Danger.ASSUMPTION, where, text, "set it to 0")


def _rewriting(chains: Iterable[OtherChain]) -> Iterator[str]:
    for chain in chains:
        if chain.family in {"inet", "ip", "ip6", "arp"} and frozenset(chain.effects) & (REWRITING | MARKING):
            yield f"{chain.family} {chain.table} {chain.chain}"


def _of_ebtables(name: str) -> Finding:
    danger = Danger.BYPASS if name == "broute" else Danger.REWRITE if name == "nat" else Danger.UNKNOWN
    return Finding(
        danger, f"ebtables {name}", "it has rules, which are not read here", f"ebtables-legacy -t {name} -F"
    )
