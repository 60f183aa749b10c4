"""Who may open what to whom, between the sides that people name. Pure.

A side is a set of labels that machines have, the world, the host, or a network of the policy. What the flows
mean for sides is `firewall.grants`'; here they are only gathered by pair.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from undercroft.firewall.classes import Labels
from undercroft.firewall.grants import HOST, WORLD, Side, class_side, meant
from undercroft.firewall.policy import FirewallPolicy, Flow, Peer, PeerKind, Service
from undercroft.firewall.zones import zones
from undercroft.usecases.firewall.services import merged

Pair = tuple[int, int]
"""Numbers of the source and of the target, in a sequence of sides."""

NO_LABELS = "no label"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one side may open of another, and where the policy says so."""

    services: tuple[Service, ...]
    places: tuple[str, ...]


def labels_text(labels: Iterable[str]) -> str:
    """Return how people call a set of labels: "db+web", "no label"."""
    return "+".join(sorted(labels)) or NO_LABELS


def unused_names(policies: Iterable[FirewallPolicy]) -> Labels:
    """Return the names of `addresses` that no flow and no label rule has.

    Each is a label of the machine of that name, and tells it from nobody: a thousand machines whose addresses
    the policy names are filtered alike.
    """
    names: set[str] = set()
    used: set[str] = set()
    for policy in policies:
        names |= {named.name for named in policy.addresses}
        used |= {peer.label for flow in policy.flows for peer in (flow.source, flow.target)}
        used |= {rule.name for rule in policy.labels}
    return frozenset(names - used)


def machine_sides(label_sets: Iterable[Labels]) -> tuple[Side, ...]:
    """Return a side for each set of labels, in order; one that is given twice is there twice."""
    return tuple(class_side(number, labels) for number, labels in enumerate(label_sets, 1))


def outside_sides(policies: Sequence[FirewallPolicy]) -> tuple[Side, ...]:
    """Return the world, the host, and the networks into which the policies together cut all addresses.

    Only networks that some flow names are among them; of those that are not of the world, too.
    """
    flows = tuple(flow for policy in policies for flow in policy.flows)
    peers = [peer for flow in flows for peer in (flow.source, flow.target)]
    named = {network for peer in peers if peer.kind is PeerKind.NETWORK for network in peer.networks}
    names = {network: peer.label for peer in peers for network in peer.networks if peer.label}
    joined = replace(policies[0], flows=flows) if policies else FirewallPolicy()
    found = [zone for zone in zones(joined) if zone.network in named]
    return (
        WORLD,
        HOST,
        *(Side(zone.mark, names.get(zone.network, str(zone.network)), zone=zone) for zone in found),
    )


def allowed(policy: FirewallPolicy, sides: Sequence[Side]) -> Mapping[Pair, Allowed]:
    """Return what the policy allows between sides, those pairs alone that have a machine at one end."""
    quarantine = policy.quarantine_labels
    meaning: dict[Peer, list[int]] = {}
    flows: dict[Pair, list[Flow]] = {}

    def numbers(peer: Peer) -> list[int]:
        if peer not in meaning:
            meaning[peer] = [n for n, side in enumerate(sides) if meant(peer, side, quarantine)]
        return meaning[peer]

    for flow in policy.flows:
        for source in numbers(flow.source):
            for target in numbers(flow.target):
                if sides[source].is_machine or sides[target].is_machine:
                    flows.setdefault((source, target), []).append(flow)
    return {
        pair: Allowed(
            merged(service for flow in found for service in flow.services),
            tuple(dict.fromkeys(flow.place for flow in found)),
        )
        for pair, found in flows.items()
    }


def of_world(outside: Sequence[Side], first: int, pair: Pair) -> Pair:
    """Return a pair with the world in place of networks that lie in it.

    Args:
        outside: `outside_sides`, the world first.
        first: the world's number among all sides; those of `outside` follow.
        pair: numbers among all sides.
    """
    source, target = (
        first if number >= first and _lies_in_world(outside[number - first]) else number for number in pair
    )
    return source, target


def _lies_in_world(side: Side) -> bool:
    return side.zone is not None and not side.zone.nowhere
