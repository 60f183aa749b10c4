"""Grants of VLANs are proven, and what lets another tag by is found with a packet that shows it."""

from dataclasses import replace

import pytest
from filterproofs import passes
from firewallworld import CLASSES, FLEET, VLAN_POLICY, ruleset

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.kernel import Bitwise, Key, Lookup, Meta, Rule, Ruleset
from undercroft.firewall.marks import data, of_class
from undercroft.firewall.packets import parse
from undercroft.firewall.tracking import StateKind


def prove(table: Ruleset) -> Certificate | Counterexample:
    return Prover().prove(table, VLAN_POLICY, FLEET, CLASSES)


@pytest.mark.parametrize("state", list(StateKind))
def test_granted_vlans_are_proven(state: StateKind) -> None:
    answer = prove(ruleset(VLAN_POLICY, state))
    assert isinstance(answer, Certificate), answer.text()


def without(table: Ruleset, chain: str, kind: type[Lookup] | type[Bitwise]) -> Ruleset:
    """Leave the look-up in the grants out of a chain, or the mask before it."""

    def changed(rule: Rule) -> Rule:
        if not any(isinstance(item, Lookup) and item.set_name == "vlans" for item in rule.expressions):
            return rule
        kept = tuple(
            item
            for item in rule.expressions
            if not isinstance(item, kind) or (isinstance(item, Lookup) and item.set_name != "vlans")
        )
        return replace(rule, expressions=kept)

    chains = tuple(
        replace(item, rules=tuple(map(changed, item.rules))) if item.name == chain else item
        for item in table.table.chains
    )
    return replace(table, table=replace(table.table, chains=chains))


@pytest.mark.parametrize("kind", [Lookup, Bitwise])
@pytest.mark.parametrize("chain", ["managed", "reach-tagged", "whose-outside"])
def test_a_rule_that_asks_no_grant_or_another_one_is_found(
    chain: str, kind: type[Lookup] | type[Bitwise]
) -> None:
    honest = ruleset(VLAN_POLICY)
    broken = without(honest, chain, kind)
    assert broken != honest
    answer = prove(broken)
    assert isinstance(answer, Counterexample)
    if answer.packet is not None:
        assert passes(broken, answer.packet) is not passes(honest, answer.packet)
    assert answer.packet is not None or kind is Bitwise


def test_a_grant_too_many_is_found_with_a_frame_that_bears_its_tag() -> None:
    honest = ruleset(VLAN_POLICY)
    web = of_class(CLASSES.number(frozenset({"web"})))
    key = data(web) + b"\0\x06\0\0"
    broken = replace(honest, elements={**honest.elements, "vlans": {**honest.elements["vlans"], key: None}})
    answer = prove(broken)
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.key, answer.found) == ("vlans", key, "present")
    assert answer.packet is not None
    packet = parse(answer.packet.frame)
    assert packet is not None
    assert packet.vlan == 6
    assert passes(broken, answer.packet)
    assert not passes(honest, answer.packet)


@pytest.mark.parametrize("chain", ["whose", "routed"])
def test_a_frame_of_the_host_s_that_is_said_to_be_another_is_a_part_of_the_proof(chain: str) -> None:
    honest = ruleset(VLAN_POLICY)
    chains = tuple(
        replace(item, rules=tuple(map(believing, item.rules))) if item.name == chain else item
        for item in honest.table.chains
    )
    answer = prove(replace(honest, table=replace(honest.table, chains=chains)))
    assert isinstance(answer, Counterexample)
    assert "at output" in answer.theorem


def believing(rule: Rule) -> Rule:
    """Leave out what asks for the type that was said."""
    said = [place for place, item in enumerate(rule.expressions) if item == Meta(0, Key.PROTOCOL)]
    kept = [item for place, item in enumerate(rule.expressions) if not {place, place - 1} & set(said)]
    return replace(rule, expressions=tuple(kept))
