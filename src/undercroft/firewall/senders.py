"""Chains for what comes from a machine's port: nothing passes that bears another's name.

A machine sends plain IPv4, IPv6 and ARP from its own MAC and addresses, asks for an address by DHCP, and
takes part in neighbour discovery for its own addresses. Its hypervisor announces by RARP where its MAC is
now, in one form that has room for nothing else. The same may be in one VLAN tag that is granted. All else is
denied: every other tag and encapsulation, IP options and extension headers but for fragments, router
advertisements, redirects, DHCP answers.
"""

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.expressions import (
    ACCEPT,
    IN,
    PROTOCOL,
    Expressions,
    Field,
    equal,
    found,
    goto,
    mark_as,
    mark_from,
    marked,
    masked,
    rule,
    unequal,
)
from undercroft.firewall.kernel import (
    Bitwise,
    Chain,
    Code,
    Compare,
    Hook,
    Key,
    Lookup,
    Meta,
    Operator,
    SetMark,
)
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.vlans import granted_to_source, if_granted, inside

PRIORITY = -450
"""Before all that libvirt, ebtables, br_netfilter and conntrack do on a bridge."""

DENY = goto("deny")


def closed_taps(policy: FirewallPolicy, name: Key) -> list[Expressions]:
    """Return conditions for devices that are named as a machine's are, and for taps, whatever their name.

    Args:
        policy: for the names.
        name: of the device that comes in or goes out.
    """
    named = [(Meta(0, name), Compare(0, Operator.EQUAL, text.encode())) for text in policy.ports.machines]
    return [*named, is_tap(Key.INPUT_KIND if name is Key.INPUT_NAME else Key.OUTPUT_KIND)]


def is_tap(kind: Key) -> Expressions:
    """Go on for a device that a program holds the other end of, as QEMU does."""
    return (Meta(0, kind), Compare(0, Operator.EQUAL, b"tun".ljust(16, b"\0")))


