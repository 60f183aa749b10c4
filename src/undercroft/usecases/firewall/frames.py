"""The first packet of a flow and its answer, as frames: for tracing, nothing is sent.

Checksums are left zero; no rule reads them. Source: RFC 791, 8200, 9293, 768, 9260, 792, 4443.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from undercroft.firewall.packets import IPV4, IPV6
from undercroft.firewall.policy import PORT_PROTOCOLS, Address, Protocol, Service

CLIENT_PORT = 40_000
"""Of whoever opens the flow; the policy does not ask for it."""
_ICMP, _ICMPV6 = 1, 58
_SYN, _SYN_ACK = 0x02, 0x12


@dataclass(frozen=True, slots=True)
class Ends:
    """MACs and addresses of a packet, of one IP version."""

    source_mac: bytes
    target_mac: bytes
    source: Address
    target: Address

    @property
    def turned(self) -> "Ends":
        """The same for the answer."""
        return Ends(self.target_mac, self.source_mac, self.target, self.source)


def opening(ends: Ends, service: Service) -> bytes:
    """Return the frame that opens a service's first port: SYN, a datagram, INIT, or an echo request."""
    return _frame(ends, service, answer=False)


def answer(ends: Ends, service: Service) -> bytes:
    """Return the frame that answers it; `ends` are those of the opening one."""
    return _frame(ends.turned, service, answer=True)


def _frame(ends: Ends, service: Service, *, answer: bool) -> bytes:
    is4 = isinstance(ends.source, IPv4Address)
    if service.protocol is Protocol.ICMP:
        number = _ICMP if is4 else _ICMPV6
        request, reply = (8, 0) if is4 else (128, 129)
        payload = struct.pack("!BBHHH", reply if answer else request, 0, 0, 1, 1)
    else:
        number = PORT_PROTOCOLS[service.protocol]
        ports = (service.low, CLIENT_PORT) if answer else (CLIENT_PORT, service.low)
        payload = _transport(service.protocol, ports, answer=answer)
    header = _ipv4(ends, number, len(payload)) if is4 else _ipv6(ends, number, len(payload))
    kind = struct.pack("!H", IPV4 if is4 else IPV6)
    return ends.target_mac + ends.source_mac + kind + header + payload


def _transport(protocol: Protocol, ports: tuple[int, int], *, answer: bool) -> bytes:
    match protocol:
        case Protocol.TCP:
            flags = _SYN_ACK if answer else _SYN
            return struct.pack("!HHIIBBHHH", *ports, 1, int(answer), 5 << 4, flags, 64_240, 0, 0)
        case Protocol.UDP:
            return struct.pack("!HHHH", *ports, 8, 0)
        case _:
            chunk = struct.pack("!BBHIIHHI", 2 if answer else 1, 0, 20, 1, 65_535, 1, 1, 1)
            return struct.pack("!HHII", *ports, int(answer), 0) + chunk


def _ipv4(ends: Ends, protocol: int, length: int) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, protocol, 0)
    return head + ends.source.packed + ends.target.packed


def _ipv6(ends: Ends, protocol: int, length: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, length, protocol, 64) + ends.source.packed + ends.target.packed
