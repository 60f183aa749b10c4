"""Dataclasses to JSON values and back; the way back is the check at the sandbox's border.

`decode(cls, value)` uses a function that is compiled once from the class's annotations. It accepts
exactly the declared types, texts up to `MAX_TEXT_CHARS` and lists up to `MAX_ITEMS`, and raises
`InputError` for anything else, naming the place. Supported annotations: bool, int, float, str, date,
datetime, enums with text values, IPv4Network | IPv6Network, X | None, tuple[X, ...] and other dataclasses.

    >>> decode(Snapshot, {"ident": "1", "name": "clean", ...})
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from datetime import date, datetime
from enum import Enum
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeVar, cast

from undercroft.errors import InputError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Value = TypeVar("Value")
Decoder = Callable[[Any, str], Any]

MAX_TEXT_CHARS = 1 << 16
MAX_ITEMS = 200_000
MAX_INT = 1 << 64


def encode(value: object) -> Json:
    """Return `value` (a dataclass, or what a field of one may hold) as JSON values."""
    match value:
        case Enum():
            return cast("str", value.value)
        case None | bool() | int() | float() | str():
            return value
        case datetime() | date():
            return value.isoformat()
        case IPv4Network() | IPv6Network():
            return str(value)
        case tuple() | list():
            return [encode(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {name: encode(getattr(value, name)) for name in _field_names(cast("Any", type(value)))}
    raise TypeError(f"no JSON form for {type(value).__name__}")


def decode(cls: type[Value], untrusted: object, place: str = "answer") -> Value:
    """Return an instance of the dataclass `cls` from JSON values. Raises InputError naming the place."""
    return cast("Value", _decoder(cast("Any", cls))(untrusted, place))


def decode_list(cls: type[Value], untrusted: object, place: str = "answer") -> tuple[Value, ...]:
    """Return a tuple of `cls` from a JSON list. Raises InputError naming the place."""
    return cast("tuple[Value, ...]", _tuple_decoder(_decoder(cast("Any", cls)))(untrusted, place))


@cache
def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _wrong(place: str, expected: str, found: object) -> InputError:
    return InputError(f"{place}: expected {expected}, found {type(found).__name__}")


def _text(value: Any, place: str) -> str:
    if type(value) is not str:
        raise _wrong(place, "a text", value)
    if len(value) > MAX_TEXT_CHARS:
        raise InputError(f"{place}: a text of {len(value)} characters, the limit is {MAX_TEXT_CHARS}")
    return value


def _integer(value: Any, place: str) -> int:
    if type(value) is not int or not -MAX_INT < value < MAX_INT:
        raise _wrong(place, "an integer below 2^64", value)
    return value


def _real(value: Any, place: str) -> float:
    if type(value) is int:
        return float(_integer(value, place))
    if type(value) is not float or not math.isfinite(value):
        raise _wrong(place, "a finite number", value)
    return value


def _flag(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise _wrong(place, "true or false", value)
    return value


def _moment(kind: type[date]) -> Decoder:
    def moment(value: Any, place: str) -> date:
        try:
            return kind.fromisoformat(_text(value, place))
        except ValueError as error:
            raise InputError(f"{place}: {value!r} is no ISO {kind.__name__}") from error

    return moment


def _network(value: Any, place: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(_text(value, place))
    except ValueError as error:
        raise InputError(f"{place}: {value!r} is no network") from error


def _enum_decoder(cls: type[Enum]) -> Decoder:
    members = {member.value: member for member in cls}

    def member(value: Any, place: str) -> Enum:
        found = members.get(value) if type(value) is str else None
        if found is None:
            raise _wrong(place, "one of " + ", ".join(map(str, members)), value)
        return found

    return member


def _tuple_decoder(item: Decoder) -> Decoder:
    def items(value: Any, place: str) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _wrong(place, "a list", value)
        if len(value) > MAX_ITEMS:
            raise InputError(f"{place}: a list of {len(value)}, the limit is {MAX_ITEMS}")
        return tuple([item(entry, place) for entry in value])

    return items


def _optional_decoder(inner: Decoder) -> Decoder:
    return lambda value, place: None if value is None else inner(value, place)


def _dataclass_decoder(cls: type) -> Decoder:
    hints = typing.get_type_hints(cls)
    fields = [(field.name, _decoder(hints[field.name])) for field in dataclasses.fields(cls)]
    names = {name for name, _ in fields}

    def instance(value: Any, place: str) -> object:
        if type(value) is not dict or value.keys() != names:
            if type(value) is not dict:
                raise _wrong(place, f"an object {cls.__name__}", value)
            raise InputError(f"{place}: the fields of {cls.__name__} are {sorted(names)}")
        return cls(*[decoder(value[name], name) for name, decoder in fields])

    return instance


_LEAVES: dict[Any, Decoder] = {
    str: _text,
    int: _integer,
    float: _real,
    bool: _flag,
    date: _moment(date),
    datetime: _moment(datetime),
    IPv4Network | IPv6Network: _network,
}


@cache
def _decoder(annotation: Any) -> Decoder:
    if annotation in _LEAVES:
        return _LEAVES[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _tuple_decoder(_decoder(arguments[0]))
    if isinstance(annotation, types.UnionType) and len(arguments) == 2 and types.NoneType in arguments:
        return _optional_decoder(_decoder(next(kind for kind in arguments if kind is not types.NoneType)))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _enum_decoder(annotation)
    if dataclasses.is_dataclass(annotation):
        return _dataclass_decoder(cast("type", annotation))
    raise TypeError(f"no decoder for {annotation!r}")
