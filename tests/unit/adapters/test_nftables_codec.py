"""The codec: what it writes it reads, and what it does not know it never leaves out."""

import struct
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rulesetvalues import definitions, expressions, keys, rulesets, verdicts

from undercroft.adapters.netlinkcodec import attribute, attributes, message, messages, nested
from undercroft.adapters.nftables import codec, numbers
from undercroft.adapters.nftables.elements import MAX_LIST_BYTES, decode_elements, element_lists
from undercroft.adapters.nftables.expressions import decode_expression, expression_attributes
from undercroft.adapters.nftables.sets import decode_set, set_attributes
from undercroft.errors import InputError, OperationError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Compare,
    Conntrack,
    Counter,
    Expression,
    Immediate,
    Key,
    Limit,
    Load,
    Log,
    Lookup,
    Meta,
    Operator,
    Rule,
    Ruleset,
    SetDefinition,
    Unknown,
    Update,
    Verdict,
)

SETS = [SetDefinition("plain", ("mark",)), SetDefinition("map", ("mark",), "verdict")]
any_expression = expressions(SETS, ["first", "second"], conntrack=True)


@given(any_expression)
def test_every_expression_is_read_as_it_was_written(expression: Expression) -> None:
    assert decode_expression(expression_attributes(expression)) == expression


def test_every_expression_of_the_model_is_among_the_random_ones() -> None:
    seen: set[type] = set()

    @settings(max_examples=1000, derandomize=True)
    @given(any_expression)
    def look(expression: Expression) -> None:
        seen.add(type(expression))

    look()
    # Among these sets none is dynamic; in random tables some are.
    assert set(get_args(Expression)) - seen == {Unknown, Update}


@given(rulesets())
def test_every_table_is_read_as_it_was_written(ruleset: Ruleset) -> None:
    for chain in ruleset.table.chains:
        owner, found = codec.decode_chain(codec.new_chain("random", chain).body)
        rules = [codec.decode_rule(request.body) for request in codec.new_rules("random", chain)]
        assert owner == "random"
        assert [name for name, _ in rules] == [chain.name] * len(rules)
        assert (
            Chain(found.name, tuple(rule for _, rule in rules), found.hook, found.priority, found.policy)
            == chain
        )
    for definition in ruleset.table.sets:
        assert decode_set(set_attributes(definition, 1)) == definition
        elements = ruleset.elements[definition.name]
        lists = [value for part in element_lists(definition, elements) for _, value in attributes(part)]
        assert decode_elements(lists) == (elements, ())


@given(definitions(), st.data())
def test_elements_of_any_number_fit_into_messages(definition: SetDefinition, data: st.DataObject) -> None:
    key = data.draw(keys(definition))
    value = {"": None, "mark": b"abcd", "verdict": Verdict(Code.DROP)}[definition.data]
    lists = list(element_lists(definition, {key: value}))
    assert len(lists) == 1
    many = SetDefinition("many", ("mark",), definition.data)
    wanted = dict.fromkeys((struct.pack(">I", number) for number in range(5000)), value)
    parts = list(element_lists(many, wanted))
    assert len(parts) > 1
    assert all(len(part) <= MAX_LIST_BYTES + 4 for part in parts)
    assert decode_elements(inner for part in parts for _, inner in attributes(part)) == (wanted, ())


@given(any_expression, st.data())
def test_an_attribute_more_makes_an_expression_unknown(expression: Expression, data: st.DataObject) -> None:
    (_, name), (_, inner) = attributes(expression_attributes(expression))
    more = inner + attribute(data.draw(st.integers(20, 100)), b"\0\0\0\1")
    assert decode_expression(attribute(1, name) + nested(2, more)) == Unknown(name[:-1].decode(), more)


@given(any_expression, st.data())
def test_an_expression_of_changed_bytes_reads_as_its_own_bytes_or_as_unknown(
    expression: Expression, data: st.DataObject
) -> None:
    """A byte that changed is seen, but in counts of a counter, in framing, and in a register's names."""
    written = bytearray(expression_attributes(expression))
    place = data.draw(st.integers(0, len(written) - 1))
    before = written[place]
    written[place] ^= data.draw(st.integers(1, 255))
    found = decode_expression(bytes(written))
    # Registers of 16 bytes are 1 to 4; the same ones in pieces of 4 bytes begin at 8, 12, 16 and 20.
    is_same_register = written[place] in range(1, 5) and before == 4 * written[place] + 4
    if found == expression and not (isinstance(expression, Counter) or is_same_register):
        assert _without_framing(bytes(written)) == _without_framing(expression_attributes(expression))


def _without_framing(data: bytes) -> object:
    """Attributes as a tree: flags and padding have no meaning."""
    try:
        pairs = list(attributes(data))
    except OperationError:
        return data
    return [(kind, _without_framing(value) if len(value) >= 4 else value) for kind, value in pairs]


