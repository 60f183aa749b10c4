"""What stands around the table and could bypass or rewrite what it filters.

A proof is about one table. It says what a bridge does with a packet only if nothing else takes the packet
before, changes it between the table's chains, or gives it to a machine behind them. `judge` looks at the
facts of a host for that. What a fact could not tell is a finding too.

Not looked at, and said in the certificate: packet sockets of the host's own programs, and devices on top of a
port that somebody has moved into another network namespace. No finding: what a bridge does to frames before
the hook that judges them (multicast to unicast, isolation), and settings for IP options and source routing,
as the table lets neither by.

Sources, of Linux 6: `__netif_receive_skb_core` (net/core/dev.c) for the order of XDP, tc, netdev chains, VLAN
devices and bridge; br_netfilter_hooks.c; nft_meta_bridge.c (`broute`), nft_fwd_netdev.c, nft_dup_netdev.c,
nf_flow_table_ip.c. `portjudgement` has the bridge's own.
"""

from collections.abc import Collection, Iterable, Iterator

from undercroft.assurance.firewall.hostfacts import (
    ANYWHERE,
    Flowtable,
    OtherChain,
    Surroundings,
    TrafficFilter,
)
from undercroft.assurance.firewall.hostfindings import Danger, Finding
from undercroft.assurance.firewall.portjudgement import of_bridge, of_port

__all__ = ["Danger", "Finding", "judge"]

MARKING = frozenset({"meta mark", "ct mark"})
REDIRECTING = frozenset({"fwd", "broute", "mirred redirect", "bpf", "redirect", "arpreply"})
REWRITING = frozenset(
    {
        "payload",
        "pedit",
        "vlan",
        "nat",
        "bpf",
        "skbmod",
        "tunnel_key",
        "exthdr",
        "mpls",
        "queue",
        "meta pkttype",
        "field",
    }
)
COPYING = frozenset({"dup", "mirred mirror", "tproxy", "sample"})
ROUTED = frozenset({"payload", "queue"})
"""What can put another header into an IPv6 packet that the host routes, between the hooks that judge it."""

HARMLESS = frozenset({"drop", "gact", "police", "csum", "simple", "gate", "flow offload"})
"""Actions of tc that pass or drop, and what a flow table takes, which is judged by itself."""

TC_MARKING = frozenset({"skbedit", "connmark", "ctinfo"})
_KNOWN = MARKING | REDIRECTING | REWRITING | COPYING | HARMLESS | TC_MARKING
_ROUTING = frozenset({"inet", "ip", "ip6", "arp"})
_REMOVE = "remove the rule, or the table"


def judge(facts: Surroundings) -> tuple[Finding, ...]:
    """Return what could bypass or rewrite what the table filters, worst first; () for nothing."""
    ports = frozenset(port.device for port in facts.ports)
    bridges = {bridge.name: bridge for bridge in facts.bridges}
    place = _Place(ports, frozenset(bridges), dict(facts.priorities))
    findings = [
        *(finding for chain in facts.chains for finding in place.of_chain(chain)),
        *(finding for table in facts.flowtables for finding in place.of_flowtable(table)),
        *(finding for item in facts.filters for finding in place.of_filter(item)),
        *(finding for port in facts.ports for finding in of_port(port, bridges.get(port.bridge))),
        *(finding for bridge in facts.bridges for finding in of_bridge(bridge)),
        *_of_bridge_calls(facts),
        *(_of_ebtables(name) for name in facts.ebtables),
        *(_of_encapsulation(kind) for kind in facts.encapsulations),
        *(_of_tunnel(name) for name in facts.tunnels),
        *(
            Finding(Danger.UNKNOWN, "surroundings", what, "let root read it, then prove again")
            for what in facts.unread
        ),
    ]
    order = list(Danger)
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.danger), finding.thing)))


