"""Chains of sides with the side's name taken out: equal forms do the same, but for the side."""

from collections.abc import Mapping

from undercroft.assurance.firewall.comparing import AnotherShapeError
from undercroft.assurance.firewall.places import Place
from undercroft.firewall.kernel import Chain, Code, Expression, Immediate, Lookup, Update, Verdict


def form_of(chains: Mapping[str, Chain], name: str, place: Place) -> tuple[object, ...]:
    """Return a side's chain with the side's name taken out: equal forms are equal but for the side.

    What a rule goes to stands within it as a form of its own, which tells where that one ends: rules that
    a jump leads to, and rules behind the jump, are not the same.
    """
    chain = chains.get(name)
    if chain is None or chain.hook is not None:
        raise AnotherShapeError(f"there is no chain {name}")
    form: list[object] = []
    for rule in chain.rules:
        form.append(tuple(_anonymous(expression, place.name) for expression in rule.expressions))
        for item in rule.expressions:
            match item:
                case Immediate(Verdict(Code.JUMP | Code.GOTO, target)) if _is_of(target, place.name):
                    form.append(("into", form_of(chains, target, place)))
                case _:
                    pass
    return tuple(form)


def _is_of(name: str, place: str) -> bool:
    return name.endswith(f"-{place}") and name.partition("-")[2] == place


def _anonymous(expression: Expression, name: str) -> object:
    match expression:
        case Lookup(set_name) | Update(set_name) if _is_of(set_name, name):
            return set_name.removesuffix(name), repr(expression).replace(repr(set_name), "")
        case Immediate(Verdict(code, chain)) if _is_of(chain, name):
            return code, chain.removesuffix(name)
        case _:
            return repr(expression)