@given(st.binary(max_size=300))
def test_any_bytes_are_an_expression_if_only_an_unknown_one(data: bytes) -> None:
    assert decode_expression(data) is not None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_within_them_or_refused(untrusted: bytes) -> None:
    for read in (
        decode_set,
        codec.decode_chain,
        codec.decode_rule,
        lambda data: decode_elements([data]),
        lambda data: list(attributes(data)),
        lambda data: list(messages(data)),
    ):
        try:
            read(untrusted)
        except OperationError:
            continue


@pytest.mark.parametrize(
    "data",
    [b"\1", b"\3\0\1\0", b"\5\0\1\0", b"\x10\0\1\0abcd", bytes(4)],
    ids=["too short", "less than a header", "one byte missing", "many missing", "no length"],
)
def test_an_attribute_longer_than_what_is_there_is_refused(data: bytes) -> None:
    with pytest.raises(OperationError, match="an attribute of"):
        list(attributes(data))


def test_a_message_longer_than_what_is_there_is_refused() -> None:
    whole = message(1, 0, 7, b"abcd")
    assert [found.sequence for found in messages(whole + whole)] == [7, 7]
    with pytest.raises(OperationError, match="a message of 20 bytes where 19"):
        list(messages(whole[:-1]))


def test_an_attribute_that_no_message_holds_is_refused() -> None:
    with pytest.raises(OperationError, match="65540 bytes"):
        attribute(1, bytes(65536))


def _changed(name: str, *parts: bytes) -> Unknown:
    found = decode_expression(attribute(1, name.encode() + b"\0") + nested(2, *parts))
    assert isinstance(found, Unknown), found
    return found


def test_what_means_something_else_is_no_known_expression() -> None:
    def number(kind: int, value: int) -> bytes:
        return attribute(kind, struct.pack(">I", value))

    value = nested(3, attribute(1, b"\1\2\3\4"))
    name = attribute(1, b"set\0")
    for parts in (
        ("payload", number(1, 8), number(2, 3), number(3, 0), number(4, 4)),  # of a tunnel's inner header
        ("payload", number(5, 8), number(2, 1), number(3, 0), number(4, 4)),  # written, not read
        ("meta", number(2, 3), number(1, 8), number(3, 8)),
        ("meta", number(2, 2), number(3, 8)),  # sets the priority
        ("meta", number(2, 99), number(1, 8)),
        ("cmp", number(1, 0), number(2, 0), value),  # the register of verdicts
        ("cmp", number(1, 24), number(2, 0), value),
        ("cmp", number(1, 8), number(2, 6), value),
        ("bitwise", number(1, 8), number(2, 8), number(3, 4), number(6, 1), nested(7, attribute(1, b"abcd"))),
        ("lookup", name, number(2, 8), number(5, 2)),
        ("dynset", name, number(3, 0), number(4, 8)),  # adds, does not renew
        ("dynset", name, number(3, 1), number(4, 8), number(9, 1)),  # goes on where there is no room
        ("dynset", name, number(3, 1), number(4, 8), nested(7, attribute(1, b"counter\0"))),
        ("dynset", name, number(3, 1), number(4, 8), attribute(10, b"")),  # several expressions
        ("ct", number(2, 1), number(1, 8)),  # the direction
        ("limit", attribute(1, bytes(7) + b"\1"), attribute(2, bytes(7) + b"\1"), number(3, 5), number(4, 1)),
        (
            "limit",
            attribute(1, bytes(7) + b"\1"),
            attribute(2, bytes(7) + b"\1"),
            number(3, 5),
            number(4, 0),
            number(5, 1),
        ),
        ("immediate", number(1, 0), nested(2, nested(2, number(1, 3)))),  # to user space
        ("immediate", number(1, 0), nested(2, nested(2, number(1, 0xFFFFFFFE)))),
        ("log", number(5, 4)),  # to the kernel's log
        ("numgen", number(1, 8)),
    ):
        _changed(parts[0], *parts[1:])  # type: ignore[arg-type]


def test_numbers_that_no_kernel_holds_are_refused() -> None:
    for expression in (
        Meta(16, Key.MARK),
        Meta(-1, Key.MARK),
        Load(99, b"x"),
        Log(1 << 16, ""),
        Limit(1 << 64, 1, 1),
        Limit(1, 1, -1),
    ):
        with pytest.raises(InputError):
            expression_attributes(expression)
    with pytest.raises(InputError, match="127 can be kept"):
        codec.rule_attributes(Rule((), "x" * 128))
    with pytest.raises(InputError, match="accept and drop"):
        list(codec.new_rules("t", Chain("c", ()))) or codec.new_chain(
            "t", Chain("c", (), next(iter(numbers.HOOKS)), 0, Code.RETURN)
        )


