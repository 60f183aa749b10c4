"""Chains that remember what was opened, and let through what answers to it.

Without conntrack each accepted packet of an opener puts the tuple of its answer into a set; the answers
renew it. With conntrack the kernel knows. In both an answer passes only while the policy still lets its
receiver open what it answers to: a quarantine ends flows at once.

ICMP errors pass where the packet in them belongs to such a flow of their receiver. A machine may only tell
of its own flows; what is outside may be a router of the path.

Later fragments have no ports: they pass after the first fragment of their packet has passed, and for a
short time. With conntrack the kernel puts packets together before anything here sees them.
"""

from enum import StrEnum

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
    remembered,
    rule,
    unequal,
)
from undercroft.firewall.kernel import Bitwise, Chain, Compare, Conntrack, Operator, Rule
from undercroft.firewall.marks import data
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.senders import DENY

ESTABLISHED, RELATED = 2, 4
"""Bits of the kernel's connection states."""

FRAGMENT_TIMEOUT_MS = 30_000
ECHO_TIMEOUT_MS = 30_000

_IS4, _IS6 = equal(CONTENT, h.IPV4), equal(CONTENT, h.IPV6)
_PIECE4 = (h.IPV4_SOURCE, h.IPV4_TARGET, PROTOCOL, h.IPV4_ID)
_PIECE6 = (h.IPV6_SOURCE, h.IPV6_TARGET, PROTOCOL, h.IPV6_FRAGMENT_ID)


class StateKind(StrEnum):
    """How the filter knows answers: by the kernel's bridge conntrack, or by its own sets."""

    CONNTRACK = "conntrack"
    TUPLES = "tuples"


def tracking_chains(policy: FirewallPolicy, state: StateKind) -> tuple[Chain, ...]:
    """Return the chains that a target's chain goes to: opened, answered, pinged, ponged, other."""
    if state is StateKind.CONNTRACK:
        return _conntrack_chains()
    tcp_ms, other_ms = policy.tcp_state_s * 1000, policy.other_state_s * 1000
    return (
        Chain("opened", (*_opened(4, tcp_ms, other_ms), *_opened(6, tcp_ms, other_ms), rule(DENY))),
        Chain("answered", (*_answered(4, tcp_ms, other_ms), *_answered(6, tcp_ms, other_ms), rule(DENY))),
        Chain("pinged", _pinged()),
        Chain("ponged", _ponged()),
        Chain("passed4", _passed4()),
        Chain("passed6", _passed6()),
        Chain("other", _other()),
        Chain("pieces", _pieces()),
        *_errors(4),
        *_errors(6),
    )


def _addresses(version: int) -> tuple[Field, Field, Expressions]:
    if version == 4:
        return h.IPV4_SOURCE, h.IPV4_TARGET, _IS4
    return h.IPV6_SOURCE, h.IPV6_TARGET, _IS6


def _opened(version: int, tcp_ms: int, other_ms: int) -> tuple[Rule, ...]:
    source, target, condition = _addresses(version)
    answer = (target, source, PROTOCOL, h.TARGET_PORT, h.SOURCE_PORT)
    done = goto(f"passed{version}")
    flows = f"flows{version}"
    return (
        rule(condition, equal(PROTOCOL, h.TCP), remembered(flows, tcp_ms, *answer), done),
        rule(condition, unequal(PROTOCOL, h.TCP), remembered(flows, other_ms, *answer), done),
    )


def _answered(version: int, tcp_ms: int, other_ms: int) -> tuple[Rule, ...]:
    source, target, condition = _addresses(version)
    key = (source, target, PROTOCOL, h.SOURCE_PORT, h.TARGET_PORT)
    flows = f"flows{version}"
    known = found(flows, *key)
    done = goto(f"passed{version}")
    return (
        rule(condition, equal(PROTOCOL, h.TCP), known, remembered(flows, tcp_ms, *key), done),
        rule(condition, unequal(PROTOCOL, h.TCP), known, remembered(flows, other_ms, *key), done),
    )


def _echo(version: int, message: bytes) -> Expressions:
    _, _, condition = _addresses(version)
    protocol = h.ICMP if version == 4 else h.ICMPV6
    return (*condition, *equal(PROTOCOL, protocol), *equal(h.TYPE_AND_CODE, message))


