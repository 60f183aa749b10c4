"""One machine as the firewall sees it: its labels and why, its addresses, whom it reaches, who reaches it."""

import sys
from collections.abc import Iterable, Mapping

from undercroft.errors import NotFoundError
from undercroft.firewall import marks
from undercroft.firewall.classes import Classes
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.elements import Elements, device, port_elements
from undercroft.firewall.fleet import Port
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.policy import Address, FirewallPolicy, LabelRule
from undercroft.model.domain import Interface
from undercroft.model.fleet import MachineRecord
from undercroft.model.verdict import Verdict
from undercroft.ports.packetfilter import PacketFilter
from undercroft.usecases.firewall.answers import KernelHas, LabelReason, PortView, Reach, Showing
from undercroft.usecases.firewall.elementwords import element_words
from undercroft.usecases.firewall.members import Known, Member, Members
from undercroft.usecases.firewall.reach import (
    allowed,
    labels_text,
    machine_sides,
    of_world,
    outside_sides,
    unused_names,
)
from undercroft.usecases.fleet.verdicts.facts import domain_target

NO_TABLE = "the kernel has no table: nothing is filtered on this host; undercroft doctor says why"
"""Stands for the table where a policy is in force and the kernel, which was asked, has none."""


def showing(
    member: Member,
    everyone: Members,
    policy: FirewallPolicy,
    known: Known,
    *,
    number: int = 0,
    table: Ruleset | str = "",
) -> Showing:
    """Return what the firewall makes of one machine.

    Args:
        member: the machine.
        everyone: all machines under this policy.
        policy: in force, or another one.
        known: what the record knows of it.
        number: of the applied policy, 0 for another one.
        table: the kernel's table on the machine's host, or why there is none to look at.
    """
    domain = member.record.domain
    unused = unused_names([policy])
    same = [
        item.name
        for item in everyone.machines.values()
        if item.labels - unused == member.labels - unused and item.record.domain.uuid != domain.uuid
    ]
    reaches, reached_by = _reach(member, everyone, policy)
    kernel, differences = _compared(member, table)
    return Showing(
        machine=domain.uuid,
        name=domain.name,
        host=member.host,
        policy=number,
        running=domain.power.has_process,
        verdict=known.verdict.value if known.verdict else "",
        quarantined=known.held or known.verdict is Verdict.QUARANTINED,
        labels=tuple(label_reasons(policy, member.record, known)),
        alike=tuple(sorted(same)),
        ports=tuple(_port(item, member, policy) for item in domain.interfaces),
        reaches=reaches,
        reached_by=reached_by,
        kernel=kernel,
        differences=differences,
        problems=tuple(_problems(member, everyone)),
    )


def label_reasons(policy: FirewallPolicy, machine: MachineRecord, known: Known) -> Iterable[LabelReason]:
    """Yield each label that some rule gives a machine, the ones that count first."""
    target = domain_target(machine.domain, machine.host)
    unused = unused_names([policy])
    quarantined = known.verdict is Verdict.QUARANTINED
    found = [
        LabelReason(named.name, f"{named.place} (addresses)", not quarantined)
        for named in policy.addresses
        if named.name == target.name and named.name not in unused
    ]
    found += [
        LabelReason(rule.name, rule.place, not quarantined or rule.quarantines)
        for rule in policy.labels
        if rule.match.fits(target) and _fits(rule, known)
    ]
    yield from sorted(found, key=lambda item: not item.counts)


def _fits(rule: LabelRule, known: Known) -> bool:
    return (not rule.verdicts or known.verdict in rule.verdicts) and (
        not rule.origins or known.origin in rule.origins
    )


def _reach(
    member: Member, everyone: Members, policy: FirewallPolicy
) -> tuple[tuple[Reach, ...], tuple[Reach, ...]]:
    unused = unused_names([policy])
    own = member.labels - unused
    by_labels: dict[frozenset[str], list[str]] = {own: []}
    for item in everyone.machines.values():
        if item.record.domain.uuid != member.record.domain.uuid:
            by_labels.setdefault(item.labels - unused, []).append(item.name)
    groups = sorted(by_labels.items(), key=lambda pair: (pair[0] != own, labels_text(pair[0])))
    outside = outside_sides([policy])
    sides = (*machine_sides(labels for labels, _ in groups), *outside)
    names = [labels_text(labels) for labels, _ in groups] + [side.name for side in outside]
    machines = [tuple(sorted(found)) for _, found in groups] + [()] * len(outside)
    opens: list[Reach] = []
    opened: list[Reach] = []
    every = allowed(policy, sides)
    for (source, target), found in every.items():
        if 0 not in {source, target}:
            continue
        by_world = of_world(outside, len(groups), (source, target))
        if by_world != (source, target) and every.get(by_world) == found:
            continue  # a network of which the world's line says the same
        other = target if source == 0 else source
        if other < len(groups) and not machines[other]:
            continue  # nobody else has these labels
        services = tuple(map(str, found.services))
        if source == 0:
            opens.append(Reach(names[target], services, found.places, machines[target]))
        if target == 0:
            opened.append(Reach(names[source], services, found.places, machines[source]))
    return tuple(opens), tuple(opened)


