"""Mutants of a packet filter: one change of its rules or of its elements, as bugs and attackers make it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from undercroft.firewall.kernel import (
    Base,
    Bitwise,
    Chain,
    Code,
    Compare,
    Expression,
    Hook,
    Immediate,
    Key,
    Load,
    Log,
    Lookup,
    Meta,
    Operator,
    Payload,
    Range,
    Rule,
    Ruleset,
    SetMark,
    Update,
    Verdict,
)


@dataclass(frozen=True)
class Mutant:
    """A ruleset with one change; `what` tells of it."""

    what: str
    ruleset: Ruleset


class NoMutantError(Exception):
    """The place that was chosen cannot be changed in that way."""


def mutant(ruleset: Ruleset, seed: int) -> Mutant:
    """Return the mutant of that number; the same number gives the same mutant. It is never the original."""
    random = Random(f"filter mutant {seed}")
    while True:
        change = random.choice(CHANGES)
        try:
            what, made = change(ruleset, random)
        except (NoMutantError, IndexError):
            continue
        if made != ruleset and _loads(made):
            return Mutant(what, made)


def _loads(ruleset: Ruleset) -> bool:
    """Tell whether the kernel might take it: a loop of jumps it would not."""
    chains = {chain.name: chain for chain in ruleset.table.chains}
    targets = {name: {*_targets(chain, ruleset)} for name, chain in chains.items()}
    done: set[str] = set()

    def ends(name: str, way: tuple[str, ...]) -> bool:
        if name in way or len(way) > 14 or name not in chains or (way and chains[name].hook):
            return False
        if name not in done:
            if not all(ends(target, (*way, name)) for target in targets[name]):
                return False
            done.add(name)
        return True

    return all(ends(name, ()) for name in chains)


def _targets(chain: Chain, ruleset: Ruleset) -> set[str]:
    found = set()
    for rule in chain.rules:
        for expression in rule.expressions:
            match expression:
                case Immediate(Verdict(Code.JUMP | Code.GOTO, target)):
                    found.add(target)
                case Lookup(name, verdicts=True):
                    data = ruleset.elements.get(name, {}).values()
                    found |= {item.chain for item in data if isinstance(item, Verdict) and item.chain}
                case _:
                    pass
    return found


def _with_chain(ruleset: Ruleset, changed: Chain) -> Ruleset:
    chains = tuple(changed if chain.name == changed.name else chain for chain in ruleset.table.chains)
    return replace(ruleset, table=replace(ruleset.table, chains=chains))


def _chain(ruleset: Ruleset, random: Random) -> Chain:
    """Choose a chain with rules, one with many of them more often."""
    chains = [chain for chain in ruleset.table.chains if chain.rules]
    return random.choices(chains, weights=[len(chain.rules) + 1 for chain in chains])[0]


def _rule_changed(ruleset: Ruleset, random: Random, change: Callable[[Rule], Rule]) -> tuple[str, Ruleset]:
    chain = _chain(ruleset, random)
    place = random.randrange(len(chain.rules))
    rules = list(chain.rules)
    rules[place] = change(rules[place])
    return f"{chain.name} rule {place + 1}", _with_chain(ruleset, replace(chain, rules=tuple(rules)))


def _drop_rule(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    chain = _chain(ruleset, random)
    place = random.randrange(len(chain.rules))
    rules = chain.rules[:place] + chain.rules[place + 1 :]
    return f"{chain.name} without rule {place + 1}", _with_chain(ruleset, replace(chain, rules=rules))


def _swap_rules(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    chain = _chain(ruleset, random)
    rules = list(chain.rules)
    one = random.randrange(len(rules) - 1) if len(rules) > 1 else 0
    if len(rules) < 2:
        raise NoMutantError
    rules[one], rules[one + 1] = rules[one + 1], rules[one]
    text = f"{chain.name}: rules {one + 1} and {one + 2} swapped"
    return text, _with_chain(ruleset, replace(chain, rules=tuple(rules)))


def _insert_rule(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    """Let one host, protocol, mark or everything pass before the others are asked."""
    chain = _chain(ruleset, random)
    verdict = Immediate(Verdict(random.choice((Code.ACCEPT, Code.DROP, Code.RETURN))))
    condition: tuple[Expression, ...] = random.choice(
        (
            (),
            (Payload(0, Base.LINK, 6, 6), Compare(0, Operator.EQUAL, random.randbytes(6))),
            (Payload(0, Base.LINK, 12, 2), Compare(0, Operator.EQUAL, b"\x86\xdd")),
            (Payload(0, Base.LINK, 0, 1), Bitwise(0, 0, b"\1", b"\0"), Compare(0, Operator.EQUAL, b"\1")),
            (Meta(0, Key.TRANSPORT_PROTOCOL), Compare(0, Operator.EQUAL, bytes([random.choice((1, 6, 17))]))),
            (Meta(0, Key.MARK), Compare(0, Operator.EQUAL, random.randbytes(4))),
        )
    )
    place = random.randrange(len(chain.rules) + 1)
    rules = (*chain.rules[:place], Rule((*condition, verdict)), *chain.rules[place:])
    text = (
        f"{chain.name}: {verdict.verdict.code} inserted before rule {place + 1}, {len(condition)} conditions"
    )
    return text, _with_chain(ruleset, replace(chain, rules=rules))


def _drop_expression(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    kinds = (Compare, Lookup, Range, Bitwise, SetMark, Immediate, Update)

    def change(rule: Rule) -> Rule:
        places = [place for place, item in enumerate(rule.expressions) if isinstance(item, kinds)]
        place = random.choice(places)
        return replace(rule, expressions=rule.expressions[:place] + rule.expressions[place + 1 :])

    where, made = _rule_changed(ruleset, random, change)
    return f"{where}: one expression less", made


def _expression(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    told: list[str] = []

    def change(rule: Rule) -> Rule:
        places = [place for place, item in enumerate(rule.expressions) if not isinstance(item, Log)]
        place = random.choice(places)
        old = rule.expressions[place]
        new = _other(old, ruleset, random)
        told.append(f"{old} -> {new}")
        return replace(rule, expressions=(*rule.expressions[:place], new, *rule.expressions[place + 1 :]))

    where, made = _rule_changed(ruleset, random, change)
    return f"{where}: {told[0]}", made


def _bit(data: bytes, random: Random) -> bytes:
    place = random.randrange(8 * len(data))
    return (int.from_bytes(data, "big") ^ 1 << place).to_bytes(len(data), "big")


def _other(old: Expression, ruleset: Ruleset, random: Random) -> Expression:
    match old:
        case Payload():
            bases = [base for base in Base if base is not old.base]
            return random.choice(
                (
                    replace(old, offset=old.offset + random.choice((1, 2, 4))),
                    replace(old, offset=max(0, old.offset - random.choice((1, 2, 4)))),
                    replace(old, base=random.choice(bases)),
                )
            )
        case Meta():
            pairs = {Key.INPUT_NAME: Key.OUTPUT_NAME, Key.OUTPUT_NAME: Key.INPUT_NAME}
            if old.key not in pairs:
                raise NoMutantError
            return replace(old, key=pairs[old.key])
        case Compare():
            operators = [operator for operator in Operator if operator is not old.operator]
            return random.choice(
                (
                    replace(old, operator=random.choice(operators)),
                    replace(old, data=_bit(old.data, random)),
                )
            )
        case Range():
            return random.choice(
                (
                    replace(old, inverted=not old.inverted),
                    replace(old, low=_bit(old.low, random)),
                    replace(old, high=_bit(old.high, random)),
                )
            )
        case Bitwise():
            return random.choice(
                (replace(old, mask=_bit(old.mask, random)), replace(old, xor=_bit(old.xor, random)))
            )
        case Lookup():
            return _other_lookup(old, ruleset, random)
        case Immediate(Verdict(code, chain)):
            others = [item for item in (Code.ACCEPT, Code.DROP, Code.RETURN) if item is not code]
            names = [item.name for item in ruleset.table.chains if item.hook is None and item.name != chain]
            if chain and random.random() < 0.5:
                return Immediate(Verdict(code, random.choice(names)))
            return Immediate(Verdict(random.choice(others)))
        case Load():
            return replace(old, data=_bit(old.data, random))
        case Update():
            if old.limit and random.random() < 0.5:
                more = replace(old.limit, rate=old.limit.rate * 1000)
                return replace(old, limit=random.choice((None, more)))
            return replace(old, timeout_ms=old.timeout_ms + random.choice((-1000, 1000, 86_400_000)))
        case _:
            raise NoMutantError


def _other_lookup(old: Lookup, ruleset: Ruleset, random: Random) -> Lookup:
    definitions = {item.name: item for item in ruleset.table.sets}
    mine = definitions[old.set_name]
    same = [
        item.name
        for item in ruleset.table.sets
        if item.name != old.set_name and item.key == mine.key and item.data == mine.data
    ]
    if same and random.random() < 0.6:
        return replace(old, set_name=random.choice(same))
    if old.verdicts or old.target is not None:
        raise NoMutantError
    return replace(old, inverted=not old.inverted)


def _base_chain(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    chain = random.choice([item for item in ruleset.table.chains if item.hook])
    flipped = Code.ACCEPT if chain.policy is Code.DROP else Code.DROP
    changed = random.choice(
        (
            replace(chain, policy=flipped),
            replace(chain, hook=random.choice([hook for hook in Hook if hook is not chain.hook])),
            replace(chain, hook=None),
        )
    )
    return f"{chain.name}: {changed.hook}, policy {changed.policy}", _with_chain(ruleset, changed)


def _element(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    """Drop, add, or change an element of a set that rules don't fill."""
    dynamic = {item.name for item in ruleset.table.sets if item.dynamic}
    filled = sorted(name for name, held in ruleset.elements.items() if held and name not in dynamic)
    name = random.choice(filled)
    held = dict(ruleset.elements[name])
    key = random.choice(sorted(held))
    data = held[key]
    match random.randrange(4):
        case 0:
            del held[key]
            what = "dropped"
        case 1:
            del held[key]
            held[_bit(key, random)] = data
            what = "its key changed"
        case 2:
            held.setdefault(_bit(key, random), data)
            what = "another one added"
        case _:
            values = sorted({str(item): item for item in held.values() if item != data}.items())
            if data is None or not values:
                raise NoMutantError
            held[key] = random.choice(values)[1]
            what = "its data changed"
    return f"{name}: element {key.hex()} {what}", replace(ruleset, elements={**ruleset.elements, name: held})


def _definition(ruleset: Ruleset, random: Random) -> tuple[str, Ruleset]:
    """Change what a set says of itself, as somebody who made it anew might have."""
    old = random.choice(ruleset.table.sets)
    new = random.choice(
        (
            replace(old, dynamic=not old.dynamic),
            replace(old, timeout_ms=0 if old.timeout_ms else 60_000),
            replace(old, size=0),
            replace(old, key=("ether_type", *old.key[1:])),
            replace(old, data="" if old.data else "mark"),
            replace(old, unknown=("elements with expressions",)),
        )
    )
    sets = tuple(new if item is old else item for item in ruleset.table.sets)
    told = "; ".join(
        f"{name} {getattr(new, name)}"
        for name in ("key", "data", "size", "dynamic", "timeout_ms", "unknown")
        if getattr(new, name) != getattr(old, name)
    )
    return f"set {old.name}: {told}", replace(ruleset, table=replace(ruleset.table, sets=sets))


CHANGES = (_drop_rule, _swap_rules, _insert_rule, _drop_expression, _expression, _expression, _expression,
           _base_chain, _element, _element, _definition)  # fmt: skip