class _Place:
    """Where the table filters: what is done elsewhere matters only if it reaches here."""

    def __init__(self, ports: Collection[str], bridges: Collection[str], priorities: dict[str, int]) -> None:
        self._ports = ports
        self._bridges = bridges
        self._watched = frozenset({*ports, *bridges})
        self._priorities = priorities

    def of_chain(self, chain: OtherChain) -> Iterator[Finding]:
        """Yield what a chain of another table could do."""
        if chain.device and chain.device not in self._ports:
            yield from self._of_chain_elsewhere(chain)
        elif chain.device or chain.family == "bridge":
            yield from self._of_chain_here(chain)
        else:
            yield from self._of_routing_chain(chain)

    def of_filter(self, item: TrafficFilter) -> Iterator[Finding]:
        """Yield what a filter of tc, or a program at a device, could do."""
        name = (
            f"{'XDP program' if item.direction == 'xdp' else f'tc filter {item.direction}'} of {item.device}"
        )
        cure = f"tc filter del dev {item.device} {item.direction}"
        if item.direction == "xdp":
            cure = f"ip link set dev {item.device} xdp off"
        if item.action in TC_MARKING and item.device in self._watched:
            text = "it can set marks, by which the filter tells classes of machines"
            yield Finding(Danger.BYPASS, name, text, cure)
        effects = frozenset({item.action})
        if item.device in self._ports:
            yield from _of_effects(name, item.direction, effects, cure)
            yield from _of_unknown(name, effects - _KNOWN, cure)
            if effects & COPYING:
                yield from self._of_sent(name, (item.target,), cure)
            return
        if item.device in self._bridges:
            yield from _of_effects(name, item.direction, (effects & REWRITING) - REDIRECTING, cure)
        if effects & REDIRECTING or item.target:
            yield from self._of_sent(name, (item.target or ANYWHERE,), cure)

    def of_flowtable(self, table: Flowtable) -> Iterator[Finding]:
        """Yield what a flow table could do: packets of its flows go from device to device by themselves."""
        taken = sorted(self._watched & frozenset(table.devices))
        if taken:
            name = f"flow table {table.family} {table.table} {table.name}"
            found = f"it sends packets on past the bridge's hooks that come in at {', '.join(taken)}"
            yield Finding(Danger.BYPASS, name, found, "take these devices out of it")

    def _of_chain_here(self, chain: OtherChain) -> Iterator[Finding]:
        name, where = _name(chain), _where(chain)
        if not chain.readable:
            yield _unreadable(chain)
        effects = frozenset(chain.effects)
        yield from _of_effects(name, where, effects, _REMOVE)
        if "dup" in effects:
            yield from self._of_sent(name, chain.targets, _REMOVE)
        if effects & MARKING and not self._is_before_the_table(chain):
            found = f"at {where} it sets marks, by which the filter tells classes of machines"
            yield Finding(Danger.BYPASS, name, found, "let it use another packet field, or remove it")
        yield from _of_unknown(name, effects - _KNOWN, _REMOVE)

    def _is_before_the_table(self, chain: OtherChain) -> bool:
        """Tell whether the table sees every mark of this chain, and takes it away.

        Frames to a bridge's own groups come to input without prerouting: a mark from a device's ingress
        would stay.
        """
        own = self._priorities.get(chain.hook)
        return chain.hook == "prerouting" and own is not None and chain.priority < own

    def _of_chain_elsewhere(self, chain: OtherChain) -> Iterator[Finding]:
        """A chain at a device that is no machine's port, which may send to one."""
        if not chain.readable:
            yield _unreadable(chain)
        if frozenset(chain.effects) & {"fwd", "dup"}:
            yield from self._of_sent(_name(chain), chain.targets or (ANYWHERE,), _REMOVE)
        if chain.device in self._bridges:
            if frozenset(chain.effects) & MARKING:
                yield _marks_on_the_way(chain)
            yield from _of_effects(_name(chain), _where(chain), frozenset(chain.effects) & REWRITING, _REMOVE)

    def _of_sent(self, name: str, targets: Iterable[str], cure: str) -> Iterator[Finding]:
        for target in sorted(set(targets)):
            if target in self._watched:
                yield Finding(Danger.BYPASS, name, f"it sends frames to {target} through no hook", cure)
            elif target == ANYWHERE:
                found = "it can send frames to any device, a machine's too; to which cannot be told"
                yield Finding(Danger.UNKNOWN, name, found, cure)

    def _of_routing_chain(self, chain: OtherChain) -> Iterator[Finding]:
        """A chain of IP or ARP: it sees what the host routes, and what bridges carry only where called."""
        if not chain.readable:
            yield _unreadable(chain)
        effects = frozenset(chain.effects)
        if "meta mark" in effects and chain.family != "arp":
            yield _marks_on_the_way(chain)
        if effects & ROUTED and chain.family in {"ip6", "inet"}:
            changing = ", ".join(sorted(effects & ROUTED))
            found = (
                f"at {_where(chain)} it can change headers of IPv6 packets that the host routes: {changing}"
            )
            yield Finding(Danger.ASSUMPTION, _name(chain), found, _REMOVE)
        yield from _of_unknown(_name(chain), effects - _KNOWN, _REMOVE)


