"""A table as nft's text: for people, and for `nft -c`, which has to accept it. No part of what is enforced.

The kernel gets the bytecode itself. nft adds to named fields the conditions that they rest on ("ether type
ip"), which our chains have tested before; fields without a name in nft are written as "@th,64,128".
"""

import sys
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from undercroft.firewall.kernel import (
    FIELD_BYTES,
    REGISTER_BYTES,
    Base,
    Bitwise,
    Chain,
    Compare,
    Conntrack,
    Counter,
    Expression,
    Immediate,
    Limit,
    Load,
    Log,
    Lookup,
    Meta,
    Payload,
    Range,
    Rule,
    Ruleset,
    SetDefinition,
    SetMark,
    Table,
    Unknown,
    Update,
    Verdict,
)

_NAMES = {
    (Base.LINK, 0, 6): ("ether daddr", "ether_addr"),
    (Base.LINK, 6, 6): ("ether saddr", "ether_addr"),
    (Base.NETWORK, 12, 4): ("ip saddr", "ipv4_addr"),
    (Base.NETWORK, 16, 4): ("ip daddr", "ipv4_addr"),
    (Base.NETWORK, 8, 16): ("ip6 saddr", "ipv6_addr"),
    (Base.NETWORK, 24, 16): ("ip6 daddr", "ipv6_addr"),
    (Base.NETWORK, 14, 4): ("arp saddr ip", "ipv4_addr"),
    (Base.NETWORK, 24, 4): ("arp daddr ip", "ipv4_addr"),
    (Base.NETWORK, 8, 6): ("arp saddr ether", "ether_addr"),
    (Base.NETWORK, 6, 1): ("ip6 nexthdr", "inet_proto"),
    (Base.TRANSPORT, 0, 2): ("th sport", "inet_service"),
    (Base.TRANSPORT, 2, 2): ("th dport", "inet_service"),
}
_BASES = {Base.LINK: "ll", Base.NETWORK: "nh", Base.TRANSPORT: "th"}
_STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}

Load_ = Payload | Meta
Operand = Load_ | None
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


def _usage(table: Table) -> tuple[Raw, Mapping[tuple[str, int], Load_]]:
    """Return which fields of sets are looked up by raw bytes, and what each field is looked up by."""
    sets = {definition.name: definition for definition in table.sets}
    rules = [rule for chain in table.chains for rule in chain.rules]
    typed = _typed(rules, sets)
    raw: set[tuple[str, int]] = set()
    samples: dict[tuple[str, int], Load_] = {}
    for rule in rules:
        if _unspeakable(rule, sets, typed):
            continue
        for name, position, load in _lookups(rule, sets):
            if isinstance(load, Payload) and _named(load, sets[name].key[position]) is None:
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
        or (load and load.base is Base.TRANSPORT and _named(load, sets[name].key[position]) is not None)
    )


def _unspeakable(rule: Rule, sets: Mapping[str, SetDefinition], typed: Raw) -> bool:
    """Tell whether nft has no syntax for a rule: it looks up raw bytes by a type, or no field."""
    return any(
        load is None
        or (
            (name, position) in typed
            and isinstance(load, Payload)
            and _named(load, sets[name].key[position]) is None
        )
        for name, position, load in _lookups(rule, sets)
    )


def _lookups(rule: Rule, sets: Mapping[str, SetDefinition]) -> Iterator[tuple[str, int, Operand]]:
    loaded: dict[int, Operand] = {}
    for expression in rule.expressions:
        match expression:
            case Payload(register=register) | Meta(register=register):
                loaded[register] = expression
            case Bitwise(target=register):
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


def _named(load: Payload, kind: str) -> str | None:
    name, its_kind = _NAMES.get((load.base, load.offset, load.length), ("", ""))
    return name if its_kind == kind else None


def _raw(load: Payload) -> str:
    return f"@{_BASES[load.base]},{load.offset * 8},{load.length * 8}"


