from dataclasses import replace

import firewallworld
import pytest
from filterproofs import (
    ANY,
    DB,
    OUTSIDE_POLICY,
    PATIENT,
    POLICY,
    WEB,
    WORLD,
    classes,
    fleet,
    flow,
    label,
    passes,
    port,
    ruleset,
)

from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover, keys_of
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.errors import StateError
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.elements import port_elements
from undercroft.firewall.kernel import Chain, Code, Hook, Immediate, Lookup, Rule, Ruleset, Unknown, Verdict
from undercroft.firewall.policy import FirewallPolicy, Never
from undercroft.firewall.tracking import StateKind


def prove(table: Ruleset, policy: FirewallPolicy = POLICY, count: int = 6) -> Certificate | Counterexample:
    return Prover().prove(table, policy, fleet(count), classes())


def with_rule_first(table: Ruleset, chain: str, rule: Rule) -> Ruleset:
    chains = tuple(
        replace(item, rules=(rule, *item.rules)) if item.name == chain else item
        for item in table.table.chains
    )
    return replace(table, table=replace(table.table, chains=chains))


@pytest.mark.parametrize("state", list(StateKind))
@pytest.mark.parametrize("policy", [POLICY, OUTSIDE_POLICY, FirewallPolicy()])
def test_what_the_compiler_writes_is_the_policy(policy: FirewallPolicy, state: StateKind) -> None:
    answer = prove(ruleset(6, policy, state), policy)
    assert isinstance(answer, Certificate), answer.text()
    assert answer.policy_digest == policy.digest
    assert answer.assumptions
    assert "Not covered:" in answer.text()


def test_a_rule_that_lets_everything_pass_is_found_with_a_packet_that_really_passes() -> None:
    honest = ruleset()
    broken = with_rule_first(honest, "reach", Rule((Immediate(Verdict(Code.ACCEPT)),)))
    answer = prove(broken)
    assert isinstance(answer, Counterexample)
    assert answer.packet is not None
    assert answer.kernel_passes
    assert passes(broken, answer.packet)
    assert not passes(honest, answer.packet)


def test_a_stolen_address_in_a_set_is_found_by_its_element_with_a_packet() -> None:
    honest = ruleset()
    key = next(key for key in honest.elements["sources4"] if key.startswith(b"vnet1\0"))
    stolen = key[:-4] + bytes((10, 1, 0, 2))
    mark = honest.elements["sources4"][key]
    held = {**honest.elements, "sources4": {**honest.elements["sources4"], stolen: mark}}
    broken = replace(honest, elements=held)
    answer = prove(broken)
    assert isinstance(answer, Counterexample)
    assert (answer.set_name, answer.key, answer.expected, answer.found) == (
        "sources4",
        stolen,
        "absent",
        mark.hex(),
    )
    assert answer.packet is not None
    assert passes(broken, answer.packet)
    assert not passes(honest, answer.packet)


def test_an_expression_that_the_model_does_not_know_fails_the_proof_and_names_its_place() -> None:
    answer = prove(with_rule_first(ruleset(), "reach", Rule((Unknown("fib", b""),))))
    assert isinstance(answer, Counterexample)
    assert "chain reach, rule 1: 'fib'" in answer.says


def test_a_dormant_table_is_not_proven() -> None:
    table = ruleset()
    answer = prove(replace(table, table=replace(table.table, flags=1)))
    assert isinstance(answer, Counterexample)
    assert "dormant" in answer.says


def test_two_chains_of_one_hook_and_priority_are_not_proven() -> None:
    table = ruleset()
    twin = Chain("twin", (), Hook.FORWARD, -450, Code.ACCEPT)
    answer = prove(replace(table, table=replace(table.table, chains=(*table.table.chains, twin))))
    assert isinstance(answer, Counterexample)
    assert "priority" in answer.says


