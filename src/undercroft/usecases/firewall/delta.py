"""What of a fleet changes when one machine comes or goes, and the elements that come and go with it.

    standing = Standing(fleet)
    change = standing.admitted(ports)           # what has to go for them, and what comes
    adds, removes = elements_delta(change.elements_before(classes), change.elements_after(classes))
    standing.take(change)                       # once the kernel has it

No change looks at more than the machines that it is about, however many there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from undercroft.errors import StateError
from undercroft.firewall.classes import Classes, Labels
from undercroft.firewall.elements import Data, Elements, elsewhere_elements, port_elements
from undercroft.firewall.fleet import Elsewhere, Fleet, Port, check_fleet
from undercroft.firewall.policy import Address

Owner = Port | Elsewhere | None
"""Whose an address is; None for the host."""


@dataclass(frozen=True, slots=True)
class Change:
    """What goes from a fleet, and what comes."""

    gone: tuple[Port, ...] = ()
    gone_elsewhere: tuple[Elsewhere, ...] = ()
    come: tuple[Port, ...] = ()
    come_elsewhere: tuple[Elsewhere, ...] = ()

    @property
    def undone(self) -> "Change":
        """The change that takes this one back."""
        return Change(self.come, self.come_elsewhere, self.gone, self.gone_elsewhere)

    @property
    def closing(self) -> "Change":
        """What of it only takes away."""
        return Change(self.gone)

    def elements_before(self, classes: Classes) -> Elements:
        """Return the elements of what goes. Raises StateError where a class is missing."""
        return _elements(self.gone, self.gone_elsewhere, classes)

    def elements_after(self, classes: Classes) -> Elements:
        """Return the elements of what comes. Raises StateError where a class is missing."""
        return _elements(self.come, self.come_elsewhere, classes)


class Standing:
    """A fleet, found by machine, tap, MAC and address. Not for several threads at once."""

    def __init__(self, fleet: Fleet) -> None:
        """Take a fleet in, in which no two machines share a tap, a MAC or an address (`check_fleet`)."""
        self._host, self._host_addresses = fleet.host, fleet.host_addresses
        self._ports = {port.tap: port for port in fleet.ports}
        self._taps_of_mac = {port.mac: port.tap for port in fleet.ports}
        self._taps_of_machine: dict[str, list[str]] = {}
        self._elsewhere: dict[str, list[Elsewhere]] = {}
        self._owners: dict[Address, Owner] = dict.fromkeys(fleet.host_addresses)
        self._known: Fleet | None = fleet
        for port in fleet.ports:
            self._taps_of_machine.setdefault(port.machine, []).append(port.tap)
            self._owners.update(dict.fromkeys(_addresses(port), port))
        for machine in fleet.elsewhere:
            self._elsewhere.setdefault(machine.machine, []).append(machine)
            self._owners.update(dict.fromkeys(machine.addresses, machine))

    @property
    def fleet(self) -> Fleet:
        """The fleet as it is."""
        if self._known is None:
            elsewhere = (machine for machines in self._elsewhere.values() for machine in machines)
            self._known = Fleet(
                self._host, self._host_addresses, tuple(self._ports.values()), tuple(elsewhere)
            )
        return self._known

    def ports_of(self, machine: str) -> tuple[Port, ...]:
        """Return a machine's ports, () where it has none."""
        return tuple(self._ports[tap] for tap in self._taps_of_machine.get(machine, ()))

    def labels(self) -> set[Labels]:
        """Return the sets of labels of all machines."""
        found = {port.labels for port in self._ports.values()}
        return found | {machine.labels for machines in self._elsewhere.values() for machine in machines}

    def dismissed(self, machine: str) -> Change:
        """Return what goes with a machine's ports; nothing where it has none."""
        return Change(self.ports_of(machine))

    def admitted(self, ports: Sequence[Port]) -> Change:
        """Return what comes with a machine's ports, and what goes: whatever had their taps or MACs.

        Args:
            ports: all of one machine.
        """
        machines = {port.machine for port in ports}
        taps = [tap for machine in machines for tap in self._taps_of_machine.get(machine, ())]
        taps += [port.tap for port in ports]
        taps += [self._taps_of_mac[port.mac] for port in ports if port.mac in self._taps_of_mac]
        gone = tuple(self._ports[tap] for tap in dict.fromkeys(taps) if tap in self._ports)
        elsewhere = tuple(one for machine in machines for one in self._elsewhere.get(machine, ()))
        return Change(gone, elsewhere, tuple(ports))

    def check(self, change: Change) -> None:
        """Check that nothing that comes has what another machine has.

        Raises:
            StateError: it has.
        """
        check_fleet(Fleet(self._host, (), change.come))
        leaving = {id(one) for one in (*change.gone, *change.gone_elsewhere)}
        for port in change.come:
            for address in _addresses(port):
                owner = self._owners.get(address, port)
                if owner is not port and id(owner) not in leaving:
                    whose = owner.name if owner else f"host {self._host}"
                    raise StateError(
                        f"{port.name}: the address {address} is that of {whose} too; change one of them"
                    )

    def take(self, change: Change) -> None:
        """Let it have happened."""
        self._known = None
        for port in change.gone:
            del self._ports[port.tap], self._taps_of_mac[port.mac]
            self._taps_of_machine[port.machine].remove(port.tap)
            if not self._taps_of_machine[port.machine]:
                del self._taps_of_machine[port.machine]
            self._disown(_addresses(port))
        for machine in change.gone_elsewhere:
            self._elsewhere.pop(machine.machine, None)
            self._disown(machine.addresses)
        for port in change.come:
            self._ports[port.tap] = port
            self._taps_of_mac[port.mac] = port.tap
            self._taps_of_machine.setdefault(port.machine, []).append(port.tap)
            self._owners.update(dict.fromkeys(_addresses(port), port))
        for machine in change.come_elsewhere:
            self._elsewhere.setdefault(machine.machine, []).append(machine)
            self._owners.update(dict.fromkeys(machine.addresses, machine))

    def _disown(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            self._owners.pop(address, None)


def _elements(ports: Iterable[Port], elsewhere: Iterable[Elsewhere], classes: Classes) -> Elements:
    found: Elements = {}
    parts = [port_elements(port, classes) for port in ports]
    for part in (*parts, *(elsewhere_elements(machine, classes) for machine in elsewhere)):
        for name, elements in part.items():
            found.setdefault(name, {}).update(elements)
    return found


def elements_delta(
    held: Mapping[str, Mapping[bytes, Data]], wanted: Mapping[str, Mapping[bytes, Data]]
) -> tuple[Elements, dict[str, list[bytes]]]:
    """Return what is to be added and what to be removed, so that `held` becomes `wanted`.

    A key whose data changes is in both. Sets in which nothing changes are in neither.
    """
    adds: Elements = {}
    removes: dict[str, list[bytes]] = {}
    for name in held.keys() | wanted.keys():
        before, after = held.get(name, {}), wanted.get(name, {})
        if before == after:
            continue
        differing = [key for key, data in after.items() if before.get(key, _ABSENT) != data]
        gone = [key for key in before if key not in after]
        gone += [key for key in differing if key in before]
        if differing:
            adds[name] = {key: after[key] for key in differing}
        if gone:
            removes[name] = gone
    return adds, removes


def _addresses(port: Port) -> tuple[Address, ...]:
    return (*port.ipv4, *port.all_ipv6)


_ABSENT = object()
