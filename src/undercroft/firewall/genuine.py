"""Whether a frame is one that its port's machine may send: its own names, and nothing that hides others."""

from undercroft.firewall.fleet import Port
from undercroft.firewall.packets import IPV6, Packet

_UDP, _ICMPV6 = 17, 58
_OWN_ICMPV6 = frozenset({1, 2, 3, 4, 128, 129})
_TRANSPORTS = frozenset({6, 17, 58, 132})
_SOLICITATION, _ADVERTISEMENT, _ROUTER_SOLICITATION = b"\x87\x00", b"\x88\x00", b"\x85\x00"
_ALL_ROUTERS = bytes.fromhex("ff02000000000000" + "0000000000000002")


def is_genuine(port: Port, packet: Packet) -> bool:
    """Tell whether the port's machine may send this, whoever it is for.

    Args:
        port: where the frame comes from.
        packet: what it sent.
    """
    match packet.ether_type:
        case 0x0800:
            return _ipv4(port, packet)
        case 0x86DD:
            return _ipv6(port, packet)
        case 0x0806:
            return _arp(port, packet)
        case 0x8035:
            return _announcement(port, packet)
        case _:
            return False


def own_addresses(port: Port) -> frozenset[bytes]:
    """Return a port's addresses, of 4 and of 16 bytes."""
    own4 = (address.packed for address in port.ipv4)
    return frozenset((*own4, *(address.packed for address in port.all_ipv6)))


def neighbour_message(packet: Packet) -> bytes | None:
    """Return type and code of a solicitation or advertisement that no router has passed on, else None."""
    if packet.ether_type != IPV6 or packet.protocol != _ICMPV6 or packet.network(6, 2) != b"\x3a\xff":
        return None
    kind = packet.transport(0, 2)
    return kind if kind in {_SOLICITATION, _ADVERTISEMENT, _ROUTER_SOLICITATION} else None


def plain_headers6(packet: Packet) -> bool:
    """Tell whether a transport header follows the IPv6 header, or a fragment header with one after it."""
    following, after = packet.network(6, 1), packet.network(40, 1)
    if following == b"\x2c":
        return after is None or after[0] in _TRANSPORTS
    return following is not None and following[0] in _TRANSPORTS


def _own_mac(port: Port, packet: Packet) -> bool:
    return packet.link(6, 6) == port.mac


def _ipv4(port: Port, packet: Packet) -> bool:
    if packet.network(0, 1) != b"\x45" or not _own_mac(port, packet):
        return False
    udp_ports = packet.transport(0, 4) if packet.protocol == _UDP else None
    source_port = packet.transport(0, 2) if packet.protocol == _UDP else None
    if source_port == b"\x00\x43":
        return False
    if packet.network(12, 4) in {address.packed for address in port.ipv4}:
        return True
    no_address_yet = packet.network(12, 8) == bytes(4) + b"\xff" * 4
    return no_address_yet and udp_ports == bytes.fromhex("00440043")


def _arp(port: Port, packet: Packet) -> bool:
    if not _own_mac(port, packet) or packet.network(8, 6) != port.mac:
        return False
    own = {address.packed for address in port.ipv4}
    operation, sender = packet.network(0, 8), packet.network(14, 4)
    request = operation == bytes.fromhex("0001080006040001")
    if sender in own:
        return request or operation == bytes.fromhex("0001080006040002")
    return request and sender == bytes(4) and packet.network(24, 4) in own


def _announcement(port: Port, packet: Packet) -> bool:
    """Tell whether it is, byte by byte, what QEMU sends when the machine goes on here."""
    said = bytes.fromhex("0001080006040003") + port.mac + bytes(4) + port.mac + bytes(4) + bytes(18)
    return packet.frame == b"\xff" * 6 + port.mac + b"\x80\x35" + said


def _ipv6(port: Port, packet: Packet) -> bool:
    if not plain_headers6(packet) or not _own_mac(port, packet):
        return False
    if packet.protocol == _UDP and packet.transport(0, 2) == b"\x02\x23":
        return False
    if packet.protocol == _ICMPV6:
        return _icmpv6(port, packet)
    return _own6(port, packet.network(8, 16))


def _own6(port: Port, address: bytes | None) -> bool:
    return address in {item.packed for item in port.all_ipv6}


def _icmpv6(port: Port, packet: Packet) -> bool:
    own = _own6(port, packet.network(8, 16))
    kind = packet.transport(0, 2)
    first = packet.transport(0, 1)
    if first is None:
        fragment = packet.network(42, 2)
        later = fragment is not None and bool(int.from_bytes(fragment, "big") & 0xFFF8)
        return own and later and packet.network(6, 1) == b"\x2c"
    if kind == _SOLICITATION:
        return _solicitation(port, packet)
    if kind == _ADVERTISEMENT:
        length, option = _discovery(packet, 24)
        fitting = length == 24 or (length == 32 and option == b"\x02\x01" + port.mac)
        return own and fitting and _own6(port, packet.transport(8, 16))
    if kind == _ROUTER_SOLICITATION:
        length, option = _discovery(packet, 8)
        if packet.network(24, 16) != _ALL_ROUTERS:
            return False
        if packet.network(8, 16) == bytes(16):
            return length == 8
        return own and (length == 8 or (length == 16 and option == b"\x01\x01" + port.mac))
    return own and first[0] in _OWN_ICMPV6


def _solicitation(port: Port, packet: Packet) -> bool:
    length, option = _discovery(packet, 24)
    if packet.network(8, 16) == bytes(16):
        # Is my own address somebody's already? RFC 4862, 5.4, with the nonce of RFC 7527.
        nonce = length == 32 and option is not None and option[:2] == b"\x0e\x01"
        return (length == 24 or nonce) and _own6(port, packet.transport(8, 16))
    fitting = length == 24 or (length == 32 and option == b"\x01\x01" + port.mac)
    return fitting and _own6(port, packet.network(8, 16))


def _discovery(packet: Packet, fixed_bytes: int) -> tuple[int, bytes | None]:
    """Return the payload's length and the first option; a length of 0 where it is no such message."""
    if packet.network(6, 2) != b"\x3a\xff":
        return 0, None
    length = packet.network(4, 2) or b""
    return int.from_bytes(length, "big"), packet.transport(fixed_bytes, 8)
