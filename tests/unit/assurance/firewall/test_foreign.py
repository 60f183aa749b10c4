"""A table that lets anybody speak as a machine of this host, or by a tap of nobody's, is not the policy."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from filterproofs import POLICY, classes, fleet, passes

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.kernel import Key, Meta, Ruleset
from undercroft.firewall.tracking import StateKind

CHAINS = ("foreign", "foreign6", "advertised")
FLEET = replace(fleet(6), host_addresses=(*fleet(6).host_addresses, IPv6Address("2001:db8:ffff::1")))
RULES = compile_ruleset(POLICY, FLEET, classes(), StateKind.TUPLES)
KINDS = {Key.INPUT_KIND, Key.OUTPUT_KIND}
PROVER = Prover()


def without_a_rule(rules: Ruleset) -> Iterator[tuple[str, Ruleset]]:
    for place, chain in enumerate(rules.table.chains):
        for number, rule in enumerate(chain.rules):
            kinds = {one.key for one in rule.expressions if isinstance(one, Meta)} & KINDS
            if chain.name not in CHAINS and not kinds:
                continue
            left = replace(chain, rules=(*chain.rules[:number], *chain.rules[number + 1 :]))
            chains = (*rules.table.chains[:place], left, *rules.table.chains[place + 1 :])
            yield f"{chain.name}[{number}]", replace(rules, table=replace(rules.table, chains=chains))


MUTANTS = dict(without_a_rule(RULES))


@pytest.mark.parametrize("name", MUTANTS)
def test_each_rule_of_what_comes_from_elsewhere_or_by_a_tap_is_missed_by_the_proof_and_a_packet(
    name: str,
) -> None:
    answer = PROVER.prove(MUTANTS[name], POLICY, FLEET, classes())
    assert isinstance(answer, Counterexample)
    assert answer.packet is not None
    assert passes(MUTANTS[name], answer.packet) is answer.kernel_passes
    assert passes(RULES, answer.packet) is answer.policy_passes


def test_without_the_station_of_a_machine_the_table_is_not_the_policy() -> None:
    rules = RULES
    assert isinstance(PROVER.prove(rules, POLICY, FLEET, classes()), Certificate)
    stations = dict(rules.elements["stations"])
    stations.popitem()
    answer = PROVER.prove(
        replace(rules, elements={**rules.elements, "stations": stations}), POLICY, FLEET, classes()
    )
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.found) == ("stations", "absent")
