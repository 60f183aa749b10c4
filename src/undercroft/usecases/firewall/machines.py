"""The machines that a host's filter knows, from the record: their ports here, and all others' addresses.

Guarantees:
1. Addresses are what policy, metadata or reservations say (`claims`). Nothing that a guest says counts.
2. No two machines share an address, a MAC or a tap in what is returned, nor has one what the host has:
   `check_fleet` passes it. What two claim has one of them, and the other goes without.
3. An address and a MAC are the machine's that the policy names, else of the one that has it longest: whoever
   may change a machine takes nothing from another one. A tap is that of the machine that began last: the
   kernel gives its name out anew, while the record may not have seen the end of the one before.
4. One machine's mistake closes that machine, and is a sentence with its cure; it never stops the others.

    found = gathered(record, policy, "host1", host_addresses())
    enforcer.enforce(policy, found.fleet)
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from undercroft.errors import InputError
from undercroft.firewall.classes import Labels
from undercroft.firewall.fleet import TAP_BYTES, Elsewhere, Fleet, Port, link_local
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.model.addresses import own_mac
from undercroft.model.domain import Domain, Interface
from undercroft.model.execution import Origin
from undercroft.model.filter import LiveOrigin, NetworkedMachine, claims_of
from undercroft.ports.records import Record
from undercroft.usecases.firewall.claims import Claims, Rank, claims_by, winners
from undercroft.usecases.firewall.look import Look, Standing, tapped

__all__ = ["Gathered", "Look", "gather", "gathered", "ports_of"]

_NOW = datetime(9999, 1, 1, tzinfo=UTC)
"""Later than all that is on record."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The machines that a host's filter knows, and what is wrong with any of them, one sentence each."""

    fleet: Fleet
    problems: tuple[str, ...] = ()
    labels: Mapping[str, Labels] = field(default_factory=dict)
    """Of every machine on record, by UUID: also of those that are in no fleet, for want of an address."""


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


def ports_of(
    record: Record,
    policy: FirewallPolicy,
    host: str,
    host_addresses: Iterable[Address],
    domain: Domain,
    arriving: frozenset[str] = frozenset(),
) -> tuple[tuple[Port, ...], tuple[str, ...]]:
    """Return the ports of one machine that runs on this host or is about to, and its problems.

    As `gathered` would, if the record had `domain`, with its taps, as it is.
    """
    look = Look.at(record)
    here = next((one for one in look.machines if (one.uuid, one.host) == (domain.uuid, host)), None)
    before = here.since if here else {}
    now = NetworkedMachine(
        host=host,
        uuid=domain.uuid,
        name=domain.name,
        power=domain.power,
        interfaces=domain.interfaces,
        ownership=domain.ownership,
        last_seen=_NOW,
        since={claim: before.get(claim, _NOW) for claim in claims_of(domain)},
    )
    live = look.live
    if domain.uuid not in arriving and (domain.uuid, host) not in {(one.machine, one.host) for one in live}:
        live = (*live, LiveOrigin(domain.uuid, host, Origin.UNKNOWN, _NOW))
    machines = (*(one for one in look.machines if one is not here), now)
    found = gather(replace(look, machines=machines, live=live), policy, host, host_addresses, arriving)
    ports = tuple(port for port in found.fleet.ports if port.machine == domain.uuid)
    return ports, tuple(one for one in found.problems if one.startswith(f"{domain.name}: "))


def macs_here(record: Record, host: str) -> Mapping[str, bytes]:
    """Return tap -> MAC of each interface that the record has on a host, with a port or without."""
    found = {}
    for machine in record.networked_machines():
        for interface in filter(tapped, machine.interfaces if machine.host == host else ()):
            with suppress(InputError):
                found[interface.tap] = _mac_bytes(interface)
    return found


def gather(
    look: Look,
    policy: FirewallPolicy,
    host: str,
    host_addresses: Iterable[Address],
    arriving: frozenset[str] = frozenset(),
) -> Gathered:
    """Return the same from one look at the record, as for several hosts or policies."""
    own = tuple(dict.fromkeys(host_addresses))
    standing = Standing(look, host, arriving)
    machines = standing.one_each()
    claims = [*map(claims_by(policy), machines)]
    problems = [problem for claim in claims for problem in claim.problems]
    addresses, lost = winners(
        claims, lambda claim: claim.addresses, lambda claim, what: claim.rank(str(what))
    )
    problems += [_lost(claim, address, addresses[address]) for claim, address in lost]
    kept: dict[str, dict[Address, str]] = {machine.uuid: {} for machine in machines}
    for address, claim in addresses.items():
        if address in own:
            problems.append(
                f"{claim.machine.name}: address {address} is that of host {host} itself; {_cure(claim)}"
            )
        else:
            kept[claim.machine.uuid][address] = claim.addresses[address]
    labels = {
        machine.uuid: standing.labels(policy, standing.here.get(machine.uuid, machine))
        for machine in machines
    }
    ports: list[Port] = []
    elsewhere: list[Elsewhere] = []
    here = [_as_here(claim, standing) for claim in claims if claim.machine.uuid in standing.here]
    for claim, interface in _open(here, standing, own, problems):
        ports.append(_port(claim.machine, interface, kept, labels, host, arriving))
    problems += _unplaced(here, kept)
    for claim in claims:
        machine = claim.machine
        if kept[machine.uuid] and machine.uuid not in standing.here:
            found = tuple(sorted(kept[machine.uuid], key=_order))
            elsewhere.append(Elsewhere(machine.uuid, machine.name, found, labels[machine.uuid], machine.host))
    return Gathered(Fleet(host, own, tuple(ports), tuple(elsewhere)), tuple(problems), labels)


