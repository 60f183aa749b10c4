"""Chains for ICMP: errors about what was opened, and what conntrack says in the place of sets.

Errors pass where the packet in them belongs to a flow of their receiver, or to an opening that nobody has
answered yet. A machine may only tell of its own flows; what is outside may be a router of the path.
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
    goto,
    marked,
    masked,
    rule,
    unequal,
)
from undercroft.firewall.kernel import Bitwise, Chain, Compare, Conntrack, Operator, Rule
from undercroft.firewall.marks import data
from undercroft.firewall.senders import DENY

ESTABLISHED, RELATED = 2, 4
"""Bits of the kernel's connection states."""

IS4, IS6 = equal(CONTENT, h.IPV4), equal(CONTENT, h.IPV6)
_KNOWN = ("flows", "tries", "knocks")


def echo(version: int, message: bytes) -> Expressions:
    """Go on for echo messages of this type and code."""
    condition, protocol = (IS4, h.ICMP) if version == 4 else (IS6, h.ICMPV6)
    return (*condition, *equal(PROTOCOL, protocol), *equal(h.TYPE_AND_CODE, message))


def error_chains() -> tuple[Chain, ...]:
    """Return the chain `other`, and those that it goes to."""
    return Chain("other", (*_error_types("error4", "error6"), rule(DENY))), *_errors(4), *_errors(6)


def conntrack_chains() -> tuple[Chain, ...]:
    """Return the chains of `tracking` where the kernel knows connections."""
    established, related = _state(ESTABLISHED), _state(RELATED)
    return (
        Chain("opened", (rule(ACCEPT),)),
        Chain("answered", (rule(established, ACCEPT), rule(DENY))),
        Chain("whole-opened", (rule(ACCEPT),)),
        Chain("whole-answered", (rule(established, ACCEPT), rule(DENY))),
        Chain("pinged", (rule(echo(4, h.ECHO_REQUEST), ACCEPT), rule(echo(6, h.ECHO_REQUEST6), ACCEPT))),
        Chain(
            "ponged",
            (
                rule(echo(4, h.ECHO_REPLY), established, ACCEPT),
                rule(echo(6, h.ECHO_REPLY6), established, ACCEPT),
            ),
        ),
        Chain("related", (rule(related, ACCEPT), rule(DENY))),
        Chain("pieces", (rule(DENY),)),
        Chain("other", (*_error_types("related", "related"), rule(DENY))),
    )


def _error_types(chain4: str, chain6: str) -> tuple[Rule, ...]:
    return (
        rule(IS4, equal(PROTOCOL, h.ICMP), found("errors4", h.TYPE), goto(chain4)),
        rule(IS6, equal(PROTOCOL, h.ICMPV6), found("errors6", h.TYPE), goto(chain6)),
    )


def _errors(version: int) -> tuple[Chain, ...]:
    """Return a chain for errors of one family, and one for those that come from machines.

    The sets hold tuples of answers. Where the receiver opened the flow, the answer's source is the inner
    packet's target; where it answered, its own address is.
    """
    outside, machine = f"error{version}", f"error{version}-machine"
    form: tuple[Rule, ...]
    if version == 4:
        form = (
            rule(unequal(h.INNER4_FIRST, h.IPV4_PLAIN), DENY),
            rule(masked(h.INNER4_FRAGMENT, h.FRAGMENT_OFFSET, bytes(2), Operator.UNEQUAL), DENY),
        )
        peer, sender = h.INNER4_TARGET, h.IPV4_SOURCE
    else:
        form = (rule(found("headers6", h.INNER6_NEXT, inverted=True), DENY),)
        peer, sender = h.INNER6_TARGET, h.IPV6_SOURCE
    from_machine = marked(marks.KIND_MASK, marks.PREFIX | marks.MACHINE)
    return (
        Chain(outside, (*form, rule(from_machine, goto(machine)), *_related(version, peer))),
        Chain(machine, _related(version, sender)),
    )


def _related(version: int, peer: Field) -> tuple[Rule, ...]:
    if version == 4:
        receiver, protocol, echoes = h.IPV4_TARGET, h.INNER4_PROTOCOL, "echoes4"
        source_port, target_port = h.INNER4_SOURCE_PORT, h.INNER4_TARGET_PORT
        kind, ident, icmp, request = h.INNER4_TYPE_AND_CODE, h.INNER4_ECHO_ID, h.ICMP, h.ECHO_REQUEST
    else:
        receiver, protocol, echoes = h.IPV6_TARGET, h.INNER6_NEXT, "echoes6"
        source_port, target_port = h.INNER6_SOURCE_PORT, h.INNER6_TARGET_PORT
        kind, ident, icmp, request = h.INNER6_TYPE_AND_CODE, h.INNER6_ECHO_ID, h.ICMPV6, h.ECHO_REQUEST6
    opened = (peer, receiver, protocol, target_port, source_port)
    answered = (receiver, peer, protocol, source_port, target_port)
    return (
        *(rule(found(f"{name}{version}", *key), ACCEPT) for name in _KNOWN for key in (opened, answered)),
        rule(equal(protocol, icmp), equal(kind, request), found(echoes, peer, receiver, ident), ACCEPT),
        rule(DENY),
    )


def _state(bits: int) -> Expressions:
    return (Conntrack(0), Bitwise(0, 0, data(bits), bytes(4)), Compare(0, Operator.UNEQUAL, bytes(4)))
