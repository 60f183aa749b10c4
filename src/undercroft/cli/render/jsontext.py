"""JSON for people and programs: what belongs together on one line, ASCII only (RFC 8259).

An object that holds only simple values (a finding, a package) is one line, so the text can be read,
searched by line and compared, and is written by the C encoder: the standard library's indented form,
which is written in Python, takes ten times longer for a fleet of snapshots.
"""

from collections.abc import Callable
from json.encoder import JSONEncoder
from typing import Any

_INDENT = "  "
_line = JSONEncoder().encode


def dump(document: dict[str, Any]) -> str:
    """Return `document` as text, ending with a newline."""
    pieces: list[str] = []
    _write(document, "\n", pieces.append)
    return "".join(pieces) + "\n"


def _write(value: Any, newline: str, put: Callable[[str], object]) -> None:
    if _is_flat(value):
        put(_line(value))
        return
    inner = newline + _INDENT
    before = inner
    if isinstance(value, dict):
        put("{")
        for name, item in value.items():
            put(f"{before}{_line(name)}: ")
            _write(item, inner, put)
            before = "," + inner
        put(newline + "}")
        return
    put("[")
    for item in value:
        put(before)
        _write(item, inner, put)
        before = "," + inner
    put(newline + "]")


def _is_flat(value: Any) -> bool:
    """Whether `value` holds no object, and no list but lists of simple values."""
    if isinstance(value, dict):
        for item in value.values():
            if isinstance(item, dict) or (isinstance(item, list) and _nests(item)):
                return False
        return True
    return not (isinstance(value, list) and _nests(value))


def _nests(items: list[Any]) -> bool:
    return bool(items) and isinstance(items[0], dict | list)  # lists here are of one kind
