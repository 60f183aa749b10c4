"""Who may open what to whom, and what answers to it: the flows of a policy, asked about one packet."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from undercroft.firewall.classes import Labels
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.policy import Address, FirewallPolicy, Flow, Network, Peer, PeerKind, Protocol

_NUMBERS = {6: Protocol.TCP, 17: Protocol.UDP, 132: Protocol.SCTP}
_NOT_WORLD = tuple(
    map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"))
)


@dataclass(frozen=True, slots=True)
class End:
    """One end of a packet: a machine's labels, or an address outside, or the host.

    `is_here`: the machine runs on this host, and the packet did not come from its port.
    """

    labels: Labels | None = None
    address: Address | None = None
    is_host: bool = False
    is_here: bool = False

    @property
    def is_machine(self) -> bool:
        """True for a machine, wherever it runs."""
        return self.labels is not None


class Permission:
    """The flows of a policy over a fleet."""

    world = End()

    def __init__(self, policy: FirewallPolicy, fleet: Fleet) -> None:
        self._flows = policy.flows
        self._quarantine = policy.quarantine_labels
        self._ends: dict[bytes, End] = {
            address.packed: End(address=address, is_host=True) for address in fleet.host_addresses
        }
        for machine in fleet.elsewhere:
            for address in machine.addresses:
                self._ends[address.packed] = End(machine.labels)
        for port in fleet.ports:
            own: tuple[IPv4Address | IPv6Address, ...] = (*port.ipv4, *port.all_ipv6)
            for address in own:
                self._ends[address.packed] = End(port.labels, is_here=not port.arriving)

    def machine(self, labels: Labels) -> End:
        """Return the end that machines with these labels are."""
        return End(labels)

    def address(self, packed: bytes) -> End:
        """Return the end that an address is."""
        return self._ends.get(packed) or End(address=ip_address(packed))

    def beyond(self, packed: bytes) -> End:
        """Return the end that an address is to whoever sends there by way of the host or an uplink.

        A link-local address means nobody there: it is known on one link only.
        """
        end, address = self.address(packed), ip_address(packed)
        return End(address=address) if end.is_machine and address.is_link_local else end

    def allowing(self, source: End, target: End, protocol: int, port: int | None) -> Flow | None:
        """Return the flow by which `source` may open a port of `target`, None for none.

        Args:
            source: who opens.
            target: whose port it is.
            protocol: its number; ICMP and ICMPv6 mean echo.
            port: None for ICMP.
        """
        for flow in self._flows:
            if not (self._meant(flow.source, source) and self._meant(flow.target, target)):
                continue
            for service in flow.services:
                if port is None and service.protocol is Protocol.ICMP:
                    return flow
                named = _NUMBERS.get(protocol) is service.protocol
                if port is not None and named and service.low <= port <= service.high:
                    return flow
        return None

    def near(self, one: End, other: End) -> bool:
        """Tell whether there is any flow between two ends, in either direction."""
        return self._any(one, other) or self._any(other, one)

    def has_any(self, end: End) -> bool:
        """Tell whether any flow at all concerns an end."""
        return any(self._meant(flow.source, end) or self._meant(flow.target, end) for flow in self._flows)

    def _any(self, source: End, target: End) -> bool:
        return any(
            self._meant(flow.source, source) and self._meant(flow.target, target) for flow in self._flows
        )

    def _meant(self, peer: Peer, end: End) -> bool:
        match peer.kind:
            case PeerKind.LABEL:
                return end.labels is not None and peer.label in end.labels
            case PeerKind.HOST:
                return end.is_host
            case PeerKind.ANY:
                known = end.is_host or _of_the_world(end.address)
                return known if end.labels is None else not end.labels & self._quarantine
            case PeerKind.WORLD:
                return end.labels is None and not end.is_host and _of_the_world(end.address)
            case PeerKind.NETWORK:
                if end.labels is not None:
                    return bool(peer.label) and peer.label in end.labels
                return not end.is_host and _within(end.address, peer)


def _of_the_world(address: Address | None) -> bool:
    return address is None or not any(address in network for network in _NOT_WORLD)


def _within(address: Address | None, peer: Peer) -> bool:
    holding = [network for network in peer.networks if address is not None and address in network]
    return bool(holding) if _of_the_world(address) else any(map(_all_special, holding))


def _all_special(network: Network) -> bool:
    first, last = network[0], network[-1]
    return any(first in special and last in special for special in _NOT_WORLD)
