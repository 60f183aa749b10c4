"""What keeps a link going: neighbours, routers and DHCP, which pass without a flow.

Source: RFC 826, 4861, 2131, 8415.
"""

from undercroft.assurance.firewall.places import HOST_MARK
from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.running import host_order
from undercroft.assurance.firewall.senders import (
    ADVERTISEMENT,
    ARP,
    HOP_LIMIT,
    ICMPV6,
    IPV4,
    IPV6,
    SOLICITATION,
    UDP,
    is_of_one_here,
)
from undercroft.assurance.firewall.terms import Truth, both, either, equal, joined, negated

ROUTER_ADVERTISEMENT = b"\x86\x00"
DHCP_ASKS = {4: bytes((0, 68, 0, 67)), 6: bytes((2, 34, 2, 35))}
DHCP_ANSWERS = {4: bytes((0, 67, 0, 68)), 6: bytes((2, 35, 2, 34))}
DHCP_GROUP = {4: b"\xff" * 4, 6: bytes.fromhex("ff02" + 11 * "00" + "010002")}
LINK_LOCAL = 0xFE80


def neighbours(reading: Reading, message: bytes) -> Truth:
    """Return whether it is this message of neighbour discovery, which no router has passed on."""
    return both(
        reading.protocol.reads(ICMPV6),
        reading.network(6, 2).reads(ICMPV6 + HOP_LIMIT),
        reading.transport(0, 2).reads(message),
    )


def looks_from_outside(reading: Reading) -> Truth:
    """Return whether somebody looks for a neighbour, or answers that."""
    looks = either([neighbours(reading, SOLICITATION), neighbours(reading, ADVERTISEMENT)])
    return either([reading.holds(ARP), both(reading.holds(IPV6), looks)])


def claims_anothers(reading: Reading, mark: Field) -> Truth:
    """Return whether an advertisement is of an address of a machine here, or of the host by somebody else."""
    claimed = reading.transport(8, 16)
    named = reading.sets.data("named-sources6", claimed.data)
    of_host = both(reading.in_set("named-sources6", claimed), equal(named, host_order(HOST_MARK)))
    by_another = negated(equal(mark.data, host_order(HOST_MARK)))
    anothers = either([is_of_one_here(reading, claimed), both(of_host, by_another)])
    return both(reading.holds(IPV6), neighbours(reading, ADVERTISEMENT), anothers)


def told_by_the_network(reading: Reading) -> Truth:
    """Return whether a router or a DHCP server says it: on the link alone, or to who has asked."""
    of_link = both(reading.holds(IPV6), _is_link_local(reading.network(8, 2)))
    return either(
        [
            both(of_link, neighbours(reading, ROUTER_ADVERTISEMENT)),
            both(of_link, _dhcp(reading, 6, DHCP_ANSWERS[6])),
            both(reading.holds(IPV4), _dhcp(reading, 4, DHCP_ANSWERS[4]), _is_asked(reading)),
        ]
    )


def asks_for_address(reading: Reading, version: int) -> Truth:
    """Return whether it is a DHCP client's question to all servers."""
    address = reading.network(16, 4) if version == 4 else reading.network(24, 16)
    return both(address.reads(DHCP_GROUP[version]), _dhcp(reading, version, DHCP_ASKS[version]))


def _is_asked(reading: Reading) -> Truth:
    return either([reading.in_set("asked", reading.target_mac), reading.network(16, 4).reads(DHCP_GROUP[4])])


def _is_link_local(start: Field) -> Truth:
    return both(start.there, (joined(start.data) & 0xFFC0) == LINK_LOCAL)


def _dhcp(reading: Reading, version: int, ports: bytes) -> Truth:
    """UDP with these ports, in no fragment."""
    fragment = reading.network(6, 2)
    whole = both(fragment.there, negated(fragment.has_bits(0x3FFF)))
    if version == 6:
        whole = reading.network(6, 1).reads(UDP)
    return both(whole, reading.protocol.reads(UDP), reading.transport(0, 4).reads(ports))
