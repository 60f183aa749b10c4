"""Chains that remember what was opened, and let through what answers to it.

Without conntrack sets hold the tuples of answers. An opening puts its own among those that nobody has
answered yet, for a short time; the first answer puts it among the flows, and further answers renew it there.
Of TCP an answer with SYN or RST is none in this sense: it is what a forged opening gets. So who opens and
opens, or forges openings of others, fills no more than the set of openings, which open flows do not need:

- what machines and the host open (`tries4`) is apart from what comes from outside (`knocks4`);
- new openings have a rate (the policy's `openings_per_s`): of each address of a machine; and of each address
  that outside opens to, for the world and each zone by itself;
- where the set of flows is full, answers pass for as long as their opening is remembered.

With conntrack the kernel knows. In both an answer passes only while the policy still lets its receiver open
what it answers to: a quarantine ends flows at once.

Later fragments have no ports: they pass after the first fragment of their packet has passed, and for a
short time. With conntrack the kernel puts packets together before anything here sees them.
"""

from enum import StrEnum

from undercroft.firewall import headers as h
from undercroft.firewall.expressions import (
    ACCEPT,
    MARK,
    PROTOCOL,
    Expressions,
    Field,
    equal,
    found,
    goto,
    marked,
    masked,
    remembered,
    renewed,
    rule,
    unequal,
)
from undercroft.firewall.grants import Side
from undercroft.firewall.kernel import Chain, Limit, Operator, Rule
from undercroft.firewall.marks import HOST, KIND_MASK, MACHINE, PREFIX
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.related import IS4, IS6, conntrack_chains, echo, error_chains
from undercroft.firewall.senders import DENY

TRY_TIMEOUT_MS = 30_000
"""For how long an answer may take: TCP opens again after 1, 3, 7 and 15 s, and each renews it."""
FRAGMENT_TIMEOUT_MS = 10_000
ECHO_TIMEOUT_MS = 30_000
RATE_TIMEOUT_MS = 60_000
"""Longer than a burst takes to be filled up again, so that an end of the element gives nothing away."""

_PIECE4 = (h.IPV4_SOURCE, h.IPV4_TARGET, PROTOCOL, h.IPV4_ID)
_PIECE6 = (h.IPV6_SOURCE, h.IPV6_TARGET, PROTOCOL, h.IPV6_FRAGMENT_ID)
_OF_MACHINE = marked(KIND_MASK, PREFIX | MACHINE)
_OF_HOST = marked(0xFFFF_FFFF, HOST)
_IS = {4: IS4, 6: IS6}
_ENDS = {4: (h.IPV4_SOURCE, h.IPV4_TARGET), 6: (h.IPV6_SOURCE, h.IPV6_TARGET)}
_REFUSALS = b"\x06"
"""SYN and RST."""


class StateKind(StrEnum):
    """How the filter knows answers: by the kernel's bridge conntrack, or by its own sets."""

    CONNTRACK = "conntrack"
    TUPLES = "tuples"


def tracking_chains(policy: FirewallPolicy, state: StateKind) -> tuple[Chain, ...]:
    """Return the chains that a target's chain goes to: opened, answered, pinged, ponged, other."""
    if state is StateKind.CONNTRACK:
        return conntrack_chains()
    tcp_ms, other_ms = policy.tcp_state_s * 1000, policy.other_state_s * 1000
    new = Limit(policy.openings_per_s, 1, 4 * policy.openings_per_s)
    return (
        Chain("opened", _opened()),
        Chain("whole-opened", (rule(found("flows4", *_answer(4, h.IPV4_PROTOCOL)), ACCEPT), *_openers())),
        Chain("whole-answered", (*_whole_answered(tcp_ms, other_ms), rule(goto("tried-answered")))),
        Chain("tried", (*_tried("tries", 4, new), *_tried("tries", 6, new), rule(DENY))),
        Chain("knocked", (*_tried("knocks", 4, new), *_tried("knocks", 6, new), rule(DENY))),
        *(
            Chain(name, (*_answered(4, tcp_ms, other_ms), *_answered(6, tcp_ms, other_ms), rule(goto(first))))
            for name, first in (("answered", "tried-answered"), ("answered-outside", "knocked-answered"))
        ),
        *(
            Chain(
                name,
                (
                    *_first_answer(waiting, 4, tcp_ms, other_ms),
                    *_first_answer(waiting, 6, tcp_ms, other_ms),
                    rule(DENY),
                ),
            )
            for name, waiting in (("tried-answered", "tries"), ("knocked-answered", "knocks"))
        ),
        Chain("pinged", (*_pinged(4), *_pinged(6))),
        *(Chain(f"pinging{version}", _pinging(version, new)) for version in (4, 6)),
        Chain("ponged", _ponged()),
        Chain("passed4", _passed4()),
        Chain("passed6", _passed6()),
        Chain("pieces", _pieces()),
        *error_chains(),
    )


def answered_chain(side: Side, state: StateKind) -> str:
    """Return the chain of answers to what a side has opened."""
    inside = side.is_machine or side.mark == HOST
    return "answered" if inside or state is StateKind.CONNTRACK else "answered-outside"


def _itself(version: int, protocol: Field = PROTOCOL) -> tuple[Field, ...]:
    source, target = _ENDS[version]
    return source, target, protocol, h.SOURCE_PORT, h.TARGET_PORT


def _answer(version: int, protocol: Field = PROTOCOL) -> tuple[Field, ...]:
    source, target = _ENDS[version]
    return target, source, protocol, h.TARGET_PORT, h.SOURCE_PORT


