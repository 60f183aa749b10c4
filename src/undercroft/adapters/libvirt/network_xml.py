"""A libvirt network's XML as values: its bridge, and which addresses it reserves for which MAC. Pure; no I/O.

Follows libvirt's "Network XML format", element `<dhcp>`. An IPv4 reservation names the MAC. An IPv6 one
cannot: it names the client's DUID, and where that is made of a MAC (RFC 8415, sections 11.2 and 11.4), the
reservation is that MAC's. One that names neither is nobody's: a name is what the guest calls itself.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from undercroft.adapters.libvirt.domain_xml import parse_root
from undercroft.errors import InputError
from undercroft.model.addresses import own_address, own_mac

MAX_RESERVATIONS = 65_536
"""Of one network."""

_DUID = re.compile(r"[0-9a-f]{1,2}(?::[0-9a-f]{1,2}){9,13}")
_ETHERNET_DUIDS = {14: b"\x00\x01\x00\x01", 10: b"\x00\x03\x00\x01"}
"""How DUIDs of a MAC begin (DUID-LLT, DUID-LL; hardware type 1), by their length in bytes."""


@dataclass(frozen=True, slots=True)
class NetworkDefinition:
    """A libvirt network.

    Attributes:
        bridge: the host's, "" for none.
        reserved: addresses by MAC, as `Interface.addresses` has them.
        problems: reservations that cannot be anybody's, in words.
    """

    bridge: str = ""
    reserved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def parse_network(untrusted_xml: str) -> NetworkDefinition:
    """Return a network's definition.

    Raises:
        InputError: the XML is malformed, or has more than `MAX_RESERVATIONS`.
    """
    root = parse_root(untrusted_xml, "network")
    bridge = root.find("bridge")
    hosts = root.findall("ip/dhcp/host")
    if len(hosts) > MAX_RESERVATIONS:
        raise InputError(f"libvirt's network XML: more than {MAX_RESERVATIONS} reservations")
    reserved: dict[str, set[str]] = {}
    problems: list[str] = []
    for host in hosts:
        try:
            if (mac := _mac(host)) and (untrusted_address := host.get("ip")):
                address = str(own_address(untrusted_address))
                reserved.setdefault(mac, set()).add(address)
        except InputError as error:
            problems.append(
                f"reservation of {host.get('name') or host.get('mac') or host.get('id')}: {error}"
            )
    return NetworkDefinition(
        bridge=bridge.get("name", "") if bridge is not None else "",
        reserved={mac: tuple(sorted(addresses)) for mac, addresses in reserved.items()},
        problems=tuple(problems),
    )


def _mac(host: ElementTree.Element) -> str:
    """Return the MAC that a reservation is for, "" for one that names none."""
    if mac := host.get("mac"):
        return own_mac(mac)
    untrusted_duid = (host.get("id") or "").lower()
    if not _DUID.fullmatch(untrusted_duid):
        return ""
    duid = bytes(int(part, 16) for part in untrusted_duid.split(":"))
    beginning = _ETHERNET_DUIDS.get(len(duid))
    return own_mac(duid[-6:].hex(":")) if beginning and duid.startswith(beginning) else ""
