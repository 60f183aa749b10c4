"""What a machine may send: only what bears its own addresses, in plain frames.

The meaning of anti-spoofing, for every packet, by relations between ports and addresses:
`sources4` and `sources6` (port, MAC, address), `macs` (port, MAC). Nothing is taken from the compiler.
"""

from undercroft.assurance.firewall.places import FORGED
from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.running import host_order
from undercroft.assurance.firewall.terms import Truth, both, either, equal, negated

IPV4, IPV6, ARP, RARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x80\x35"
TCP, UDP, ICMP, ICMPV6 = b"\x06", b"\x11", b"\x01", b"\x3a"
FRAGMENT = b"\x2c"

NO_ADDRESS6 = bytes(16)
ALL_ROUTERS = bytes.fromhex("ff02" + 13 * "00" + "02")
DHCP_TO_ALL = bytes(4) + b"\xff\xff\xff\xff"
DHCP_CLIENT_TO_SERVER = bytes((0, 68, 0, 67))
DHCP_SERVER_PORT, DHCP6_SERVER_PORT = bytes((0, 67)), bytes((2, 35))
ARP_ETHERNET_IPV4 = bytes.fromhex("000108000604")
ARP_REQUEST, ARP_REPLY = b"\x00\x01", b"\x00\x02"
REVERSE_REQUEST = b"\x00\x03"
ANNOUNCEMENT_BYTES = 60 - 14

ROUTER_SOLICITATION, SOLICITATION, ADVERTISEMENT = b"\x85\x00", b"\x87\x00", b"\x88\x00"
SOURCE_LINK_OPTION, TARGET_LINK_OPTION, NONCE_OPTION = b"\x01\x01", b"\x02\x01", b"\x0e\x01"
HOP_LIMIT = b"\xff"


def may_send(reading: Reading) -> Truth:
    """Return whether a machine may send the packet at all, whomever it is for."""
    return either([_ipv4(reading), _ipv6(reading), _arp(reading), _announces(reading)])


def _own(reading: Reading, address: Field, mac: Field | None = None) -> Truth:
    """Return whether the address, under this MAC or that of the frame, is that of the port."""
    relation = "sources4" if len(address.data) == 4 else "sources6"
    return reading.in_set(relation, reading.input_name, mac or reading.source_mac, address)


def _own_mac(reading: Reading) -> Truth:
    return reading.in_set("macs", reading.input_name, reading.source_mac)


def _ipv4(reading: Reading) -> Truth:
    """IPv4 without options, not from a DHCP server's port; or a DHCP client's question without an address."""
    without_options = reading.network(0, 1).reads(b"\x45")
    udp = reading.protocol.reads(UDP)
    as_server = both(udp, reading.transport(0, 2).reads(DHCP_SERVER_PORT))
    asks = both(
        reading.network(12, 8).reads(DHCP_TO_ALL),
        udp,
        reading.transport(0, 4).reads(DHCP_CLIENT_TO_SERVER),
        _own_mac(reading),
    )
    honest = either([_own(reading, reading.network(12, 4)), asks])
    return both(reading.holds(IPV4), without_options, negated(as_server), honest)


def _arp(reading: Reading) -> Truth:
    """ARP requests and replies for an own address; requests from none that look for an own one (RFC 5227)."""
    form = reading.network(0, 6).reads(ARP_ETHERNET_IPV4)
    operation, sender_mac = reading.network(6, 2), reading.network(8, 6)
    sender, target = reading.network(14, 4), reading.network(24, 4)
    speaks = both(
        operation.among((ARP_REQUEST, ARP_REPLY)), _own(reading, sender), _own(reading, sender, sender_mac)
    )
    probes = both(
        operation.reads(ARP_REQUEST),
        sender.reads(bytes(4)),
        _own(reading, target),
        _own(reading, target, sender_mac),
    )
    return both(reading.holds(ARP), form, either([speaks, probes]))


def _announces(reading: Reading) -> Truth:
    """The hypervisor's broadcast of the port's MAC by RARP (RFC 903): no addresses, padded with zeros."""
    sender, target = reading.network(8, 6), reading.network(18, 6)
    return both(
        reading.is_plain(RARP),
        reading.target_mac.reads(b"\xff" * 6),
        reading.packet.length == ANNOUNCEMENT_BYTES,
        reading.network(0, 8).reads(ARP_ETHERNET_IPV4 + REVERSE_REQUEST),
        *(reading.in_set("macs", reading.input_name, mac) for mac in (reading.source_mac, sender, target)),
        reading.network(14, 4).reads(bytes(4)),
        reading.network(24, ANNOUNCEMENT_BYTES - 24).reads(bytes(ANNOUNCEMENT_BYTES - 24)),
    )