def _opened() -> tuple[Rule, ...]:
    """Return rules for packets of openers: answers renew a flow, so a look tells enough."""
    return (
        *(
            rule(_IS[version], found(f"flows{version}", *_answer(version)), goto(f"passed{version}"))
            for version in (4, 6)
        ),
        *_openers(),
    )


def _openers() -> tuple[Rule, ...]:
    """Return rules for what is in no flow: it goes where openings of its source are remembered."""
    return (rule(_OF_MACHINE, goto("tried")), rule(_OF_HOST, goto("tried")), rule(goto("knocked")))


def _tried(waiting: str, version: int, new: Limit) -> tuple[Rule, ...]:
    """Return rules for what nobody has answered yet. What was tried before is no new opening."""
    name, answer = f"{waiting}{version}", _answer(version)
    done = goto(f"passed{version}")
    return (
        rule(_IS[version], renewed(name, TRY_TIMEOUT_MS, *answer), done),
        rule(_IS[version], _within(waiting, version, new), remembered(name, TRY_TIMEOUT_MS, *answer), done),
    )


def _within(waiting: str, version: int, new: Limit) -> Expressions:
    """Go on within the rate of who opens, where that is known; else of who is opened."""
    source, target = _ENDS[version]
    address = source if waiting == "tries" else target
    return remembered(f"{waiting}-rate{version}", RATE_TIMEOUT_MS, MARK, address, limit=new)


def _answered(version: int, tcp_ms: int, other_ms: int) -> tuple[Rule, ...]:
    key, flows, done = _itself(version), f"flows{version}", goto(f"passed{version}")
    return (
        rule(_IS[version], equal(PROTOCOL, h.TCP), renewed(flows, tcp_ms, *key), done),
        rule(_IS[version], unequal(PROTOCOL, h.TCP), renewed(flows, other_ms, *key), done),
    )


def _whole_answered(tcp_ms: int, other_ms: int) -> tuple[Rule, ...]:
    """Return the same for IPv4 packets that are no fragments: nothing is left to be remembered of them."""
    protocol = h.IPV4_PROTOCOL
    key = _itself(4, protocol)
    return (
        rule(equal(protocol, h.TCP), renewed("flows4", tcp_ms, *key), ACCEPT),
        rule(unequal(protocol, h.TCP), renewed("flows4", other_ms, *key), ACCEPT),
    )


def _first_answer(waiting: str, version: int, tcp_ms: int, other_ms: int) -> tuple[Rule, ...]:
    """Return rules for answers to what is no flow yet; also without room for one they pass."""
    key, flows, done = _itself(version), f"flows{version}", goto(f"passed{version}")
    tried = (*_IS[version], *found(f"{waiting}{version}", *key))
    talks = masked(h.TCP_FLAGS, _REFUSALS, b"\0")
    return (
        rule(tried, equal(PROTOCOL, h.TCP), talks, remembered(flows, tcp_ms, *key), done),
        rule(tried, unequal(PROTOCOL, h.TCP), remembered(flows, other_ms, *key), done),
        rule(tried, done),
    )


def _echoed(version: int) -> tuple[Field, ...]:
    source, target = _ENDS[version]
    return target, source, h.ECHO_ID


def _pinged(version: int) -> tuple[Rule, ...]:
    request = h.ECHO_REQUEST if version == 4 else h.ECHO_REQUEST6
    return (rule(echo(version, request), goto(f"pinging{version}")),)


def _pinging(version: int, new: Limit) -> tuple[Rule, ...]:
    name, key, done = f"echoes{version}", _echoed(version), goto(f"passed{version}")
    kept = remembered(name, ECHO_TIMEOUT_MS, *key)
    return (
        rule(renewed(name, ECHO_TIMEOUT_MS, *key), done),
        *(
            one
            for whose in (_OF_MACHINE, _OF_HOST)
            for one in (rule(whose, _within("tries", version, new), kept, done), rule(whose, DENY))
        ),
        rule(_within("knocks", version, new), kept, done),
        rule(DENY),
    )


def _ponged() -> tuple[Rule, ...]:
    key4 = (h.IPV4_SOURCE, h.IPV4_TARGET, h.ECHO_ID)
    key6 = (h.IPV6_SOURCE, h.IPV6_TARGET, h.ECHO_ID)
    return (
        rule(echo(4, h.ECHO_REPLY), found("echoes4", *key4), goto("passed4")),
        rule(echo(6, h.ECHO_REPLY6), found("echoes6", *key6), goto("passed6")),
    )


def _passed4() -> tuple[Rule, ...]:
    more = masked(h.IPV4_FRAGMENT, h.MORE_FRAGMENTS, bytes(2), Operator.UNEQUAL)
    return (rule(more, remembered("pieces4", FRAGMENT_TIMEOUT_MS, *_PIECE4), ACCEPT), rule(ACCEPT))


def _passed6() -> tuple[Rule, ...]:
    fragment = equal(h.IPV6_NEXT, h.IPV6_FRAGMENT_HEADER)
    more = masked(h.IPV6_FRAGMENT, h.IPV6_MORE_FRAGMENTS, bytes(2), Operator.UNEQUAL)
    return (rule(fragment, more, remembered("pieces6", FRAGMENT_TIMEOUT_MS, *_PIECE6), ACCEPT), rule(ACCEPT))


def _pieces() -> tuple[Rule, ...]:
    return (
        rule(IS4, found("pieces4", *_PIECE4), ACCEPT),
        rule(IS6, found("pieces6", *_PIECE6), ACCEPT),
        rule(DENY),
    )
