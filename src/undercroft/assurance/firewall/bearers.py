"""Who bears addresses in the networks of `never` rules: machines and the host, as a fleet has them.

A network of a `never` means every address in it, whoever bears it. What counts of an address is the smallest
of these networks that it lies in, and whose it is: a class and a network are looked at once, however many
machines they have in common.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network

from undercroft.assurance.firewall.places import Kind, Place, within
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import Address, FirewallPolicy, Network, PeerKind

_HOST = "host"
_LINK_LOCAL = IPv6Network("fe80::/64")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a flow: a side, or somebody of it by an address.

    Attributes:
        place: number of the side.
        network: of a `never`, the smallest that the address lies in; None for the side as such.
        who: UUID of the machine, or "host"; "" for the side as such.
        text: for people.
    """

    place: int
    network: Network | None
    who: str
    text: str


Bearing = Mapping[tuple[int, int], tuple[End, ...]]
"""By numbers of side and network: one who bears an address there, and another one where there is one."""


class Bearers:
    """Finds the ends that addresses make. Raises nothing: labels without a class are nobody's here."""

    def __init__(self, policy: FirewallPolicy, every: Sequence[Place]) -> None:
        """Take a policy, and all sides."""
        self._places = {place.labels: at for at, place in enumerate(every) if place.kind is Kind.MACHINES}
        self._host = next(at for at, place in enumerate(every) if place.kind is Kind.HOST)
        self._networks = tuple(dict.fromkeys(_networks(policy)))
        lengths: dict[int, dict[int, dict[int, int]]] = {4: {}, 6: {}}
        for number, network in enumerate(self._networks):
            shift = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> shift
            lengths[network.version].setdefault(shift, {})[prefix] = number
        self._narrow_first = {version: sorted(found.items()) for version, found in lengths.items()}
        self._are_asked_for = bool(self._networks)
        # Ten thousand of these addresses take as long as all others, and few rules are about any.
        self._link_local = any(within(_LINK_LOCAL, one) or within(one, _LINK_LOCAL) for one in self._networks)

    def of_fleet(self, fleet: Fleet) -> dict[tuple[int, int], tuple[End, ...]]:
        """Return the ends of all machines and of the host."""
        known: dict[tuple[int, int], tuple[End, ...]] = {}
        if not self._are_asked_for:
            return known
        self._note({}, known, self._host, (_HOST, f"host {fleet.host}".strip()), fleet.host_addresses)
        for port in fleet.ports:
            self._note(
                {}, known, self._places.get(port.labels), (port.machine, port.name), self._of_port(port)
            )
        for one in fleet.elsewhere:
            self._note({}, known, self._places.get(one.labels), (one.machine, one.name), one.addresses)
        return known

    def with_port(self, known: Bearing, port: Port) -> Bearing:
        """Return what a port adds to what is known: the same object where that is nothing."""
        more: dict[tuple[int, int], tuple[End, ...]] = {}
        if self._are_asked_for:
            self._note(
                known, more, self._places.get(port.labels), (port.machine, port.name), self._of_port(port)
            )
        return {**known, **more} if more else known

    def _note(
        self,
        known: Bearing,
        more: dict[tuple[int, int], tuple[End, ...]],
        place: int | None,
        whose: tuple[str, str],
        addresses: Iterable[Address],
    ) -> None:
        """Put what is not known into `more`. `whose`: the UUID, or "host", and the name."""
        for address in addresses if place is not None else ():
            number = self._smallest(address)
            if place is None or number is None:
                continue
            ends = more.get((place, number)) or known.get((place, number), ())
            # Two tell all that more would: a flow has two ends, and is none from one to itself.
            if len(ends) < 2 and all(end.who != whose[0] for end in ends):
                end = End(place, self._networks[number], whose[0], f"{whose[1]} ({address})")
                more[place, number] = (*ends, end)

    def _of_port(self, port: Port) -> tuple[Address, ...]:
        return (*port.ipv4, *(port.all_ipv6 if self._link_local else port.ipv6))

    def _smallest(self, address: Address) -> int | None:
        number = int(address)
        for shift, networks in self._narrow_first[address.version]:
            if (found := networks.get(number >> shift)) is not None:
                return found
        return None


def _networks(policy: FirewallPolicy) -> Iterable[Network]:
    """Yield the networks by which somebody may be meant, and those that are excepted from them."""
    for never in policy.nevers:
        if PeerKind.NETWORK in {never.source.kind, never.target.kind}:
            for peer in (never.source, never.target, *never.exceptions):
                yield from peer.networks
