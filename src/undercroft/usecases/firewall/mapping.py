"""The map of a policy: who may talk to whom, by the labels and names that it uses. Pure.

A cell is what some rule says of two names. A machine may have several labels, and then has what each may do.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import IPv4Network, IPv6Network

from undercroft.firewall.policy import FirewallPolicy, Flow, Network, Never, Peer, PeerKind, Service
from undercroft.firewall.zones import is_nowhere
from undercroft.usecases.firewall.answers import FlowMap, MapFlow, MapNever, Place
from undercroft.usecases.firewall.services import merged

_ORDER = {PeerKind.LABEL: 0, PeerKind.NETWORK: 1, PeerKind.HOST: 2, PeerKind.WORLD: 3}


def flow_map(policy: FirewallPolicy, number: int = 0, machines: Mapping[str, int] | None = None) -> FlowMap:
    """Return the map.

    Args:
        policy: any.
        number: of the applied policy, 0 for one that is not applied.
        machines: how many have each label; None where nobody has looked.
    """
    peers = _peers(policy)
    names = [str(peer) for peer in peers]
    places = tuple(
        Place(
            name,
            peer.kind.value,
            None if machines is None or peer.kind is not PeerKind.LABEL else machines.get(name, 0),
        )
        for name, peer in zip(names, peers, strict=True)
    )
    are_machines = {peer for peer in peers if peer.kind is PeerKind.LABEL or (machines or {}).get(str(peer))}
    return FlowMap(
        number,
        policy.digest,
        places,
        tuple(_flows(policy, peers, are_machines)),
        tuple(_nevers(policy, peers, are_machines)),
    )


def _peers(policy: FirewallPolicy) -> list[Peer]:
    """Return labels in the policy's order, then networks that rules name, the host, the world, each once."""
    found = [Peer(PeerKind.LABEL, rule.name) for rule in policy.labels]
    said = [peer for flow in policy.flows for peer in (flow.source, flow.target)]
    for never in policy.nevers:
        said += [never.source, never.target, *never.exceptions]
    found += [peer for peer in said if peer.kind is not PeerKind.ANY]
    by_name = {str(peer): peer for peer in reversed(found)}
    ordered = dict.fromkeys(str(peer) for peer in found)
    return sorted((by_name[name] for name in ordered), key=lambda peer: _ORDER[peer.kind])


def _flows(policy: FirewallPolicy, peers: list[Peer], are_machines: set[Peer]) -> Iterable[MapFlow]:
    services: dict[tuple[str, str], list[Service]] = {}
    places: dict[tuple[str, str], dict[str, None]] = {}
    meaning = partial(_meant, peers=peers, are_machines=are_machines, quarantine=policy.quarantine_labels)
    for flow in policy.flows:
        for source in meaning(flow.source):
            for target in meaning(flow.target):
                if not _is_filtered(flow, (source, target), are_machines):
                    continue
                pair = str(source), str(target)
                services.setdefault(pair, []).extend(flow.services)
                places.setdefault(pair, {})[flow.place] = None
    for pair, found in services.items():
        yield MapFlow(*pair, tuple(map(str, merged(found))), tuple(places[pair]))


def _nevers(policy: FirewallPolicy, peers: list[Peer], are_machines: set[Peer]) -> Iterable[MapNever]:
    meaning = partial(_meant, peers=peers, are_machines=are_machines, quarantine=None)
    for never in policy.nevers:
        excepted = {peer for item in never.exceptions for peer in meaning(item)}
        for source in meaning(never.source):
            for target in meaning(never.target):
                if {source, target} & excepted or _is_itself(never, source, target):
                    continue
                if _is_filtered(never, (source, target), are_machines):
                    yield MapNever(
                        str(source), str(target), tuple(map(str, never.services)), never.hops, never.place
                    )


def _is_itself(never: Never, source: Peer, target: Peer) -> bool:
    """Tell whether a pair is one name twice, through a `*` that means everybody else."""
    return source == target and PeerKind.ANY in {never.source.kind, never.target.kind}


def _is_filtered(rule: Flow | Never, pair: tuple[Peer, Peer], are_machines: set[Peer]) -> bool:
    """Tell whether packets between two names pass the filter: one is a machine's, or may be.

    Whether a name of `addresses` is a machine's is not always known; a rule that names it may mean one.
    """
    if not are_machines.isdisjoint(pair):
        return True
    return any(
        peer.label and str(peer) == str(item)
        for peer, item in zip((rule.source, rule.target), pair, strict=True)
    )


def _meant(
    peer: Peer, peers: list[Peer], are_machines: set[Peer], quarantine: frozenset[str] | None
) -> list[Peer]:
    """Return the names that a peer stands for; networks lie in larger ones, and in the world.

    `quarantine`: labels that `*` does not mean; None where it means everything, as in a `Never`.
    """
    return [
        item
        for item in peers
        if str(peer) == str(item) or _stands_for(peer, item, quarantine, is_machine=item in are_machines)
    ]


def _stands_for(peer: Peer, item: Peer, quarantine: frozenset[str] | None, *, is_machine: bool) -> bool:
    if peer.kind is PeerKind.ANY:
        if quarantine is None:
            return True
        return item.label not in quarantine and (is_machine or not _is_special(item))
    if item.kind is not PeerKind.NETWORK or is_machine:
        return False
    if peer.kind is PeerKind.WORLD:
        return not _is_special(item)
    return peer.kind is PeerKind.NETWORK and all(
        any(_lies_in(inner, outer) for outer in peer.networks) for inner in item.networks
    )


def _is_special(item: Peer) -> bool:
    return item.kind is PeerKind.NETWORK and all(map(is_nowhere, item.networks))


def _lies_in(inner: Network, outer: Network) -> bool:
    if isinstance(inner, IPv4Network):
        return isinstance(outer, IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, IPv6Network) and inner.subnet_of(outer)
