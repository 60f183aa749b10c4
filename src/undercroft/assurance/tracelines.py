"""The events of a trace as lines of JSON, so that several processes can write one trace; and back, strictly.

line(Ended(clock(), eid))      bytes with their newline, to be appended in one write
events = read(lines)           of all files together, in the order of their moments
"""

import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from functools import cache
from typing import Final, cast

from undercroft.assurance.trace import KINDS, Asked, Event, Value
from undercroft.channel.requests import Operation, Outcome, Rests, read_request
from undercroft.errors import InputError
from undercroft.model.execution import Origin

MAX_LINE_BYTES: Final = 512 * 1024
MAX_TEXT_CHARS: Final = 1_000
_MAX_INT: Final = (1 << 63) - 1
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EID = re.compile("[0-9a-f]{32}")


def line(event: Event) -> bytes:
    """Return the event as one line of JSON with its newline.

    Raises:
        InputError: a field holds what `read` would not take.
    """
    found = {each.name: _written(getattr(event, each.name)) for each in fields(event)}
    written = json.dumps({"event": type(event).__name__.lower(), **found}, separators=(",", ":")) + "\n"
    if _read_line(written.encode("ascii")) != event:
        raise InputError(f"a trace holds no {event!r:.200}")
    return written.encode("ascii")


def read(untrusted_lines: Iterable[bytes]) -> list[Event]:
    """Return the events of a trace, ordered by their moments; those of one moment stay as they came.

    Args:
        untrusted_lines: of one file after the other, each with its newline: one without is torn.

    Raises:
        InputError: a line is no event, with its number from 1; nothing is left out.
    """
    events: list[Event] = []
    for number, untrusted in enumerate(untrusted_lines, 1):
        try:
            events.append(_read_line(untrusted))
        except InputError as error:
            raise InputError(f"line {number} of the trace: {error}") from None
    return sorted(events, key=lambda event: event.at_ns)


def _read_line(untrusted: bytes) -> Event:
    if len(untrusted) > MAX_LINE_BYTES or not untrusted.endswith(b"\n"):
        raise InputError(f"it is torn, or longer than {MAX_LINE_BYTES} bytes")
    try:
        found = json.loads(untrusted, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InputError("it is no JSON") from None
    word = found.pop("event", None) if isinstance(found, dict) else None
    kind = KINDS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise InputError("it is no event of this version")
    readers = _readers(kind.__name__)
    if set(found) != set(readers):
        raise InputError(f"{kind.__name__.lower()} has the fields {', '.join(readers)}")
    values = {name: readers[name](found[name]) for name in readers}
    make = cast("Callable[..., Event]", kind)
    if kind is Asked:
        asked = cast("Asked", make(**values))
        read_request([int(asked.operation), *asked.arguments])
    return make(**values)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Take an object of JSON that has no name twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


@cache
def _readers(name: str) -> Mapping[str, Callable[[object], object]]:
    kind = KINDS[name.lower()]
    hints = typing.get_type_hints(kind)
    named = {"machine": _machine, "eid": _eid, "parent": lambda found: found and _eid(found)}
    return {each.name: named.get(each.name) or _READERS[hints[each.name]] for each in fields(kind)}


def _written(value: object) -> object:
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    if isinstance(value, Enum):
        return value.value
    return {"hex": value.hex()} if isinstance(value, bytes) else value


def _machine(untrusted: object) -> str:
    if not isinstance(untrusted, str) or not _UUID.fullmatch(untrusted):
        raise InputError("a machine is a UUID in lower case")
    return untrusted


def _eid(untrusted: object) -> str:
    if not isinstance(untrusted, str) or not _EID.fullmatch(untrusted):
        raise InputError("an execution is 32 hexadecimal digits in lower case")
    return untrusted


def _number(untrusted: object) -> int:
    if type(untrusted) is not int or not 0 <= untrusted <= _MAX_INT:
        raise InputError("a number is from 0 to 2^63 - 1")
    return untrusted


def _flag(untrusted: object) -> bool:
    if not isinstance(untrusted, bool):
        raise InputError("something else stands where true or false belongs")
    return untrusted


def _text(untrusted: object) -> str:
    if not isinstance(untrusted, str) or len(untrusted) > MAX_TEXT_CHARS:
        raise InputError(f"a text has at most {MAX_TEXT_CHARS} characters")
    return untrusted


def _values(untrusted: object) -> tuple[Value, ...]:
    if not isinstance(untrusted, list):
        raise InputError("values are a list")
    return tuple(_value(each) for each in untrusted)


def _value(untrusted: object) -> Value:
    if isinstance(untrusted, bool):
        return untrusted
    if isinstance(untrusted, int):
        return _number(untrusted)
    if isinstance(untrusted, dict) and set(untrusted) == {"hex"} and isinstance(untrusted["hex"], str):
        try:
            found = bytes.fromhex(untrusted["hex"])
        except ValueError:
            raise InputError("bytes are hexadecimal digits") from None
        if found.hex() == untrusted["hex"]:
            return found
        raise InputError("bytes are hexadecimal digits in lower case")
    return _text(untrusted)


def _member(of: type[Enum]) -> Callable[[object], object]:
    members = {each.value: each for each in of}

    def reader(untrusted: object) -> object:
        known = isinstance(untrusted, str) or type(untrusted) is int
        if not known or untrusted not in members:
            raise InputError(f"there is no {of.__name__.lower()} {untrusted!r:.40}")
        return members[untrusted]

    return reader


_READERS: Final[Mapping[object, Callable[[object], object]]] = {
    int: _number,
    bool: _flag,
    str: _text,
    tuple[Value, ...]: _values,
    **{each: _member(each) for each in (Origin, Operation, Outcome, Rests)},
}
