"""Expressions of rules <-> netlink attributes, one to one.

Reading never fails and never leaves anything out: an expression, an attribute or a value that this version
does not know makes an `Unknown`, with the attributes as the kernel sent them.
Source: include/uapi/linux/netfilter/nf_tables.h; the dump functions of net/netfilter/nft_*.c of Linux 6.18.
"""

import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attribute, nested
from undercroft.adapters.nftables import fields, numbers
from undercroft.adapters.nftables.fields import Fields, UnknownShapeError
from undercroft.errors import InputError
from undercroft.firewall.kernel import (
    Base,
    Bitwise,
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
    Payload,
    Range,
    SetMark,
    Unknown,
    Update,
)

_UPDATE = 1
_INVERTED = 1
_STATE = 0
_PACKETS = 0

_META_KEYS: Mapping[int, Key] = MappingProxyType({number: key for key, number in numbers.META_KEYS.items()})
_BASES: Mapping[int, Base] = MappingProxyType({number: base for base, number in numbers.BASES.items()})
_OPERATORS: Mapping[int, Operator] = MappingProxyType(
    {number: operator for operator, number in numbers.OPERATORS.items()}
)


def expression_attributes(expression: Expression) -> bytes:
    """Return the attributes of an expression: its name and its data.

    Raises InputError for a register that there is not, or a number that is too large.
    """
    try:
        name, data = _encoded(expression)
    except (struct.error, OverflowError) as error:
        raise InputError(f"{expression}: a number in it is more than the kernel holds: {error}") from error
    return attribute(numbers.EXPRESSION_NAME, name.encode() + b"\0") + nested(numbers.EXPRESSION_DATA, data)


def decode_expression(data: bytes) -> Expression:
    """Return the expression that these attributes are, or an Unknown. Raises nothing."""
    name, inner = "", data
    try:
        outer = Fields(data)
        name = outer.text(numbers.EXPRESSION_NAME)
        inner = outer.raw(numbers.EXPRESSION_DATA) if outer.has(numbers.EXPRESSION_DATA) else b""
        outer.finish()
        given = Fields(inner)
        expression = _DECODERS[name](given)
        given.finish()
    except (UnknownShapeError, KeyError):
        return Unknown(name, inner)
    return expression


def _encoded(expression: Expression) -> tuple[str, bytes]:
    match expression:
        case Payload(register, base, offset, length):
            data = fields.register(1, register) + fields.number(2, numbers.BASES[base])
            return "payload", data + fields.number(3, offset) + fields.number(4, length)
        case Meta(register, key):
            return "meta", fields.number(2, numbers.META_KEYS[key]) + fields.register(1, register)
        case SetMark(register):
            return "meta", fields.number(2, numbers.META_KEYS[Key.MARK]) + fields.register(3, register)
        case Immediate(verdict):
            data = fields.number(1, numbers.VERDICT_REGISTER) + nested(2, fields.verdict_data(verdict))
            return "immediate", data
        case Load(register, data):
            return "immediate", fields.register(1, register) + fields.value(2, data)
        case Conntrack(register):
            return "ct", fields.register(1, register) + fields.number(2, _STATE)
        case Unknown(name, data):
            return name, data
        case _:
            return _encoded_test(expression)


def _encoded_test(
    expression: Compare | Range | Bitwise | Counter | Lookup | Update | Limit | Log,
) -> tuple[str, bytes]:
    match expression:
        case Compare(register, operator, data):
            comparison = fields.register(1, register) + fields.number(2, numbers.OPERATORS[operator])
            return "cmp", comparison + fields.value(3, data)
        case Range(register, low, high, inverted):
            comparison = fields.register(1, register) + fields.number(2, inverted)
            return "range", comparison + fields.value(3, low) + fields.value(4, high)
        case Bitwise(source, target, mask, xor):
            ends = fields.register(1, source) + fields.register(2, target) + fields.number(3, len(mask))
            return "bitwise", ends + fields.value(4, mask) + fields.value(5, xor) + fields.number(6, 0)
        case Counter():
            return "counter", b""
        case _:
            return _encoded_with_names(expression)