def _pinged() -> tuple[Rule, ...]:
    key4 = (h.IPV4_TARGET, h.IPV4_SOURCE, h.ECHO_ID)
    key6 = (h.IPV6_TARGET, h.IPV6_SOURCE, h.ECHO_ID)
    return (
        rule(_echo(4, h.ECHO_REQUEST), remembered("echoes4", ECHO_TIMEOUT_MS, *key4), goto("passed4")),
        rule(_echo(6, h.ECHO_REQUEST6), remembered("echoes6", ECHO_TIMEOUT_MS, *key6), goto("passed6")),
    )


def _ponged() -> tuple[Rule, ...]:
    key4 = (h.IPV4_SOURCE, h.IPV4_TARGET, h.ECHO_ID)
    key6 = (h.IPV6_SOURCE, h.IPV6_TARGET, h.ECHO_ID)
    return (
        rule(_echo(4, h.ECHO_REPLY), found("echoes4", *key4), goto("passed4")),
        rule(_echo(6, h.ECHO_REPLY6), found("echoes6", *key6), goto("passed6")),
    )


def _passed4() -> tuple[Rule, ...]:
    more = masked(h.IPV4_FRAGMENT, h.MORE_FRAGMENTS, bytes(2), Operator.UNEQUAL)
    return (rule(more, remembered("pieces4", FRAGMENT_TIMEOUT_MS, *_PIECE4), ACCEPT), rule(ACCEPT))


def _passed6() -> tuple[Rule, ...]:
    fragment = equal(h.IPV6_NEXT, h.IPV6_FRAGMENT_HEADER)
    more = masked(h.IPV6_FRAGMENT, h.IPV6_MORE_FRAGMENTS, bytes(2), Operator.UNEQUAL)
    return (rule(fragment, more, remembered("pieces6", FRAGMENT_TIMEOUT_MS, *_PIECE6), ACCEPT), rule(ACCEPT))


def _other() -> tuple[Rule, ...]:
    return (*_error_types("error4", "error6"), rule(DENY))


def _pieces() -> tuple[Rule, ...]:
    return (
        rule(_IS4, found("pieces4", *_PIECE4), ACCEPT),
        rule(_IS6, found("pieces6", *_PIECE6), ACCEPT),
        rule(DENY),
    )


def _error_types(chain4: str, chain6: str) -> tuple[Rule, ...]:
    return (
        rule(_IS4, equal(PROTOCOL, h.ICMP), found("errors4", h.TYPE), goto(chain4)),
        rule(_IS6, equal(PROTOCOL, h.ICMPV6), found("errors6", h.TYPE), goto(chain6)),
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
        receiver, protocol, flows, echoes = h.IPV4_TARGET, h.INNER4_PROTOCOL, "flows4", "echoes4"
        source_port, target_port = h.INNER4_SOURCE_PORT, h.INNER4_TARGET_PORT
        kind, ident, icmp, request = h.INNER4_TYPE_AND_CODE, h.INNER4_ECHO_ID, h.ICMP, h.ECHO_REQUEST
    else:
        receiver, protocol, flows, echoes = h.IPV6_TARGET, h.INNER6_NEXT, "flows6", "echoes6"
        source_port, target_port = h.INNER6_SOURCE_PORT, h.INNER6_TARGET_PORT
        kind, ident, icmp, request = h.INNER6_TYPE_AND_CODE, h.INNER6_ECHO_ID, h.ICMPV6, h.ECHO_REQUEST6
    return (
        rule(found(flows, peer, receiver, protocol, target_port, source_port), ACCEPT),
        rule(found(flows, receiver, peer, protocol, source_port, target_port), ACCEPT),
        rule(equal(protocol, icmp), equal(kind, request), found(echoes, peer, receiver, ident), ACCEPT),
        rule(DENY),
    )


def _conntrack_chains() -> tuple[Chain, ...]:
    established, related = _state(ESTABLISHED), _state(RELATED)
    return (
        Chain("opened", (rule(ACCEPT),)),
        Chain("answered", (rule(established, ACCEPT), rule(DENY))),
        Chain("pinged", (rule(_echo(4, h.ECHO_REQUEST), ACCEPT), rule(_echo(6, h.ECHO_REQUEST6), ACCEPT))),
        Chain(
            "ponged",
            (
                rule(_echo(4, h.ECHO_REPLY), established, ACCEPT),
                rule(_echo(6, h.ECHO_REPLY6), established, ACCEPT),
            ),
        ),
        Chain("related", (rule(related, ACCEPT), rule(DENY))),
        Chain("pieces", (rule(DENY),)),
        Chain("other", (*_error_types("related", "related"), rule(DENY))),
    )


def _state(bits: int) -> Expressions:
    return (Conntrack(0), Bitwise(0, 0, data(bits), bytes(4)), Compare(0, Operator.UNEQUAL, bytes(4)))
