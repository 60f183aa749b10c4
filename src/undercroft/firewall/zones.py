"""Addresses of no machine, cut into zones: two addresses of one zone lie in the same networks of the policy.

Networks lie in each other or apart. So the smallest one that holds an address tells of all others that
hold it, and gives the zone; `NOWHERE`'s networks are zones too.
"""

from dataclasses import dataclass

from undercroft.firewall import marks
from undercroft.firewall.policy import FirewallPolicy, Network, Peer, PeerKind


@dataclass(frozen=True, slots=True)
class Zone:
    """Addresses in `network` and in no smaller network of the policy. `nowhere`: not of the world."""

    index: int
    network: Network
    nowhere: bool

    @property
    def mark(self) -> int:
        """The mark of packets from there."""
        return marks.of_zone(self.index)

    @property
    def exact(self) -> bool:
        """True for a single address."""
        return self.network.prefixlen == self.network.max_prefixlen

    def lies_in(self, network: Network) -> bool:
        """Tell whether a peer that names `network` means this zone."""
        return _within(self.network, network) and (not self.nowhere or is_nowhere(network))


def zones(policy: FirewallPolicy, *, nevers: bool = False) -> tuple[Zone, ...]:
    """Return the zones, IPv4 first, smaller networks before larger; the order follows from the policy.

    Args:
        policy: any.
        nevers: cut by the networks of its `Never`s too, which no packet is told by.
    """
    peers = [peer for flow in policy.flows for peer in (flow.source, flow.target)]
    if nevers:
        peers += [peer for item in policy.nevers for peer in (item.source, item.target, *item.exceptions)]
    named = {network for peer in peers for network in _of(peer)}
    networks = sorted(
        named | set(marks.NOWHERE),
        key=lambda network: (network.version, -network.prefixlen, int(network.network_address)),
    )
    return tuple(Zone(index, network, is_nowhere(network)) for index, network in enumerate(networks))


def is_nowhere(network: Network) -> bool:
    """Tell whether all of a network is not of the world."""
    return any(_within(network, special) for special in marks.NOWHERE)


def _of(peer: Peer) -> tuple[Network, ...]:
    return peer.networks if peer.kind is PeerKind.NETWORK else ()


def _within(inner: Network, outer: Network) -> bool:
    return (
        inner.version == outer.version
        and inner.prefixlen >= outer.prefixlen
        and int(inner.network_address) >> (inner.max_prefixlen - outer.prefixlen)
        == int(outer.network_address) >> (outer.max_prefixlen - outer.prefixlen)
    )
