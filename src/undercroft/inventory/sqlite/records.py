"""Varints and records of SQLite's file format (sections 2.1 and 2.3)."""

from undercroft.errors import InputError

Value = None | int | float | str | bytes

MAX_COLUMNS = 2000
"""SQLITE_MAX_COLUMN's default."""

_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_REAL = 7


def read_varint(untrusted: bytes, at: int) -> tuple[int, int]:
    """Return (value, offset behind it) of the varint at `at`. Raises InputError where it is cut off."""
    value = 0
    for index in range(9):
        if at + index >= len(untrusted):
            raise InputError("sqlite record: a number is cut off")
        byte = untrusted[at + index]
        if index == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if not byte & 0x80:
            return value, at + index + 1
    raise AssertionError("the ninth byte ends it")


def decode_record(untrusted: bytes, wanted: tuple[int, ...]) -> list[Value]:
    """Return the values of the columns `wanted`, None for those that the record is too short for.

    Texts come as strings (UTF-8, surrogate-escaped), real numbers as their 8 bytes' integer: nothing here
    needs them.

    Raises:
        InputError: the record is malformed.
    """
    header_end, at = read_varint(untrusted, 0)
    if header_end > len(untrusted):
        raise InputError("sqlite record: its header is longer than itself")
    places: list[tuple[int, int]] = []
    content = header_end
    while at < header_end:
        if len(places) >= MAX_COLUMNS:
            raise InputError(f"sqlite record: more than {MAX_COLUMNS} columns")
        kind, at = read_varint(untrusted, at)
        places.append((kind, content))
        if kind in (10, 11):
            raise InputError(f"sqlite record: the reserved type {kind}")
        content += _SIZES[kind] if kind < 10 else (kind - 12) // 2
    if at != header_end or content > len(untrusted):
        raise InputError(f"sqlite record: {content} bytes are named, {len(untrusted)} are there")
    return [_value(untrusted, *places[index]) if index < len(places) else None for index in wanted]


def _value(untrusted: bytes, kind: int, at: int) -> Value:
    if kind == 0:
        return None
    if kind in (8, 9):
        return kind - 8
    if kind < _REAL + 1:
        return int.from_bytes(untrusted[at : at + _SIZES[kind]], "big", signed=True)
    data = untrusted[at : at + (kind - 12) // 2]
    return data if kind % 2 == 0 else data.decode("utf-8", "surrogateescape")
