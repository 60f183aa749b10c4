"""Elements of the table's sets: of the policy, of one port, of one machine elsewhere."""

from collections.abc import Iterable
from functools import lru_cache

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.classes import Classes
from undercroft.firewall.fleet import Elsewhere, Fleet, Port, link_local_bytes
from undercroft.firewall.grants import Grants, grants_of
from undercroft.firewall.kernel import FIELD_BYTES, Code, Verdict
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.firewall.registers import padded
from undercroft.firewall.vlans import vlan_elements

Data = bytes | Verdict | None
Elements = dict[str, dict[bytes, Data]]
"""Set name -> key as it stands in registers -> a map's data."""

NAME_BYTES = FIELD_BYTES["ifname"]
_MAC_PADDING = bytes(2)
_FORGED = marks.data(marks.FORGED)


def key_of(*fields: bytes) -> bytes:
    """Return a key: one field as it is, several each padded with zeros to whole registers."""
    if len(fields) == 1:
        return fields[0]
    return b"".join(map(padded, fields))


def device(name: str) -> bytes:
    """Return a device's name as the kernel compares it."""
    return name.encode().ljust(NAME_BYTES, b"\0")


def policy_elements(
    policy: FirewallPolicy,
    classes: Classes,
    host_addresses: Iterable[Address],
    grants: Grants | None = None,
) -> Elements:
    """Return what follows from the policy and its classes, and from the host's own addresses.

    Args:
        policy: any.
        classes: of all machines.
        host_addresses: of this host.
        grants: `grants_of` the two, where it is at hand.
    """
    grants = grants or grants_of(policy, classes)
    elements: Elements = {
        "uplinks": {device(name): None for name in policy.ports.uplinks},
        "headers6": {bytes([number]): None for number in h.HEADERS6},
        "transports6": {bytes([number]): None for number in h.TRANSPORTS6},
        "sent-icmp6": {bytes([number]): None for number in (*h.ERRORS6, *h.ECHOES6)},
        "errors4": {bytes([number]): None for number in h.ERRORS4},
        "errors6": {bytes([number]): None for number in h.ERRORS6},
    }
    if policy.vlans:
        elements["vlans"] = dict(vlan_elements(policy, classes))
    for side in grants.sides:
        grant = grants.found[side.mark]
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
    for name, chain in (("class-targets", "to"), ("class-whole", "whole"), ("class-near", "near")):
        elements[name] = {
            marks.data(side.mark): Verdict(Code.GOTO, f"{chain}-{side.name}")
            for side in grants.sides
            if side.is_machine
        }
    return elements


def port_elements(port: Port, classes: Classes) -> Elements:
    """Return the elements of one port.

    Raises:
        StateError: no class has its labels.
    """
    elements: Elements = {}
    _add_port(elements, port, classes.number(port.labels))
    return elements


def _add_port(elements: Elements, port: Port, number: int) -> None:
    tap = device(port.tap)
    tap_mac = tap + port.mac + _MAC_PADDING
    mark = _of_class(number)
    into = elements.setdefault
    into("classes", {})[tap] = mark
    into("taps", {})[tap] = None
    into("macs", {})[tap_mac] = None
    if not port.arriving:
        into("stations", {})[port.mac] = None
    from_outside = mark if port.arriving else _FORGED
    own6 = dict.fromkeys((*(address.packed for address in port.ipv6), link_local_bytes(port.mac)))
    for version, addresses in (("4", [address.packed for address in port.ipv4]), ("6", list(own6))):
        for address in addresses:
            into("sources" + version, {})[tap_mac + address] = mark if version == "4" else None
            into("targets" + version, {})[tap_mac + address] = mark
            into("near" + version, {})[tap + address] = mark
            into("outside" + version, {})[address] = from_outside
            if not _is_link_local(address):
                into("places" + version, {})[address] = mark


@lru_cache(maxsize=4096)
def _of_class(number: int) -> bytes:
    return marks.data(marks.of_class(number))


def _is_link_local(address: bytes) -> bool:
    """Tell whether an address of 4 or 16 bytes means somebody on its own link only."""
    if len(address) == 4:
        return address[:2] == b"\xa9\xfe"
    return address[0] == 0xFE and address[1] & 0xC0 == 0x80


def elsewhere_elements(machine: Elsewhere, classes: Classes) -> Elements:
    """Return the elements of a machine whose packets come from outside.

    Raises:
        StateError: no class has its labels.
    """
    elements: Elements = {}
    _add_elsewhere(elements, machine, classes.number(machine.labels))
    return elements


def _add_elsewhere(elements: Elements, machine: Elsewhere, number: int) -> None:
    mark = _of_class(number)
    for address in machine.addresses:
        version, packed = address.version, address.packed
        elements.setdefault(f"outside{version}", {})[packed] = mark
        if not _is_link_local(packed):
            elements.setdefault(f"places{version}", {})[packed] = mark


def fleet_elements(fleet: Fleet, classes: Classes) -> Elements:
    """Return the elements of all machines. Raises as `port_elements`."""
    elements: Elements = {}
    for port in fleet.ports:
        _add_port(elements, port, classes.number(port.labels))
    for machine in fleet.elsewhere:
        _add_elsewhere(elements, machine, classes.number(machine.labels))
    return elements


def _name(elements: Elements, address: Address, mark: int, target: str) -> None:
    """Let one address be a zone of its own, or the host's."""
    verdict = Verdict(Code.GOTO, f"to-{target}") if target else Verdict(Code.GOTO, "deny")
    elements.setdefault(f"named-sources{address.version}", {})[address.packed] = marks.data(mark)
    elements.setdefault(f"named-targets{address.version}", {})[address.packed] = verdict
