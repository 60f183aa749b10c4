"""Values as bytes: a strict subset of CBOR (RFC 8949) in its deterministic encoding, for untrusted input.

What is taken: integers from -2^63 to 2^64 - 1, byte strings, text in UTF-8, arrays, maps with integers or
texts as keys, false, true and null. Everything else is refused: tags, floats, undefined, indefinite lengths,
longer forms where a shorter exists, keys out of order or twice, bytes left over (RFC 8949, section 4.2.1). So
each value has one encoding, and `encode(decode(data)) == data` for everything that `decode` takes.

The limits: `MAX_BYTES` in all, `MAX_DEPTH` arrays and maps within each other, `MAX_ITEMS` members of all of
them together (a pair is one). A length is compared with what is there before anything is made of it.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import TypeAlias

from undercroft.errors import InputError

MAX_BYTES = 65_536
MAX_DEPTH = 8
MAX_ITEMS = 4_096
MAX_INTEGER = (1 << 64) - 1
MIN_INTEGER = -(1 << 63)

Value: TypeAlias = "int | bytes | str | bool | Sequence[Value] | Mapping[int | str, Value] | None"

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP = range(6)
_STRINGS = (_BYTES, _TEXT)
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}
_SMALL = [bytes((number,)) for number in range(24)]
_SMALL_BYTES = [bytes((_BYTES << 5 | size,)) for size in range(24)]
_SHORT, _LONG = Struct(">H"), Struct(">I")
_LONGER = Struct(">Q")
_WIDTHS = {24: (1, 24), 25: (2, 0x100), 26: (4, 0x10000), 27: (8, 0x1_0000_0000)}
"""By the low five bits of a first byte: how many bytes of a number follow, and the least that needs them."""


def encode(value: Value) -> bytes:
    """Return a value's encoding.

    Raises InputError for a type, a size or a depth that `decode` would not take back.
    """
    out: list[bytes] = []
    _write(value, out, 0, [MAX_ITEMS])
    data = b"".join(out)
    if len(data) > MAX_BYTES:
        raise InputError(f"a value of {len(data)} bytes cannot be sent: {MAX_BYTES} can")
    return data


def decode(untrusted: bytes) -> Value:
    """Return the value of an encoding that is whole and has nothing after it; arrays are lists, maps dicts.

    Raises InputError for everything that is not the deterministic encoding of a value within the limits.
    """
    if len(untrusted) > MAX_BYTES:
        raise InputError(f"a value of {len(untrusted)} bytes is not taken: {MAX_BYTES} are")
    value, end = _read(untrusted, 0, 0, [MAX_ITEMS])
    if end != len(untrusted):
        raise InputError(f"{len(untrusted) - end} bytes follow a value that ends at byte {end}")
    return value


def _head(major: int, argument: int) -> bytes:
    first = major << 5
    if argument < 24:
        return bytes((first | argument,))
    if argument < 0x100:
        return bytes((first | 24, argument))
    if argument < 0x10000:
        return bytes((first | 25,)) + _SHORT.pack(argument)
    if argument < 0x1_0000_0000:
        return bytes((first | 26,)) + _LONG.pack(argument)
    return bytes((first | 27,)) + _LONGER.pack(argument)


def _write(value: Value, out: list[bytes], depth: int, left: list[int]) -> None:
    kind = type(value)
    if kind is int:
        out.append(_integer(value))  # type: ignore[arg-type]
    elif isinstance(value, bytes):
        out.append(_head(_BYTES, len(value)))
        out.append(value)
    elif isinstance(value, str):
        text = _encoded(value)
        out += (_head(_TEXT, len(text)), text)
    elif value is None or isinstance(value, bool):
        out.append(b"\xf6" if value is None else b"\xf5" if value else b"\xf4")
    elif isinstance(value, list | tuple):
        _inside(depth, len(value), left)
        out.append(_head(_ARRAY, len(value)))
        for member in value:
            if type(member) is int and 0 <= member < 24:  # most of a batch: no call for each
                out.append(_SMALL[member])
            elif type(member) is bytes and len(member) < 24:
                out.append(_SMALL_BYTES[len(member)])
                out.append(member)
            else:
                _write(member, out, depth + 1, left)
    elif isinstance(value, dict):
        _write_map(value, out, depth, left)
    else:
        raise InputError(f"a value of type {kind.__name__} cannot be sent")


def _write_map(value: Mapping[int | str, Value], out: list[bytes], depth: int, left: list[int]) -> None:
    """Keys in the order of their encodings' bytes (section 4.2.1)."""
    _inside(depth, len(value), left)
    members: list[tuple[bytes, Value]] = []
    for key, member in value.items():
        if type(key) is not int and not isinstance(key, str):
            raise InputError(f"a key of type {type(key).__name__} cannot be sent")
        members.append((encode(key), member))
    out.append(_head(_MAP, len(members)))
    for encoded, member in sorted(members, key=lambda pair: pair[0]):
        out.append(encoded)
        _write(member, out, depth + 1, left)


