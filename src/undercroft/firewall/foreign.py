"""Chains for what comes in by a port that is no machine's: it never bears the name of one that runs here.

Whom it is for is not asked: packets are joined from fragments, connections are kept, neighbours are learned
and stations are moved between this hook and the next ones. A machine that is arriving still speaks from
outside. What is in one tag is looked at as well: fragments are joined whatever VLAN they come in.
"""

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.expressions import (
    ACCEPT,
    CONTENT,
    PROTOCOL,
    Expressions,
    Field,
    equal,
    found,
    given,
    goto,
    marked,
    rule,
)
from undercroft.firewall.kernel import Chain, Operator

_DENY = goto("deny")


def foreign_chains() -> tuple[Chain, ...]:
    """Return the chains that the first hook ends with."""
    foreign = (
        rule(found("stations", h.ETHER_SOURCE), _DENY),
        rule(equal(CONTENT, h.IPV4), of_one_here(4, h.IPV4_SOURCE), _DENY),
        rule(equal(CONTENT, h.IPV6), goto("foreign6")),
        rule(equal(CONTENT, h.ARP), of_one_here(4, h.ARP_SENDER), _DENY),
        rule(ACCEPT),
    )
    foreign6 = (
        rule(of_one_here(6, h.IPV6_SOURCE), _DENY),
        rule(
            equal(PROTOCOL, h.ICMPV6),
            equal(h.TYPE_AND_CODE, h.ADVERTISEMENT),
            of_one_here(6, h.ND_TARGET),
            _DENY,
        ),
        rule(ACCEPT),
    )
    return Chain("foreign", foreign), Chain("foreign6", foreign6)


def advertised_chain() -> Chain:
    """Return the chain for advertisements of neighbours to machines: whose address is it that they claim?

    The host advertises its own; nobody outside does.
    """
    of_the_host = given("named-sources6", marks.data(marks.HOST), h.ND_TARGET)
    rules = (
        rule(of_one_here(6, h.ND_TARGET), _DENY),
        rule(marked(0xFFFF_FFFF, marks.HOST, Operator.UNEQUAL), of_the_host, _DENY),
        rule(ACCEPT),
    )
    return Chain("advertised", rules)


def of_one_here(version: int, address: Field) -> Expressions:
    """Go on where an address is that of a machine that runs here, and is not arriving."""
    return given(f"outside{version}", marks.data(marks.FORGED), address)
