"""A table as nft's text: for people, and for `nft -c`, which has to accept it. No part of what is enforced.

The kernel gets the bytecode itself. nft adds to named fields the conditions that they rest on ("ether type
ip"), which our chains have tested before; fields without a name in nft are written as "@th,64,128".
"""

import sys
from collections.abc import Iterator, Mapping

from undercroft.firewall import nftwords as words
from undercroft.firewall.kernel import (
    FIELD_BYTES,
    REGISTER_BYTES,
    Base,
    Bitwise,
    Chain,
    Compare,
    Conntrack,
    Expression,
    Load,
    Lookup,
    Meta,
    Operator,
    Payload,
    Range,
    Rule,
    Ruleset,
    SetDefinition,
    SetMark,
    Table,
    Update,
    Verdict,
)

Operand = words.Field | None
"""What is in a register: a field as it was loaded, None for what was made of one."""

Raw = frozenset[tuple[str, int]]
"""Fields of sets, by set and position, that some rule looks up by bytes without a name."""


def render(ruleset: Ruleset) -> str:
    """Return the text that makes the whole table with its elements anew."""
    table = ruleset.table
    raw, samples = _usage(table)
    lines = [
        f"add table bridge {table.name}",
        f"delete table bridge {table.name}",
        f"table bridge {table.name} {{",
    ]
    for definition in table.sets:
        lines += _set(definition, raw, samples, ruleset.elements.get(definition.name, {}))
    for chain in table.chains:
        lines += render_chain(chain, table)
    return "\n".join([*lines, "}", ""])


def render_chain(chain: Chain, table: Table) -> list[str]:
    """Return the lines of one chain; a rule that nft has no syntax for is a comment."""
    raw, _ = _usage(table)
    sets = {definition.name: definition for definition in table.sets}
    typed = _typed([rule for other in table.chains for rule in other.rules], sets)
    lines = [f"\tchain {chain.name} {{"]
    if chain.hook:
        policy = chain.policy.value
        lines.append(f"\t\ttype filter hook {chain.hook} priority {chain.priority}; policy {policy};")
    for rule in chain.rules:
        note = "# bytecode only: " if _unspeakable(rule, sets, typed) else ""
        lines.append(f"\t\t{note}{_Writer(sets, raw).rule(rule)}")
    return [*lines, "\t}"]


def render_rule(rule: Rule, table: Table) -> str:
    """Return one rule of a table."""
    raw, _ = _usage(table)
    return _Writer({definition.name: definition for definition in table.sets}, raw).rule(rule)


def _usage(table: Table) -> tuple[Raw, Mapping[tuple[str, int], words.Field]]:
    """Return which fields of sets are looked up by raw bytes, and what each field is looked up by."""
    sets = {definition.name: definition for definition in table.sets}
    rules = [rule for chain in table.chains for rule in chain.rules]
    typed = _typed(rules, sets)
    raw: set[tuple[str, int]] = set()
    samples: dict[tuple[str, int], words.Field] = {}
    for rule in rules:
        if _unspeakable(rule, sets, typed):
            continue
        for name, position, load in _lookups(rule, sets):
            if isinstance(load, Payload) and words.named(load, sets[name].key[position]) is None:
                raw.add((name, position))
                samples[name, position] = load
            elif load:
                samples.setdefault((name, position), load)
    return frozenset(raw), samples


def _typed(rules: list[Rule], sets: Mapping[str, SetDefinition]) -> Raw:
    """Return the fields to which nft gives a type of its own, whatever the text says."""
    return frozenset(
        (name, position)
        for rule in rules
        for name, position, load in _lookups(rule, sets)
        if isinstance(load, Meta)
        or (load and load.base is Base.TRANSPORT and words.named(load, sets[name].key[position]) is not None)
    )


def _unspeakable(rule: Rule, sets: Mapping[str, SetDefinition], typed: Raw) -> bool:
    """Tell whether nft has no syntax for a rule: for raw bytes by a type, no field, or data without a use."""
    return any(_is_unused(item, rule) for item in rule.expressions) or any(
        load is None
        or (
            (name, position) in typed
            and isinstance(load, Payload)
            and words.named(load, sets[name].key[position]) is None
        )
        for name, position, load in _lookups(rule, sets)
    )


