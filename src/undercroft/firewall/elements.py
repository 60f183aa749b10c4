"""Elements of the table's sets: of the policy, of one port, of one machine elsewhere."""

from collections.abc import Iterable

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.classes import Classes
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.grants import granted, sides
from undercroft.firewall.kernel import FIELD_BYTES, REGISTER_BYTES, Code, Verdict
from undercroft.firewall.policy import Address, FirewallPolicy

Data = bytes | Verdict | None
Elements = dict[str, dict[bytes, Data]]
"""Set name -> key as it stands in registers -> a map's data."""

NAME_BYTES = FIELD_BYTES["ifname"]


def key_of(*fields: bytes) -> bytes:
    """Return a key: one field as it is, several each padded with zeros to whole registers."""
    if len(fields) == 1:
        return fields[0]
    return b"".join(field.ljust(-(-len(field) // REGISTER_BYTES) * REGISTER_BYTES, b"\0") for field in fields)


def device(name: str) -> bytes:
    """Return a device's name as the kernel compares it."""
    return name.encode().ljust(NAME_BYTES, b"\0")


def policy_elements(policy: FirewallPolicy, classes: Classes, host_addresses: Iterable[Address]) -> Elements:
    """Return what follows from the policy and its classes, and from the host's own addresses."""
    elements: Elements = {
        "uplinks": {device(name): None for name in policy.ports.uplinks},
        "headers6": {bytes([number]): None for number in h.HEADERS6},
        "sent-icmp6": {bytes([number]): None for number in (*h.ERRORS6, *h.ECHOES6)},
        "errors4": {bytes([number]): None for number in h.ERRORS4},
        "errors6": {bytes([number]): None for number in h.ERRORS6},
    }
    every = sides(policy, classes)
    grants = granted(policy, every)
    for side in every:
        grant = grants[side.mark]
        if side.zone and side.zone.exact:
            _name(elements, side.zone.network.network_address, side.mark, side.name if grant.near else "")
        if side.zone and not grant.near:
            continue
        for name, triples in (("to", grant.opened), ("back", grant.answered), ("logged", grant.logged)):
            if name != "logged" or triples:
                elements[f"{name}-{side.name}"] = {
                    key_of(marks.data(mark), bytes([protocol]), port.to_bytes(2, "big")): None
                    for mark, protocol, port in triples
                }
        for name, found in (("ping", grant.pinged), ("pong", grant.ponged), ("near", grant.near)):
            elements[f"{name}-{side.name}"] = {marks.data(mark): None for mark in found}
    for address in host_addresses:
        _name(elements, address, marks.HOST, "host")
    return elements


def port_elements(port: Port, classes: Classes) -> Elements:
    """Return the elements of one port.

    Raises:
        StateError: no class has its labels.
    """
    number = classes.number(port.labels)
    tap, mac = device(port.tap), port.mac
    reached, looked_for = Verdict(Code.GOTO, f"to-{number}"), Verdict(Code.GOTO, f"near-{number}")
    elements: Elements = {
        "classes": {tap: marks.data(marks.of_class(number))},
        "taps": {tap: None},
        "macs": {key_of(tap, mac): None},
    }
    for version, addresses in ((4, port.ipv4), (6, port.all_ipv6)):
        packed = [address.packed for address in addresses]
        elements |= {
            f"sources{version}": {key_of(tap, mac, address): None for address in packed},
            f"targets{version}": {key_of(tap, mac, address): reached for address in packed},
            f"near{version}": {key_of(tap, address): looked_for for address in packed},
            f"places{version}": {
                address.packed: reached for address in addresses if not address.is_link_local
            },
            f"outside{version}": {address: marks.data(marks.FORGED) for address in packed},
        }
    return elements


def elsewhere_elements(machine: Elsewhere, classes: Classes) -> Elements:
    """Return the elements of a machine whose packets come from outside.

    Raises:
        StateError: no class has its labels.
    """
    number = classes.number(machine.labels)
    elements: Elements = {}
    for address in machine.addresses:
        version = address.version
        elements.setdefault(f"outside{version}", {})[address.packed] = marks.data(marks.of_class(number))
        if not address.is_link_local:
            elements.setdefault(f"places{version}", {})[address.packed] = Verdict(Code.GOTO, f"to-{number}")
    return elements


def fleet_elements(fleet: Fleet, classes: Classes) -> Elements:
    """Return the elements of all machines. Raises as `port_elements`."""
    elements: Elements = {}
    for part in (
        *(port_elements(port, classes) for port in fleet.ports),
        *(elsewhere_elements(machine, classes) for machine in fleet.elsewhere),
    ):
        for name, pairs in part.items():
            elements.setdefault(name, {}).update(pairs)
    return elements


def _name(elements: Elements, address: Address, mark: int, target: str) -> None:
    """Let one address be a zone of its own, or the host's."""
    verdict = Verdict(Code.GOTO, f"to-{target}") if target else Verdict(Code.GOTO, "deny")
    elements.setdefault(f"named-sources{address.version}", {})[address.packed] = marks.data(mark)
    elements.setdefault(f"named-targets{address.version}", {})[address.packed] = verdict
