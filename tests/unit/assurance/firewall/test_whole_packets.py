"""The short way of IPv4 packets that are no fragments: it does what the other does, and no other takes it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from filterproofs import classes, fleet, flow, label

from undercroft.assurance.firewall import expected
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Bitwise, Expression, Lookup, Rule, Ruleset, Table, Update
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind

POLICY = FirewallPolicy(flows=(flow(label("web"), label("db"), "tcp/5432", "icmp"),))
HONEST = compile_ruleset(POLICY, fleet(3), classes(), StateKind.TUPLES)
Change = Callable[[Rule], Rule | None]


def unshown(table: Table, state: StateKind = StateKind.TUPLES) -> str:
    """Return which part of the proof of the rules does not go through, "" for none."""
    sides = expected.sides(POLICY, classes().numbers)
    timing = Timing.of(POLICY, conntrack=state is StateKind.CONNTRACK)
    return Skeleton(table, POLICY, sides.every, sides.targets, timing, expected.verdicts(sides)).unshown()


def changed(name: str, place: int, change: Change) -> Table:
    """Return the honest table with one rule changed, or left out."""
    (chain,) = (chain for chain in HONEST.table.chains if chain.name == name)
    rule = change(chain.rules[place])
    kept = (*chain.rules[:place], *((rule,) if rule else ()), *chain.rules[place + 1 :])
    chains = (replace(chain, rules=kept) if one is chain else one for one in HONEST.table.chains)
    return replace(HONEST.table, chains=tuple(chains))


def each(change: Callable[[Expression], Expression | None]) -> Change:
    """Return a change of a rule's expressions; those that become None are left out."""

    def of_rule(rule: Rule) -> Rule:
        found = (change(item) for item in rule.expressions)
        return Rule(tuple(item for item in found if item is not None))

    return of_rule


def left_out(_rule: Rule) -> None:
    return None


def later_ones_only(item: Expression) -> Expression:
    return replace(item, mask=b"\x1f\xff") if isinstance(item, Bitwise) else item


def without_look_up(item: Expression) -> Expression | None:
    return None if isinstance(item, Lookup) else item


def for_longer(item: Expression) -> Expression:
    return replace(item, timeout_ms=2 * item.timeout_ms) if isinstance(item, Update) else item


def of_another(item: Expression) -> Expression:
    return replace(item, set_name="to-2") if isinstance(item, Lookup) else item


@pytest.mark.parametrize("state", StateKind)
def test_it_is_shown_to_be_what_the_policy_says(state: StateKind) -> None:
    assert unshown(compile_ruleset(POLICY, fleet(3), classes(), state).table, state) == ""


@pytest.mark.parametrize(
    ("name", "place", "change"),
    [
        pytest.param("reach4", 0, left_out, id="fragments take it"),
        pytest.param("reach4", 0, each(later_ones_only), id="first fragments take it, not remembered"),
        pytest.param("reach4", 2, left_out, id="a class without a chain is somebody outside"),
        pytest.param("whole-opened", 0, each(without_look_up), id="nothing was opened"),
        pytest.param("whole-answered", 0, each(without_look_up), id="nothing is answered"),
        pytest.param("whole-answered", 0, each(for_longer), id="answers are remembered for longer"),
        pytest.param("whole-answered", 2, left_out, id="first answers are denied"),
        pytest.param("whole-1", 0, each(of_another), id="another side's services"),
        pytest.param("whole-1", 0, left_out, id="what opens answers"),
        pytest.param("whole-1", -1, left_out, id="what neither opens nor answers is denied"),
    ],
)
def test_no_change_of_it_is_shown(name: str, place: int, change: Change) -> None:
    if place < 0:
        place += len(next(chain for chain in HONEST.table.chains if chain.name == name).rules)
    assert unshown(changed(name, place, change))


def test_a_class_that_is_sent_into_another_ones_chain_is_found() -> None:
    assert isinstance(Prover().prove(HONEST, POLICY, fleet(3), classes()), Certificate)
    (one, its), (_, others) = list(HONEST.elements["class-whole"].items())[:2]
    assert its != others
    held = {**HONEST.elements["class-whole"], one: others}
    broken = Ruleset(HONEST.table, {**HONEST.elements, "class-whole": held})
    answer = Prover().prove(broken, POLICY, fleet(3), classes())
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.key) == ("class-whole", one)
