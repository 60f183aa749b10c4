"""Where the policy says that packets come from and go to: classes, the world, the host and zones, by number.

Written from the policy's values alone. What it shares with the compiler is the numbers: which mark stands for
which side, and what a side's chains and sets are called. A number that two sides had would be found, because
`expected` gives each side's elements by it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network

from undercroft.firewall.policy import FirewallPolicy, Network, Peer, PeerKind

OURS = 0x55430000
OURS_MASK = 0xFFFF0000
MACHINE = 0x8000
KIND_MASK = OURS_MASK | MACHINE
FORGED = OURS
WORLD_MARK = OURS + 1
HOST_MARK = OURS + 2
FIRST_ZONE = 16

NOWHERE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8")
)
"""Unspecified, loopback, link-local, multicast, reserved and broadcast addresses. Source: RFC 6890."""


class Kind(StrEnum):
    """What a side is. A ZONE is what lies in its network and in no smaller one; the WORLD is the rest."""

    MACHINES = "machines"
    WORLD = "world"
    HOST = "host"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Place:
    """One side of flows.

    Attributes:
        kind: what it is.
        name: of its chain "to-NAME", and its sets.
        mark: that packets from there bear.
        labels: of MACHINES.
        network: of a ZONE.
        nowhere: the zone is of no address that the world has.
    """

    kind: Kind
    name: str
    mark: int
    labels: frozenset[str] = frozenset()
    network: Network | None = None
    nowhere: bool = False

    @property
    def text(self) -> str:
        """Its name for people."""
        if self.kind is Kind.MACHINES:
            return ", ".join(sorted(self.labels)) or "machines without labels"
        return str(self.network) if self.network else self.kind.value


WORLD = Place(Kind.WORLD, "world", WORLD_MARK)
HOST = Place(Kind.HOST, "host", HOST_MARK)


def places(
    policy: FirewallPolicy, numbers: Mapping[frozenset[str], int], *, nevers: bool = False
) -> list[Place]:
    """Return all sides: of machines by number, the world, the host, and the zones of the policy's networks.

    Args:
        policy: whose flows' networks make zones.
        numbers: labels of each class -> its number.
        nevers: cut the zones by the networks of `never` rules too; their numbers are then of no use.
    """
    machines = [
        Place(Kind.MACHINES, str(number), OURS + MACHINE + number, labels=labels)
        for labels, number in sorted(numbers.items(), key=lambda item: item[1])
    ]
    networks = {*NOWHERE, *_named(policy, nevers=nevers)}
    zones = [
        Place(
            Kind.ZONE,
            f"zone-{place}",
            OURS + FIRST_ZONE + place,
            network=network,
            nowhere=any(within(network, special) for special in NOWHERE),
        )
        for place, network in enumerate(sorted(networks, key=_narrow_first))
    ]
    return [*machines, WORLD, HOST, *zones]


def means(peer: Peer, place: Place, quarantine: frozenset[str], *, flow: bool) -> bool:
    """Tell whether a peer of a flow, or of a `never`, means a side."""
    machines = place.kind is Kind.MACHINES
    match peer.kind:
        case PeerKind.LABEL:
            return machines and peer.label in place.labels
        case PeerKind.HOST:
            return place.kind is Kind.HOST
        case PeerKind.NETWORK if machines:
            return bool(peer.label) and peer.label in place.labels
        case PeerKind.NETWORK:
            return any(_lies_in(place, network) for network in peer.networks)
        case PeerKind.WORLD:
            return place.kind in {Kind.WORLD, Kind.ZONE} and not place.nowhere
        case PeerKind.ANY if not flow:
            return True
        case _:
            return not place.nowhere and not (machines and place.labels & quarantine)


class Meant:
    """Which sides peers mean, found by their labels: with many classes most peers mean few of them."""

    def __init__(self, every: Sequence[Place], quarantine: frozenset[str], *, flow: bool) -> None:
        """Take all sides, and whether peers are of flows or of `never` rules."""
        self._every = every
        self._quarantine = quarantine
        self._flow = flow
        self._others = [number for number, place in enumerate(every) if place.kind is not Kind.MACHINES]
        self._labelled: dict[str, list[int]] = {}
        self._known: dict[Peer, tuple[int, ...]] = {}
        for number, place in enumerate(every):
            for label in place.labels:
                self._labelled.setdefault(label, []).append(number)

    def by(self, peer: Peer) -> tuple[int, ...]:
        """Return the places of the sides that a peer means, in order."""
        if peer not in self._known:
            some: Iterable[int] = range(len(self._every))
            if peer.kind in {PeerKind.LABEL, PeerKind.NETWORK}:
                some = [*self._labelled.get(peer.label, ()), *self._others]
            self._known[peer] = tuple(
                number
                for number in sorted(some)
                if means(peer, self._every[number], self._quarantine, flow=self._flow)
            )
        return self._known[peer]


def within(inner: Network, outer: Network) -> bool:
    """Tell whether a network lies in another one."""
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)


def _lies_in(place: Place, network: Network) -> bool:
    if place.network is None or not within(place.network, network):
        return False
    return not place.nowhere or any(within(network, special) for special in NOWHERE)


def _named(policy: FirewallPolicy, *, nevers: bool) -> Iterator[Network]:
    for flow in policy.flows:
        for peer in (flow.source, flow.target):
            if peer.kind is PeerKind.NETWORK:
                yield from peer.networks
    for never in policy.nevers if nevers else ():
        for peer in (never.source, never.target, *never.exceptions):
            yield from peer.networks


def _narrow_first(network: Network) -> tuple[int, int, int]:
    return network.version, -network.prefixlen, int(network.network_address)
