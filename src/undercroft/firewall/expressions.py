"""Short forms for the kernel's expressions, with registers given out in order.

A field is one load; `found("set", Field...)` is what nft writes as a concatenation before `@set`.
"""

from dataclasses import dataclass

from undercroft.firewall.kernel import (
    REGISTER_BYTES,
    Base,
    Bitwise,
    Code,
    Compare,
    Expression,
    Immediate,
    Key,
    Limit,
    Load,
    Lookup,
    Meta,
    Operator,
    Payload,
    Rule,
    SetMark,
    Update,
    Verdict,
)
from undercroft.firewall.marks import data

Expressions = tuple[Expression, ...]

_META_BYTES = {
    Key.INPUT_NAME: 16,
    Key.OUTPUT_NAME: 16,
    Key.INPUT_KIND: 16,
    Key.OUTPUT_KIND: 16,
    Key.MARK: 4,
    Key.TRANSPORT_PROTOCOL: 1,
    Key.LENGTH: 4,
    Key.PROTOCOL: 2,
}


@dataclass(frozen=True, slots=True)
class Field:
    """Bytes of the packet, or what is known of it where `meta` is set."""

    base: Base = Base.LINK
    offset: int = 0
    length: int = 0
    meta: Key | None = None

    @property
    def registers(self) -> int:
        """How many registers it fills."""
        length = _META_BYTES[self.meta] if self.meta else self.length
        return -(-length // REGISTER_BYTES)

    def load(self, register: int) -> Expression:
        """Return what loads it."""
        if self.meta:
            return Meta(register, self.meta)
        return Payload(register, self.base, self.offset, self.length)


def link(offset: int, length: int) -> Field:
    """Return bytes from the Ethernet header on."""
    return Field(Base.LINK, offset, length)


def network(offset: int, length: int) -> Field:
    """Return bytes from the network header on."""
    return Field(Base.NETWORK, offset, length)


def transport(offset: int, length: int) -> Field:
    """Return bytes from the transport header on; a later fragment has none."""
    return Field(Base.TRANSPORT, offset, length)


IN = Field(meta=Key.INPUT_NAME)
OUT = Field(meta=Key.OUTPUT_NAME)
MARK = Field(meta=Key.MARK)
PROTOCOL = Field(meta=Key.TRANSPORT_PROTOCOL)
LENGTH = Field(meta=Key.LENGTH)
CONTENT = Field(meta=Key.PROTOCOL)
"""Of what is in the frame, behind a tag that the kernel has taken off."""

ACCEPT = Immediate(Verdict(Code.ACCEPT))
DROP = Immediate(Verdict(Code.DROP))
RETURN = Immediate(Verdict(Code.RETURN))


def goto(chain: str) -> Immediate:
    """Return a verdict that ends this chain."""
    return Immediate(Verdict(Code.GOTO, chain))


def jump(chain: str) -> Immediate:
    """Return a verdict after which this chain goes on."""
    return Immediate(Verdict(Code.JUMP, chain))


def rule(*parts: Expression | Expressions) -> Rule:
    """Return a rule of these expressions, in order."""
    expressions: list[Expression] = []
    for part in parts:
        if isinstance(part, tuple):
            expressions.extend(part)
        else:
            expressions.append(part)
    return Rule(tuple(expressions))


def equal(field: Field, value: bytes) -> Expressions:
    """Go on where the field, or its first bytes, are these."""
    return (field.load(0), Compare(0, Operator.EQUAL, value))


def unequal(field: Field, value: bytes) -> Expressions:
    """Go on where the field is not this."""
    return (field.load(0), Compare(0, Operator.UNEQUAL, value))


def masked(field: Field, mask: bytes, value: bytes, operator: Operator = Operator.EQUAL) -> Expressions:
    """Go on where the field's bits under the mask compare so with `value`."""
    return (field.load(0), Bitwise(0, 0, mask, bytes(len(mask))), Compare(0, operator, value))


def marked(mask: int, value: int, operator: Operator = Operator.EQUAL) -> Expressions:
    """Go on where the mark's bits under the mask compare so with `value`."""
    return masked(MARK, data(mask), data(value), operator)


def found(set_name: str, *fields: Field, inverted: bool = False) -> Expressions:
    """Go on where the set holds the fields, or where it does not."""
    return (*_key(fields, 0), Lookup(set_name, 0, inverted=inverted))


def decided(map_name: str, *fields: Field) -> Expressions:
    """Take the verdict that the map has for the fields, go on to the next rule where it has none."""
    return (*_key(fields, 0), Lookup(map_name, 0, verdicts=True))


def mapped(map_name: str, *fields: Field) -> Expressions:
    """Go on where the map has the fields, whatever it gives for them; `found` is for sets without data.

    The comparison, which holds always, is for nft: without a use of the data it lists no condition at all.
    """
    target = sum(field.registers for field in fields)
    anything = Compare(target, Operator.GREATER_OR_EQUAL, bytes(REGISTER_BYTES))
    return (*_key(fields, 0), Lookup(map_name, 0, target=target), anything)


def given(map_name: str, data: bytes, *fields: Field) -> Expressions:
    """Go on where the map gives just this for the fields."""
    target = sum(field.registers for field in fields)
    return (*_key(fields, 0), Lookup(map_name, 0, target=target), Compare(target, Operator.EQUAL, data))


def looked_up(map_name: str, *fields: Field) -> tuple[Expressions, int]:
    """Return what gets the map's data for the fields, and the register that a look-up may take them from.

    nft aborts where it lists a look-up by what a map gave (1.0.6, `netlink_parse_concat_expr`), and so do all
    programs with its library, whatever they ask of the kernel. So the data are copied together with the
    register before them, over a constant: nft, which does not follow that, lists the constant. The register
    before is the key's last one where a field begins there, as nft knows what is in it; else a constant.
    """
    end = sum(field.registers for field in fields)
    nothing = bytes(REGISTER_BYTES)
    known: Expressions = () if fields[-1].registers == 1 else (Load(end, nothing),)
    data = end + len(known)
    copy = data + 2
    return (
        *_key(fields, 0),
        *known,
        Lookup(map_name, 0, target=data),
        Load(copy, nothing),
        Bitwise(data - 1, copy - 1, nothing + b"\xff" * REGISTER_BYTES, bytes(2 * REGISTER_BYTES)),
    ), copy


def decided_by(map_name: str, verdicts: str, *fields: Field) -> Expressions:
    """Take the verdict that `verdicts` has for the map's data; go on where either has none."""
    expressions, register = looked_up(map_name, *fields)
    return (*expressions, Lookup(verdicts, register, verdicts=True))


def mark_from(map_name: str, *fields: Field) -> Expressions:
    """Set the mark to what the map has for the fields."""
    target = sum(field.registers for field in fields)
    return (*_key(fields, 0), Lookup(map_name, 0, target=target), SetMark(target))


def mark_as(mark: int) -> Expressions:
    """Set the mark."""
    return (Load(0, data(mark)), SetMark(0))


def remembered(set_name: str, timeout_ms: int, *fields: Field, limit: Limit | None = None) -> Expressions:
    """Put the fields into a dynamic set, or renew them; end the rule without room, or beyond the limit."""
    return (*_key(fields, 0), Update(set_name, 0, timeout_ms, limit))


def renewed(set_name: str, timeout_ms: int, *fields: Field) -> Expressions:
    """Go on where a dynamic set has the fields, and renew them; they are loaded once."""
    return (*found(set_name, *fields), Update(set_name, 0, timeout_ms))


def _key(fields: tuple[Field, ...], register: int) -> Expressions:
    loads: list[Expression] = []
    for field in fields:
        loads.append(field.load(register))
        register += field.registers
    return tuple(loads)
