"""Rules that are put where a proof in parts might not look: each lets something by, and is found."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from filterproofs import HOST, classes, fleet, flow, label, passes

from undercroft.assurance.firewall import expected
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.errors import UnsupportedError
from undercroft.firewall import marks
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.expressions import ACCEPT, IN, OUT, equal, jump, mark_as, rule
from undercroft.firewall.kernel import (
    Bitwise,
    Chain,
    Compare,
    Hook,
    Key,
    Limit,
    Load,
    Meta,
    Operator,
    Rule,
    Ruleset,
    SetMark,
)
from undercroft.firewall.packets import parse
from undercroft.firewall.policy import FirewallPolicy, Ports
from undercroft.firewall.simulate import Context, Memory, Outcome, run
from undercroft.firewall.tracking import StateKind

POLICY = FirewallPolicy(
    flows=(flow(label("web"), label("db"), "tcp/5432"), flow(label("db"), HOST, "tcp/22")),
    ports=Ports(uplinks=("eth0",)),
)
NEVER = (Load(0, bytes(4)), Compare(0, Operator.EQUAL, b"\0\0\0\1"))
NO_DEVICE = bytes(16)
HOST_MAC = bytes.fromhex("5254000000fe")
WEB, DB = (classes().numbers[frozenset({name})] for name in ("web", "db"))


def ruleset(state: StateKind = StateKind.TUPLES) -> Ruleset:
    return compile_ruleset(POLICY, fleet(3), classes(), state)


def prove(table: Ruleset) -> Certificate | Counterexample:
    return Prover().prove(table, POLICY, fleet(3), classes())


def unshown(table: Ruleset) -> str:
    """Return which part of the proof of the rules does not go through."""
    sides = expected.sides(POLICY, classes().numbers)
    timing = Timing.of(POLICY, conntrack=False)
    given = expected.verdicts(sides)
    return Skeleton(table.table, POLICY, sides.every, sides.targets, timing, given).unshown()


def with_rules(table: Ruleset, before: dict[str, tuple[Rule, ...]], *made: Chain) -> Ruleset:
    """Put rules before those of chains, and make chains."""
    chains = tuple(replace(one, rules=(*before.get(one.name, ()), *one.rules)) for one in table.table.chains)
    return replace(table, table=replace(table.table, chains=(*chains, *made)))


def before_the_last(table: Ruleset, name: str, *rules: Rule) -> Ruleset:
    """Put rules before a chain's last one."""
    chains = tuple(
        replace(one, rules=(*one.rules[:-1], *rules, one.rules[-1])) if one.name == name else one
        for one in table.table.chains
    )
    return replace(table, table=replace(table.table, chains=chains))


def at(table: Ruleset, hook: Hook, frame: bytes, context: Context) -> Outcome:
    packet = parse(frame)
    assert packet is not None
    return run(table, hook, packet, context, Memory())


@pytest.mark.parametrize("open_class", [3])
def test_a_chain_that_is_built_of_anothers_rules_in_another_nesting_is_looked_at_itself(
    open_class: int,
) -> None:
    """All sides jump, where nothing matches, to a chain that accepts; one has that rule behind the jump."""
    honest = ruleset()
    before: dict[str, tuple[Rule, ...]] = {
        f"to-{number}": (rule(NEVER, jump(f"aside-{number}")),) for number in (1, 2, 3)
    }
    before[f"to-{open_class}"] += (rule(ACCEPT),)
    aside = [
        Chain(f"aside-{number}", () if number == open_class else (rule(ACCEPT),)) for number in (1, 2, 3)
    ]
    broken = with_rules(honest, before, *aside)
    answer = prove(broken)
    assert isinstance(answer, Counterexample)
    assert answer.packet is not None
    assert passes(broken, answer.packet)
    assert not passes(honest, answer.packet)


def test_a_rule_for_what_the_host_sends_alone_is_found_in_the_chain_of_who_looks_for_a_machine() -> None:
    """The host's frames came in by no device, so a rule that asks for none is for nobody else."""
    honest = ruleset()
    hole = rule(equal(IN, NO_DEVICE), ACCEPT)
    broken = with_rules(honest, {f"near-{WEB}": (hole,), f"near-{DB}": (hole,)})
    assert not unshown(honest)
    assert unshown(broken)


def test_a_rule_for_what_the_host_gets_alone_is_found_in_the_chain_that_denies() -> None:
    broken = with_rules(ruleset(), {"deny": (rule(equal(OUT, NO_DEVICE), ACCEPT),)})
    assert unshown(broken)


FORGED = rule(mark_as(marks.of_class(WEB)))
STRANGER, DATABASE = IPv4Address("198.51.100.9"), IPv4Address("10.1.0.1")
DATABASE_MAC = bytes.fromhex("525400000001")


def opening(target_mac: bytes) -> bytes:
    """Return the first packet of a stranger's connection to the database."""
    tcp = (40000).to_bytes(2, "big") + (5432).to_bytes(2, "big") + bytes(8) + b"\x50\x02" + bytes(6)
    header = b"\x45\0\0\x28\0\0\0\0\x40\x06\0\0" + STRANGER.packed + DATABASE.packed
    return target_mac + HOST_MAC + b"\x08\0" + header + tcp


@pytest.mark.parametrize("state", StateKind)
def test_a_mark_that_is_given_where_the_host_takes_a_frame_in_is_found(state: StateKind) -> None:
    """The host keeps it while it routes, and where it sends the packet on it counts as the class's."""
    honest = ruleset(state)
    broken = before_the_last(honest, "input", FORGED)
    for table, comes_by in ((broken, True), (honest, False)):
        taken = at(table, Hook.INPUT, opening(HOST_MAC), Context("eth0"))
        assert taken.accept
        sent = at(table, Hook.OUTPUT, opening(DATABASE_MAC), Context("", "vnet1", taken.mark))
        assert sent.accept is comes_by
    assert unshown(broken)


@pytest.mark.parametrize("state", StateKind)
def test_a_mark_that_is_given_behind_a_target_is_found(state: StateKind) -> None:
    assert unshown(with_rules(ruleset(state), {"opened": (FORGED,)})).startswith("to ")


def test_a_limit_that_is_asked_twice_may_answer_twice_and_otherwise() -> None:
    """It flips the mark twice, and once where a packet has taken the last that the limit had to give."""
    mark = marks.data(marks.of_class(WEB))
    flip = (Limit(1, 1, 1), Meta(0, Key.MARK), Bitwise(0, 0, b"\xff" * 4, mark), SetMark(0))
    twice = before_the_last(ruleset(), "input", rule(jump("flip")), rule(jump("flip")))
    chains = (*twice.table.chains, Chain("flip", (rule(flip),)))
    assert unshown(replace(twice, table=replace(twice.table, chains=chains)))


def test_what_reads_the_registers_that_it_writes_is_not_known() -> None:
    """Kernels that take such an expression do it word by word, and read what they have just written."""
    copied = Bitwise(0, 1, b"\xff" * 8, bytes(8))
    hole = rule(*(Load(place, bytes((place, 0, 0, 0))) for place in (1, 2, 3)), Load(0, b"AAAA"), copied)
    with pytest.raises(UnsupportedError, match="while it reads"):
        unshown(before_the_last(ruleset(), "input", hole))