def _is_unused(expression: Expression, rule: Rule) -> bool:
    """Tell whether a rule looks up data in a map and asks no more than that they are there."""
    if not isinstance(expression, Lookup) or expression.target is None:
        return False
    return not any(
        item is not expression
        and isinstance(item, Lookup | Update | SetMark)
        and item.register >= expression.target
        for item in rule.expressions
    )


def _lookups(rule: Rule, sets: Mapping[str, SetDefinition]) -> Iterator[tuple[str, int, Operand]]:
    loaded: dict[int, Operand] = {}
    for expression in rule.expressions:
        match expression:
            case Payload(register=register) | Meta(register=register):
                loaded[register] = expression
            case Bitwise(target=register) | Load(register=register):
                loaded[register] = None
            case Lookup(set_name=name, register=register) | Update(set_name=name, register=register):
                for position, place in enumerate(_registers(sets[name], register)):
                    yield name, position, loaded[place]
                if isinstance(expression, Lookup) and expression.target is not None:
                    loaded[expression.target] = None
            case _:
                pass


def _registers(definition: SetDefinition, register: int) -> Iterator[int]:
    for kind in definition.key:
        yield register
        register += -(-FIELD_BYTES[kind] // REGISTER_BYTES)


class _Writer:
    """Writes one rule: follows what is in the registers."""

    def __init__(self, sets: Mapping[str, SetDefinition], raw: Raw) -> None:
        self._sets = sets
        self._raw = raw
        self._loaded: dict[int, words.Field] = {}
        self._masks: dict[int, bytes] = {}
        self._flips: dict[int, bytes] = {}
        self._values: dict[int, str] = {}
        self._unused: list[Lookup] = []

    def rule(self, rule: Rule) -> str:
        """Return the text."""
        self._unused = [
            item for item in rule.expressions if isinstance(item, Lookup) and _is_unused(item, rule)
        ]
        text = " ".join(part for expression in rule.expressions if (part := self._part(expression)))
        return f"{text} comment {words.quoted(rule.comment)}" if rule.comment else text

    def _part(self, expression: Expression) -> str:
        match expression:
            case Payload(register=register) | Meta(register=register):
                self._loaded[register] = expression
                self._masks.pop(register, None)
                self._flips.pop(register, None)
                self._values.pop(register, None)
                return ""
            case Conntrack(register=register):
                self._values[register] = "ct state"
                return ""
            case Load(register=register, data=data):
                self._values[register] = f"{int.from_bytes(data, sys.byteorder):#x}"
                return ""
            case Bitwise():
                self._masked(expression)
                return ""
            case Lookup() | Update():
                return self._with_set(expression)
            case SetMark(register=register):
                return f"meta mark set {self._values[register]}"
            case Compare() | Range():
                return self._compared(expression)
            case _:
                return words.statement(expression)

    def _masked(self, expression: Bitwise) -> None:
        """Follow values that are copied whole."""
        source, target, mask = expression.source, expression.target, expression.mask
        self._masks[target] = mask
        self._flips[target] = expression.xor
        for place in range(len(mask) // REGISTER_BYTES):
            word = mask[place * REGISTER_BYTES :][:REGISTER_BYTES]
            if word == b"\xff" * REGISTER_BYTES and source + place in self._values:
                self._values[target + place] = self._values[source + place]

    def _with_set(self, expression: Lookup | Update) -> str:
        name = expression.set_name
        key = " . ".join(
            self._operand(place, name, position)
            for position, place in enumerate(_registers(self._sets[name], expression.register))
        )
        if isinstance(expression, Update):
            limit = f" {words.statement(expression.limit)}" if expression.limit else ""
            return f"update @{name} {{ {key} timeout {expression.timeout_ms // 1000}s{limit} }}"
        if expression.target is not None and expression not in self._unused:
            self._values[expression.target] = f"{key} map @{name}"
            return ""
        if expression.verdicts:
            return f"{key} vmap @{name}"
        return f"{key} {'!= ' if expression.inverted else ''}@{name}"

    def _operand(self, register: int, set_name: str, position: int) -> str:
        if register in self._values:
            return f"({self._values[register]})"
        load = self._loaded[register]
        if register in self._masks:
            return f"({self._left(load, register)})"
        if isinstance(load, Meta):
            return words.meta(load)
        if (set_name, position) in self._raw:
            return words.raw(load)
        return words.named(load, self._sets[set_name].key[position]) or words.raw(load)

    def _compared(self, expression: Compare | Range) -> str:
        register = expression.register
        if self._values.get(register) == "ct state":
            bits = int.from_bytes(self._masks[register], sys.byteorder)
            return "ct state " + ",".join(name for bit, name in words.STATES.items() if bits & bit)
        if any(item.target == register for item in self._unused):
            if isinstance(expression, Compare) and expression.operator is Operator.EQUAL:
                return f"== {words.value('mark', expression.data)}"
            return ""
        load = self._loaded[register]
        if isinstance(expression, Range):
            sign = "!= " if expression.inverted else ""
            low, high = words.number(expression.low), words.number(expression.high)
            return f"{self._left(load, register)} {sign}{low}-{high}"
        sign = "" if expression.operator.value == "==" else f"{expression.operator.value} "
        if isinstance(load, Meta):
            return f"{self._left(load, register)} {sign or ''}{words.meta_value(load, expression.data)}"
        kind = words.kind(load)
        if register in self._masks or not kind:
            return f"{self._left(load, register)} {sign or '== '}{words.number(expression.data)}"
        return f"{words.named(load, kind)} {sign}{words.value(kind, expression.data)}"

    def _left(self, load: words.Field, register: int) -> str:
        text = words.meta(load) if isinstance(load, Meta) else words.raw(load)
        mask = self._masks.get(register)
        if mask is None:
            return text
        order = sys.byteorder if isinstance(load, Meta) else "big"
        flip = int.from_bytes(self._flips[register], order)
        flipped = f" ^ {flip:#x}" if flip else ""
        kept = "" if flip and mask == b"\xff" * len(mask) else f" & {int.from_bytes(mask, order):#x}"
        return f"{text}{kept}{flipped}"


def _set(
    definition: SetDefinition,
    raw: Raw,
    samples: Mapping[tuple[str, int], words.Field],
    elements: Mapping[bytes, bytes | Verdict | None],
) -> list[str]:
    name, positions = definition.name, range(len(definition.key))
    is_raw = [(name, position) in raw for position in positions]
    data = f" : {definition.data}" if definition.data else ""
    if any(is_raw):
        fields = " . ".join(
            _sample(samples[name, position], definition, position, raw) for position in positions
        )
        kind = f"typeof {fields}{data.replace(': mark', ': meta mark')}"
    else:
        kind = f"type {' . '.join(definition.key)}{data}"
    lines = [
        f"\t{'map' if definition.data else 'set'} {name} {{",
        f"\t\t{kind}",
        f"\t\tsize {definition.size}",
    ]
    if definition.dynamic:
        lines += ["\t\tflags dynamic,timeout", f"\t\ttimeout {definition.timeout_ms // 1000}s"]
    if elements:
        shown = (_element(definition, is_raw, key, value) for key, value in sorted(elements.items()))
        lines.append("\t\telements = { " + ",\n\t\t\t".join(shown) + " }")
    return [*lines, "\t}"]


def _sample(load: words.Field, definition: SetDefinition, position: int, raw: Raw) -> str:
    if isinstance(load, Meta):
        return words.meta(load)
    if (definition.name, position) in raw:
        return words.raw(load)
    return words.named(load, definition.key[position]) or words.raw(load)


def _element(definition: SetDefinition, is_raw: list[bool], key: bytes, value: bytes | Verdict | None) -> str:
    texts, offset = [], 0
    for kind, plain in zip(definition.key, is_raw, strict=True):
        length = FIELD_BYTES[kind]
        field = key[offset : offset + length]
        texts.append(words.number(field) if plain else words.value(kind, field))
        offset += -(-length // REGISTER_BYTES) * REGISTER_BYTES
    text = " . ".join(texts)
    match value:
        case Verdict():
            return f"{text} : {words.verdict(value)}"
        case bytes():
            return f"{text} : {words.value('mark', value)}"
        case None:
            return text
