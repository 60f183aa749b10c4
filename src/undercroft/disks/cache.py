"""A bounded cache. A full one is emptied: that costs nothing per entry, and what is in use comes back."""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """A dictionary of at most `limit` entries. `get` is the dictionary's own, for speed."""

    __slots__ = ("_entries", "_limit", "get")

    def __init__(self, limit: int) -> None:
        self._entries: dict[Key, Value] = {}
        self._limit = limit
        self.get = self._entries.get

    def put(self, key: Key, value: Value) -> Value:
        """Store and return `value`."""
        entries = self._entries
        if len(entries) >= self._limit:
            entries.clear()
        entries[key] = value
        return value

    def drop(self, key: Key) -> None:
        """Remove `key` if it is there."""
        self._entries.pop(key, None)