@pytest.mark.parametrize(
    ("definition", "message_part"),
    [
        (SetDefinition("s", ()), "0 fields"),
        (SetDefinition("s", ("mark",) * 6), "6 fields"),
        (SetDefinition("s", ("colour",)), "'colour' is no field"),
        (SetDefinition("s", ("mark",), "colour"), "data 'colour'"),
        (SetDefinition("s", ("mark",), unknown=("intervals",)), "intervals"),
    ],
)
def test_sets_that_cannot_be_made_are_refused(definition: SetDefinition, message_part: str) -> None:
    with pytest.raises(InputError, match=message_part):
        set_attributes(definition, 1)


def _described(**changes: int) -> SetDefinition:
    values = {"flags": 0, "type": 19, "length": 4} | changes
    kinds = {"flags": 3, "type": 4, "length": 5, "data_type": 6, "data_length": 7}
    kinds |= {"collection": 12, "handle": 16, "other": 99}
    parts = [attribute(kinds[name], struct.pack(">I", value)) for name, value in values.items()]
    return decode_set(attribute(2, b"s\0") + b"".join(parts))


def test_what_is_not_known_of_a_set_is_named() -> None:
    assert _described().unknown == ()
    assert _described(flags=numbers.INTERVAL).unknown == ("intervals",)
    assert _described(flags=0x1000).unknown == ("flag 0x1000",)
    assert _described(flags=numbers.TIMEOUT).unknown == ("a timeout of each element's own",)
    assert _described(type=4).unknown == ("a key of 4 bytes of type 4",)
    assert _described(length=8).unknown == ("a key of 8 bytes of mark",)
    assert _described(flags=numbers.MAP, data_type=41, data_length=16).unknown == ("data of type 41",)
    assert _described(flags=numbers.ANONYMOUS | numbers.CONSTANT).anonymous
    assert _described(collection=1000).unknown == ("a time of its own for taking away what has ended",)
    assert _described(other=1).unknown == ("attribute 99",)
    assert _described(handle=1).unknown == ()


def test_flags_of_a_chain_that_are_not_known_are_named() -> None:
    body = attribute(numbers.CHAIN_TABLE, b"t\0") + attribute(numbers.CHAIN_NAME, b"c\0")
    for flags, bound, unknown in ((0, False, ()), (4, True, ()), (2, False, ("flags 0x2",))):
        given = body + attribute(numbers.CHAIN_FLAGS, struct.pack(">I", flags))
        assert codec.decode_chain(given) == ("t", Chain("c", (), bound=bound, unknown=unknown))


def test_what_is_not_known_of_elements_is_named() -> None:
    key = nested(1, attribute(1, b"abcd"))
    flags = attribute(3, struct.pack(">I", 1))
    for parts, unknown in (
        ((key,), ()),
        ((key, attribute(6, b"for people")), ()),
        ((key, flags), ("elements with flags",)),
        ((flags,), ("an element for all other keys",)),
        ((key, nested(10, attribute(1, b"abce"))), ("elements that are intervals",)),
        ((key, nested(7, attribute(1, b"quota\0"))), ("elements with expressions",)),
        (
            (key, nested(2, nested(2, attribute(1, struct.pack(">I", 3))))),
            ("verdicts of a kind of their own",),
        ),
        ((key, attribute(99, b"")), ("attribute 99 of elements",)),
    ):
        elements, found = decode_elements([nested(1, key) + nested(1, *parts) + nested(1, key)])
        assert found == unknown
        assert b"abcd" in elements


@given(st.lists(st.tuples(st.binary(min_size=6, max_size=6), verdicts(["chain"])), max_size=50))
def test_elements_read_fast_are_what_they_are_read_slowly(pairs: list[tuple[bytes, Verdict]]) -> None:
    definition = SetDefinition("map", ("ether_addr",), "verdict")
    wanted = dict(pairs)
    lists = [value for part in element_lists(definition, wanted) for _, value in attributes(part)]
    slowly = {}
    for listed in lists:
        for _, element in attributes(listed):
            found, _ = decode_elements([nested(1, element)])
            slowly |= found
    assert decode_elements(lists)[0] == slowly == wanted


def test_a_comment_is_for_people_only() -> None:
    assert codec.decode_rule(attribute(2, b"c\0") + attribute(7, b"\1\4abcd\0\3hi\0"))[1].comment == "hi"
    assert codec.decode_rule(attribute(2, b"c\0") + attribute(7, b"\1\4abcd"))[1].comment == ""
    assert codec.decode_rule(attribute(2, b"c\0") + attribute(7, b"\0\xffhi\xff"))[1].comment == "hi\\xff"
    assert codec.decode_rule(attribute(2, b"c\0")) == ("c", Rule(()))


def test_constants_are_kept_to_the_byte() -> None:
    for expression in (
        Compare(0, Operator.UNEQUAL, b"\0" * 16),
        Lookup("s" * 31, 4, inverted=True),
        Immediate(Verdict(Code.JUMP, "c" * 31)),
        Conntrack(15),
    ):
        assert decode_expression(expression_attributes(expression)) == expression
