"""The machines that a host's filter knows, from the record: their ports here, and all others' addresses.

Guarantees:
1. Addresses are what policy, metadata or reservations say (`claims`). Nothing that a guest says counts.
2. No two machines share an address, a MAC or a tap in what is returned, nor has one what the host has:
   `check_fleet` passes it. What two claim has one of them, and the other goes without.
3. An address and a MAC are the machine's that the policy names, else of the one that has it longest: whoever
   may change a machine takes nothing from another one. A tap is that of the machine that began last: the
   kernel gives its name out anew, while the record may not have seen the end of the one before.
4. A machine that has the UUID of another host's is that one where it was migrated, and is closed otherwise
   (`whereabouts`).
5. One machine's mistake closes that machine, and is a sentence with its cure; it never stops the others.

    found = gathered(record, policy, "host1", host_addresses())
    enforcer.enforce(policy, found.fleet)
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from undercroft.errors import InputError
from undercroft.firewall.classes import Labels
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.model.domain import Interface
from undercroft.model.filter import NetworkedMachine
from undercroft.ports.records import Record
from undercroft.usecases.firewall.claims import Claims, Named, winners
from undercroft.usecases.firewall.look import Look, Standing, tapped
from undercroft.usecases.firewall.openports import Problem, because, if_gone, mac_bytes, macs_of, open_ports

__all__ = ["Gathered", "Gatherer", "Look", "gather", "gathered", "macs_here"]


@dataclass(frozen=True, slots=True)
class Gathered:
    """The machines that a host's filter knows, and what is wrong with any of them, one sentence each."""

    fleet: Fleet
    problems: tuple[str, ...] = ()
    labels: Mapping[str, Labels] = field(default_factory=dict)
    """Of every machine on record, by UUID: also of those that are in no fleet, for want of an address."""
    whose: tuple[str, ...] = ()
    """UUIDs of the machines that the problems are about, in their order."""

    def ports_of(self, machine: str) -> tuple[Port, ...]:
        """Return the ports of one machine (its UUID)."""
        return tuple(port for port in self.fleet.ports if port.machine == machine)

    def problems_of(self, machine: str) -> tuple[str, ...]:
        """Return what is wrong with one machine (its UUID)."""
        pairs = zip(self.problems, self.whose, strict=True)
        return tuple(problem for problem, uuid in pairs if uuid == machine)


def gathered(
    record: Record,
    policy: FirewallPolicy,
    host: str,
    host_addresses: Iterable[Address],
    arriving: frozenset[str] = frozenset(),
) -> Gathered:
    """Return the machines that a host's filter knows.

    Args:
        record: a transaction.
        policy: gives labels, and addresses by name.
        host: whose filter.
        host_addresses: its own, any number of times.
        arriving: UUIDs of machines that are being migrated to it.
    """
    return gather(Look.at(record), policy, host, host_addresses, arriving)


def gather(
    look: Look,
    policy: FirewallPolicy,
    host: str,
    host_addresses: Iterable[Address],
    arriving: frozenset[str] = frozenset(),
) -> Gathered:
    """Return the same from one look at the record."""
    return Gatherer(look, Named(policy)).at(host, host_addresses, arriving)


def macs_here(record: Record, host: str) -> Mapping[str, bytes]:
    """Return tap -> MAC of each interface that the record has on a host, with a port or without."""
    found = {}
    for machine in record.networked_machines():
        for interface in filter(tapped, machine.interfaces if machine.host == host else ()):
            with suppress(InputError):
                found[interface.tap] = mac_bytes(interface)
    return found


