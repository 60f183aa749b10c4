"""Small changes of a table's rules, each of which should change what becomes of some packet."""

from collections.abc import Iterator
from dataclasses import replace

from undercroft.firewall.kernel import (
    Bitwise,
    Chain,
    Code,
    Compare,
    Expression,
    Immediate,
    Lookup,
    Operator,
    Payload,
    Rule,
    Ruleset,
    Verdict,
)

_OPPOSITE = {
    Operator.EQUAL: Operator.UNEQUAL,
    Operator.UNEQUAL: Operator.EQUAL,
    Operator.GREATER_OR_EQUAL: Operator.LESS,
}


def rule_mutants(ruleset: Ruleset) -> Iterator[tuple[str, Ruleset]]:
    """Yield each mutant with what was changed."""
    for chain_number, chain in enumerate(ruleset.table.chains):
        for number, rule in enumerate(chain.rules):
            where = f"{chain.name}[{number}]"
            yield f"{where} left out", _with(ruleset, chain_number, chain, number, None)
            for name, changed in _rules(rule):
                yield f"{where} {name}", _with(ruleset, chain_number, chain, number, changed)


def _with(ruleset: Ruleset, chain_number: int, chain: Chain, number: int, rule: Rule | None) -> Ruleset:
    rules = list(chain.rules)
    rules[number : number + 1] = [] if rule is None else [rule]
    chains = list(ruleset.table.chains)
    chains[chain_number] = replace(chain, rules=tuple(rules))
    return replace(ruleset, table=replace(ruleset.table, chains=tuple(chains)))


def _rules(rule: Rule) -> Iterator[tuple[str, Rule]]:
    for number, expression in enumerate(rule.expressions):
        for name, changed in _expressions(expression):
            expressions = list(rule.expressions)
            expressions[number : number + 1] = changed
            yield f"{number}: {name}", Rule(tuple(expressions))


def _expressions(expression: Expression) -> Iterator[tuple[str, list[Expression]]]:
    match expression:
        case Compare(operator=operator, data=data):
            yield "no comparison", []
            yield "opposite", [replace(expression, operator=_OPPOSITE[operator])]
            yield "other value", [replace(expression, data=data[:-1] + bytes([data[-1] ^ 1]))]
        case Lookup(inverted=inverted, target=None, verdicts=False):
            yield "no look-up", []
            yield "opposite look-up", [replace(expression, inverted=not inverted)]
        case Payload(offset=offset):
            yield "other offset", [replace(expression, offset=offset + 1)]
        case Bitwise(mask=mask):
            yield "other mask", [replace(expression, mask=bytes(len(mask)))]
        case Immediate(verdict=Verdict(code=Code.ACCEPT)):
            yield "drop", [Immediate(Verdict(Code.DROP))]
        case Immediate(verdict=Verdict(code=Code.DROP)) | Immediate(verdict=Verdict(chain="deny")):
            yield "accept", [Immediate(Verdict(Code.ACCEPT))]
        case _:
            pass
