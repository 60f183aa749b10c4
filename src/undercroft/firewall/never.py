"""Where a policy allows what it says may never be: found before anything is applied. Pure.

What is compared are sides: machines with one label each (or with the sets of labels that machines have),
the world, the host, and networks. Whoever is reached can reach on: a `Never` over several hops looks at
chains of flows, through machines and hosts.

A network of a `Never` means every address in it, whoever bears it. Which machines and hosts bear one is
known where there is a record: without it (`undercroft policy check`) only addresses of nobody are looked at.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from undercroft.firewall import marks
from undercroft.firewall.classes import Classes, Labels, assigned
from undercroft.firewall.grants import HOST, WORLD, Side, class_side, meant
from undercroft.firewall.policy import Address, FirewallPolicy, Flow, Never, Peer, PeerKind, Service
from undercroft.firewall.zones import zones


@dataclass(frozen=True, slots=True)
class Step:
    """One flow from one side to another, as people call them."""

    source: str
    target: str
    service: Service
    place: str

    def __str__(self) -> str:
        """Return "world to web tcp/443 (policy.yaml:5)"."""
        return f"{self.source} to {self.target} {self.service} ({self.place})"


@dataclass(frozen=True, slots=True)
class Bearer:
    """A machine with the addresses that are its own, or a host.

    Attributes:
        who: tells it from all others.
        name: for people.
        labels: of a machine, None for a host.
        addresses: that the filter knows it by.
    """

    who: str
    name: str
    labels: Labels | None
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class _End:
    """What a peer of a `Never` means of a side: all of it (`who` is ""), or one bearer by an address."""

    who: str
    shown: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Flows that a `Never` forbids: `steps` lead from its source to its target."""

    never: Never
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """Return a sentence with the flow, both places and what to do."""
        never = self.never
        over = f" in {never.hops} hops" if never.hops > 1 else ""
        way = ", then ".join(map(str, self.steps))
        return (
            f"never from {never.source} to {never.target}{over} ({never.place}), but allowed: {way};"
            " change one of them"
        )


def contradictions(
    policy: FirewallPolicy, label_sets: Iterable[Labels] = (), bearers: Iterable[Bearer] = ()
) -> tuple[Contradiction, ...]:
    """Return one contradiction for each pair of a `Never` and a flow that ends a forbidden way.

    Args:
        policy: any.
        label_sets: what machines there are; each label alone is looked at always.
        bearers: machines and hosts that networks of a `Never` mean by their addresses.
    """
    known = tuple(bearers)
    every = _sides(policy, [*label_sets, *(one.labels for one in known if one.labels is not None)])
    edges = _edges(policy, every)
    marks_of = {side.labels: side.mark for side in every if side.is_machine}
    found: list[Contradiction] = []
    for never in policy.nevers:
        by_network = PeerKind.NETWORK in {never.source.kind, never.target.kind}
        bearing = [
            (marks.HOST if one.labels is None else marks_of[one.labels], one)
            for one in (known if by_network else ())
        ]
        sources, targets = (_ends(never, peer, every, bearing) for peer in (never.source, never.target))
        seen: set[str] = set()
        for source in every:
            for steps in _ways(never, source, edges, (sources.get(source.mark, ()), targets)):
                if steps[-1].place not in seen:
                    seen.add(steps[-1].place)
                    found.append(Contradiction(never, steps))
    return tuple(found)


def _sides(policy: FirewallPolicy, label_sets: Iterable[Labels]) -> tuple[Side, ...]:
    peers = [peer for flow in policy.flows for peer in (flow.source, flow.target)]
    peers += [peer for never in policy.nevers for peer in (never.source, never.target, *never.exceptions)]
    single = {frozenset({rule.name}) for rule in policy.labels}
    single |= {frozenset({peer.label}) for peer in peers if peer.label}
    classes = assigned(Classes(), [frozenset[str](), *single, *label_sets])
    return (
        *(class_side(number, labels) for number, labels in classes.ordered()),
        WORLD,
        HOST,
        *(Side(zone.mark, str(zone.network), zone=zone) for zone in zones(policy, nevers=True)),
    )


_Edges = Mapping[int, list[tuple[Side, Flow]]]


