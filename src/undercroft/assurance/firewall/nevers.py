"""`never` rules as theorems: no pair of sides, and no chain of flows, that the policy allows breaks one.

Every address lies in some side, so what holds for all pairs of sides holds for all packets that open a flow.
For this the zones are cut by the networks of the `never` rules too. Written from the policy's values alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from undercroft.assurance.firewall.places import Kind, Meant, Place, places
from undercroft.firewall.policy import FirewallPolicy, Flow, Never, Service


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


def breaches(policy: FirewallPolicy, numbers: Mapping[frozenset[str], int]) -> Iterator[Breach]:
    """Yield for each `never` rule that the policy breaks a shortest way."""
    if not policy.nevers:
        return
    every = places(policy, numbers, nevers=True)
    allows = Meant(every, policy.quarantine_labels, flow=True)
    forbids = Meant(every, policy.quarantine_labels, flow=False)
    reach = [
        _Reach(flow, frozenset(allows.by(flow.source)), frozenset(allows.by(flow.target)))
        for flow in policy.flows
    ]
    for never in policy.nevers:
        breach = _broken(never, forbids, every, reach)
        if breach is not None:
            yield breach


def _broken(never: Never, forbids: Meant, every: Sequence[Place], reach: Sequence[_Reach]) -> Breach | None:
    """Search breadth first from every source over at most `hops` flows; the last one's service counts.

    A way leads on through machines and the host; what the world does is no flow of this policy.
    """
    none: frozenset[int] = frozenset()
    excepted = none.union(*map(forbids.by, never.exceptions))
    sources = frozenset(forbids.by(never.source)) - excepted
    targets = frozenset(forbids.by(never.target)) - excepted
    ways: dict[int, tuple[int, ...]] = {source: (source,) for source in sources}
    for _ in range(never.hops):
        onward: dict[int, tuple[int, ...]] = {}
        for step in reach:
            service = _service(step.flow.services, never.services)
            for source, target in _pairs(step, ways, every):
                if service and target in targets:
                    way = (*ways[source], target)
                    return Breach(never, tuple(every[one].text for one in way), service)
                if target not in excepted and every[target].kind in {Kind.MACHINES, Kind.HOST}:
                    onward.setdefault(target, (*ways[source], target))
        ways = onward
    return None


def _pairs(
    step: _Reach, ways: Mapping[int, tuple[int, ...]], every: Sequence[Place]
) -> Iterator[tuple[int, int]]:
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
