"""What a machine may not send, by name: forged identities and hidden packets, and their wrappings.

Machine A sends; B is its neighbour that it may talk to, and V the one whose names it takes. The wrappings are
the same for all: `wrapped(name, frame)` is None where a wrapping cannot hold such a frame.
"""

import struct
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from firewallworld import FLEET, ip_packet

A, B, V = FLEET.ports[0], FLEET.ports[1], FLEET.ports[2]
A4, B4, V4 = (port.ipv4[0].packed for port in (A, B, V))
A6, B6, V6 = (port.ipv6[0].packed for port in (A, B, V))
A_LINK, V_LINK = A.all_ipv6[-1].packed, V.all_ipv6[-1].packed
HOST4, HOST_LINK = ip_address("10.1.0.254").packed, ip_address("fe80::fe").packed
WORLD4, WORLD6 = ip_address("8.8.8.8").packed, ip_address("2001:db8:f::1").packed
ALL_NODES = ip_address("ff02::1").packed
TCP = struct.pack(">HH", 40000, 443) + bytes(16)
ANSWER = struct.pack(">HH", 443, 40000) + bytes(9) + b"\x04" + bytes(6)
DNS = struct.pack(">HHHH", 40000, 53, 20, 0) + bytes(12)
OFFER = struct.pack(">HHHH", 67, 68, 248, 0) + b"\x02\x01\x06\0" + bytes(236)
ADVERTISE = struct.pack(">HHHH", 547, 546, 24, 0) + b"\x02" + bytes(15)
UNREACHABLE, TOO_BIG = b"\x03\x01" + bytes(6), b"\x02\0" + bytes(6)
IDENT = b"\0\0\0\x07"


def ethernet(packet: bytes, kind: int = 0x0800, source: bytes = A.mac, target: bytes = B.mac) -> bytes:
    return target + source + struct.pack(">H", kind) + packet


def six(packet: bytes, source: bytes = A.mac) -> bytes:
    return ethernet(packet, 0x86DD, source)


def arp(operation: int, mac: bytes, sender: bytes, target: bytes, kind: int = 0x0806) -> bytes:
    head = struct.pack(">HHBBH", 1, 0x0800, 6, 4, operation)
    return ethernet(head + mac + sender + B.mac + target + bytes(18), kind)


def icmp6(body: bytes, source: bytes = A6, target: bytes = B6, hops: int = 255) -> bytes:
    return six(ip_packet(6, source, target, 58, body, hops=hops))


def _after(number: int, header: bytes, following: int = 6, payload: bytes = TCP) -> bytes:
    """Return IPv6 with one extension header."""
    return six(ip_packet(6, A6, B6, number, bytes([following]) + header + payload))


_OPTION = b"\0\x01\x04" + bytes(4)
_SOLICITED = b"\x87\0\0\0" + bytes(4)
_ADVERTISED = b"\x88\0\0\0\x60\0\0\0"
_ROUTER = b"\x86\0\0\0\x40\0\x07\x08" + bytes(8) + b"\x01\x01" + A.mac
_HERE, _THERE = b"\x01\x01", b"\x02\x01"