def _edges(policy: FirewallPolicy, every: tuple[Side, ...]) -> _Edges:
    quarantine = policy.quarantine_labels
    edges: dict[int, list[tuple[Side, Flow]]] = {side.mark: [] for side in every}
    for flow in policy.flows:
        targets = [side for side in every if meant(flow.target, side, quarantine)]
        for source in every:
            if meant(flow.source, source, quarantine):
                edges[source.mark] += [
                    (target, flow) for target in targets if source.is_machine or target.is_machine
                ]
    return edges


_Ends = Mapping[int, tuple[_End, ...]]
"""By a side's mark."""


def _ends(never: Never, peer: Peer, every: Iterable[Side], bearing: Iterable[tuple[int, Bearer]]) -> _Ends:
    """Return whom a peer of a `Never` means, but for its exceptions: of a side all, else at most two."""
    excepted = {side.mark for side in every if any(_forbids(one, side) for one in never.exceptions)}
    found: dict[int, tuple[_End, ...]] = {
        side.mark: (_End("", _shown(side)),)
        for side in every
        if side.mark not in excepted and _forbids(peer, side)
    }
    for mark, one in bearing if peer.kind is PeerKind.NETWORK else ():
        known = found.get(mark, ())
        if mark in excepted or len(known) == 2 or any(end.who in {"", one.who} for end in known):
            continue
        for address in one.addresses:
            if _lies_in(address, peer) and not any(_lies_in(address, other) for other in never.exceptions):
                found[mark] = (*known, _End(one.who, f"{one.name} ({address})"))
                break
    return found


def _lies_in(address: Address, peer: Peer) -> bool:
    return any(address in network for network in peer.networks)


def _pair(sources: Iterable[_End], targets: Iterable[_End]) -> tuple[_End, _End] | None:
    """Return one of each who are not one and the same machine, None where there are none."""
    pairs = ((one, other) for one in sources for other in targets)
    return next(((one, other) for one, other in pairs if not one.who or one.who != other.who), None)


def _ways(
    never: Never, start: Side, edges: _Edges, ends: tuple[tuple[_End, ...], _Ends]
) -> Iterable[tuple[Step, ...]]:
    """Yield the shortest forbidden ways from one side, breadth first.

    Args:
        never: which rule.
        start: the side.
        edges: flows by the side that opens them.
        ends: who of the side is meant, and who of all sides is as the target.
    """
    sources, targets = ends
    if not sources:
        return
    reached = {start.mark}
    ways: list[tuple[Side, tuple[Step, ...]]] = [(start, ())]
    for _ in range(never.hops):
        further: list[tuple[Side, tuple[Step, ...]]] = []
        for side, steps in ways:
            for target, flow in edges[side.mark]:
                step = Step(_shown(side), _shown(target), flow.services[0], flow.place)
                service = _forbidden(never, flow)
                pair = _pair(sources, targets.get(target.mark, ())) if service else None
                if service and pair:
                    last = Step(step.source if steps else pair[0].shown, pair[1].shown, service, flow.place)
                    yield (*_from(steps, pair[0]), last)
                if target.mark not in reached and (target.is_machine or target.mark == marks.HOST):
                    reached.add(target.mark)
                    further.append((target, (*steps, step)))
        ways = further


def _from(steps: tuple[Step, ...], begin: _End) -> tuple[Step, ...]:
    return (replace(steps[0], source=begin.shown), *steps[1:]) if steps else ()


def _forbidden(never: Never, flow: Flow) -> Service | None:
    """Return the first service of a flow that is meant, None where none is."""
    for service in flow.services:
        if not never.services:
            return service
        for meant_one in never.services:
            low, high = max(service.low, meant_one.low), min(service.high, meant_one.high)
            if service.protocol is meant_one.protocol and low <= high:
                return Service(service.protocol, low, high)
    return None


def _forbids(peer: Peer, side: Side) -> bool:
    """Tell whether a peer of a `Never` means a side: `*` means every one, quarantined ones too."""
    return peer.kind is PeerKind.ANY or meant(peer, side, frozenset())


def _shown(side: Side) -> str:
    if side.labels is None:
        return side.name
    return "+".join(sorted(side.labels)) or "a machine without labels"
