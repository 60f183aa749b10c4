"""What applying a policy would change, for whom, before anything changes.

    plan = plan_of(applied, (policy, its_machines), (new_policy, its_machines), ports)

Two policies are compared over the machines on record: by sets of labels, so that ten thousand machines that
are filtered alike are one line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from undercroft.errors import StateError
from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.grants import Side
from undercroft.firewall.never import Bearer, contradictions
from undercroft.firewall.policy import FirewallPolicy, OtherPorts
from undercroft.firewall.tracking import StateKind
from undercroft.model.domain import Interface
from undercroft.model.filter import AppliedPolicy
from undercroft.usecases.firewall.members import Member, Members
from undercroft.usecases.firewall.reach import (
    Allowed,
    allowed,
    labels_text,
    machine_sides,
    of_world,
    outside_sides,
    unused_names,
)
from undercroft.usecases.firewall.services import without
from undercroft.usecases.firewall.values import Applied, Closed, FlowChange, Group, LabelChange, Plan

_NOTHING = Allowed((), ())


@dataclass(frozen=True, slots=True)
class BridgePort:
    """A port of a bridge of this host, as the kernel has it."""

    device: str
    bridge: str


@dataclass(frozen=True, slots=True)
class _Half:
    """A policy, None where nothing is filtered, with the machines as it sees them."""

    policy: FirewallPolicy | None
    members: Members


def applied_of(found: AppliedPolicy | None) -> Applied | None:
    """Return the policy in force as commands tell of it."""
    if found is None:
        return None
    return Applied(found.number, found.digest, found.by, found.reason, found.at, withdrawn=not found.body)


def plan_of(
    applied: AppliedPolicy | None,
    before: tuple[FirewallPolicy | None, Members],
    after: tuple[FirewallPolicy | None, Members],
    bridge_ports: Sequence[BridgePort] = (),
    problems: tuple[str, ...] = (),
) -> Plan:
    """Return what changes.

    Args:
        applied: the policy in force by the record.
        before: that policy, None where nothing is filtered, and the machines as it sees them.
        after: the same of the one to be applied, None for a withdrawal.
        bridge_ports: of this host.
        problems: what could not be read for it.
    """
    old, new = _Half(*before), _Half(*after)
    groups = _groups(old, new)
    policy = new.policy
    flows = tuple(_flow_changes(old, new, groups)) if policy else ()
    return Plan(
        digest=policy.digest if policy else "",
        applied=applied_of(applied),
        filtered=old.policy is not None,
        machines=len(new.members.machines),
        groups=tuple(
            Group(name, tuple(sorted(item.name for item in found))) for name, (_, found) in groups.items()
        ),
        flows=flows,
        labels=tuple(_label_changes(old, new)),
        closed=tuple(_closed(new)) if policy else (),
        ports=tuple(_unnamed(policy, new.members, bridge_ports)) if policy else (),
        problems=(*problems, *(new.members.problems if policy else ())),
        against=tuple(_against(policy, new.members)) if policy else (),
    )


_Groups = Mapping[str, tuple[tuple[frozenset[str], frozenset[str]], list[Member]]]
"""By name: the labels before and after, and the machines."""


def _groups(old: _Half, new: _Half) -> _Groups:
    found: dict[str, tuple[tuple[frozenset[str], frozenset[str]], list[Member]]] = {}
    unused = unused_names([half.policy for half in (old, new) if half.policy])
    for uuid, member in sorted(new.members.machines.items(), key=lambda item: item[1].name):
        was = old.members.machines[uuid].labels if uuid in old.members.machines else frozenset[str]()
        pair = (
            (was if old.policy else member.labels) - unused,
            (member.labels if new.policy else was) - unused,
        )
        name = labels_text(pair[1])
        if pair[0] != pair[1]:
            name = f"{name}, was {labels_text(pair[0])}"
        found.setdefault(name, (pair, []))[1].append(member)
    return dict(sorted(found.items()))


def _flow_changes(old: _Half, new: _Half, groups: _Groups) -> Iterable[FlowChange]:
    """Yield what changes between groups, and between groups and the outside."""
    policies = [half.policy for half in (old, new) if half.policy]
    outside = outside_sides(policies)
    names = [*groups, *(side.name for side in outside)]
    pairs = [pair for pair, _ in groups.values()]
    sizes = [len(found) for _, found in groups.values()]
    opened_before = _allowed(old.policy, (*machine_sides(pair[0] for pair in pairs), *outside))
    opened_after = _allowed(new.policy, (*machine_sides(pair[1] for pair in pairs), *outside))
    found: dict[tuple[int, int], FlowChange] = {}
    for source, target in sorted({*opened_before, *opened_after}):
        if source == target and sizes[source] < 2:
            continue  # a machine that is alone in its group has nobody there
        was = opened_before.get((source, target), _NOTHING)
        is_now = opened_after.get((source, target), _NOTHING)
        opens, closes = without(is_now.services, was.services), without(was.services, is_now.services)
        if opens or closes:
            found[source, target] = FlowChange(
                names[source],
                names[target],
                tuple(map(str, opens)),
                tuple(map(str, closes)),
                is_now.places,
            )
    world = len(groups)
    for (source, target), change in found.items():
        same = found.get(of_world(outside, world, (source, target)), change)
        # A network lies in the world: where its line would say the same, the world's is enough.
        if same is change or (same.opens, same.closes) != (change.opens, change.closes):
            yield change


def _allowed(policy: FirewallPolicy | None, sides: Sequence[Side]) -> Mapping[tuple[int, int], Allowed]:
    return allowed(policy, sides) if policy else {}


def _label_changes(old: _Half, new: _Half) -> Iterable[LabelChange]:
    if not (old.policy and new.policy):
        return
    for uuid, member in sorted(new.members.machines.items(), key=lambda item: item[1].name):
        was = old.members.machines.get(uuid)
        if was and was.labels != member.labels:
            yield LabelChange(
                member.name, member.host, tuple(sorted(was.labels)), tuple(sorted(member.labels))
            )


def _closed(new: _Half) -> Iterable[Closed]:
    for member in sorted(new.members.machines.values(), key=lambda member: member.name):
        missing = []
        if not member.labels:
            missing.append("no label fits it, so that only rules for * are about it")
        if not member.addresses and any(item.holdable for item in member.record.domain.interfaces):
            missing.append("no address: it may ask for one by DHCP, and nothing else")
        if missing:
            yield Closed(member.name, member.host, "; ".join(missing))


def _unnamed(policy: FirewallPolicy, members: Members, bridge_ports: Sequence[BridgePort]) -> Iterable[str]:
    """Yield ports that are neither a machine's nor an uplink by the policy, and what becomes of them."""
    prefixes = policy.ports.machines
    for member in sorted(members.machines.values(), key=lambda member: member.name):
        for item in member.record.domain.interfaces:
            if item.tap and item.holdable and not item.tap.startswith(prefixes):
                yield (
                    f"{item.tap} of {member.name} on {member.host}: its name begins with none of"
                    f" {', '.join(prefixes)}; before the agent has labelled it, it is not closed; add it to"
                    " ports.machines"
                )
            elif item.mac and not item.holdable:
                yield f"{item.mac} of {member.name} on {member.host}: {_beside(item)}"
    uplinks = policy.ports.uplinks
    if uplinks and bridge_ports and not any(port.device in uplinks for port in bridge_ports):
        yield (
            f"none of ports.uplinks ({', '.join(uplinks)}) is a port of a bridge of this host: its machines"
            " reach others through the host alone"
        )
    known = {item.tap for member in members.machines.values() for item in member.record.domain.interfaces}
    for port in bridge_ports:
        if port.device in known or port.device in uplinks or port.device.startswith(prefixes):
            continue
        if policy.ports.others is OtherPorts.DENIED:
            yield (
                f"{port.device} on {port.bridge} of this host: neither a machine's nor an uplink: nothing"
                " passes between it and machines; if it leads outside, add it to ports.uplinks"
            )
        else:
            yield f"{port.device} on {port.bridge} of this host: counts as outside (ports.others)"