SPOOFS: Mapping[str, tuple[bytes, ...]] = {
    "source MAC": (ethernet(ip_packet(4, A4, B4, 6, TCP), source=V.mac),),
    "source MAC and IPv4": (ethernet(ip_packet(4, V4, B4, 6, TCP), source=V.mac),),
    "source MAC and IPv6": (six(ip_packet(6, V6, B6, 6, TCP), V.mac),),
    "IPv4 of a neighbour": (ethernet(ip_packet(4, V4, B4, 6, TCP)),),
    "IPv4 of a neighbour, TCP reset": (ethernet(ip_packet(4, V4, B4, 6, ANSWER)),),
    "IPv4 of the host": (ethernet(ip_packet(4, HOST4, B4, 17, DNS)),),
    "IPv4 of the world": (ethernet(ip_packet(4, WORLD4, B4, 17, DNS)),),
    "IPv4 loopback": (ethernet(ip_packet(4, b"\x7f\0\0\x01", B4, 6, TCP)),),
    "IPv4 broadcast": (ethernet(ip_packet(4, b"\xff" * 4, B4, 17, DNS)),),
    "IPv4 unspecified": (ethernet(ip_packet(4, bytes(4), B4, 17, DNS)),),
    "IPv6 of a neighbour": (six(ip_packet(6, V6, B6, 6, TCP)),),
    "IPv6 link-local of a neighbour": (six(ip_packet(6, V_LINK, B6, 6, TCP)),),
    "IPv6 of the host": (six(ip_packet(6, HOST_LINK, B6, 17, DNS)),),
    "IPv6 of the world": (six(ip_packet(6, WORLD6, B6, 17, DNS)),),
    "IPv6 unspecified": (six(ip_packet(6, bytes(16), B6, 17, DNS)),),
    "ARP sender": (arp(2, A.mac, V4, B4),),
    "ARP sender of the host": (arp(2, A.mac, HOST4, B4),),
    "ARP MAC": (arp(2, V.mac, A4, B4),),
    "ARP announcement": (arp(1, A.mac, V4, V4),),
    "ARP probe": (arp(1, A.mac, bytes(4), V4),),
    "ARP for Ethernet in other forms": (
        ethernet(struct.pack(">HHBBH", 6, 0x0800, 6, 4, 2) + A.mac + V4 + B.mac + B4, 0x0806),
    ),
    "RARP": (arp(4, V.mac, V4, B4, 0x8035),),
    "ND target": (icmp6(_ADVERTISED + V6 + _THERE + A.mac),),
    "ND target of the host": (icmp6(_ADVERTISED + HOST_LINK + _THERE + A.mac),),
    "ND target option": (icmp6(_ADVERTISED + A6 + _THERE + V.mac),),
    "ND source option": (icmp6(_SOLICITED + B6 + _HERE + V.mac),),
    "ND second option": (icmp6(_SOLICITED + B6 + _HERE + A.mac + _HERE + V.mac),),
    "ND for a neighbour's address": (icmp6(_SOLICITED + V6, bytes(16)),),
    "ND from afar": (icmp6(_ADVERTISED + A6 + _THERE + A.mac, hops=64),),
    "router advertisement": (icmp6(_ROUTER, A_LINK, ALL_NODES),),
    "router advertisement of the host": (icmp6(_ROUTER, HOST_LINK, ALL_NODES),),
    "router advertisement to one": (icmp6(_ROUTER, A_LINK),),
    "router solicitation": (
        icmp6(b"\x85\0\0\0" + bytes(4) + _HERE + V.mac, A6, ip_address("ff02::2").packed),
    ),
    "IPv6 redirect": (
        icmp6(b"\x89\0\0\0" + bytes(4) + A6 + WORLD6, HOST_LINK),
        icmp6(b"\x89\0\0\0" + bytes(4) + A6 + WORLD6, A_LINK),
    ),
    "IPv4 redirect": (
        ethernet(ip_packet(4, A4, B4, 1, b"\x05\x01\0\0" + A4 + ip_packet(4, B4, WORLD4, 6, TCP))),
    ),
    "DHCP server": (
        ethernet(ip_packet(4, A4, B4, 17, OFFER)),
        ethernet(ip_packet(4, A4, b"\xff" * 4, 17, OFFER)),
    ),
    "DHCP server of the host": (ethernet(ip_packet(4, HOST4, b"\xff" * 4, 17, OFFER)),),
    "DHCPv6 server": (
        six(ip_packet(6, A_LINK, B6, 17, ADVERTISE)),
        six(ip_packet(6, HOST_LINK, B6, 17, ADVERTISE)),
    ),
    "ICMP error about a flow of others": (
        ethernet(ip_packet(4, A4, B4, 1, UNREACHABLE + ip_packet(4, B4, V4, 6, TCP))),
        ethernet(ip_packet(4, A4, B4, 1, UNREACHABLE + ip_packet(4, B4, WORLD4, 6, TCP))),
    ),
    "ICMP error in a neighbour's name": (
        ethernet(ip_packet(4, V4, B4, 1, UNREACHABLE + ip_packet(4, B4, V4, 6, TCP))),
    ),
    "ICMP error, path MTU": (
        ethernet(ip_packet(4, A4, B4, 1, b"\x03\x04\0\0\0\0\x02\x40" + ip_packet(4, B4, WORLD4, 6, TCP))),
    ),
    "ICMPv6 error about a flow of others": (
        icmp6(TOO_BIG + ip_packet(6, B6, V6, 6, TCP), hops=64),
        icmp6(TOO_BIG + ip_packet(6, B6, WORLD6, 6, TCP), hops=64),
    ),
    "ICMPv6 error in a neighbour's name": (icmp6(TOO_BIG + ip_packet(6, B6, V6, 6, TCP), V6, hops=64),),
    "multicast membership": (
        ethernet(ip_packet(4, A4, ip_address("224.0.0.1").packed, 2, b"\x11\x64" + bytes(6))),
        icmp6(b"\x82\0\0\0" + bytes(20), A_LINK, ALL_NODES, hops=1),
    ),
    "hop-by-hop options": (_after(0, _OPTION),),
    "jumbo": (
        six(
            ip_packet(6, A6, B6, 0, b"\x06\0\xc2\x04\0\x01\0\0" + TCP)[:4]
            + bytes(2)
            + ip_packet(6, A6, B6, 0, b"\x06\0\xc2\x04\0\x01\0\0" + TCP)[6:]
        ),
    ),
    "destination options": (_after(60, _OPTION),),
    "routing header": (_after(43, b"\x02\0\x01\0\0\0\0" + V6), _after(43, b"\x02\x02\x01\0\0\0\0" + V6)),
    "authentication header": (_after(51, b"\x04" + bytes(22)),),
    "mobility, HIP, Shim6": tuple(_after(number, bytes(7)) for number in (135, 139, 140, 253)),
    "no next header": (six(ip_packet(6, A6, B6, 59, TCP)),),
    "chain of headers": (
        _after(0, _OPTION + b"\x3c" + _OPTION + b"\x06" + _OPTION, 60),
        _after(60, b"\0\x01\x04\0\0\0\0\x3c\0\x01\x04\0\0\0\0\x06\0\x01\x04\0\0\0\0", 60),
    ),
    "router advertisement behind options": (
        six(ip_packet(6, A_LINK, ALL_NODES, 0, b"\x3a" + _OPTION + _ROUTER, hops=255)),
        six(ip_packet(6, A_LINK, ALL_NODES, 60, b"\x3a" + _OPTION + _ROUTER, hops=255)),
    ),
    "router advertisement in fragments": (
        six(ip_packet(6, A_LINK, ALL_NODES, 44, b"\x3a\0\0\x01" + IDENT + _ROUTER[:8], hops=255)),
        six(ip_packet(6, A_LINK, ALL_NODES, 44, b"\x3a\0\0\x08" + IDENT + _ROUTER[8:], hops=255)),
        six(ip_packet(6, A_LINK, ALL_NODES, 44, b"\x3a\0\0\0" + IDENT + _ROUTER, hops=255)),
    ),
    "options behind a fragment header": (
        six(ip_packet(6, A_LINK, ALL_NODES, 44, b"\x3c\0\0\x01" + IDENT + b"\x3a" + _OPTION, hops=255)),
        six(ip_packet(6, A_LINK, ALL_NODES, 44, b"\x3c\0\0\x08" + IDENT + _ROUTER, hops=255)),
        six(ip_packet(6, A6, B6, 44, b"\x2c\0\0\0" + IDENT + b"\x06\0\0\0" + IDENT + TCP)),
    ),
    "IPv4 fragments of a neighbour": (
        ethernet(ip_packet(4, V4, B4, 6, TCP[:16], 0x2000, 7)),
        ethernet(ip_packet(4, V4, B4, 6, TCP[16:], 0x0002, 7)),
    ),
    "IPv6 fragments of a neighbour": (
        six(ip_packet(6, V6, B6, 44, b"\x06\0\0\x01" + IDENT + TCP[:16])),
        six(ip_packet(6, V6, B6, 44, b"\x06\0\0\x10" + IDENT + TCP[16:])),
        six(ip_packet(6, V6, B6, 44, b"\x06\0\0\0" + IDENT + TCP)),
    ),
    "later fragments alone": (
        ethernet(ip_packet(4, A4, B4, 6, TCP, 0x0001, 9)),
        ethernet(ip_packet(4, A4, B4, 6, TCP, 0x20B9, 9)),
        six(ip_packet(6, A6, B6, 44, b"\x06\0\0\x08\0\0\0\x09" + TCP)),
    ),
    "overlapping fragments": (
        ethernet(ip_packet(4, A4, B4, 17, ANSWER[:16], 0x2000, 11)),
        ethernet(ip_packet(4, A4, B4, 17, OFFER[:16], 0x2001, 11)),
        six(ip_packet(6, A6, B6, 44, b"\x11\0\0\x01\0\0\0\x0b" + ADVERTISE[:16])),
        six(ip_packet(6, A6, B6, 44, b"\x11\0\0\x09\0\0\0\x0b" + ADVERTISE[:16])),
    ),
    "tiny fragments": (
        ethernet(ip_packet(4, A4, B4, 6, b"\x9c", 0x2000, 12)),
        ethernet(ip_packet(4, A4, B4, 6, TCP[:2], 0x2000, 12)),
        ethernet(ip_packet(4, A4, B4, 6, b"", 0x2000, 12)),
        six(ip_packet(6, A6, B6, 44, b"\x06\0\0\x01\0\0\0\x0c" + TCP[:2])),
        six(ip_packet(6, A6, B6, 44, b"\x06\0\0\x01\0\0\0\x0c")),
    ),
    "source routes": (
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\x83\x07\x04" + V4 + b"\0")),
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\x89\x07\x04" + V4 + b"\0")),
    ),
    "IPv4 options": (
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\x07\x07\x04" + bytes(5))),
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\x94\x04\0\0")),
        ethernet(ip_packet(4, A4, B4, 6, TCP, options=b"\1\1\1\0")),
    ),
    "IPv4 lengths that lie": (
        ethernet(b"\x45\0\0\x13" + ip_packet(4, A4, B4, 6, TCP)[4:]),
        ethernet(b"\x45\0\xff\xff" + ip_packet(4, A4, B4, 6, TCP)[4:]),
        ethernet(b"\x44" + ip_packet(4, A4, B4, 6, TCP)[1:]),
        ethernet(b"\x65" + ip_packet(4, A4, B4, 6, TCP)[1:]),
    ),
}
"""Name -> frames of which none may get anywhere, whatever services the policy allows."""

