"""Rows' JSON back to values, and a bounded memory of those that never change.

What stands under its own digest can be remembered without asking whether it is still so.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeVar, cast

from undercroft.errors import DamagedError, InputError
from undercroft.model.schema import decode, decode_list

Value = TypeVar("Value")

MAX_CACHED_CHARS = 8 << 20
"""Of all remembered values' JSON together; as values they take some five times as many bytes."""


def from_text(cls: type[Value], text: str, row: str) -> Value:
    """Return the value of a row.

    Args:
        cls: its dataclass.
        text: JSON as it stands in the database; checked as if it came from outside.
        row: names the row in the error ("scan of machine:...").

    Raises:
        DamagedError: the row does not hold such a value.
    """
    try:
        return decode(cls, json.loads(text), row)
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise _damaged(row, error) from error


def list_from_text(cls: type[Value], text: str, row: str) -> tuple[Value, ...]:
    """Return the values of a row that holds a list; as `from_text`."""
    try:
        return decode_list(cls, json.loads(text), row)
    except (ValueError, TypeError, RecursionError, InputError) as error:
        raise _damaged(row, error) from error


def from_texts(cls: type[Value], texts: Sequence[str], table: str) -> list[Value]:
    """Return the values of many rows; as `from_text`, but parsed in one go."""
    try:
        documents = json.loads(f"[{','.join(texts)}]")
        if len(documents) == len(texts):
            return [decode(cls, document, table) for document in documents]
    except (ValueError, TypeError, RecursionError, InputError):
        pass
    return [from_text(cls, text, f"row {index} of {table}") for index, text in enumerate(texts)]


class Remembered:
    """Values by digest, least recently used ones forgotten first. May be used by several threads."""

    def __init__(self, limit_chars: int = MAX_CACHED_CHARS) -> None:
        self._limit_chars = limit_chars
        self._held_chars = 0
        self._values: OrderedDict[tuple[type, str], tuple[object, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, cls: type[Value], digest: str) -> Value | None:
        """Return the value with that digest, None where it is not at hand."""
        with self._lock:
            found = self._values.get((cls, digest))
            if found is None:
                return None
            self._values.move_to_end((cls, digest))
            return cast("Value", found[0])

    def put(self, cls: type[Value], digest: str, value: Value, size_chars: int) -> None:
        """Remember a value, unless it is larger than everything together may be."""
        with self._lock:
            if (cls, digest) in self._values or size_chars > self._limit_chars:
                return
            self._values[cls, digest] = value, size_chars
            self._held_chars += size_chars
            while self._held_chars > self._limit_chars:
                _, (_, forgotten_chars) = self._values.popitem(last=False)
                self._held_chars -= forgotten_chars


def _damaged(row: str, error: Exception) -> DamagedError:
    return DamagedError(
        f"the record's {row} is damaged: {error}; undercroft audit verify tells whether the log is whole"
    )