def sender_chains(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return the base chain at prerouting, and those that it goes to."""
    from_port = (
        # Most packets of most machines: one look-up tells that they are its own, and whose they are.
        rule(equal(h.IPV4_FIRST, h.IPV4_PLAIN), equal(h.IPV4_PROTOCOL, h.TCP), _own_plain4(), ACCEPT),
        rule(mark_from("classes", IN), goto("managed")),
        *(rule(tap, DENY) for tap in closed_taps(policy, Key.INPUT_NAME)),
        rule(marked(marks.PREFIX_MASK, marks.PREFIX), mark_as(0)),
        rule(goto("foreign")),
    )
    managed = (
        rule(equal(h.ETHER_TYPE, h.IPV4), goto("sender4")),
        rule(equal(h.ETHER_TYPE, h.IPV6), goto("sender6")),
        rule(equal(h.ETHER_TYPE, h.ARP), goto("sender-arp")),
        rule(equal(h.ETHER_TYPE, h.RARP), goto("sender-rarp")),
        *if_granted(policy, granted_to_source(), "managed-tagged"),
        rule(DENY),
    )
    tagged = inside("managed-tagged", "sender4", "sender6", "sender-arp")
    return (
        Chain("from-port", from_port, Hook.PREROUTING, PRIORITY, Code.DROP),
        Chain("managed", managed),
        *((tagged,) if policy.vlans else ()),
        _sender4(),
        Chain("sender-later4", (rule(_own4(h.IPV4_SOURCE), ACCEPT), rule(DENY))),
        _sender_arp(),
        _sender_rarp(),
        *_sender6(),
    )


def _own4(address: Field, mac: Field = h.ETHER_SOURCE) -> Expressions:
    # It sets the mark that the packet has: nft has no text for a look-up in a map whose data nobody takes.
    return mark_from("sources4", IN, mac, address)


def _own_plain4() -> Expressions:
    """The same for the frame's source, in a frame whose type, as sent, is IPv4: one load gets MAC and type.

    The type stands where the key's MAC is filled up with zeros, and is zero there itself, less that of IPv4.
    """
    typed, address, start = h.ETHER_SOURCE_AND_TYPE, h.IPV4_SOURCE, IN.registers
    taken_off = Bitwise(start, start, b"\xff" * typed.length, bytes(6) + h.IPV4)
    end = start + typed.registers
    data = end + address.registers
    key = (IN.load(0), typed.load(start), taken_off, address.load(end))
    return (*key, Lookup("sources4", 0, target=data), SetMark(data))


def _own6(address: Field, mac: Field = h.ETHER_SOURCE) -> Expressions:
    return found("sources6", IN, mac, address)


def _sender4() -> Chain:
    rules = (
        rule(unequal(h.IPV4_FIRST, h.IPV4_PLAIN), DENY),
        rule(h.later4(), goto("sender-later4")),
        rule(equal(PROTOCOL, h.UDP), equal(h.SOURCE_PORT, h.DHCP_SERVER), DENY),
        rule(_own4(h.IPV4_SOURCE), ACCEPT),
        rule(
            equal(h.IPV4_ADDRESSES, h.NO_ADDRESS_TO_ALL),
            equal(PROTOCOL, h.UDP),
            equal(h.PORTS, h.DHCP_REQUEST),
            found("macs", IN, h.ETHER_SOURCE),
            ACCEPT,
        ),
        rule(DENY),
    )
    return Chain("sender4", rules)


def _sender_arp() -> Chain:
    own = (*_own4(h.ARP_SENDER), *_own4(h.ARP_SENDER, h.ARP_SENDER_MAC))
    probe = (*_own4(h.ARP_TARGET), *_own4(h.ARP_TARGET, h.ARP_SENDER_MAC))
    rules = (
        rule(equal(h.ARP_FORM, h.ARP_REQUEST), own, ACCEPT),
        rule(equal(h.ARP_FORM, h.ARP_REPLY), own, ACCEPT),
        rule(equal(h.ARP_FORM, h.ARP_REQUEST), equal(h.ARP_SENDER, bytes(4)), probe, ACCEPT),
        rule(DENY),
    )
    return Chain("sender-arp", rules)


def _sender_rarp() -> Chain:
    """Return the chain for what QEMU sends when a machine goes on here, so that switches learn its place.

    Source: QEMU, net/announce.c, `announce_self_create`. Padding is zero too: nobody talks by it.
    """
    start, end = h.RARP_TARGET_AND_PADDING
    announcement = (
        *equal(h.ETHER_TARGET, h.BROADCAST_MAC),
        *equal(h.ARP_FORM, h.RARP_REQUEST),
        *h.of_length(h.RARP_BYTES),
        *masked(h.ARP_SENDER, b"\xff" * 4, bytes(4)),  # nft's text would take the bare field for ARP's
        *equal(start, bytes(12)),
        *equal(end, bytes(10)),
        *found("macs", IN, h.ETHER_SOURCE),
        *found("macs", IN, h.ARP_SENDER_MAC),
        *found("macs", IN, h.RARP_TARGET_MAC),
    )
    return Chain("sender-rarp", (rule(announcement, ACCEPT), rule(DENY)))


def _sender6() -> tuple[Chain, ...]:
    ours = _own6(h.IPV6_SOURCE)
    first = (
        rule(found("headers6", h.IPV6_NEXT, inverted=True), DENY),
        rule(h.hidden6(), DENY),
        rule(h.later6(), goto("sender-later6")),
        rule(equal(PROTOCOL, h.UDP), equal(h.SOURCE_PORT, h.DHCP6_SERVER), DENY),
        rule(equal(PROTOCOL, h.ICMPV6), goto("sender-icmp6")),
        rule(ours, ACCEPT),
        rule(DENY),
    )
    icmp = (
        rule(equal(h.TYPE_AND_CODE, h.SOLICITATION), goto("sender-ns")),
        rule(equal(h.TYPE_AND_CODE, h.ADVERTISEMENT), goto("sender-na")),
        rule(equal(h.TYPE_AND_CODE, h.ROUTER_SOLICITATION), goto("sender-rs")),
        rule(found("sent-icmp6", h.TYPE), ours, ACCEPT),
        rule(DENY),
    )
    return (
        Chain("sender6", first),
        Chain("sender-later6", (rule(ours, ACCEPT), rule(DENY))),
        Chain("sender-icmp6", icmp),
        _solicitation(),
        _advertisement(),
        _router_solicitation(),
    )


def _solicitation() -> Chain:
    ours = _own6(h.IPV6_SOURCE)
    own_target = (*equal(h.IPV6_SOURCE, h.UNSPECIFIED6), *_own6(h.ND_TARGET))
    rules = (
        rule(
            h.nd_form(32),
            equal(h.ND_OPTION, h.SOURCE_MAC_OPTION),
            ours,
            _own6(h.IPV6_SOURCE, h.ND_OPTION_MAC),
            ACCEPT,
        ),
        rule(h.nd_form(24), ours, ACCEPT),
        rule(h.nd_form(24), own_target, ACCEPT),
        rule(h.nd_form(32), equal(h.ND_OPTION, h.NONCE_OPTION), own_target, ACCEPT),
        rule(DENY),
    )
    return Chain("sender-ns", rules)


def _advertisement() -> Chain:
    ours = (*_own6(h.IPV6_SOURCE), *_own6(h.ND_TARGET))
    rules = (
        rule(
            h.nd_form(32),
            equal(h.ND_OPTION, h.TARGET_MAC_OPTION),
            ours,
            _own6(h.ND_TARGET, h.ND_OPTION_MAC),
            ACCEPT,
        ),
        rule(h.nd_form(24), ours, ACCEPT),
        rule(DENY),
    )
    return Chain("sender-na", rules)


def _router_solicitation() -> Chain:
    rules = (
        rule(unequal(h.IPV6_TARGET, h.ALL_ROUTERS), DENY),
        rule(
            h.nd_form(8),
            equal(h.IPV6_SOURCE, h.UNSPECIFIED6),
            found("macs", IN, h.ETHER_SOURCE),
            ACCEPT,
        ),
        rule(h.nd_form(8), _own6(h.IPV6_SOURCE), ACCEPT),
        rule(
            h.nd_form(16),
            equal(h.RS_OPTION, h.SOURCE_MAC_OPTION),
            _own6(h.IPV6_SOURCE),
            _own6(h.IPV6_SOURCE, h.RS_OPTION_MAC),
            ACCEPT,
        ),
        rule(DENY),
    )
    return Chain("sender-rs", rules)
