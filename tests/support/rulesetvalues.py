"""Random tables that the kernel takes: every expression of the model, with acyclic jumps and filled sets."""

import string
from collections.abc import Sequence

from hypothesis import strategies as st

from undercroft.firewall.kernel import (
    FIELD_BYTES,
    Base,
    Bitwise,
    Chain,
    Code,
    Compare,
    Conntrack,
    Counter,
    Expression,
    Hook,
    Immediate,
    Key,
    Limit,
    Load,
    Log,
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
from undercroft.firewall.registers import FILE_BYTES, key_bytes, padded

MAX_DATA_BYTES = 16
"""Of constants in rules."""
PLAIN = (Code.ACCEPT, Code.DROP, Code.CONTINUE, Code.RETURN)
NAMES = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=31)
COMMENTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=31)

_ALL_LOADED = tuple(Load(register, bytes(16)) for register in (0, 4, 8, 12))
"""The kernel refuses to read a register that nothing wrote."""


def keys(definition: SetDefinition) -> st.SearchStrategy[bytes]:
    """Keys, with the padding that a lookup finds in registers."""
    fields = [st.binary(min_size=FIELD_BYTES[name], max_size=FIELD_BYTES[name]) for name in definition.key]
    if len(fields) == 1:
        return fields[0]
    return st.tuples(*fields).map(lambda parts: b"".join(map(padded, parts)))


def registers(length: int) -> st.SearchStrategy[int]:
    return st.integers(0, (FILE_BYTES - length) // 4)


@st.composite
def definitions(draw: st.DrawFn) -> SetDefinition:
    dynamic = draw(st.booleans())
    fields = st.lists(st.sampled_from(sorted(FIELD_BYTES)), min_size=1, max_size=5)
    key = draw(fields.filter(lambda names: key_bytes(SetDefinition("", tuple(names))) <= FILE_BYTES))
    data = "" if dynamic else draw(st.sampled_from(["", "mark", "verdict"]))
    timeout_ms = draw(st.integers(1, 1000)) * 1000 if dynamic else 0
    size = draw(st.integers(64, 1 << 17))
    return SetDefinition(draw(NAMES), tuple(key), data, size, dynamic, timeout_ms)


@st.composite
def constants(draw: st.DrawFn) -> tuple[int, bytes]:
    data = draw(st.binary(min_size=1, max_size=MAX_DATA_BYTES))
    return draw(registers(len(data))), data


@st.composite
def expressions(
    draw: st.DrawFn, sets: Sequence[SetDefinition], chains: Sequence[str], *, conntrack: bool
) -> Expression:
    kinds = ["payload", "meta", "mark", "compare", "range", "bitwise", "verdict", "load", "limit", "log"]
    kind = draw(st.sampled_from([*kinds, "counter", *(["conntrack"] if conntrack else []), *(["set"] * 3)]))
    register, data = draw(constants())
    match kind:
        case "payload":
            length = draw(st.integers(1, FILE_BYTES))
            base = draw(st.sampled_from(Base))
            return Payload(draw(registers(length)), base, draw(st.integers(0, 255)), length)
        case "meta":
            return Meta(draw(registers(16)), draw(st.sampled_from(Key)))
        case "mark":
            return SetMark(draw(registers(4)))
        case "compare":
            return Compare(register, draw(st.sampled_from(Operator)), data)
        case "range":
            low, high = sorted((data, draw(st.binary(min_size=len(data), max_size=len(data)))))
            return Range(register, low, high, draw(st.booleans()))
        case "bitwise":
            xor = draw(st.binary(min_size=len(data), max_size=len(data)))
            # The kernel refuses a target that overlaps with its source in part.
            apart = registers(len(data)).filter(lambda target: abs(target - register) * 4 >= len(data) + 3)
            return Bitwise(register, draw(st.just(register) | apart), data, xor)
        case "load":
            return Load(register, data)
        case "limit":
            numbers = st.integers(1, 10_000)
            return Limit(draw(numbers), draw(st.sampled_from([1, 60, 3600, 86_400])), draw(numbers))
        case "log":
            prefix = st.text(string.printable.strip(), max_size=100)
            return Log(draw(st.integers(0, 0xFFFF)), draw(prefix), draw(st.integers(0, 0xFFFF)))
        case "counter":
            return Counter()
        case "conntrack":
            return Conntrack(draw(registers(4)))
        case "set" if sets:
            return draw(lookups(draw(st.sampled_from(sets))))
        case _:
            return Immediate(draw(verdicts(chains)))


@st.composite
def lookups(draw: st.DrawFn, definition: SetDefinition) -> Expression:
    register = draw(registers(key_bytes(definition)))
    if definition.dynamic and draw(st.booleans()):
        limit = Limit(draw(st.integers(1, 9999)), draw(st.sampled_from([1, 60])), draw(st.integers(1, 9999)))
        timeout_ms = draw(st.integers(0, 1000)) * 1000
        return Update(definition.name, register, timeout_ms, draw(st.sampled_from([None, limit])))
    if definition.data == "mark":
        return Lookup(definition.name, register, draw(registers(4)))
    if definition.data == "verdict":
        return Lookup(definition.name, register, verdicts=True)
    return Lookup(definition.name, register, inverted=draw(st.booleans()))


@st.composite
def verdicts(draw: st.DrawFn, chains: Sequence[str]) -> Verdict:
    if chains and draw(st.booleans()):
        return Verdict(draw(st.sampled_from([Code.JUMP, Code.GOTO])), draw(st.sampled_from(chains)))
    return Verdict(draw(st.sampled_from(PLAIN)))


@st.composite
def rulesets(draw: st.DrawFn, name: str = "random", *, conntrack: bool = True) -> Ruleset:
    """Tables whose chains jump to later ones only; verdicts in sets jump to the last one."""
    sets = draw(st.lists(definitions(), max_size=4, unique_by=lambda definition: definition.name))
    names = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    last = names[-1]
    chains = []
    for number, chain in enumerate(names[:-1]):
        rules = st.lists(expressions(sets, names[number + 1 :], conntrack=conntrack), max_size=6)
        made = draw(st.lists(st.tuples(rules, COMMENTS), max_size=4))
        based = number == 0
        chains.append(
            Chain(
                chain,
                tuple(Rule((*_ALL_LOADED, *found), comment) for found, comment in made),
                draw(st.sampled_from(Hook)) if based else None,
                draw(st.integers(-1000, 1000)) if based else 0,
                draw(st.sampled_from([Code.ACCEPT, Code.DROP])) if based else Code.ACCEPT,
            )
        )
    elements: dict[str, dict[bytes, bytes | Verdict | None]] = {}
    for definition in sets:
        data = {"": st.none(), "mark": st.binary(min_size=4, max_size=4), "verdict": verdicts([last])}
        elements[definition.name] = draw(st.dictionaries(keys(definition), data[definition.data], max_size=5))
    in_order = sorted([*chains, Chain(last, ())], key=lambda chain: chain.name)
    table = Table(name, tuple(sorted(sets, key=lambda definition: definition.name)), tuple(in_order))
    return Ruleset(table, elements)
