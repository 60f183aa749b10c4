"""A chain that has lost rules at its end lets nothing by that it did not before, whatever the sets hold."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import z3
from filterproofs import HOST, WEB, WORLD, classes, fleet, flow, label

from undercroft.assurance.firewall.contents import OpenSets
from undercroft.assurance.firewall.expected import ERRORS4, ERRORS6
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.running import Passage
from undercroft.assurance.firewall.skeleton import FIXED, HOOKS
from undercroft.assurance.firewall.symbolic import Executor
from undercroft.assurance.firewall.terms import FALSE, Truth, both, either, joined, negated
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Chain, Code, Hook, Immediate, Lookup, Ruleset, Table, Verdict
from undercroft.firewall.policy import FirewallPolicy, Ports
from undercroft.firewall.tracking import StateKind

SMALL = FirewallPolicy(
    flows=(flow(WORLD, label("web"), "tcp/443", "icmp"), flow(label("web"), HOST, "udp/53")),
    ports=Ports(uplinks=("eth0",)),
)
QUICK = (
    *("from-port", "managed", "sender4", "sender-ns", "source4"),
    *("arrived", "reach4", "to-1", "pinged", "deny"),
)
"""Chains of each kind: base ones, such as packets go to for good, and such as rules jump to."""
FEW = {
    "errors4": [bytes([number]) for number in ERRORS4],
    "errors6": [bytes([number]) for number in ERRORS6],
}


def cuts(table: Table, name: str, *, every: bool) -> Iterator[tuple[str, Table]]:
    """Yield the table with one chain's end cut off: its last rule, or any number of rules."""
    for place, chain in enumerate(table.chains):
        if chain.name != name:
            continue
        for kept in range(0 if every else len(chain.rules) - 1, len(chain.rules)):
            cut = replace(chain, rules=chain.rules[:kept])
            chains = (*table.chains[:place], cut, *table.chains[place + 1 :])
            yield f"{name} with {kept} of {len(chain.rules)} rules", replace(table, chains=chains)


def compiled(state: StateKind) -> Ruleset:
    return compile_ruleset(SMALL, fleet(2, (WEB,)), classes((WEB,)), state)


class Passages:
    """What tables of one policy do with one symbolic packet."""

    def __init__(self, rules: Ruleset) -> None:
        given = {
            item.name: tuple({one for one in rules.elements[item.name].values() if isinstance(one, Verdict)})
            for item in rules.table.sets
            if item.data == "verdict"
        }
        self.packet, self.sets = SymbolicPacket(), OpenSets(given, {**FIXED, **FEW})

    def of(self, table: Table, hook: Hook) -> Passage:
        return Executor(table, self.packet, self.sets).hook(hook, self.packet.mark)

    def possible(self, condition: Truth) -> bool:
        if condition is FALSE:
            return False
        solver = z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "bit-blast", "sat").solver()
        solver.add(self.packet.possible(), self.sets.congruent(), condition)
        return bool(solver.check() != z3.unsat)


def more(found: Passage, honest: Passage, hook: Hook) -> Truth:
    """Return which packets pass that did not, or pass the first hook under another mark."""
    passes = both(found.accepted, negated(honest.accepted))
    if hook is not Hook.PREROUTING:
        return passes
    return either([passes, both(found.accepted, joined(found.mark) != joined(honest.mark))])


def assert_nothing_leaks(state: StateKind, names: Iterable[str], *, every: bool) -> None:
    rules = compiled(state)
    passages, reached = Passages(rules), {hook: reached_from(rules, hook) for hook in HOOKS}
    honest = {hook: passages.of(rules.table, hook) for hook in HOOKS}
    for name in names:
        for what, table in cuts(rules.table, name, every=every):
            for hook in HOOKS:
                if name in reached[hook]:
                    leak = more(passages.of(table, hook), honest[hook], hook)
                    assert not passages.possible(leak), f"{what}, {hook}"


def reached_from(rules: Ruleset, hook: Hook) -> set[str]:
    """Return the chains that a packet may be in at a hook."""
    chains = {chain.name: chain for chain in rules.table.chains}
    found, rest = set[str](), [chain.name for chain in rules.table.chains if chain.hook is hook]
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += targets(rules, chains[name])
    return found


def targets(rules: Ruleset, chain: Chain) -> Iterator[str]:
    for expression in (item for rule in chain.rules for item in rule.expressions):
        match expression:
            case Immediate(Verdict(chain=name)) if name:
                yield name
            case Lookup(name, verdicts=True):
                yield from (one.chain for one in rules.elements[name].values() if isinstance(one, Verdict))
            case _:
                pass


@pytest.mark.parametrize("name", QUICK)
def test_no_packet_passes_because_a_chain_has_lost_its_last_rule(name: str) -> None:
    assert_nothing_leaks(StateKind.TUPLES, [name], every=False)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", list(StateKind))
def test_no_packet_passes_because_a_chain_has_lost_any_number_of_rules_at_its_end(state: StateKind) -> None:
    assert_nothing_leaks(state, [chain.name for chain in compiled(state).table.chains], every=True)


def test_control_where_base_chains_accept_the_rest_a_lost_rule_lets_packets_by() -> None:
    rules = compiled(StateKind.TUPLES)
    accepting = tuple(replace(chain, policy=Code.ACCEPT) for chain in rules.table.chains)
    table = replace(rules.table, chains=accepting)
    passages, hook = Passages(rules), Hook.PREROUTING
    (_, cut), *_ = cuts(table, "managed", every=False)
    assert passages.possible(more(passages.of(cut, hook), passages.of(table, hook), hook))
