"""Chains for packets from outside that are on their way to a machine; their address says whose they are.

An address of a machine that runs on this host never comes from outside, nor does the host's own from an
uplink. A machine that is about to come here by migration still speaks from outside.
"""

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.expressions import (
    ACCEPT,
    CONTENT,
    IN,
    PROTOCOL,
    RETURN,
    Expressions,
    Field,
    equal,
    found,
    goto,
    jump,
    mark_as,
    mark_from,
    marked,
    masked,
    rule,
    unequal,
)
from undercroft.firewall.foreign import advertised_chain
from undercroft.firewall.kernel import Chain, Rule
from undercroft.firewall.policy import FirewallPolicy, OtherPorts
from undercroft.firewall.senders import DENY
from undercroft.firewall.vlans import granted_to_target, if_granted, inside
from undercroft.firewall.zones import Zone, zones


def arriving_chains(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return the chains for packets from uplinks and from the host's own stack."""
    from_uplink = (
        *(
            (rule(found("uplinks", IN, inverted=True), DENY),)
            if policy.ports.others is OtherPorts.DENIED
            else ()
        ),
        rule(mark_as(marks.FORGED), jump("whose-outside")),
        rule(marked(0xFFFF_FFFF, marks.HOST), DENY),
        rule(goto("arrived")),
    )
    from_host = (
        rule(marked(marks.KIND_MASK, marks.PREFIX | marks.MACHINE), goto("routed")),
        rule(mark_as(marks.FORGED), jump("whose")),
        rule(goto("arrived")),
    )
    return (
        Chain("from-uplink", from_uplink),
        Chain("from-host", from_host),
        *_whose(policy),
        *_arrived(),
    )


def in_network(field: Field, zone: Zone) -> Expressions:
    """Go on where an address lies in a zone's network."""
    network = zone.network
    value = network.network_address.packed
    if network.prefixlen % 8 == 0:
        # nft loads the bytes of the prefix alone; so do we.
        length = network.prefixlen // 8
        if not length:
            return ()
        return equal(Field(field.base, field.offset, length), value[:length])
    return masked(field, network.netmask.packed, value)


def _whose(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return chains that are jumped to, with the mark of a forged packet, to find whose it really is."""
    found_zones = zones(policy)
    goes_to = ((h.IPV4, "source4"), (h.IPV6, "source6"), (h.ARP, "source-arp"))
    of_host = (rule(h.of_type(kind), goto(chain)) for kind, chain in goes_to)
    outside = (rule(equal(h.ETHER_TYPE, kind), goto(chain)) for kind, chain in goes_to)
    tagged = if_granted(policy, granted_to_target(), "whose-inside")
    source4 = (
        rule(unequal(h.IPV4_FIRST, h.IPV4_PLAIN), DENY),
        *_sources(4, h.IPV4_SOURCE, found_zones),
    )
    source6 = (
        rule(found("headers6", h.IPV6_NEXT, inverted=True), DENY),
        rule(h.hidden6(), DENY),
        *_sources(6, h.IPV6_SOURCE, found_zones),
    )
    source_arp = (
        rule(mark_from("outside4", h.ARP_SENDER), RETURN),
        rule(mark_from("named-sources4", h.ARP_SENDER), RETURN),
        rule(mark_as(marks.WORLD)),
    )
    return (
        Chain("whose", (*of_host, rule(DENY))),
        Chain("whose-outside", (*outside, *tagged, rule(DENY))),
        *((inside("whose-inside", "source4", "source6", "source-arp"),) if tagged else ()),
        Chain("source4", source4),
        Chain("source6", source6),
        Chain("source-arp", source_arp),
    )


def _sources(version: int, source: Field, found_zones: tuple[Zone, ...]) -> tuple[Rule, ...]:
    return (
        rule(mark_from(f"outside{version}", source), RETURN),
        rule(mark_from(f"named-sources{version}", source), RETURN),
        *(
            rule(in_network(source, zone), mark_as(zone.mark), RETURN)
            for zone in found_zones
            if zone.network.version == version and not zone.exact
        ),
        rule(mark_as(marks.WORLD)),
    )


def _arrived() -> tuple[Chain, ...]:
    """Return what lets the network's own messages in, and passes the rest on to the targets.

    Neighbours may be looked for from outside, and tell of themselves. Routers and DHCP servers are outside,
    or the host. What they say is for the link alone, or for who has just asked: nobody far away gets in as a
    DHCP server.
    """
    neighbours = (
        *equal(CONTENT, h.IPV6),
        *equal(PROTOCOL, h.ICMPV6),
        *equal(h.IPV6_NEXT_AND_HOPS, h.ND_NEXT_AND_HOPS),
    )
    arrived = (
        rule(marked(0xFFFF_FFFF, marks.FORGED), DENY),
        rule(equal(CONTENT, h.ARP), ACCEPT),
        rule(neighbours, equal(h.TYPE_AND_CODE, h.SOLICITATION), ACCEPT),
        rule(neighbours, equal(h.TYPE_AND_CODE, h.ADVERTISEMENT), goto("advertised")),
        rule(marked(marks.KIND_MASK, marks.PREFIX), jump("infrastructure")),
        rule(goto("reach")),
    )
    dhcp = (
        *equal(CONTENT, h.IPV4),
        *masked(h.IPV4_FRAGMENT, h.ANY_FRAGMENT, bytes(2)),
        *equal(PROTOCOL, h.UDP),
        *equal(h.PORTS, h.DHCP_REPLY),
    )
    of_the_link = (
        *equal(CONTENT, h.IPV6),
        *masked(h.IPV6_SOURCE_START, h.LINK_LOCAL_MASK, h.LINK_LOCAL),
    )
    dhcp6 = (
        *of_the_link,
        *equal(h.IPV6_NEXT, h.UDP),
        *equal(PROTOCOL, h.UDP),
        *equal(h.PORTS, h.DHCP6_REPLY),
    )
    infrastructure = (
        rule(of_the_link, neighbours, equal(h.TYPE_AND_CODE, h.ROUTER_ADVERTISEMENT), ACCEPT),
        rule(dhcp, found("asked", h.ETHER_TARGET), ACCEPT),
        rule(dhcp, equal(h.IPV4_TARGET, h.BROADCAST4), ACCEPT),
        rule(dhcp6, ACCEPT),
    )
    return Chain("arrived", arrived), advertised_chain(), Chain("infrastructure", infrastructure)
