"""What the kernel takes over netlink and `nft` would not write: the proof sees it all the same."""

import subprocess
from pathlib import Path

import pytest
from enforced import make
from filterproofs import POLICY, classes, fleet, ruleset
from netns import in_own_network

from undercroft.adapters.netlinkcodec import APPEND, CREATE, attribute, attributes, nested
from undercroft.adapters.nftables import Nftables, codec, fields, numbers
from undercroft.adapters.nftables.expressions import expression_attributes
from undercroft.adapters.nftables.wire import Channel, Request
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.assurance.firewall.proof import Prover
from undercroft.firewall.kernel import Expression, Rule, Update

MACHINES = 3
DYNSET_FLAGS, INVERTED = 9, 1


def encoded(expression: Expression) -> bytes:
    """Return an expression as the list of a rule has it, `update` inverted: it goes on in a full set."""
    (_, name), (_, data) = attributes(expression_attributes(expression))
    if isinstance(expression, Update):
        data += fields.number(DYNSET_FLAGS, INVERTED)
    parts = attribute(numbers.EXPRESSION_NAME, name), nested(numbers.EXPRESSION_DATA, data)
    return nested(numbers.LIST_ELEMENT, *parts)


def new_rule(chain: str, rule: Rule) -> Request:
    head = fields.text(numbers.RULE_TABLE, "undercroft") + fields.text(numbers.RULE_CHAIN, chain)
    body = head + nested(numbers.RULE_EXPRESSIONS, *map(encoded, rule.expressions))
    return Request(numbers.NEW_RULE, CREATE | APPEND, body, chain)


@in_own_network
def test_an_update_that_goes_on_only_where_the_set_is_full_is_not_taken_for_one_that_remembers() -> None:
    honest = ruleset(MACHINES)
    chain = next(
        chain
        for chain in honest.table.chains
        if any(isinstance(item, Update) for rule in chain.rules for item in rule.expressions)
    )
    with Nftables() as kernel:
        kernel.replace(honest)
        prover = Prover()
        answer = prover.prove(kernel.read("undercroft"), POLICY, fleet(MACHINES), classes())
        assert isinstance(answer, Certificate), answer.text()
        channel = Channel()
        rules = [new_rule(chain.name, rule) for rule in chain.rules]
        channel.commit([codec.delete_rules("undercroft", chain.name), *rules])
        channel.close()
        answer = prover.prove(kernel.read("undercroft"), POLICY, fleet(MACHINES), classes())
        assert isinstance(answer, Counterexample)
        assert "dynset" in answer.says


@pytest.mark.parametrize("name", ["flows4", "pieces6", "asked"])
def test_an_element_for_all_keys_in_a_set_that_packets_write_is_found_and_taken_away(
    tmp_path: Path, name: str
) -> None:
    @in_own_network
    def run() -> None:
        with Nftables() as kernel:
            enforcer = make(kernel, tmp_path)
            enforcer.enforce(POLICY, fleet(MACHINES))
            assert isinstance(enforcer.prove(), Certificate)
            command = f"nft add element bridge undercroft {name} {{ * }}"
            subprocess.run(command.split(), check=True)
            answer = enforcer.drifted(kernel.generation())
            assert isinstance(answer, Counterexample)
            assert f"set {name}: it has an element for all other keys" in answer.says
            enforcer.enforce(POLICY, fleet(MACHINES))
            assert isinstance(enforcer.prove(), Certificate)

    run()