class Gatherer:
    """What one look at the record gives to several hosts: what is the same to all is concluded once."""

    def __init__(self, look: Look, named: Named) -> None:
        """Take a look, and the policy."""
        self._standing = standing = Standing(look)
        self._labeller, self._uplinks = named.labeller, named.policy.ports.uplinks
        self._claims = {uuid: named.claims(machine) for uuid, machine in standing.machines.items()}
        self._owners, lost = winners(
            self._claims.values(), lambda claim: claim.addresses, lambda claim, what: claim.rank(str(what))
        )
        self._problems: list[Problem] = [
            (claim.machine.uuid, problem) for claim in self._claims.values() for problem in claim.problems
        ]
        self._problems += [_lost(claim, address, self._owners[address]) for claim, address in lost]
        self._problems += [_false(*pair) for pair in standing.false]
        # In the order in which a machine says them, whoever else claims them.
        self._kept = {uuid: self._kept_by(claim) for uuid, claim in self._claims.items()}
        self._labels = {uuid: self._labels_of(machine) for uuid, machine in standing.machines.items()}
        self._macs = macs_of(self._claims.values(), standing)
        self._elsewhere = {uuid: self._as_elsewhere(uuid, kept) for uuid, kept in self._kept.items() if kept}

    def at(
        self, host: str, host_addresses: Iterable[Address], arriving: frozenset[str] = frozenset()
    ) -> Gathered:
        """Return the machines that one host's filter knows; as `gathered`."""
        own = tuple(dict.fromkeys(host_addresses))
        problems = list(self._problems)
        changed: dict[str, dict[Address, str]] = {}
        for address in own:
            if (claim := self._owners.get(address)) is not None:
                problems.append(_of_host(claim, address, host))
                uuid = claim.machine.uuid
                changed.setdefault(uuid, dict(self._kept[uuid])).pop(address)
        kept = {**self._kept, **changed} if changed else self._kept
        standing = self._standing
        machines = standing.here(host, arriving)
        here = [
            replace(claim, machine=replace(claim.machine, host=host, interfaces=machines[uuid].interfaces))
            for uuid, claim in self._claims.items()
            if uuid in machines
        ]
        labels = dict(self._labels)
        for uuid, machine in machines.items():
            if standing.machines[uuid].host != host:
                labels[uuid] = self._labels_of(machine)
        ports = [
            _port(claim.machine, interface, kept.get(claim.machine.uuid, {}), labels, arriving)
            for claim, interface in open_ports(here, self._macs, standing, self._uplinks, own, problems)
        ]
        problems += _unplaced(here, kept)
        elsewhere = [
            self._as_elsewhere(uuid, changed[uuid]) if uuid in changed else one
            for uuid, one in self._elsewhere.items()
            if uuid not in machines and kept[uuid]
        ]
        return Gathered(
            Fleet(host, own, tuple(ports), tuple(elsewhere)),
            tuple(problem for _, problem in problems),
            labels,
            tuple(uuid for uuid, _ in problems),
        )

    def _kept_by(self, claim: Claims) -> dict[Address, str]:
        return {address: mac for address, mac in claim.addresses.items() if self._owners[address] is claim}

    def _labels_of(self, machine: NetworkedMachine) -> Labels:
        return self._standing.labels(self._labeller, machine)

    def _as_elsewhere(self, uuid: str, kept: Iterable[Address]) -> Elsewhere:
        machine = self._standing.machines[uuid]
        found = tuple(sorted(kept, key=_order))
        return Elsewhere(uuid, machine.name, found, self._labels[uuid], machine.host)


def _port(
    machine: NetworkedMachine,
    interface: Interface,
    kept: Mapping[Address, str],
    labels: Mapping[str, Labels],
    arriving: frozenset[str],
) -> Port:
    mine = sorted((address for address, mac in kept.items() if mac == interface.mac), key=_order)
    return Port(
        machine=machine.uuid,
        name=machine.name,
        tap=interface.tap,
        mac=mac_bytes(interface),
        ipv4=tuple(address for address in mine if address.version == 4),
        ipv6=tuple(address for address in mine if address.version == 6),
        labels=labels[machine.uuid],
        host=machine.host,
        arriving=machine.uuid in arriving,
    )


def _unplaced(here: Iterable[Claims], kept: Mapping[str, Mapping[Address, str]]) -> Iterator[Problem]:
    """Yield what is wrong with addresses on interfaces that no tap carries: the filter lets none use them."""
    for claim in here:
        macs = {interface.mac for interface in claim.machine.interfaces if tapped(interface)}
        for address, mac in kept.get(claim.machine.uuid, {}).items():
            if mac not in macs:
                yield (
                    claim.machine.uuid,
                    f"{claim.machine.name}: address {address} is on interface {mac or 'without a MAC'}, which"
                    f" has no tap on a bridge: give it to another one: {_command(claim)}@MAC",
                )


def _false(false: NetworkedMachine, true: NetworkedMachine) -> Problem:
    return (
        false.uuid,
        f"{false.name}: it is closed on {false.host}, where it was not migrated to: its UUID is that of"
        f" {true.name} on {true.host}; undefine one of them, or define it anew with another UUID"
        f"{if_gone(true.host)}",
    )


def _of_host(claim: Claims, address: Address, host: str) -> Problem:
    problem = f"{claim.machine.name}: address {address} is that of host {host} itself; {_cure(claim)}"
    return claim.machine.uuid, problem


def _lost(claim: Claims, address: Address, winner: Claims) -> Problem:
    name, other = claim.machine.name, winner.machine.name
    return (
        claim.machine.uuid,
        f"{name}: address {address} is {other}'s, {because(winner)}; {name} goes without it: {_cure(claim)}"
        f"{if_gone(winner.machine.host) if winner.machine.host != claim.machine.host else ''}",
    )


def _cure(claim: Claims) -> str:
    if claim.by_policy:
        return "give it another one under the policy's addresses"
    return f"give it another one: {_command(claim)}, or under the policy's addresses"


def _command(claim: Claims) -> str:
    return f"undercroft machine {claim.machine.name} --address ADDRESS"


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
