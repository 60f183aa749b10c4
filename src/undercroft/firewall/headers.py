"""Where the fields stand that the filter reads, and the values that it knows.

Source: IEEE 802.3, RFC 791, 826, 903, 792, 8200, 4443, 4861, 2131, 8415.
"""

from undercroft.firewall.expressions import (
    CONTENT,
    LENGTH,
    Expressions,
    equal,
    found,
    link,
    masked,
    network,
    transport,
)
from undercroft.firewall.kernel import Operator
from undercroft.firewall.marks import data

ETHER_TYPE = link(12, 2)
"""As sent: of the tag, where there is one. Base chains ask for it, so that no tag gets further ungranted."""
ETHER_TARGET = link(0, 6)
ETHER_SOURCE = link(6, 6)
ETHER_SOURCE_AND_TYPE = link(6, 8)
IPV4, IPV6, ARP, RARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x80\x35"
VLAN_TAG = b"\x81\x00"
TAG_CONTROL, VLAN_ID = link(14, 2), b"\x0f\xff"
"""What follows the type of a tag: priority and id. The kernel takes one tag off, and shows it here."""
BROADCAST_MAC = b"\xff" * 6

IPV4_FIRST = network(0, 1)
IPV4_PLAIN = b"\x45"
"""Version 4 and no options."""
IPV4_ID = network(4, 2)
IPV4_FRAGMENT = network(6, 2)
MORE_FRAGMENTS, FRAGMENT_OFFSET, ANY_FRAGMENT = b"\x20\x00", b"\x1f\xff", b"\x3f\xff"
IPV4_PROTOCOL = network(9, 1)
"""What the kernel has for the protocol where it finds a transport header, and sooner loaded than that."""
IPV4_SOURCE, IPV4_TARGET = network(12, 4), network(16, 4)
IPV4_ADDRESSES = network(12, 8)

IPV6_NEXT = network(6, 1)
IPV6_SOURCE, IPV6_TARGET = network(8, 16), network(24, 16)
IPV6_FRAGMENT_HEADER = b"\x2c"
IPV6_FRAGMENT = network(42, 2)
IPV6_MORE_FRAGMENTS, IPV6_FRAGMENT_OFFSET = b"\x00\x01", b"\xff\xf8"
IPV6_FRAGMENT_NEXT = network(40, 1)
IPV6_FRAGMENT_ID = network(44, 4)
IPV6_FORM = network(4, 4)
"""Payload length, next header and hop limit."""
IPV6_NEXT_AND_HOPS = network(6, 2)
UNSPECIFIED6 = bytes(16)
IPV6_SOURCE_START, LINK_LOCAL_MASK, LINK_LOCAL = network(8, 2), b"\xff\xc0", b"\xfe\x80"
ALL_ROUTERS = bytes.fromhex("ff020000000000000000000000000002")

ARP_FORM = network(0, 8)
"""Hardware and protocol type, their lengths, and the operation."""
ARP_REQUEST = bytes.fromhex("0001080006040001")
ARP_REPLY = bytes.fromhex("0001080006040002")
ARP_SENDER_MAC, ARP_SENDER, ARP_TARGET = network(8, 6), network(14, 4), network(24, 4)
RARP_REQUEST = bytes.fromhex("0001080006040003")
RARP_TARGET_MAC = network(18, 6)
RARP_TARGET_AND_PADDING = (network(24, 12), network(36, 10))
RARP_BYTES = 46
"""Of an announcement behind the Ethernet header, padded to the shortest frame."""

SOURCE_PORT, TARGET_PORT, PORTS = transport(0, 2), transport(2, 2), transport(0, 4)
TCP_FLAGS = transport(13, 1)
ICMP, TCP, UDP, ICMPV6 = b"\x01", b"\x06", b"\x11", b"\x3a"
TYPE, TYPE_AND_CODE, ECHO_ID = transport(0, 1), transport(0, 2), transport(4, 2)
ECHO_REQUEST, ECHO_REPLY = b"\x08\x00", b"\x00\x00"
ECHO_REQUEST6, ECHO_REPLY6 = b"\x80\x00", b"\x81\x00"

