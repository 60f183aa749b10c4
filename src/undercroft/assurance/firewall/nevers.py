"""`never` rules as theorems: no pair of sides, and no chain of flows, that the policy allows breaks one.

A side is a class of machines, the host, or a cell of outside addresses: those that lie in the same networks
of the policy. Every address is in some cell, so what holds for all pairs of sides holds for all packets that
open a flow. Written from the policy's values alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from undercroft.firewall.policy import FirewallPolicy, Flow, Network, Never, Peer, PeerKind, Service

NOWHERE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")
)
"""Unspecified, loopback, link-local, multicast, reserved and broadcast addresses. Source: RFC 6890."""

_EVERYTHING: tuple[Network, ...] = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a flow: labels of a class, or the host, or a cell of addresses named by its network."""

    name: str
    labels: frozenset[str] | None = None
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """A way in which the policy allows what a `never` rule forbids: the sides that it goes over."""

    never: Never
    way: tuple[str, ...]
    service: str

    def __str__(self) -> str:
        """Return it for people."""
        return f"{' -> '.join(self.way)} by {self.service}"


HOST = Side("host")


def sides(policy: FirewallPolicy, label_sets: Iterable[frozenset[str]]) -> tuple[Side, ...]:
    """Return all sides there are for these classes and this policy's networks."""
    classes = (Side(", ".join(sorted(labels)) or "no label", labels=labels) for labels in label_sets)
    rules: tuple[Flow | Never, ...] = (*policy.flows, *policy.nevers)
    named = {network for rule in rules for network in _networks(rule)}
    networks = sorted(
        {*named, *NOWHERE, *_EVERYTHING},
        key=lambda network: (network.version, -network.prefixlen, int(network.network_address)),
    )
    cells = [network for network in networks if not _covered(network, networks)]
    return (*classes, HOST, *(Side(str(network), network=network) for network in cells))


def breaches(policy: FirewallPolicy, every: Sequence[Side]) -> Iterator[Breach]:
    """Yield for each `never` rule that the policy breaks the shortest way."""
    reach = [
        (flow, _of(flow.source, every, policy, flow=True), _of(flow.target, every, policy, flow=True))
        for flow in policy.flows
    ]
    for never in policy.nevers:
        way = _broken(never, policy, every, reach)
        if way is not None:
            yield way


def means(peer: Peer, side: Side, quarantine: frozenset[str], *, flow: bool) -> bool:
    """Tell whether a peer of a flow, or of a `never`, means a side."""
    network, labels = side.network, side.labels
    match peer.kind:
        case PeerKind.LABEL:
            return labels is not None and peer.label in labels
        case PeerKind.HOST:
            return side is HOST
        case PeerKind.NETWORK if labels is not None:
            return bool(peer.label) and peer.label in labels
        case PeerKind.NETWORK:
            return network is not None and any(_in(network, one) for one in peer.networks)
        case PeerKind.WORLD:
            return network is not None and not _nowhere(network)
        case PeerKind.ANY if not flow:
            return True
        case _:
            if labels is not None:
                return not labels & quarantine
            return network is None or not _nowhere(network)


def _broken(
    never: Never,
    policy: FirewallPolicy,
    every: Sequence[Side],
    reach: Sequence[tuple[Flow, frozenset[int], frozenset[int]]],
) -> Breach | None:
    """Search breadth first from every source over at most `hops` flows; the last one's service counts."""
    excepted = frozenset().union(*(_of(peer, every, policy, flow=False) for peer in never.exceptions))
    sources = _of(never.source, every, policy, flow=False) - excepted
    targets = _of(never.target, every, policy, flow=False) - excepted
    ways: dict[int, tuple[int, ...]] = {source: (source,) for source in sources}
    for _ in range(never.hops):
        found: dict[int, tuple[int, ...]] = {}
        for flow, opens, opened in reach:
            service = _service(flow.services, never.services)
            for source in sorted(opens & ways.keys()):
                for target in opened:
                    if every[source].labels is None and every[target].labels is None:
                        continue
                    if service and target in targets and target not in ways[source]:
                        names = (*ways[source], target)
                        return Breach(never, tuple(every[one].name for one in names), service)
                    if service and target in targets and target == source and len(ways[source]) == 1:
                        return Breach(never, (every[source].name, every[target].name), service)
                    found.setdefault(target, (*ways[source], target))
        ways = {target: way for target, way in found.items() if target not in excepted}
    return None


def _of(peer: Peer, every: Sequence[Side], policy: FirewallPolicy, *, flow: bool) -> frozenset[int]:
    quarantine = policy.quarantine_labels
    return frozenset(place for place, side in enumerate(every) if means(peer, side, quarantine, flow=flow))


def _service(offered: Sequence[Service], forbidden: Sequence[Service]) -> str:
    """Return a service that both lists have, "" for none."""
    for service in offered:
        if not forbidden:
            return str(service)
        for other in forbidden:
            low, high = max(service.low, other.low), min(service.high, other.high)
            if service.protocol is other.protocol and low <= high:
                return str(Service(service.protocol, low, low))
    return ""


def _networks(rule: Flow | Never) -> Iterator[Network]:
    peers = [rule.source, rule.target, *(rule.exceptions if isinstance(rule, Never) else ())]
    for peer in peers:
        yield from peer.networks


def _covered(network: Network, networks: Sequence[Network]) -> bool:
    """Tell whether smaller networks leave nothing of this one."""
    inner = [other for other in networks if other != network and _within(other, network)]
    largest = [one for one in inner if not any(one != other and _within(one, other) for other in inner)]
    return sum(one.num_addresses for one in largest) == network.num_addresses


@lru_cache(maxsize=4096)
def _nowhere(network: Network) -> bool:
    return any(_within(network, special) for special in NOWHERE)


def _in(cell: Network, network: Network) -> bool:
    return _within(cell, network) and (not _nowhere(cell) or _nowhere(network))


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