HONEST = (
    ethernet(ip_packet(4, A4, B4, 6, TCP)),
    six(ip_packet(6, A6, B6, 6, TCP)),
    arp(1, A.mac, A4, B4),
    icmp6(_SOLICITED + B6 + _HERE + A.mac),
    icmp6(_ADVERTISED + A6 + _THERE + A.mac),
)
"""What passes from A to B where the policy lets A open TCP port 443 of B."""

_SNAP = b"\xaa\xaa\x03\0\0\0"
Wrap = Callable[[bytes], bytes | None]


def _tagged(*tags: str) -> Wrap:
    inserted = bytes.fromhex("".join(tags))
    return lambda frame: frame[:12] + inserted + frame[12:]


def _snap(tags: str = "", header: bytes = _SNAP, inner: str = "") -> Wrap:
    def wrap(frame: bytes) -> bytes:
        body = header + bytes.fromhex(inner) + frame[12:]
        return frame[:12] + bytes.fromhex(tags) + struct.pack(">H", len(body)) + body

    return wrap


def _in_ip(version: int, protocol: int | None, between: bytes = b"", whole: bool = False) -> Wrap:
    """Return a tunnel in a packet of A's own; `protocol` None: 4 or 41 by what is inside, and IP only."""

    def wrap(frame: bytes) -> bytes | None:
        inner_kind = frame[12:14]
        number = protocol
        if number is None:
            number = {b"\x08\0": 4, b"\x86\xdd": 41}.get(inner_kind)
            if number is None:
                return None
        head = between + inner_kind if protocol == 47 and not whole else between
        source, target = (A4, B4) if version == 4 else (A6, B6)
        packet = ip_packet(version, source, target, number, head + (frame if whole else frame[14:]))
        return ethernet(packet, 0x0800 if version == 4 else 0x86DD, target=frame[:6])

    return wrap