SOLICITATION, ADVERTISEMENT = b"\x87\x00", b"\x88\x00"
ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = b"\x85\x00", b"\x86\x00"
ND_TARGET = transport(8, 16)
ND_OPTION, ND_OPTION_MAC = transport(24, 2), transport(26, 6)
RS_OPTION, RS_OPTION_MAC = transport(8, 2), transport(10, 6)
SOURCE_MAC_OPTION, TARGET_MAC_OPTION, NONCE_OPTION = b"\x01\x01", b"\x02\x01", b"\x0e\x01"
ND_NEXT_AND_HOPS = b"\x3a\xff"
"""ICMPv6 right after the IPv6 header, and the hop limit that no router passes on."""

DHCP_REQUEST, DHCP_REPLY = bytes.fromhex("00440043"), bytes.fromhex("00430044")
DHCP6_REQUEST, DHCP6_REPLY = bytes.fromhex("02220223"), bytes.fromhex("02230222")
DHCP_SERVER, DHCP6_SERVER = b"\x00\x43", b"\x02\x23"
BROADCAST4, DHCP6_SERVERS = b"\xff" * 4, bytes.fromhex("ff020000000000000000000000010002")
NO_ADDRESS_TO_ALL = bytes(4) + b"\xff" * 4

# An ICMP error holds the packet that it is about from byte 8 on: its IP header, then its ports.
INNER4_FIRST, INNER4_FRAGMENT, INNER4_PROTOCOL = transport(8, 1), transport(14, 2), transport(17, 1)
INNER4_TARGET = transport(24, 4)
INNER4_SOURCE_PORT, INNER4_TARGET_PORT = transport(28, 2), transport(30, 2)
INNER4_TYPE_AND_CODE, INNER4_ECHO_ID = transport(28, 2), transport(32, 2)
INNER6_NEXT, INNER6_TARGET = transport(14, 1), transport(32, 16)
INNER6_SOURCE_PORT, INNER6_TARGET_PORT = transport(48, 2), transport(50, 2)
INNER6_TYPE_AND_CODE, INNER6_ECHO_ID = transport(48, 2), transport(52, 2)

HEADERS6 = (6, 17, 44, 58, 132)
"""What may follow the IPv6 header: TCP, UDP, a fragment header, ICMPv6, SCTP; all others are dropped."""
TRANSPORTS6 = (6, 17, 58, 132)
"""What may follow a fragment header."""
ERRORS4 = (3, 11, 12)
ERRORS6 = (1, 2, 3, 4)
ECHOES6 = (128, 129)


def of_type(kind: bytes) -> Expressions:
    """Go on for frames of a type that are said to be of it, too.

    A program of the host's may tell the kernel another type (`sll_protocol` of packet(7)) than its frame has;
    of frames that have come in by a port the kernel has told it itself.
    """
    return (*equal(ETHER_TYPE, kind), *equal(CONTENT, kind))


def of_length(length: int) -> Expressions:
    """Go on for frames with so many bytes behind the Ethernet header."""
    return equal(LENGTH, data(length))


def fragment4() -> Expressions:
    """Go on for an IPv4 fragment, be it the first one."""
    return masked(IPV4_FRAGMENT, ANY_FRAGMENT, bytes(2), Operator.UNEQUAL)


def later4() -> Expressions:
    """Go on for an IPv4 fragment that is not the first one.

    Rules that read the transport header stand behind this: some kernels read ports out of later fragments.
    """
    return masked(IPV4_FRAGMENT, FRAGMENT_OFFSET, bytes(2), Operator.UNEQUAL)


def later6() -> Expressions:
    """The same for IPv6, whose fragment header is the first after the IPv6 header."""
    offset = masked(IPV6_FRAGMENT, IPV6_FRAGMENT_OFFSET, bytes(2), Operator.UNEQUAL)
    return (*equal(IPV6_NEXT, IPV6_FRAGMENT_HEADER), *offset)


def hidden6() -> Expressions:
    """Go on where more than a transport header follows a fragment header."""
    unknown = found("transports6", IPV6_FRAGMENT_NEXT, inverted=True)
    return (*equal(IPV6_NEXT, IPV6_FRAGMENT_HEADER), *unknown)


def nd_form(payload_bytes: int) -> Expressions:
    """Go on for a neighbour discovery message of this length, without extension headers."""
    return equal(IPV6_FORM, payload_bytes.to_bytes(2, "big") + ND_NEXT_AND_HOPS)