def _encoded_with_names(expression: Lookup | Update | Limit | Log) -> tuple[str, bytes]:
    match expression:
        case Lookup():
            data = fields.text(1, expression.set_name) + fields.register(2, expression.register)
            if expression.verdicts:
                data += fields.number(3, numbers.VERDICT_REGISTER)
            elif expression.target is not None:
                data += fields.register(3, expression.target)
            return "lookup", data + (fields.number(5, _INVERTED) if expression.inverted else b"")
        case Update(set_name, register, timeout_ms, limit):
            data = fields.text(1, set_name) + fields.number(3, _UPDATE) + fields.register(4, register)
            data += fields.long(6, timeout_ms) if timeout_ms else b""
            return "dynset", data + (nested(7, expression_attributes(limit)) if limit else b"")
        case Limit(rate, per_s, burst):
            speed = fields.long(1, rate) + fields.long(2, per_s)
            return "limit", speed + fields.number(3, burst) + fields.number(4, _PACKETS)
        case Log(group, prefix, snap_bytes):
            data = attribute(1, struct.pack(">H", group))
            data += fields.text(2, prefix) if prefix else b""
            return "log", data + (fields.number(3, snap_bytes) if snap_bytes else b"")


def _require(condition: bool) -> None:
    if not condition:
        raise UnknownShapeError


def _payload(given: Fields) -> Expression:
    base = fields.known(_BASES, given.number(2))
    return Payload(given.register(1), base, given.number(3), given.number(4))


def _meta(given: Fields) -> Expression:
    key = fields.known(_META_KEYS, given.number(2))
    if given.has(3):
        _require(key is Key.MARK)
        return SetMark(given.register(3))
    return Meta(given.register(1), key)


def _compare(given: Fields) -> Expression:
    return Compare(given.register(1), fields.known(_OPERATORS, given.number(2)), given.value(3))


def _range(given: Fields) -> Expression:
    inverted = fields.known({0: False, 1: True}, given.number(2))
    return Range(given.register(1), given.value(3), given.value(4), inverted)


def _bitwise(given: Fields) -> Expression:
    if given.has(6):
        _require(given.number(6) == 0)
    length, mask, xor = given.number(3), given.value(4), given.value(5)
    _require(len(mask) == len(xor) == length)
    return Bitwise(given.register(1), given.register(2), mask, xor)


def _lookup(given: Fields) -> Expression:
    inverted = _flag(given, 5)
    name, register = given.text(1), given.register(2)
    if not given.has(3):
        return Lookup(name, register, inverted=inverted)
    target = given.register_or_verdict(3)
    return Lookup(name, register, target, inverted, verdicts=target is None)


def _immediate(given: Fields) -> Expression:
    register = given.register_or_verdict(1)
    if register is None:
        return Immediate(fields.decode_verdict(given.raw(2)))
    return Load(register, given.value(2))


def _dynset(given: Fields) -> Expression:
    given.ignore(8)
    _require(given.number(3) == _UPDATE and not _flag(given, 9))
    timeout_ms = given.number(6, 8) if given.has(6) else 0
    limit = decode_expression(given.raw(7)) if given.has(7) else None
    if limit is not None and not isinstance(limit, Limit):
        raise UnknownShapeError
    return Update(given.text(1), given.register(4), timeout_ms, limit)


def _conntrack(given: Fields) -> Expression:
    _require(given.number(2) == _STATE)
    return Conntrack(given.register(1))


def _limit(given: Fields) -> Expression:
    given.ignore(6)
    _require(given.number(4) == _PACKETS and not _flag(given, 5))
    return Limit(given.number(1, 8), given.number(2, 8), given.number(3))


def _log(given: Fields) -> Expression:
    prefix = given.text(2) if given.has(2) else ""
    return Log(given.number(1, 2), prefix, given.number(3) if given.has(3) else 0)


def _counter(given: Fields) -> Expression:
    given.ignore(1, 2, 3)
    return Counter()


def _flag(given: Fields, kind: int) -> bool:
    return given.has(kind) and fields.known({0: False, _INVERTED: True}, given.number(kind))


_DECODERS: Mapping[str, Callable[[Fields], Expression]] = MappingProxyType(
    {
        "payload": _payload,
        "meta": _meta,
        "cmp": _compare,
        "range": _range,
        "bitwise": _bitwise,
        "lookup": _lookup,
        "immediate": _immediate,
        "dynset": _dynset,
        "ct": _conntrack,
        "limit": _limit,
        "log": _log,
        "counter": _counter,
    }
)