def _integer(value: int) -> bytes:
    if not MIN_INTEGER <= value <= MAX_INTEGER:
        raise InputError(f"the number {value:#x} cannot be sent: it needs more than 64 bits")
    return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError("a text with half a surrogate pair cannot be sent") from error


def _inside(depth: int, count: int, left: list[int]) -> None:
    """Go into an array or map; `left` is how many members there may still be, and shrinks."""
    if depth >= MAX_DEPTH:
        raise InputError(f"values within values are taken to a depth of {MAX_DEPTH}")
    left[0] -= count
    if left[0] < 0:
        raise InputError(f"more than {MAX_ITEMS} members in all are not taken")


def _read(data: bytes, at: int, depth: int, left: list[int]) -> tuple[Value, int]:
    """Return the value that begins at `at`, and where it ends."""
    if at >= len(data):
        raise InputError(f"a value is cut off at byte {at}")
    first = data[at]
    at += 1
    major, argument = first >> 5, first & 0x1F
    if major > _MAP:
        if first in _SIMPLE:
            return _SIMPLE[first], at
        raise InputError(f"the byte {first:#04x} begins no value that is taken (tag, float or other)")
    if argument >= 24:
        argument, at = _argument(data, at, argument)
    if major == _UNSIGNED:
        return argument, at
    if major in _STRINGS:
        end = at + argument
        if end > len(data):
            raise InputError(f"a string of {argument} bytes is cut off at byte {len(data)}")
        return (data[at:end] if major == _BYTES else _text(data[at:end])), end
    if major == _NEGATIVE:
        return _negative(argument), at
    if argument > len(data) - at:  # each member is a byte or more
        raise InputError(f"a value of {argument} members is cut off at byte {len(data)}")
    _inside(depth, argument, left)
    if major == _MAP:
        return _map(data, at, argument, depth + 1, left)
    members: list[Value] = []
    size = len(data)
    for _ in range(argument):
        first = data[at] if at < size else 0xFF
        end = at + first - 0x3F
        if first < 24:  # small numbers and short strings are most of a batch: no call for each
            members.append(first)
            at += 1
        elif 0x40 <= first < 0x58 and end <= size:
            members.append(data[at + 1 : end])
            at = end
        else:
            member, at = _read(data, at, depth + 1, left)
            members.append(member)
    return members, at


def _argument(data: bytes, at: int, form: int) -> tuple[int, int]:
    """Return a number that stands after a first byte, and where it ends; only the shortest form is taken."""
    if form not in _WIDTHS:
        raise InputError(f"the form {form} of a length is not taken: lengths are definite")
    width, least = _WIDTHS[form]
    if at + width > len(data):
        raise InputError(f"a number of {width} bytes is cut off at byte {len(data)}")
    number = int.from_bytes(data[at : at + width], "big")
    if number < least:
        raise InputError(f"the number {number} has {width} bytes where fewer do")
    return number, at + width


def _negative(argument: int) -> int:
    if argument > -1 - MIN_INTEGER:
        raise InputError(f"the number {-1 - argument:#x} is not taken: it needs more than 64 bits")
    return -1 - argument


def _text(untrusted: bytes) -> str:
    try:
        return untrusted.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"a text is no UTF-8 at its byte {error.start}") from error


def _map(data: bytes, at: int, count: int, depth: int, left: list[int]) -> tuple[dict[int | str, Value], int]:
    found: dict[int | str, Value] = {}
    before = b""
    for _ in range(count):
        key, end = _read(data, at, depth, left)
        encoded = data[at:end]
        if type(key) is not int and not isinstance(key, str):
            raise InputError("a key is neither number nor text")
        if encoded <= before:
            raise InputError(f"the key {key!r:.40} stands twice or out of order")
        before = encoded
        found[key], at = _read(data, end, depth, left)
    return found, at
