"""A frame in words, for people who look at a counterexample: each header that the kernel finds, in order.

Any bytes will do: what is too short or unknown is told as such, and nothing is guessed.
"""

from collections.abc import Iterator
from ipaddress import ip_address

from undercroft.firewall.packets import ARP, IPV4, IPV6, TAGS, Packet, parse

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
_EXTENSIONS = {0: "hop-by-hop options", 43: "routing", 44: "fragment", 51: "authentication", 60: "options"}
_ICMP = {0: "echo reply", 3: "unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded"}
_ICMPV6 = {
    1: "unreachable",
    2: "packet too big",
    3: "time exceeded",
    128: "echo request",
    129: "echo reply",
    133: "router solicitation",
    134: "router advertisement",
    135: "neighbour solicitation",
    136: "neighbour advertisement",
    137: "redirect",
}
_ARP = {1: "who has", 2: "is at"}
_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x01, "FIN"), (0x04, "RST"), (0x08, "PSH"), (0x20, "URG"))


def frame_lines(untrusted_frame: bytes) -> Iterator[str]:
    """Yield a line for each header of a frame, the Ethernet header first."""
    packet = parse(untrusted_frame)
    if packet is None:
        yield f"{len(untrusted_frame)} bytes: no frame that the kernel takes"
        return
    kind = packet.outer_type
    name = {IPV4: "IPv4", IPV6: "IPv6", ARP: "ARP"}.get(packet.ether_type, f"type 0x{packet.ether_type:04x}")
    yield f"from {_mac(packet, 6)} to {_mac(packet, 0)}, {name}, {len(untrusted_frame)} bytes"
    if kind in TAGS:
        yield f"VLAN tag {int.from_bytes(untrusted_frame[14:16], 'big') & 0xFFF} (0x{kind:04x})"
    match packet.ether_type:
        case 0x0800:
            yield from _ipv4(packet)
        case 0x86DD:
            yield from _ipv6(packet)
        case 0x0806:
            yield from _arp(packet)


def _mac(packet: Packet, offset: int) -> str:
    return (packet.link(offset, 6) or b"").hex(":")


def _address(data: bytes | None) -> str:
    return str(ip_address(data)) if data and len(data) in {4, 16} else "(cut off)"


def _ipv4(packet: Packet) -> Iterator[str]:
    fragment = int.from_bytes(packet.network(6, 2) or b"", "big")
    parts = [f"{_address(packet.network(12, 4))} to {_address(packet.network(16, 4))}"]
    if fragment & 0x1FFF:
        parts.append(f"a later fragment, at byte {(fragment & 0x1FFF) * 8}")
    elif fragment & 0x2000:
        parts.append("the first of several fragments")
    first = packet.network(0, 1)
    if first and first != b"\x45":
        parts.append(f"first byte 0x{first.hex()}: with options, or malformed")
    yield ", ".join(parts)
    yield from _transport(packet)


def _ipv6(packet: Packet) -> Iterator[str]:
    yield f"{_address(packet.network(8, 16))} to {_address(packet.network(24, 16))}"
    following = packet.network(6, 1)
    if following and following[0] in _EXTENSIONS:
        yield f"extension header: {_EXTENSIONS[following[0]]}"
        if following[0] == 44 and int.from_bytes(packet.network(42, 2) or b"", "big") & 0xFFF8:
            yield "a later fragment"
    yield from _transport(packet)


def _transport(packet: Packet) -> Iterator[str]:
    protocol = packet.protocol
    if protocol is None:
        yield "no transport header that the kernel knows"
        return
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    if packet.transport_offset is None:
        yield f"{name}, without a header of its own"
        return
    if protocol in {1, 58}:
        kind = packet.transport(0, 2)
        told = (_ICMP if protocol == 1 else _ICMPV6).get(kind[0], "") if kind else "cut off"
        yield f"{name} {told or f'type {kind[0]}' if kind else told}"
        return
    ports = packet.transport(0, 4)
    if ports is None or protocol not in _PROTOCOLS:
        yield f"{name}{'' if ports else ', cut off'}"
        return
    source, target = int.from_bytes(ports[:2], "big"), int.from_bytes(ports[2:], "big")
    yield f"{name} port {source} to {target}{_flags(packet) if protocol == 6 else ''}"


def _flags(packet: Packet) -> str:
    flags = packet.transport(13, 1)
    names = [name for bit, name in _FLAGS if flags and flags[0] & bit]
    return f", {' '.join(names)}" if names else ""


def _arp(packet: Packet) -> Iterator[str]:
    operation = packet.network(6, 2)
    if operation is None:
        yield "cut off"
        return
    what = _ARP.get(int.from_bytes(operation, "big"), f"operation {int.from_bytes(operation, 'big')}")
    yield f"{_address(packet.network(14, 4))}: {what} {_address(packet.network(24, 4))}"
