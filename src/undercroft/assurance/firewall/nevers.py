"""`never` rules as theorems: no pair of sides, and no chain of flows, that the policy allows breaks one.

Every address lies in some side, so what holds for all pairs of sides holds for all packets that open a flow.
For this the zones are cut by the networks of the `never` rules too. A network of a `never` means machines and
the host as well, by the addresses that they bear: these are ends of their own beside the sides (`bearers`).
Written from the policy's values and the fleet's alone.

    nevers = Nevers(policy, numbers)
    breach = nevers.breach()                            # whatever machines there are
    breach = nevers.breach(nevers.bearing(fleet))       # of these, by their addresses, too
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from undercroft.assurance.firewall.bearers import Bearers, Bearing, End
from undercroft.assurance.firewall.places import Kind, Meant, Place, places, within
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import FirewallPolicy, Flow, Network, Never, Peer, PeerKind, Service


@dataclass(frozen=True, slots=True)
class Breach:
    """A way in which the policy allows what a `never` rule forbids: the sides that it goes over."""

    never: Never
    way: tuple[str, ...]
    service: str

    def __str__(self) -> str:
        """Return it for people."""
        return f"{' -> '.join(self.way)} by {self.service}"


@dataclass(frozen=True, slots=True)
class _Reach:
    """A flow, with the places of those who open and of those who are opened."""

    flow: Flow
    opens: frozenset[int]
    opened: frozenset[int]


_Ends = Mapping[int, tuple[End, ...]]
"""By side: who of it is meant; the side as such, else up to two of it."""
_Ways = Mapping[int, tuple[tuple[End, tuple[int, ...]], ...]]
"""By side: where ways to it begin, and over which sides they go; from one end, or from two different ones."""


class Nevers:
    """The `never` rules of a policy, over its sides. It is made once for a policy and its classes."""

    def __init__(self, policy: FirewallPolicy, numbers: Mapping[frozenset[str], int]) -> None:
        """Take a policy, and labels -> number of each class."""
        self._nevers = policy.nevers
        self._every: Sequence[Place] = places(policy, numbers, nevers=True)
        self._forbids = Meant(self._every, policy.quarantine_labels, flow=False)
        self._bearers = Bearers(policy, self._every)
        self._reach: list[_Reach] = []
        if policy.nevers:
            allows = Meant(self._every, policy.quarantine_labels, flow=True)
            self._reach = [
                _Reach(flow, frozenset(allows.by(flow.source)), frozenset(allows.by(flow.target)))
                for flow in policy.flows
            ]

    def bearing(self, fleet: Fleet) -> Bearing:
        """Return who bears addresses in networks of the rules."""
        return self._bearers.of_fleet(fleet)

    def bearing_with(self, known: Bearing, port: Port) -> Bearing:
        """Return the same with one more port; `known` itself where the port adds nothing."""
        return self._bearers.with_port(known, port)

    def breach(self, bearing: Bearing = MappingProxyType({})) -> Breach | None:
        """Return a shortest way of the first rule that the policy breaks, None where it breaks none.

        Args:
            bearing: who counts by an address; without it, sides alone are looked at.
        """
        found = (self._broken(never, bearing) for never in self._nevers)
        return next((breach for breach in found if breach is not None), None)

    def _broken(self, never: Never, bearing: Bearing) -> Breach | None:
        """Search breadth first from every source over at most `hops` flows; the last one's service counts.

        A way leads on through machines and the host; what the world does is no flow of this policy. Who is
        excepted is no source and no target, and may lie on the way.
        """
        none: frozenset[int] = frozenset()
        excepted = none.union(*map(self._forbids.by, never.exceptions))
        targets = self._meant(never, never.target, excepted, bearing)
        ways: _Ways = {
            place: tuple((end, (place,)) for end in ends)
            for place, ends in self._meant(never, never.source, excepted, bearing).items()
        }
        for _ in range(never.hops):
            onward: dict[int, tuple[tuple[End, tuple[int, ...]], ...]] = {}
            for step in self._reach:
                service = _service(step.flow.services, never.services)
                for source, target in _pairs(step, ways, self._every):
                    for begin, way in ways[source]:
                        end = _other(targets.get(target, ()), begin) if service else None
                        if end is not None:
                            return Breach(never, self._words(begin, way, end), service)
                        if self._every[target].kind in {Kind.MACHINES, Kind.HOST}:
                            onward[target] = _with(onward.get(target, ()), begin, (*way, target))
            ways = onward
        return None

    def _meant(self, never: Never, peer: Peer, excepted: frozenset[int], bearing: Bearing) -> _Ends:
        """Return the ends that a peer of a rule means."""
        found: dict[int, tuple[End, ...]] = {
            place: (End(place, None, "", self._every[place].text),)
            for place in self._forbids.by(peer)
            if place not in excepted
        }
        if peer.kind is not PeerKind.NETWORK:
            return found
        for (place, _), ends in bearing.items():
            network = ends[0].network
            if place in excepted or any(_holds(other, network) for other in never.exceptions):
                continue
            if _holds(peer, network):
                found[place] = _two((*found.get(place, ()), *ends))
        return found

    def _words(self, begin: End, way: tuple[int, ...], end: End) -> tuple[str, ...]:
        return (begin.text, *(self._every[one].text for one in way[1:]), end.text)


def _holds(peer: Peer, network: Network | None) -> bool:
    return network is not None and any(within(network, one) for one in peer.networks)


def _two(ends: Iterable[End]) -> tuple[End, ...]:
    """Return the side as such where it is there, else at most two of different machines."""
    found: dict[str, End] = {}
    for end in ends:
        found.setdefault(end.who, end)
    return (found[""],) if "" in found else tuple(found.values())[:2]


def _other(targets: Sequence[End], begin: End) -> End | None:
    """Return an end that is not the very machine that a way began at."""
    return next((end for end in targets if not end.who or end.who != begin.who), None)


def _with(
    ways: tuple[tuple[End, tuple[int, ...]], ...], begin: End, way: tuple[int, ...]
) -> tuple[tuple[End, tuple[int, ...]], ...]:
    """Return ways to a side with one more; two that began at different machines tell all that more would."""
    if len(ways) == 2 or any(not known.who or known.who == begin.who for known, _ in ways):
        return ways
    return (*ways, (begin, way))


def _pairs(step: _Reach, ways: _Ways, every: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of sides that a flow joins, from where a way leads; one of them is a machine."""
    for source in sorted(step.opens & ways.keys()):
        for target in sorted(step.opened):
            if Kind.MACHINES in {every[source].kind, every[target].kind}:
                yield source, target


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
