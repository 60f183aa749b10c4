"""What `never` rules mean, tried out: every chain of flows between everybody, one after the other.

Ends are machines by each of their addresses, the host by each of its, addresses of nobody, and besides what
the policy's labels say of any machine and host, whichever addresses it has. Nothing here is shared with what
is tested but the policy's values.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from undercroft.firewall.fleet import Fleet
from undercroft.firewall.policy import Address, FirewallPolicy, Never, Peer, PeerKind, Service

Labels = frozenset[str]
NOBODYS = tuple(
    map(ip_address, ("10.0.0.9", "10.1.0.9", "10.1.1.9", "10.1.1.1", "10.2.0.9", "192.0.2.9", "224.0.0.9"))
)
"""One address for each part into which `NETWORKS` cut all of them."""
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "10.2.0.0/16", "224.0.0.0/24")
_MULTICAST = ip_network("224.0.0.0/3")


@dataclass(frozen=True)
class Entity:
    """`labels`: of a machine; `who`: which one, "" for any; `address`: None for whichever it has."""

    labels: Labels | None = None
    host: bool = False
    who: str = ""
    address: Address | None = None

    @property
    def is_filtered(self) -> bool:
        """Whether it is a machine, or the host: somebody whom a way leads on through."""
        return self.labels is not None or self.host


def is_broken(policy: FirewallPolicy, numbers: Iterable[Labels], fleet: Fleet) -> bool:
    """Tell whether some chain of allowed flows breaks a rule."""
    any_one = [*(Entity(labels) for labels in numbers), Entity(host=True)]
    every = [*any_one, *_of_fleet(fleet), *(Entity(address=address) for address in NOBODYS)]
    return any(_breaks(policy, never, any_one, every) for never in policy.nevers)


def _of_fleet(fleet: Fleet) -> Iterator[Entity]:
    for address in fleet.host_addresses:
        yield Entity(host=True, who="host", address=address)
    for port in fleet.ports:
        for address in (*port.ipv4, *port.all_ipv6):
            yield Entity(port.labels, who=port.machine, address=address)
    for machine in fleet.elsewhere:
        for address in machine.addresses:
            yield Entity(machine.labels, who=machine.machine, address=address)


def _breaks(policy: FirewallPolicy, never: Never, any_one: list[Entity], every: list[Entity]) -> bool:
    for begin in every:
        if not _is_meant(never, never.source, begin):
            continue
        stations = [begin]
        for _ in range(never.hops):
            for station in stations:
                for end in every:
                    meets = _is_meant(never, never.target, end) and not (begin.who and begin.who == end.who)
                    if meets and _opens(policy, station, end, never.services):
                        return True
            stations = [one for one in any_one if any(_opens(policy, last, one, ()) for last in stations)]
    return False


def _is_meant(never: Never, peer: Peer, one: Entity) -> bool:
    return _forbids(peer, one) and not any(_forbids(other, one) for other in never.exceptions)


def _forbids(peer: Peer, one: Entity) -> bool:
    if peer.kind is PeerKind.ANY:
        return True
    if peer.kind is PeerKind.NETWORK and one.is_filtered and one.address is not None:
        return _means(peer, one, frozenset()) or any(one.address in network for network in peer.networks)
    return _means(peer, one, frozenset())


def _opens(policy: FirewallPolicy, one: Entity, other: Entity, services: tuple[Service, ...]) -> bool:
    if one.labels is None and other.labels is None:
        return False
    quarantine = policy.quarantine_labels
    return any(
        _means(flow.source, one, quarantine)
        and _means(flow.target, other, quarantine)
        and (not services or bool(set(flow.services) & set(services)))
        for flow in policy.flows
    )


def _means(peer: Peer, one: Entity, quarantine: Labels) -> bool:
    """Tell whether a flow's peer means somebody: machines by labels alone."""
    special = not one.is_filtered and one.address is not None and one.address in _MULTICAST
    match peer.kind:
        case PeerKind.LABEL:
            return one.labels is not None and peer.label in one.labels
        case PeerKind.HOST:
            return one.host
        case PeerKind.WORLD:
            return not one.is_filtered and not special
        case PeerKind.NETWORK if one.is_filtered:
            return one.labels is not None and peer.label in one.labels
        case PeerKind.NETWORK:
            found = [network for network in peer.networks if one.address in network]
            return any(not special or network.subnet_of(_MULTICAST) for network in found)
        case _:
            return not special and not (one.labels or frozenset()) & quarantine
