"""What the proof of the rules takes from the contents of ports' addresses: class and padding."""

from dataclasses import replace

import pytest
from filterproofs import classes, fleet, flow, label

from undercroft.assurance.firewall import expected, skeleton
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.certificate import Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Bitwise, Rule, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind

POLICY = FirewallPolicy(flows=(flow(label("web"), label("db"), "tcp/5432"),))
HONEST = compile_ruleset(POLICY, fleet(3), classes(), StateKind.TUPLES)


def test_an_address_that_gives_another_class_than_its_port_is_found() -> None:
    held = HONEST.elements["sources4"]
    key, mark = next(iter(held.items()))
    other = next(one for one in HONEST.elements["classes"].values() if one != mark)
    broken = replace(HONEST, elements={**HONEST.elements, "sources4": {**held, key: other}})
    answer = Prover().prove(broken, POLICY, fleet(3), classes())
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.key) == ("sources4", key)


def test_without_what_the_comparison_of_contents_tells_the_rules_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert unshown() == ""
    monkeypatch.setattr(skeleton, "FOLLOWING", {})
    assert "prerouting" in unshown()


def test_a_key_that_is_not_filled_up_with_zeros_is_a_foreign_element() -> None:
    held = HONEST.elements["sources4"]
    key, mark = next(iter(held.items()))
    other_type = key[:22] + b"\x81\x00" + key[24:]
    broken = replace(HONEST, elements={**HONEST.elements, "sources4": {**held, other_type: mark}})
    answer = Prover().prove(broken, POLICY, fleet(3), classes())
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.key) == ("sources4", other_type)


def test_without_zeros_behind_a_keys_mac_a_frame_of_any_type_would_be_taken_for_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(skeleton, "PADDED", {})
    assert "prerouting" in unshown()


@pytest.mark.parametrize("less", [bytes(2), b"\x86\xdd", b"\x00\x08"])
def test_a_rule_that_takes_another_type_off_than_that_of_ipv4_is_found(less: bytes) -> None:
    chain = next(chain for chain in HONEST.table.chains if chain.name == "from-port")
    first, *rest = chain.rules
    expressions = tuple(
        replace(item, xor=bytes(6) + less) if isinstance(item, Bitwise) else item
        for item in first.expressions
    )
    assert expressions != first.expressions
    changed = replace(chain, rules=(Rule(expressions), *rest))
    chains = tuple(changed if one is chain else one for one in HONEST.table.chains)
    assert "prerouting" in unshown(replace(HONEST.table, chains=chains))


def unshown(table: Table = HONEST.table) -> str:
    """Return which part of the proof of the rules does not go through, "" for none."""
    sides = expected.sides(POLICY, classes().numbers)
    timing = Timing.of(POLICY, conntrack=False)
    given = expected.verdicts(sides)
    return skeleton.Skeleton(table, POLICY, sides.every, sides.targets, timing, given).unshown()
