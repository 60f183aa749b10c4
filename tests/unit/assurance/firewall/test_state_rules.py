"""What the rules remember of flows is what the policy says: each way to remember more, or less, is found."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from filterproofs import HOST, WORLD, classes, fleet, flow, label

from undercroft.assurance.firewall import expected
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import (
    Bitwise,
    Code,
    Expression,
    Immediate,
    Limit,
    Lookup,
    Rule,
    Table,
    Update,
    Verdict,
)
from undercroft.firewall.policy import FirewallPolicy, Ports
from undercroft.firewall.tracking import StateKind

POLICY = FirewallPolicy(
    flows=(
        flow(label("web"), label("db"), "tcp/5432"),
        flow(WORLD, label("web"), "tcp/443", "icmp"),
        flow(label("web"), WORLD, "udp/53"),
        flow(HOST, label("web"), "tcp/22", "icmp"),
    ),
    ports=Ports(uplinks=("eth0",)),
)

NEW = Limit(1000, 1, 4000)

Change = Callable[[Expression], tuple[Expression, ...]]


def table() -> Table:
    return compile_ruleset(POLICY, fleet(3), classes(), StateKind.TUPLES).table


def unshown(changed: Table, policy: FirewallPolicy = POLICY) -> str:
    """Return which part of the proof of the rules does not go through, "" for none."""
    sides = expected.sides(policy, classes().numbers)
    timing = Timing.of(policy, conntrack=False)
    given = expected.verdicts(sides)
    return Skeleton(changed, policy, sides.every, sides.targets, timing, given).unshown()


def altered(name: str, number: int, change: Change) -> Table:
    """Return the table with the expressions of one rule changed."""
    honest = table()
    chains = []
    for chain in honest.chains:
        rules = list(chain.rules)
        if chain.name == name:
            found = rules[number].expressions
            rules[number] = Rule(tuple(new for old in found for new in change(old)))
            assert rules[number] != chain.rules[number], "nothing has changed"
        chains.append(replace(chain, rules=tuple(rules)))
    return replace(honest, chains=tuple(chains))


def with_limit(limit: Limit | None) -> Change:
    return lambda old: (replace(old, limit=limit) if isinstance(old, Update) and old.limit else old,)


def elsewhere(before: str, after: str) -> Change:
    def change(old: Expression) -> tuple[Expression, ...]:
        if isinstance(old, Lookup | Update) and old.set_name == before:
            return (replace(old, set_name=after),)
        if isinstance(old, Immediate) and old.verdict.chain == before:
            return (Immediate(Verdict(Code.GOTO, after)),)
        return (old,)

    return change


def without(kind: type[Expression]) -> Change:
    return lambda old: () if isinstance(old, kind) else (old,)


def other_mask(mask: bytes) -> Change:
    return lambda old: (replace(old, mask=mask) if isinstance(old, Bitwise) else old,)


def asked_twice(old: Expression) -> tuple[Expression, ...]:
    return (old, old) if isinstance(old, Update) and old.limit else (old,)


def renewing(old: Expression) -> tuple[Expression, ...]:
    return (old, Update("flows4", 0, 3_600_000)) if isinstance(old, Lookup) else (old,)


def test_control_the_honest_rules_are_shown() -> None:
    assert unshown(table()) == ""


def test_the_rate_of_openings_is_the_policy_s() -> None:
    faster = replace(POLICY, openings_per_s=5000)
    busy = compile_ruleset(faster, fleet(3), classes(), StateKind.TUPLES).table
    assert unshown(busy, faster) == ""
    assert unshown(busy)


CHANGES: dict[str, tuple[str, int, Change]] = {
    "openings of machines without a rate": ("tried", 1, with_limit(None)),
    "openings from outside at a higher rate": ("knocked", 1, with_limit(replace(NEW, rate=10_000))),
    "openings over IPv6 with a larger burst": ("tried", 3, with_limit(replace(NEW, burst=5000))),
    "pings without a rate": ("pinging4", 1, with_limit(None)),
    "a rate that is asked twice": ("tried", 1, asked_twice),
    "a SYN-ACK makes a flow": ("tried-answered", 0, other_mask(b"\x04")),
    "a reset makes a flow": ("knocked-answered", 0, other_mask(b"\x02")),
    "no answer makes a flow": ("knocked-answered", 3, other_mask(b"\xff")),
    "an answer to nothing": ("tried-answered", 2, without(Lookup)),
    "openings from outside among those of machines": ("knocked", 1, elsewhere("knocks4", "tries4")),
    "openings of the host among those from outside": ("opened", 3, elsewhere("tried", "knocked")),
    "an opener renews its flow": ("opened", 0, renewing),
    "answers to outside looked for among machines' openings": (
        "to-world",
        3,
        elsewhere("answered-outside", "answered"),
    ),
    "errors about openings from outside denied": ("error4", 7, elsewhere("knocks4", "tries4")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_what_is_remembered_is_found(what: str) -> None:
    name, number, change = CHANGES[what]
    assert unshown(altered(name, number, change))