def _as_here(claim: Claims, standing: Standing) -> Claims:
    """Return a machine's claims, which are the same to all hosts, with its interfaces on this one."""
    here = standing.here[claim.machine.uuid]
    return replace(claim, machine=replace(claim.machine, host=here.host, interfaces=here.interfaces))


def _open(
    here: Sequence[Claims], standing: Standing, own: Sequence[Address], problems: list[str]
) -> Iterator[tuple[Claims, Interface]]:
    """Yield the interfaces that get a port; why others get none is added to `problems`."""
    sound = []
    for claim in here:
        for interface in filter(tapped, claim.machine.interfaces):
            problem = _unsound(interface, own)
            if problem:
                problems.append(f"{claim.machine.name}: {problem}")
            else:
                sound.append((claim, interface))

    def by_tap(pair: tuple[Claims, Interface], _tap: str) -> Rank:
        return False, -standing.began(pair[0].machine).timestamp(), pair[0].machine.uuid

    def by_mac(pair: tuple[Claims, Interface], mac: str) -> Rank:
        return pair[0].rank(mac)

    taps, lost = winners(sound, lambda pair: (pair[1].tap,), by_tap)
    problems += [
        f"{claim.machine.name}: {tap} is {taps[tap][0].machine.name}'s by now, whose execution began later;"
        " the next survey of the host puts it right"
        for (claim, _), tap in lost
    ]
    macs, lost = winners(taps.values(), lambda pair: (pair[1].mac,), by_mac)
    for (claim, interface), mac in lost:
        other = macs[mac][0]
        problems.append(
            f"{claim.machine.name}: {interface.tap} is closed: its MAC {mac} is {other.machine.name}'s, "
            f"{_because(other)}; give one of them another MAC with virsh edit"
        )
    yield from macs.values()


def _unsound(interface: Interface, own: Sequence[Address]) -> str:
    """Return why an interface can have no port, "" where it can."""
    try:
        mac = _mac_bytes(interface)
        if not 0 < len(interface.tap.encode()) <= TAP_BYTES:
            raise ValueError(f"a device's name has 1 to {TAP_BYTES} bytes")
    except (InputError, ValueError) as error:
        return f"{interface.tap!r} with MAC {interface.mac!r} is closed: {error}"
    if link_local(mac) in own:
        return f"{interface.tap} is closed: MAC {interface.mac} is the host's: change it with virsh edit"
    return ""


def _mac_bytes(interface: Interface) -> bytes:
    """Return an interface's MAC. Raises InputError for what no machine can have."""
    return bytes.fromhex(own_mac(interface.mac).replace(":", ""))


def _port(
    machine: NetworkedMachine,
    interface: Interface,
    kept: Mapping[str, Mapping[Address, str]],
    labels: Mapping[str, Labels],
    host: str,
    arriving: frozenset[str],
) -> Port:
    mine = sorted(
        (address for address, mac in kept[machine.uuid].items() if mac == interface.mac), key=_order
    )
    return Port(
        machine=machine.uuid,
        name=machine.name,
        tap=interface.tap,
        mac=bytes.fromhex(interface.mac.replace(":", "")),
        ipv4=tuple(address for address in mine if address.version == 4),
        ipv6=tuple(address for address in mine if address.version == 6),
        labels=labels[machine.uuid],
        host=host,
        arriving=machine.uuid in arriving,
    )


def _unplaced(here: Iterable[Claims], kept: Mapping[str, Mapping[Address, str]]) -> Iterator[str]:
    """Yield what is wrong with addresses on interfaces that no tap carries: the filter lets none use them."""
    for claim in here:
        macs = {interface.mac for interface in claim.machine.interfaces if tapped(interface)}
        for address, mac in kept[claim.machine.uuid].items():
            if mac not in macs:
                yield (
                    f"{claim.machine.name}: address {address} is on interface {mac or 'without a MAC'}, which"
                    f" has no tap on a bridge: give it to another one: {_command(claim)}@MAC"
                )


def _lost(claim: Claims, address: Address, winner: Claims) -> str:
    name, other = claim.machine.name, winner.machine.name
    return (
        f"{name}: address {address} is {other}'s, {_because(winner)}; {name} goes without it: {_cure(claim)}"
    )


def _because(winner: Claims) -> str:
    return "whom the policy names" if winner.by_policy else "which has it longer"


def _cure(claim: Claims) -> str:
    if claim.by_policy:
        return "give it another one under the policy's addresses"
    return f"give it another one: {_command(claim)}, or under the policy's addresses"


def _command(claim: Claims) -> str:
    return f"undercroft machine {claim.machine.name} --address ADDRESS"


def _order(address: Address) -> tuple[int, int]:
    return address.version, int(address)
