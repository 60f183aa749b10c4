"""The machines that a host's filter knows: the ports of its own, and the addresses of all others.

Everything here is what the host, the record or the policy says; nothing is learned from packets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from undercroft.errors import StateError
from undercroft.firewall.policy import Address

LINK_LOCAL_PREFIX = bytes.fromhex("fe80000000000000")
TAP_BYTES = 15
"""A device's name: IFNAMSIZ of the kernel less its zero."""


@dataclass(frozen=True, slots=True)
class Port:
    """One interface of a running machine on this host.

    Attributes:
        machine: its UUID.
        name: the machine's name, for people.
        tap: the device's name, unique at one time.
        mac: 6 bytes, no multicast address.
        ipv4, ipv6: its addresses. The link-local one that follows from its MAC is always its own, and is
            not named here.
        labels: what `classes.labels_of` says of the machine.
        host: this host's name.
        arriving: it is being migrated to this host and still runs on another one, so that packets from its
            addresses come from outside too. Filtered as any other port in all else.
    """

    machine: str
    name: str
    tap: str
    mac: bytes
    ipv4: tuple[IPv4Address, ...] = ()
    ipv6: tuple[IPv6Address, ...] = ()
    labels: frozenset[str] = frozenset()
    host: str = ""
    arriving: bool = False

    @property
    def all_ipv6(self) -> tuple[IPv6Address, ...]:
        """Its addresses with the link-local one, each once."""
        return tuple(dict.fromkeys((*self.ipv6, link_local(self.mac))))


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A machine whose packets come from outside: it runs on another host, or not at all."""

    machine: str
    name: str
    addresses: tuple[Address, ...]
    labels: frozenset[str] = frozenset()
    host: str = ""


@dataclass(frozen=True, slots=True)
class Fleet:
    """All machines, seen from one host.

    Attributes:
        host: its name.
        host_addresses: its own addresses, on bridges that machines are on and on others.
        ports: of its machines, in any order.
        elsewhere: the other machines.
    """

    host: str
    host_addresses: tuple[Address, ...] = ()
    ports: tuple[Port, ...] = ()
    elsewhere: tuple[Elsewhere, ...] = ()


def link_local(mac: bytes) -> IPv6Address:
    """Return the address that an interface makes of its MAC (6 bytes). Source: RFC 4291, appendix A."""
    return IPv6Address(link_local_bytes(mac))


def link_local_bytes(mac: bytes) -> bytes:
    """Return the same as 16 bytes."""
    return LINK_LOCAL_PREFIX + bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def check_fleet(fleet: Fleet) -> None:
    """Check that no tap, MAC or address is anybody else's too, so that one packet has one sender.

    Raises:
        StateError: the first thing that two have, or a tap or MAC that none can have.
    """
    for port in fleet.ports:
        if not 0 < len(port.tap.encode()) <= TAP_BYTES or len(port.mac) != 6 or port.mac[0] & 1:
            raise StateError(
                f"{port.name}: tap {port.tap!r} with MAC {port.mac.hex(':')} is none that a machine can have"
            )
    _unique("the tap", ((port.tap, port.name) for port in fleet.ports))
    _unique("the MAC", ((port.mac.hex(":"), port.name) for port in fleet.ports))
    _unique("the address", _addresses(fleet))


def _addresses(fleet: Fleet) -> Iterable[tuple[Address, str]]:
    for address in fleet.host_addresses:
        yield address, f"host {fleet.host}"
    for port in fleet.ports:
        for ipv4 in port.ipv4:
            yield ipv4, port.name
        for ipv6 in port.all_ipv6:
            yield ipv6, port.name
    for machine in fleet.elsewhere:
        for address in machine.addresses:
            yield address, machine.name


def _unique(what: str, pairs: Iterable[tuple[object, str]]) -> None:
    seen: dict[object, str] = {}
    for value, owner in pairs:
        if value in seen:
            raise StateError(f"{owner}: {what} {value} is that of {seen[value]} too; change one of them")
        seen[value] = owner