def _marks_on_the_way(chain: OtherChain) -> Finding:
    found = (
        f"at {_where(chain)} it sets marks of packets that the host routes: the filter forgets whose they are"
    )
    return Finding(Danger.ASSUMPTION, _name(chain), found, _REMOVE)


def _name(chain: OtherChain) -> str:
    return f"chain {chain.family} {chain.table} {chain.chain}".rstrip()


def _where(chain: OtherChain) -> str:
    return f"{chain.hook}{f' of {chain.device}' if chain.device else ''}, priority {chain.priority}"


def _unreadable(chain: OtherChain) -> Finding:
    found = f"at {_where(chain)}; its rules could not be read"
    return Finding(Danger.UNKNOWN, _name(chain), found, "look at its rules")


def _of_effects(name: str, where: str, effects: frozenset[str], cure: str) -> Iterator[Finding]:
    for known, danger, text in (
        (REDIRECTING, Danger.BYPASS, "it can send packets past the bridge's hooks"),
        (REWRITING - REDIRECTING, Danger.REWRITE, "it can change packets"),
        (COPYING, Danger.COPY, "it can copy packets, or hand them to a program"),
    ):
        found = sorted(effects & known)
        if found:
            yield Finding(danger, name, f"at {where} {text}: {', '.join(found)}", cure)


def _of_unknown(name: str, effects: Iterable[str], cure: str) -> Iterator[Finding]:
    for effect in sorted(effects):
        yield Finding(Danger.UNKNOWN, name, f"what {effect!r} does is not known", cure)


def _of_bridge_calls(facts: Surroundings) -> Iterator[Finding]:
    bridges = [bridge.name for bridge in facts.bridges if bridge.call_iptables]
    called = [chain for chain in facts.chains if chain.family in _ROUTING and not chain.device]
    if not called or not (bridges or (facts.bridge_calls and facts.bridges)):
        return  # Without a chain of theirs nothing is done to a packet, and nobody asks for whole ones.
    where = ", ".join((*facts.bridge_calls, *bridges))
    rewriting = sorted(_rewriting(called))
    cure = f"sysctl {' '.join(f'net.bridge.{name}=0' for name in facts.bridge_calls)}"
    if not facts.bridge_calls:
        cure = (
            f"ip link set {bridges[0]} type bridge nf_call_iptables 0 nf_call_ip6tables 0 nf_call_arptables 0"
        )
    found = "packets on the bridge also pass the chains of inet, ip, ip6 and arp"
    if rewriting:
        named = ", ".join(rewriting)
        yield Finding(Danger.REWRITE, where, f"{found}, of which {named} change them", cure)
    else:
        text = f"{found}, and fragments are joined between the chains"
        yield Finding(Danger.ASSUMPTION, where, text, cure)


def _rewriting(chains: Iterable[OtherChain]) -> Iterator[str]:
    for chain in chains:
        if frozenset(chain.effects) & (REWRITING | MARKING):
            yield f"{chain.family} {chain.table} {chain.chain}".rstrip()


def _of_encapsulation(kind: str) -> Finding:
    found = f"the host puts headers of {kind} into packets that it routes, between the hooks that judge them"
    return Finding(
        Danger.ASSUMPTION, "IPv6 routes", found, "ip -6 route; ip nexthop: remove what encapsulates"
    )


def _of_tunnel(name: str) -> Finding:
    found = (
        "a tunnel ends there: what is in a packet that a machine may send into it bears the machine's mark"
    )
    return Finding(Danger.UNKNOWN, f"tunnel {name}", found, "see that no flow lets a machine reach it")


def _of_ebtables(name: str) -> Finding:
    danger = Danger.BYPASS if name == "broute" else Danger.REWRITE if name == "nat" else Danger.UNKNOWN
    return Finding(
        danger, f"ebtables {name}", "it has rules, which are not read here", f"ebtables-legacy -t {name} -F"
    )
