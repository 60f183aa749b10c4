"""What machines say is their own, and who of several that say so has it. Pure.

A machine's addresses are what the policy says by its name, else its metadata, else its networks'
reservations: the first of these that says anything says all. One that says something wrong is taken to say
nothing, and a sentence tells so.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from undercroft.errors import InputError
from undercroft.firewall.classes import Labeller
from undercroft.firewall.policy import Address, FirewallPolicy, NamedAddresses
from undercroft.model.addresses import claimed, own_address
from undercroft.model.domain import Interface
from undercroft.model.filter import NetworkedMachine

Thing = TypeVar("Thing")
Claimant = TypeVar("Claimant")
Rank = tuple[bool, float, str]


@dataclass(frozen=True, slots=True)
class Claims:
    """What one machine says.

    Attributes:
        machine: which one.
        by_policy: the policy names it.
        addresses: each with the MAC of the interface that it is on, "" for none.
        problems: what is wrong with what was said of it, with the cure.
    """

    machine: NetworkedMachine
    by_policy: bool
    addresses: Mapping[Address, str]
    problems: tuple[str, ...] = ()

    def rank(self, claim: str) -> Rank:
        """Return what decides between machines that claim one address or MAC: the least has it."""
        since = self.machine.since.get(claim)
        if since is None:
            # Only the policy's word is not in the record: machines of one name share it by their age.
            known = self.machine.since.values() if self.by_policy else ()
            since = min(known, default=self.machine.last_seen)
        return not self.by_policy, since.timestamp(), self.machine.uuid


class Named:
    """What a policy says of machines by their names, found at once; to be made once for many machines."""

    def __init__(self, policy: FirewallPolicy) -> None:
        """Take a policy."""
        self.policy = policy
        self.labeller = Labeller(policy)
        self._by_name = {named.name: named for named in policy.addresses}
        self._by_address: dict[str, list[str]] = {}
        for named in policy.addresses:
            for network in named.networks:
                if network.num_addresses == 1:
                    self._by_address.setdefault(str(network.network_address), []).append(named.name)

    def addresses(self, name: str) -> tuple[str, ...]:
        """Return the single addresses that the policy gives to machines of a name, as `things_of` does."""
        named = self._by_name.get(name)
        networks = named.networks if named else ()
        return tuple(str(network.network_address) for network in networks if network.num_addresses == 1)

    def names(self, address: str) -> Sequence[str]:
        """Return the names of the machines to which the policy gives an address."""
        return self._by_address.get(address, ())

    def claims(self, machine: NetworkedMachine) -> Claims:
        """Return what a machine says is its own."""
        return _claims(machine, self._by_name.get(machine.name))


def first_interface(interfaces: Sequence[Interface]) -> Interface | None:
    """Return the interface that has addresses of which nobody says which one has them."""
    return next((item for item in interfaces if item.holdable), next(iter(interfaces), None))


def winners(
    claimants: Iterable[Claimant],
    things: Callable[[Claimant], Iterable[Thing]],
    rank: Callable[[Claimant, Thing], Rank],
) -> tuple[dict[Thing, Claimant], list[tuple[Claimant, Thing]]]:
    """Return who has each thing, and who goes without what he claims, in the order of the claimants."""
    listed = [(claimant, thing) for claimant in claimants for thing in things(claimant)]
    found: dict[Thing, Claimant] = {}
    lost: list[int] = []
    places: dict[Thing, int] = {}
    for place, (claimant, thing) in enumerate(listed):
        if thing not in found:
            found[thing], places[thing] = claimant, place
        elif rank(claimant, thing) < rank(found[thing], thing):
            lost.append(places[thing])
            found[thing], places[thing] = claimant, place
        else:
            lost.append(place)
    return found, [listed[place] for place in sorted(lost)]


def _claims(machine: NetworkedMachine, named: NamedAddresses | None) -> Claims:
    if named is not None:
        return _by_policy(machine, named)
    if machine.ownership.problem:
        problem = (
            f"{machine.name}: it has no addresses, for nobody can read them: {machine.ownership.problem}"
        )
        return Claims(machine, False, {}, (problem,))
    if machine.ownership.addresses:
        return _by_metadata(machine)
    addresses: dict[Address, str] = {}
    problems: list[str] = []
    for interface in machine.interfaces:
        for text in interface.addresses:
            try:
                addresses.setdefault(own_address(text), interface.mac)
            except InputError as error:
                problems.append(f"{machine.name}: reserved {error}; mend it with virsh net-update")
    return Claims(machine, False, addresses, tuple(problems))


def _by_policy(machine: NetworkedMachine, named: NamedAddresses) -> Claims:
    hints = _hints(machine)
    addresses: dict[Address, str] = {}
    problems: list[str] = []
    for network in named.networks:
        try:
            if network.num_addresses != 1:
                raise InputError(f"network {network}: a machine has single addresses")
            address = own_address(str(network.network_address))
        except InputError as error:
            place = named.place or "the policy's addresses"
            problems.append(f"{machine.name}: {place}: {error}; give {machine.name} its own there")
            continue
        addresses[address] = hints.get(address, _mac(first_interface(machine.interfaces)))
    return Claims(machine, True, addresses, tuple(problems))


def _by_metadata(machine: NetworkedMachine) -> Claims:
    macs = {interface.mac for interface in machine.interfaces}
    addresses: dict[Address, str] = {}
    problems: list[str] = []
    for text in machine.ownership.addresses:
        try:
            mac, address = claimed(text)
            if mac and mac not in macs:
                raise InputError(f"address {address}: none of its interfaces has MAC {mac}")
        except InputError as error:
            problems.append(
                f"{machine.name}: metadata: {error}; mend it with undercroft machine {machine.name} --address"
            )
            continue
        addresses.setdefault(address, mac or _mac(first_interface(machine.interfaces)))
    return Claims(machine, False, addresses, tuple(problems))


def _hints(machine: NetworkedMachine) -> dict[Address, str]:
    """Return on which interface an address is, where metadata or a reservation names one."""
    hints: dict[Address, str] = {}
    reserved = [(interface.mac, text) for interface in machine.interfaces for text in interface.addresses]
    for mac, text in reserved:
        try:
            hints.setdefault(own_address(text), mac)
        except InputError:
            continue
    macs = {interface.mac for interface in machine.interfaces}
    for text in machine.ownership.addresses:
        try:
            mac, address = claimed(text)
        except InputError:
            continue
        if mac in macs and mac:
            hints[address] = mac
    return hints


def _mac(interface: Interface | None) -> str:
    return interface.mac if interface else ""
