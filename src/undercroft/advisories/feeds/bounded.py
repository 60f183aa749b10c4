"""Untrusted files and JSON documents, read within limits.

Whatever is wrong with the bytes comes out as `InputError`: a file that passes its limit, JSON that is
malformed, nested too deeply, or made of too many values. Compressed streams are `decompression`'s.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NoReturn, cast

from undercroft.errors import InputError
from undercroft.model.schema import Json

MAX_JSON_VALUES = 24_000_000
"""Bound on a document's values, counted as commas and brackets: a value costs Python about 60 bytes.
The Debian tracker has some 6 million, every other document far fewer."""


def read_all(file: BinaryIO, limit: int, what: str) -> bytes:
    """Return the rest of `file`. Raises InputError when it is longer than `limit` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise InputError(f"{what}: larger than the limit of {limit} bytes")
    return data


def decode_text(data: bytes, what: str) -> str:
    """Return `data` as text. Raises InputError unless it is UTF-8 (a leading byte order mark is dropped)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: no UTF-8 at byte {error.start}") from error


def load_json(data: bytes, what: str) -> Json:
    """Return the JSON document in `data`. Raises InputError."""
    text = _checked_text(data, what)
    try:
        return cast("Json", _DECODER.decode(text))
    except RecursionError as error:
        raise InputError(f"{what}: JSON nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{what}: no valid JSON: {error}") from error


def json_members(data: bytes, what: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the JSON object in `data`, one value in memory at a time. Raises InputError."""
    text = _checked_text(data, what)
    position = _skip_space(text, _expect(text, _skip_space(text, 0), "{", what))
    if text[position : position + 1] == "}":
        _expect_end(text, position + 1, what)
        return
    while True:
        key, position = _scan(text, _skip_space(text, position), what)
        if not isinstance(key, str):
            raise InputError(f"{what}: no valid JSON: a key is no text at character {position}")
        position = _expect(text, _skip_space(text, position), ":", what)
        value, position = _scan(text, _skip_space(text, position), what)
        yield key, value
        position = _skip_space(text, position)
        if text[position : position + 1] == "}":
            _expect_end(text, position + 1, what)
            return
        position = _expect(text, position, ",", what)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _checked_text(data: bytes, what: str) -> str:
    if data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_JSON_VALUES:
        raise InputError(f"{what}: JSON of more than {MAX_JSON_VALUES} values")
    return decode_text(data, what)


def _scan(text: str, position: int, what: str) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except RecursionError as error:
        raise InputError(f"{what}: JSON nested too deeply after character {position}") from error
    except ValueError as error:
        raise InputError(f"{what}: no valid JSON: {error}") from error


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in {" ", "\t", "\n", "\r"}:
        position += 1
    return position


def _expect(text: str, position: int, token: str, what: str) -> int:
    if text[position : position + 1] != token:
        raise InputError(f"{what}: no valid JSON: expected {token!r} at character {position}")
    return position + 1


def _expect_end(text: str, position: int, what: str) -> None:
    if _skip_space(text, position) != len(text):
        raise InputError(f"{what}: no valid JSON: something follows its end at character {position}")