def test_a_second_base_chain_that_drops_nothing_is_proven_to_change_nothing() -> None:
    table = ruleset()
    late = Chain("late", (), Hook.FORWARD, 100, Code.ACCEPT)
    answer = prove(replace(table, table=replace(table.table, chains=(*table.table.chains, late))))
    assert isinstance(answer, Certificate), answer.text()


def test_a_side_s_chain_that_has_lost_its_end_is_proven_as_the_base_chain_drops_the_rest() -> None:
    honest = ruleset()
    chains = tuple(
        replace(item, rules=item.rules[:-1]) if item.name == "to-1" else item for item in honest.table.chains
    )
    assert isinstance(prove(replace(honest, table=replace(honest.table, chains=chains))), Certificate)
    accepting = tuple(
        replace(item, policy=Code.ACCEPT) if item.name == "forward" else item for item in chains
    )
    answer = prove(replace(honest, table=replace(honest.table, chains=accepting)))
    assert isinstance(answer, Counterexample)
    assert answer.packet is not None
    assert answer.kernel_passes


def test_a_policy_that_breaks_its_own_never_is_not_proven_and_the_way_is_named() -> None:
    policy = replace(POLICY, flows=(*POLICY.flows, flow(WORLD, label("db"), "tcp/5432")))
    answer = prove(ruleset(6, policy), policy)
    assert isinstance(answer, Counterexample)
    assert answer.says == "the policy allows world -> db by tcp/5432"


def test_a_never_over_hops_finds_the_way_through_a_machine() -> None:
    direct = replace(POLICY, nevers=(Never(WORLD, label("db")),))
    assert isinstance(prove(ruleset(6, direct), direct), Certificate)
    hops = replace(POLICY, nevers=(Never(WORLD, label("db"), hops=2),))
    answer = prove(ruleset(6, hops), hops)
    assert isinstance(answer, Counterexample)
    assert answer.says == "the policy allows world -> web -> db by tcp/5432"


def test_a_policy_that_is_not_the_table_s_is_not_proven() -> None:
    other = replace(POLICY, flows=POLICY.flows[1:])
    answer = prove(ruleset(), other)
    assert isinstance(answer, Counterexample)
    assert isinstance(prove(ruleset(6, other), other), Certificate)


def test_never_to_everything_has_no_exception_that_was_not_named() -> None:
    policy = replace(POLICY, nevers=(Never(label("quarantine"), ANY),))
    answer = prove(ruleset(6, policy), policy)
    assert isinstance(answer, Counterexample)
    assert answer.says == "the policy allows quarantine -> 192.0.2.80/32 by tcp/443"


def test_one_machine_s_change_is_proven_by_its_own_elements() -> None:
    prover = Prover()
    before = port(1, DB)
    assert isinstance(prover.prove(ruleset(), POLICY, fleet(6), classes()), Certificate)
    after = replace(before, labels=WEB)
    new = {name: dict(held) for name, held in port_elements(after, classes()).items()}
    answer = prover.prove_port(before, after, new, 7)
    assert isinstance(answer, Certificate)
    assert answer.generation == 7
    last = prover.prove_port(after, None, {}, 8)
    assert isinstance(last, Certificate)
    assert last.elements < answer.elements
    whole = replace(fleet(6), ports=fleet(6).ports[1:])
    again = prover.prove(
        compile_ruleset(POLICY, whole, classes(), StateKind.TUPLES), POLICY, whole, classes()
    )
    assert isinstance(again, Certificate)
    assert (again.fleet_digest, again.elements) == (last.fleet_digest, last.elements)
    assert again.theorems == last.theorems


def test_after_an_element_that_is_left_nothing_is_proven_until_the_whole_table_is() -> None:
    prover = Prover()
    gone, other = port(1, DB), port(2, PATIENT)
    assert isinstance(prover.prove(ruleset(), POLICY, fleet(6), classes()), Certificate)
    left = {name: dict(held) for name, held in port_elements(gone, classes()).items()}
    answer = prover.prove_port(gone, None, left, 7)
    assert isinstance(answer, Counterexample)
    assert (answer.expected, answer.found != "absent") == ("absent", True)
    with pytest.raises(StateError, match="prove that first"):
        prover.prove_port(other, other, port_elements(other, classes()), 8)


