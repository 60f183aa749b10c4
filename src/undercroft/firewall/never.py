"""Where a policy allows what it says may never be: found before anything is applied. Pure.

What is compared are sides: machines with one label each (or with the sets of labels that machines have),
the world, the host, and networks. Whoever is reached can reach on: a `Never` over several hops looks at
chains of flows, through machines and hosts.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from undercroft.firewall import marks
from undercroft.firewall.classes import Classes, Labels, assigned
from undercroft.firewall.grants import HOST, WORLD, Side, class_side, meant
from undercroft.firewall.policy import FirewallPolicy, Flow, Never, Peer, PeerKind, Service
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


def contradictions(policy: FirewallPolicy, label_sets: Iterable[Labels] = ()) -> tuple[Contradiction, ...]:
    """Return one contradiction for each pair of a `Never` and a flow that ends a forbidden way.

    Args:
        policy: any.
        label_sets: what machines there are; each label alone is looked at always.
    """
    every = _sides(policy, label_sets)
    edges = _edges(policy, every)
    found: list[Contradiction] = []
    for never in policy.nevers:
        seen: set[str] = set()
        for source in every:
            if not _forbids(never.source, source) or _excepted(never, source):
                continue
            for steps in _ways(never, source, edges):
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


def _ways(never: Never, start: Side, edges: _Edges) -> Iterable[tuple[Step, ...]]:
    """Yield the shortest forbidden ways from one side, breadth first."""
    reached = {start.mark}
    ways: list[tuple[Side, tuple[Step, ...]]] = [(start, ())]
    for _ in range(never.hops):
        further: list[tuple[Side, tuple[Step, ...]]] = []
        for side, steps in ways:
            for target, flow in edges[side.mark]:
                step = Step(_shown(side), _shown(target), flow.services[0], flow.place)
                service = _forbidden(never, flow)
                if service and _forbids(never.target, target) and not _excepted(never, target):
                    yield (*steps, Step(step.source, step.target, service, flow.place))
                if target.mark not in reached and (target.is_machine or target.mark == marks.HOST):
                    reached.add(target.mark)
                    further.append((target, (*steps, step)))
        ways = further


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


def _excepted(never: Never, side: Side) -> bool:
    return any(_forbids(peer, side) for peer in never.exceptions)


def _shown(side: Side) -> str:
    if side.labels is None:
        return side.name
    return "+".join(sorted(side.labels)) or "a machine without labels"
