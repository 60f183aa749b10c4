"""The class that an address of a port gives: the port's own, by the contents of two maps."""

from dataclasses import replace

import pytest
from filterproofs import classes, fleet, flow, label

from undercroft.assurance.firewall import expected, skeleton
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.certificate import Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.compiler import compile_ruleset
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


def unshown() -> str:
    """Return which part of the proof of the rules does not go through, "" for none."""
    sides = expected.sides(POLICY, classes().numbers)
    timing = Timing.of(POLICY, conntrack=False)
    given = expected.verdicts(sides)
    return skeleton.Skeleton(HONEST.table, POLICY, sides.every, sides.targets, timing, given).unshown()