@pytest.mark.parametrize("state", list(StateKind))
def test_each_part_is_shown_by_itself_so_that_no_proof_needs_the_whole_at_once(
    state: StateKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Skeleton, "unequal", lambda _: pytest.fail("the whole was tried"))
    assert isinstance(prove(ruleset(6, POLICY, state)), Certificate)


def test_a_table_that_marks_packets_with_unknown_headers_is_found_where_they_come_in() -> None:
    honest = ruleset()
    chains = tuple(
        replace(
            chain,
            rules=tuple(
                rule
                for rule in chain.rules
                if chain.name != "sender6"
                or not any(isinstance(one, Lookup) and one.set_name == "headers6" for one in rule.expressions)
            ),
        )
        for chain in honest.table.chains
    )
    assert chains != honest.table.chains
    answer = prove(replace(honest, table=replace(honest.table, chains=chains)))
    assert isinstance(answer, Counterexample)
    assert answer.theorem == "rules at prerouting, up to the target"
    assert answer.packet is not None
    assert answer.packet.frame[20] not in {6, 17, 44, 58, 132}


def test_the_first_machine_of_a_class_is_proven_by_its_own_elements_too() -> None:
    prover, only_web = Prover(), fleet(6, (WEB,))
    table = compile_ruleset(POLICY, only_web, classes(), StateKind.TUPLES)
    assert isinstance(prover.prove(table, POLICY, only_web, classes()), Certificate)
    new = port(9, DB)
    answer = prover.prove_port(None, new, port_elements(new, classes()), 7)
    assert isinstance(answer, Certificate)
    both = replace(only_web, ports=(*only_web.ports, new))
    whole = prover.prove(compile_ruleset(POLICY, both, classes(), StateKind.TUPLES), POLICY, both, classes())
    assert isinstance(whole, Certificate)
    assert whole.fleet_digest == answer.fleet_digest


def test_an_arrival_is_the_change_of_its_port_and_a_part_of_what_is_certified() -> None:
    prover = Prover()
    before = replace(port(1, DB), arriving=True)
    machines = replace(fleet(6), ports=(before, *fleet(6).ports[1:]))
    table = compile_ruleset(POLICY, machines, classes(), StateKind.TUPLES)
    answer = prover.prove(table, POLICY, machines, classes())
    assert isinstance(answer, Certificate)
    still = prover.prove_port(before, replace(before, arriving=False), table.elements, 7)
    assert isinstance(still, Counterexample)
    assert still.set_name == "stations" or still.set_name.startswith("outside")
    here = replace(before, arriving=False)
    assert isinstance(prover.prove(table, POLICY, machines, classes()), Certificate)
    assert isinstance(prover.prove_port(before, here, port_elements(here, classes()), 7), Certificate)
    settled = Prover().prove(ruleset(), POLICY, fleet(6), classes())
    assert isinstance(settled, Certificate)
    assert settled.fleet_digest != answer.fleet_digest


def test_a_single_change_is_not_proven_before_the_whole() -> None:
    with pytest.raises(StateError, match="prove that first"):
        Prover().prove_port(None, port(1, WEB), {}, 1)
    assert keys_of(None, port(1, WEB)).keys() >= {"classes", "taps", "sources4", "targets6"}


@pytest.mark.parametrize("state", list(StateKind))
@pytest.mark.parametrize("number", range(len(firewallworld.POLICIES)))
def test_every_policy_of_the_campaign_is_proven(number: int, state: StateKind) -> None:
    policy = replace(firewallworld.POLICIES[number], nevers=())
    table = firewallworld.ruleset(policy, state)
    answer = Prover().prove(table, policy, firewallworld.FLEET, firewallworld.CLASSES)
    assert isinstance(answer, Certificate), answer.text()