def _beside(item: Interface) -> str:
    return f"a {item.kind} interface is no port of a bridge: nothing of it is filtered"


def _bearers(fleets: Mapping[str, Fleet]) -> Iterable[Bearer]:
    """Yield each machine with its addresses, and the hosts with what is known of theirs."""
    here: set[str] = set()
    for host, fleet in fleets.items():
        yield Bearer(f"host {host}", f"host {host}", None, fleet.host_addresses)
        for port in fleet.ports:
            here.add(port.machine)
            yield Bearer(port.machine, port.name, port.labels, (*port.ipv4, *port.all_ipv6))
    for fleet in fleets.values():
        for other in fleet.elsewhere:
            if other.machine not in here:
                here.add(other.machine)
                yield Bearer(other.machine, other.name, other.labels, other.addresses)


def _against(policy: FirewallPolicy, members: Members) -> Iterable[str]:
    """Yield why no host could hold the policy."""
    label_sets = {member.labels for member in members.machines.values()}
    found = contradictions(policy, label_sets, _bearers(members.fleets))
    yield from map(str, found)
    if found:
        return
    try:
        classes = assigned(Classes(), label_sets)
        for fleet in members.fleets.values():
            compile_ruleset(policy, fleet, classes, StateKind.TUPLES)
    except StateError as error:
        yield str(error)
