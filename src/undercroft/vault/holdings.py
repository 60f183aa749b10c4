"""What one machine's vault holds, as decisions without I/O: counters, names, ledgers, sealed blobs.

Nothing in here falls, shrinks or forgets. Methods take whatever integers they get; `core.py` says who may
call them, and how both are proven.
"""

from undercroft.vault.answers import EXHAUSTED, MALFORMED, MOVED, RESERVE_LIMIT, SPAN
from undercroft.vault.chain import link


class Counters:
    """The last value of each name; 0 for a name that has none."""

    def __init__(self, values: dict[int, int]) -> None:
        """Takes the values over."""
        self.values: dict[int, int] = values

    def value(self, name: int) -> int:
        """The last value that was handed out."""
        return self.values[name] if name in self.values else 0

    def advance(self, epoch: int, name: int, count: int) -> int:
        """Hands out values of a name, above all earlier ones and within the epoch: the first of them."""
        if count < 1 or count > RESERVE_LIMIT:
            return MALFORMED
        last = self.value(name)
        if last < epoch * SPAN:
            last = epoch * SPAN
        if last + count >= (epoch + 1) * SPAN:
            return EXHAUSTED
        self.values[name] = last + count
        return last + 1


class Names:
    """A set of names that only grows."""

    def __init__(self, names: set[int]) -> None:
        """Takes the names over."""
        self.names: set[int] = names

    def has(self, name: int) -> bool:
        """Whether the name is in the set."""
        return name in self.names

    def add(self, name: int) -> bool:
        """Adds a name; whether it was missing."""
        if self.has(name):
            return False
        self.names.add(name)
        return True


class Ledgers:
    """Height and head of each ledger; 0 and 0 for one without entries."""

    def __init__(self, heights: dict[int, int], heads: dict[int, int]) -> None:
        """Takes heights and heads over."""
        self.heights: dict[int, int] = heights
        self.heads: dict[int, int] = heads

    def height(self, name: int) -> int:
        """How many entries the ledger has."""
        return self.heights[name] if name in self.heights else 0

    def head(self, name: int) -> int:
        """The head over all entries."""
        return self.heads[name] if name in self.heads else 0

    def append(self, name: int, height: int, head: int, entry: int) -> int:
        """Appends an entry where the caller expects it to go: the new height."""
        if height < 0 or height != self.height(name) or head != self.head(name):
            return MOVED
        grown = link(self.head(name), entry)
        self.heights[name] = height + 1
        self.heads[name] = grown
        return height + 1


class Blobs:
    """Version and content of each sealed blob. A version is a value like a counter's: none comes twice."""

    def __init__(self, versions: Counters, contents: dict[int, int]) -> None:
        """Takes versions and contents over."""
        self.versions: Counters = versions
        self.contents: dict[int, int] = contents

    def version(self, name: int) -> int:
        """The blob's version; 0 where there is none."""
        return self.versions.value(name)

    def content(self, name: int) -> int:
        """The digest of what that version holds."""
        return self.contents[name] if name in self.contents else 0

    def store(self, epoch: int, name: int, version: int, content: int) -> int:
        """Stores over the version that the caller expects: the new version."""
        if version != self.version(name):
            return MOVED
        stored = self.versions.advance(epoch, name, 1)
        if stored >= 0:
            self.contents[name] = content
        return stored
