"""What names, devices, addresses and services of a firewall policy have to look like.

As in `steady.shapes`: a mistake is noted with its place, and reading goes on.
"""

import re
from ipaddress import ip_address, ip_network

from undercroft.firewall.fleet import TAP_BYTES
from undercroft.firewall.policy import MAX_PORTS_PER_SERVICE, Network, Protocol, Service
from undercroft.steady import nodes
from undercroft.steady.nodes import Node
from undercroft.steady.shapes import Checker

RESERVED = frozenset({"world", "host", "any"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DEVICE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{TAP_BYTES - 1}}}")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def is_name(text: str) -> bool:
    """Tell whether a policy may give this name."""
    return _NAME.fullmatch(text) is not None and text not in RESERVED


def is_device(text: str) -> bool:
    """Tell whether it is the name of a network device, or the beginning of one."""
    return _DEVICE.fullmatch(text) is not None


def name(checker: Checker, node: Node, what: str) -> str | None:
    """Return a name that a policy may give."""
    text = checker.text(node, what, "a name")
    if text is None:
        return None
    if not is_name(text):
        checker.note(
            node.place,
            f"{what}: found {text[:64]!r}; a name is letters, digits, '_', '.' and '-', at most 64, and not"
            f" {', '.join(sorted(RESERVED))}",
        )
        return None
    return text


def device(checker: Checker, node: Node, what: str) -> str | None:
    """Return the name of a network device, or the beginning of one."""
    text = checker.text(node, what, "a device's name")
    if text is None or is_device(text):
        return text
    checker.note(
        node.place, f"{what}: found {text[:64]!r}; a device's name has at most {TAP_BYTES} characters"
    )
    return None


def networks(checker: Checker, node: Node, what: str) -> tuple[Network, ...]:
    """Return one address or a list of them, each as a network of its own."""
    found: list[Network] = []
    items = node.items if isinstance(node, nodes.Sequence) else (node,)
    if not items:
        checker.note(node.place, f"{what}: found an empty list; an address is possible")
    for item in items:
        text = checker.text(item, what, "an address")
        if text is None:
            continue
        try:
            address = ip_address(_unscoped(text))
        except ValueError:
            checker.note(item.place, f"{what}: found {text[:64]!r}; an IPv4 or IPv6 address is possible")
            continue
        found.append(ip_network(address))
    return tuple(found)


def network(text: str) -> Network | str | None:
    """Return a network or an address, what is wrong with it, or None where it looks like neither."""
    try:
        return ip_network(_unscoped(text))
    except ValueError:
        pass
    try:
        wider = ip_network(_unscoped(text), strict=False)
    except ValueError:
        return None
    return f"found {text}, whose address has bits beside the prefix; say {wider}"


def _unscoped(text: str) -> str:
    """Return the text; one with a scope ("fe80::1%eth0") is no address: rules know of no scopes."""
    if "%" in text:
        raise ValueError
    return text


def service(text: str) -> Service | str:
    """Return a service, or what is wrong with it."""
    if text == Protocol.ICMP.value:
        return Service(Protocol.ICMP)
    protocol, _, ports = text.partition("/")
    known = [item for item in Protocol if item is not Protocol.ICMP and item.value == protocol]
    match = _PORTS.fullmatch(ports)
    if not known or match is None:
        return f"found {text[:64]!r}; possible: tcp/443, udp/8000-8010, sctp/38412, icmp, a name of services"
    low = int(match[1])
    high = int(match[2]) if match[2] else low
    if not 0 < low <= high <= 65_535:
        return f"found {text!r}; ports go from 1 to 65535, the lower one first"
    if high - low >= MAX_PORTS_PER_SERVICE:
        return f"found {text!r}; at most {MAX_PORTS_PER_SERVICE} ports are one service, say several"
    return Service(known[0], low, high)