def _ipv6(reading: Reading) -> Truth:
    """IPv6 with a known header behind the first, not from a DHCP server's port; neighbour discovery apart."""
    known = both(reading.in_set("headers6", reading.network(6, 1)), negated(hides_more6(reading)))
    as_server = both(reading.protocol.reads(UDP), reading.transport(0, 2).reads(DHCP6_SERVER_PORT))
    icmp = reading.protocol.reads(ICMPV6)
    honest = either(
        [both(icmp, _icmpv6(reading)), both(negated(icmp), _own(reading, reading.network(8, 16)))]
    )
    return both(reading.holds(IPV6), known, negated(as_server), honest)


def _icmpv6(reading: Reading) -> Truth:
    message, ours = reading.transport(0, 2), _own(reading, reading.network(8, 16))
    discovery = (SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION)
    plain = reading.in_set("sent-icmp6", reading.transport(0, 1))
    return either(
        [
            both(message.reads(SOLICITATION), _solicits(reading)),
            both(message.reads(ADVERTISEMENT), _advertises(reading)),
            both(message.reads(ROUTER_SOLICITATION), _asks_routers(reading)),
            both(negated(message.among(discovery)), ours, either([plain, later_fragment6(reading)])),
        ]
    )


def bears_a_name_from_here(reading: Reading) -> Truth:
    """Return whether a frame has the MAC or an address of a machine that runs here, or advertises one."""
    advertises = both(reading.protocol.reads(ICMPV6), reading.transport(0, 2).reads(ADVERTISEMENT))
    return either(
        [
            reading.in_set("stations", reading.source_mac),
            both(reading.holds(IPV4), is_of_one_here(reading, reading.network(12, 4))),
            both(reading.holds(IPV6), is_of_one_here(reading, reading.network(8, 16))),
            both(reading.holds(ARP), is_of_one_here(reading, reading.network(14, 4))),
            both(reading.holds(IPV6), advertises, is_of_one_here(reading, reading.transport(8, 16))),
        ]
    )


def is_of_one_here(reading: Reading, address: Field) -> Truth:
    """Return whether an address is that of a machine that runs here and is not arriving."""
    name = "outside4" if len(address.data) == 4 else "outside6"
    forged = equal(reading.sets.data(name, address.data), host_order(FORGED))
    return both(reading.in_set(name, address), forged)


def hides_more6(reading: Reading) -> Truth:
    """Return whether a fragment header is followed by something that is no known transport header."""
    following = reading.network(40, 1)
    unknown = both(following.there, negated(reading.in_set("transports6", following)))
    return both(reading.network(6, 1).reads(FRAGMENT), unknown)


def later_fragment6(reading: Reading) -> Truth:
    """Return whether a fragment header follows the IPv6 header, and says that it is not the first."""
    return both(reading.network(6, 1).reads(FRAGMENT), reading.network(42, 2).has_bits(0xFFF8))


def _discovery(reading: Reading, payload_bytes: int) -> Truth:
    """ICMPv6 right behind the IPv6 header, of this length, which no router has passed on (RFC 4861)."""
    return reading.network(4, 4).reads(payload_bytes.to_bytes(2, "big") + ICMPV6 + HOP_LIMIT)


def _solicits(reading: Reading) -> Truth:
    """A question from an own address, telling the own MAC or none; or from none, for an own address."""
    source, target = reading.network(8, 16), reading.transport(8, 16)
    option, told = reading.transport(24, 2), reading.transport(26, 6)
    tells = both(
        _discovery(reading, 32),
        option.reads(SOURCE_LINK_OPTION),
        _own(reading, source),
        _own(reading, source, told),
    )
    detects = both(
        source.reads(NO_ADDRESS6),
        _own(reading, target),
        either([_discovery(reading, 24), both(_discovery(reading, 32), option.reads(NONCE_OPTION))]),
    )
    return either([tells, both(_discovery(reading, 24), _own(reading, source)), detects])


def _advertises(reading: Reading) -> Truth:
    """An answer from an own address about an own one, telling the own MAC or none."""
    source, target = reading.network(8, 16), reading.transport(8, 16)
    tells = both(
        _discovery(reading, 32),
        reading.transport(24, 2).reads(TARGET_LINK_OPTION),
        _own(reading, target, reading.transport(26, 6)),
    )
    return both(_own(reading, source), _own(reading, target), either([tells, _discovery(reading, 24)]))


def _asks_routers(reading: Reading) -> Truth:
    """A question to all routers, from an own address or from none, telling the own MAC or none."""
    source = reading.network(8, 16)
    bare = both(
        _discovery(reading, 8),
        either([both(source.reads(NO_ADDRESS6), _own_mac(reading)), _own(reading, source)]),
    )
    tells = both(
        _discovery(reading, 16),
        reading.transport(8, 2).reads(SOURCE_LINK_OPTION),
        _own(reading, source),
        _own(reading, source, reading.transport(10, 6)),
    )
    return both(reading.network(24, 16).reads(ALL_ROUTERS), either([bare, tells]))