class _Writer:
    """Writes one rule: follows what is in the registers."""

    def __init__(self, sets: Mapping[str, SetDefinition], raw: Raw) -> None:
        self._sets = sets
        self._raw = raw
        self._loaded: dict[int, Load_] = {}
        self._masks: dict[int, bytes] = {}
        self._values: dict[int, str] = {}

    def rule(self, rule: Rule) -> str:
        """Return the text."""
        text = " ".join(part for expression in rule.expressions if (part := self._part(expression)))
        return f"{text} comment {_quoted(rule.comment)}" if rule.comment else text

    def _part(self, expression: Expression) -> str:
        match expression:
            case Payload(register=register) | Meta(register=register):
                self._loaded[register] = expression
                self._masks.pop(register, None)
                self._values.pop(register, None)
                return ""
            case Conntrack(register=register):
                self._values[register] = "ct state"
                return ""
            case Load(register=register, data=data):
                self._values[register] = f"{int.from_bytes(data, sys.byteorder):#x}"
                return ""
            case Bitwise(target=target, mask=mask):
                self._masks[target] = mask
                return ""
            case Lookup() | Update():
                return self._with_set(expression)
            case SetMark(register=register):
                return f"meta mark set {self._values[register]}"
            case Compare() | Range():
                return self._compared(expression)
            case _:
                return _statement(expression)

    def _with_set(self, expression: Lookup | Update) -> str:
        name = expression.set_name
        key = " . ".join(
            self._operand(place, name, position)
            for position, place in enumerate(_registers(self._sets[name], expression.register))
        )
        if isinstance(expression, Update):
            return f"update @{name} {{ {key} timeout {expression.timeout_ms // 1000}s }}"
        if expression.target is not None:
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
            return _meta(load)
        if (set_name, position) in self._raw:
            return _raw(load)
        return _named(load, self._sets[set_name].key[position]) or _raw(load)

    def _compared(self, expression: Compare | Range) -> str:
        register = expression.register
        if self._values.get(register) == "ct state":
            bits = int.from_bytes(self._masks[register], sys.byteorder)
            return "ct state " + ",".join(name for bit, name in _STATES.items() if bits & bit)
        load = self._loaded[register]
        if isinstance(expression, Range):
            sign = "!= " if expression.inverted else ""
            return f"{self._left(load, register)} {sign}{_number(expression.low)}-{_number(expression.high)}"
        sign = "" if expression.operator.value == "==" else f"{expression.operator.value} "
        if isinstance(load, Meta):
            return f"{self._left(load, register)} {sign or ''}{_meta_value(load, expression.data)}"
        kind = _NAMES.get((load.base, load.offset, load.length), ("", ""))[1]
        if register in self._masks or not kind:
            return f"{self._left(load, register)} {sign or '== '}{_number(expression.data)}"
        return f"{_named(load, kind)} {sign}{_value(kind, expression.data)}"

    def _left(self, load: Load_, register: int) -> str:
        text = _meta(load) if isinstance(load, Meta) else _raw(load)
        mask = self._masks.get(register)
        if mask is None:
            return text
        order = sys.byteorder if isinstance(load, Meta) else "big"
        return f"{text} & {int.from_bytes(mask, order):#x}"


def _statement(expression: Expression) -> str:
    match expression:
        case Immediate(verdict=verdict):
            return _verdict(verdict)
        case Limit(rate=rate, per_s=per_s, burst=burst):
            return f"limit rate {rate}/{_UNITS.get(per_s, 'second')} burst {burst} packets"
        case Log(group=group, prefix=prefix, snap_bytes=snap_bytes):
            snap = f" snaplen {snap_bytes}" if snap_bytes else ""
            return f"log prefix {_quoted(prefix)} group {group}{snap}"
        case Counter():
            return "counter"
        case Unknown(name=name):
            return f"# {name}: not known"
        case _:
            return ""


def _meta(load: Meta) -> str:
    name = load.key.value
    return name if name in {"iifname", "oifname", "iif", "oif"} else f"meta {name}"


def _meta_value(load: Meta, data: bytes) -> str:
    name = load.key.value
    if name in {"iifname", "oifname"}:
        star = "" if len(data) == FIELD_BYTES["ifname"] else "*"
        return _quoted(data.rstrip(b"\0").decode() + star)
    order = "big" if name == "protocol" else sys.byteorder
    return f"{int.from_bytes(data, order):#x}"


def _set(
    definition: SetDefinition,
    raw: Raw,
    samples: Mapping[tuple[str, int], Load_],
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


def _sample(load: Load_, definition: SetDefinition, position: int, raw: Raw) -> str:
    if isinstance(load, Meta):
        return _meta(load)
    if (definition.name, position) in raw:
        return _raw(load)
    return _named(load, definition.key[position]) or _raw(load)


def _element(definition: SetDefinition, is_raw: list[bool], key: bytes, value: bytes | Verdict | None) -> str:
    texts, offset = [], 0
    for kind, plain in zip(definition.key, is_raw, strict=True):
        length = FIELD_BYTES[kind]
        field = key[offset : offset + length]
        texts.append(_number(field) if plain else _value(kind, field))
        offset += -(-length // REGISTER_BYTES) * REGISTER_BYTES
    text = " . ".join(texts)
    match value:
        case Verdict():
            return f"{text} : {_verdict(value)}"
        case bytes():
            return f"{text} : {_value('mark', value)}"
        case None:
            return text


def _value(kind: str, data: bytes) -> str:
    match kind:
        case "ifname":
            return _quoted(data.rstrip(b"\0").decode())
        case "ether_addr":
            return data.hex(":")
        case "ipv4_addr" | "ipv6_addr":
            return str(ip_address(data))
        case "mark":
            return f"{int.from_bytes(data, sys.byteorder):#010x}"
        case _:
            return str(int.from_bytes(data, "big"))


def _number(data: bytes) -> str:
    return f"{int.from_bytes(data, 'big'):#x}"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.code} {verdict.chain}" if verdict.chain else verdict.code.value


def _quoted(text: str) -> str:
    return f'"{text}"'
