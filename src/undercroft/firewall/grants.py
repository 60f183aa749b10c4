"""What the flows come to between sides: classes of machines, zones of addresses, the world and the host."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from undercroft.firewall import marks
from undercroft.firewall.classes import Classes, Labels
from undercroft.firewall.policy import PORT_PROTOCOLS, FirewallPolicy, Peer, PeerKind, Protocol, Service
from undercroft.firewall.zones import Zone, zones


@dataclass(frozen=True, slots=True)
class Side:
    """One side of flows: a mark, the name of its chains and sets, and what peers match it by.

    `labels` is None and `zone` is None where it is no class and no zone.
    """

    mark: int
    name: str
    labels: Labels | None = None
    zone: Zone | None = None

    @property
    def is_machine(self) -> bool:
        """True for a class of machines."""
        return self.labels is not None


PortGrant = tuple[int, int, int]
"""Mark of the other side, protocol number, port."""


@dataclass(slots=True)
class Granted:
    """What concerns one side as the target of packets.

    Attributes:
        opened: who may open which of its services.
        answered: whose services it may open: their replies come with the service as their source port.
        pinged, ponged: the same for echo.
        near: marks of those with whom it has any flow, in either direction.
        logged: the part of `opened` whose first packets are told of.
    """

    opened: set[PortGrant] = field(default_factory=set)
    answered: set[PortGrant] = field(default_factory=set)
    pinged: set[int] = field(default_factory=set)
    ponged: set[int] = field(default_factory=set)
    near: set[int] = field(default_factory=set)
    logged: set[PortGrant] = field(default_factory=set)


WORLD = Side(marks.WORLD, "world")
HOST = Side(marks.HOST, "host")


def class_side(number: int, labels: Labels) -> Side:
    """Return the side of a class."""
    return Side(marks.of_class(number), str(number), labels=labels)


def sides(policy: FirewallPolicy, classes: Classes) -> tuple[Side, ...]:
    """Return all sides: classes by number, the world, the host, zones in their order."""
    return (
        *(class_side(number, labels) for number, labels in classes.ordered()),
        WORLD,
        HOST,
        *(Side(zone.mark, f"zone-{zone.index}", zone=zone) for zone in zones(policy)),
    )


@dataclass(frozen=True, slots=True)
class Grants:
    """All sides, and by a side's mark what is granted to reach it."""

    sides: tuple[Side, ...]
    found: Mapping[int, Granted]


def grants_of(policy: FirewallPolicy, classes: Classes) -> Grants:
    """Return what the flows grant, those with a machine at one end at least."""
    every = sides(policy, classes)
    found = {side.mark: Granted() for side in every}
    quarantine = policy.quarantine_labels
    peers = {peer for flow in policy.flows for peer in (flow.source, flow.target)}
    meaning = {peer: [side for side in every if meant(peer, side, quarantine)] for peer in peers}
    for flow in policy.flows:
        for source in meaning[flow.source]:
            for target in meaning[flow.target]:
                if source.is_machine or target.is_machine:
                    _grant(found[source.mark], found[target.mark], source, target, flow.services, flow.log)
    outside = {side.mark for side in every if not side.is_machine}
    for side in every:
        # A router of the path tells of flows that were cut, whatever they are with.
        if side.is_machine and found[side.mark].near:
            found[side.mark].near |= outside
    return Grants(every, found)


def meant(peer: Peer, side: Side, quarantine: frozenset[str]) -> bool:
    """Tell whether a flow's peer means a side."""
    zone, labels = side.zone, side.labels
    match peer.kind:
        case PeerKind.LABEL:
            return labels is not None and peer.label in labels
        case PeerKind.NETWORK:
            if labels is not None:
                return peer.label in labels
            return zone is not None and any(map(zone.lies_in, peer.networks))
        case PeerKind.HOST:
            return side.mark == marks.HOST
        case PeerKind.WORLD:
            return side.mark == marks.WORLD or (zone is not None and not zone.nowhere)
        case PeerKind.ANY:
            if labels is not None:
                return not labels & quarantine
            return zone is None or not zone.nowhere


def port_grants(services: tuple[Service, ...]) -> Iterator[tuple[int, int]]:
    """Yield protocol number and port of each service that has ports."""
    for service in services:
        if service.protocol is not Protocol.ICMP:
            for port in range(service.low, service.high + 1):
                yield PORT_PROTOCOLS[service.protocol], port


def _grant(
    to_source: Granted,
    to_target: Granted,
    source: Side,
    target: Side,
    services: tuple[Service, ...],
    log: bool,
) -> None:
    to_target.near.add(source.mark)
    to_source.near.add(target.mark)
    for protocol, port in port_grants(services):
        to_target.opened.add((source.mark, protocol, port))
        to_source.answered.add((target.mark, protocol, port))
        if log:
            to_target.logged.add((source.mark, protocol, port))
    if any(service.protocol is Protocol.ICMP for service in services):
        to_target.pinged.add(source.mark)
        to_source.ponged.add(target.mark)