def _port(item: Interface, member: Member, policy: FirewallPolicy) -> PortView:
    port = next((port for port in member.ports if item.mac and port.mac.hex(":") == item.mac), None)
    addresses: tuple[Address, ...] = (*port.ipv4, *port.ipv6) if port else ()
    if port is None and item.mac and len(member.record.domain.interfaces) == 1:
        addresses = member.addresses
    return PortView(
        tap=item.tap,
        mac=item.mac,
        network=item.source or item.bridge or item.kind,
        addresses=tuple(
            f"{address} ({_origin_of(address, item, member.record, policy)})" for address in addresses
        ),
        unfiltered="" if item.holdable else f"a {item.kind} interface is no port of a bridge",
    )


def _origin_of(address: Address, item: Interface, machine: MachineRecord, policy: FirewallPolicy) -> str:
    """Return who says that an address is a machine's: the first of those whose word counts."""
    for named in policy.addresses:
        if named.name == machine.domain.name and any(address in network for network in named.networks):
            return named.place
    if any(text.partition("@")[0] == str(address) for text in machine.domain.ownership.addresses):
        return "its metadata"
    return f"network {item.source}" if str(address) in item.addresses else "the record"


def _problems(member: Member, everyone: Members) -> Iterable[str]:
    name = member.name
    if not member.labels:
        yield "no label fits it, so that only rules for * are about it"
    if not member.addresses:
        yield (
            "no address is known for it: it may ask for one by DHCP, and nothing else; say it in the policy's"
            " addresses, in its metadata, or reserve one in its libvirt network"
        )
    for problem in everyone.problems:
        if name in problem or any(str(address) in problem for address in member.addresses):
            yield problem


def kernel_table(packet_filter: PacketFilter) -> Ruleset | str:
    """Return the kernel's table of this host, or `NO_TABLE`. Raises as `PacketFilter.read`."""
    try:
        return packet_filter.read(TABLE_NAME, written=False)
    except NotFoundError:
        return NO_TABLE


def _compared(member: Member, table: Ruleset | str) -> tuple[KernelHas, tuple[str, ...]]:
    if table == NO_TABLE and member.ports:
        return KernelHas.DIFFERENT, (NO_TABLE,)
    if isinstance(table, str):
        return KernelHas.UNKNOWN, (table,) if table else ()
    if not member.ports:
        return KernelHas.UNKNOWN, ("it has no port: it does not run, or is on no bridge",)
    wrong = [line for port in member.ports for line in _differences(port, table)]
    return (KernelHas.DIFFERENT if wrong else KernelHas.SAME), tuple(wrong)


def _differences(port: Port, table: Ruleset) -> Iterable[str]:
    """Yield what the kernel has otherwise than a port's elements.

    The class is a number that the kernel has for the port: what it may do is for a proof to say.
    """
    mark = table.elements.get("classes", {}).get(device(port.tap))
    number = class_of(mark)
    if number is None:
        yield f"{port.tap}: the kernel has no class for it, so that it is closed"
        return
    wanted: Mapping[str, Mapping[bytes, object]] = port_elements(port, Classes({port.labels: number}))
    found = _of_port(port, table)
    for name in sorted({*wanted, *found}):
        lacks = wanted.get(name, {}).keys() - found.get(name, {}).keys()
        has = found.get(name, {}).keys() - wanted.get(name, {}).keys()
        for key in sorted(lacks):
            yield f"{port.tap}: {name} lacks {element_words(name, key)}"
        for key in sorted(has):
            yield f"{port.tap}: {name} has {element_words(name, key)}, which is none of its own"
        for key in sorted(wanted.get(name, {}).keys() & found.get(name, {}).keys()):
            if wanted[name][key] != found[name][key]:
                said = element_words(name, key)
                yield f"{port.tap}: {name} has other data for {said} than that of class {number}"


def class_of(mark: object) -> int | None:
    """Return the number of the class that an element's data marks packets with, None for none."""
    if not isinstance(mark, bytes) or len(mark) != 4:
        return None
    number = int.from_bytes(mark, sys.byteorder)
    if number & marks.KIND_MASK != marks.PREFIX | marks.MACHINE:
        return None
    return number & marks.MAX_CLASS


def _of_port(port: Port, table: Ruleset) -> Elements:
    """Return the elements that begin with the port's tap, and those of its own addresses."""
    tap = device(port.tap)
    own = {address.packed for address in port.ipv4} | {address.packed for address in port.all_ipv6}
    found: Elements = {}
    for definition in table.table.sets:
        elements = table.elements.get(definition.name, {})
        if definition.dynamic or definition.name.startswith(("named-", "uplinks")):
            continue
        if definition.key[0] == "ifname":
            mine = {key: data for key, data in elements.items() if key[: len(tap)] == tap}
        elif definition.name.startswith(("outside", "places")):
            mine = {key: data for key, data in elements.items() if key in own}
        elif definition.name == "stations":
            mine = {key: data for key, data in elements.items() if key == port.mac}
        else:
            continue
        if mine:
            found[definition.name] = mine
    return found