def _pppoe(tags: str = "") -> Wrap:
    def wrap(frame: bytes) -> bytes | None:
        kind = {b"\x08\0": b"\0\x21", b"\x86\xdd": b"\0\x57"}.get(frame[12:14])
        if kind is None:
            return None
        length = struct.pack(">H", len(frame) - 12)
        return frame[:12] + bytes.fromhex(tags) + b"\x88\x64\x11\0\0\x01" + length + kind + frame[14:]

    return wrap


def _before_packet(header: str) -> Wrap:
    return lambda frame: frame[:12] + bytes.fromhex(header) + frame[14:]


ENCAPSULATIONS: Mapping[str, Wrap] = {
    "plain": lambda frame: frame,
    "802.1Q": _tagged("81000005"),
    "VLAN 0": _tagged("81000000"),
    "VLAN 0 twice": _tagged("81000000", "81000000"),
    "802.1ad": _tagged("88a80005"),
    "802.1ad, VLAN 0": _tagged("88a80000"),
    "QinQ": _tagged("81000005", "81000006"),
    "802.1Q in 802.1ad": _tagged("88a80005", "81000006"),
    "802.1ad in 802.1Q": _tagged("81000005", "88a80006"),
    "three tags": _tagged("88a80005", "81000006", "81000007"),
    "tags of old (9100)": _tagged("91000005"),
    "tags of old (9200)": _tagged("92000005", "81000000"),
    "LLC": lambda frame: frame[:12] + struct.pack(">H", len(frame) - 11) + b"\x06\x06\x03" + frame[14:],
    "SNAP": _snap(),
    "SNAP, bridge tunnel": _snap(header=b"\xaa\xaa\x03\0\0\xf8"),
    "SNAP in 802.1Q": _snap("81000005"),
    "SNAP in VLAN 0": _snap("81000000"),
    "SNAP in QinQ": _snap("88a8000581000006"),
    "802.1Q in SNAP": _snap(inner="81000005"),
    "MPLS": _before_packet("884700011140"),
    "MPLS, two labels": _before_packet("88470001104000022140"),
    "PPPoE": _pppoe(),
    "PPPoE in 802.1Q": _pppoe("81000005"),
    "NSH": _before_packet("894f0fc60101000001ff"),
    "provider backbone": lambda frame: frame[:12] + b"\x88\xe7\0\0\0\x05" + frame,
    "Ethernet in Ethernet": lambda frame: frame[:12] + b"\x65\x58" + frame,
    "IP in IPv4": _in_ip(4, None),
    "IP in IPv6": _in_ip(6, None),
    "GRE": _in_ip(4, 47, b"\0\0"),
    "GRE in IPv6": _in_ip(6, 47, b"\0\0"),
    "Ethernet in GRE": _in_ip(4, 47, b"\0\0\x65\x58", whole=True),
    "Ethernet in IP": _in_ip(4, 97, b"\x30\0", whole=True),
}


def wrapped(name: str, frame: bytes) -> bytes | None:
    """Return a frame in an encapsulation, None where that cannot hold it."""
    return ENCAPSULATIONS[name](frame)
