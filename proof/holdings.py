"""What one machine's vault holds, as decisions without I/O: counters, names, ledgers, sealed blobs.

Nothing in here falls, shrinks or forgets. Methods take whatever integers they get; `core.py` says who may
call them, and how both are proven.
"""

from nagini_contracts.contracts import (
    Acc,
    ContractOnly,
    Ensures,
    Fold,
    Forall,
    Implies,
    Old,
    Predicate,
    Pure,
    Rd,
    Requires,
    Result,
    Unfold,
    Unfolding,
    dict_pred,
    set_pred,
)

from undercroft.vault.answers import EXHAUSTED, MALFORMED, MOVED, RESERVE_LIMIT, SPAN


@Pure
@ContractOnly
def link(head: int, entry: int) -> int:
    """A ledger's head after an entry; assumed to depend on its arguments alone."""


class Counters:
    """The last value of each name; 0 for a name that has none."""

    def __init__(self, values: dict[int, int]) -> None:
        """Takes the values over."""
        Requires(dict_pred(values))
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (
            self.value(n) == Old(values[n] if n in values else 0), [[self.value(n)]])))
        self.values: dict[int, int] = values
        Fold(self.state())

    @Predicate
    def state(self) -> bool:
        return Acc(self.values) and dict_pred(self.values)

    @Pure
    def value(self, name: int) -> int:
        """The last value that was handed out."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), self.values[name] if name in self.values else 0)

    def advance(self, epoch: int, name: int, count: int) -> int:
        """Hands out values of a name, above all earlier ones and within the epoch: the first of them."""
        Requires(self.state() and epoch >= 0)
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() >= 0 and n is name), self.value(n) == Old(self.value(n))), [[self.value(n)]])))
        Ensures((Result() >= 0) == (1 <= count and count <= RESERVE_LIMIT
                                    and Old(self.value(name)) + count < (epoch + 1) * SPAN))
        Ensures(Implies(Result() >= 0, Result() > Old(self.value(name)) and Result() > epoch * SPAN
                        and self.value(name) == Result() + count - 1 and self.value(name) < (epoch + 1) * SPAN))
        if count < 1 or count > RESERVE_LIMIT:
            return MALFORMED
        last = self.value(name)
        if last < epoch * SPAN:
            last = epoch * SPAN
        if last + count >= (epoch + 1) * SPAN:
            return EXHAUSTED
        Unfold(self.state())
        self.values[name] = last + count
        Fold(self.state())
        return last + 1


class Names:
    """A set of names that only grows."""

    def __init__(self, names: set[int]) -> None:
        """Takes the names over."""
        Requires(set_pred(names))
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (self.has(n) == Old(n in names), [[self.has(n)]])))
        self.names: set[int] = names
        Fold(self.state())

    @Predicate
    def state(self) -> bool:
        return Acc(self.names) and set_pred(self.names)

    @Pure
    def has(self, name: int) -> bool:
        """Whether the name is in the set."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), name in self.names)

    def add(self, name: int) -> bool:
        """Adds a name; whether it was missing."""
        Requires(self.state())
        Ensures(self.state())
        Ensures(Result() == (not Old(self.has(name))) and self.has(name))
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() and n is name), self.has(n) == Old(self.has(n))), [[self.has(n)]])))
        if self.has(name):
            return False
        Unfold(self.state())
        self.names.add(name)
        Fold(self.state())
        return True


class Ledgers:
    """Height and head of each ledger; 0 and 0 for one without entries."""

    def __init__(self, heights: dict[int, int], heads: dict[int, int]) -> None:
        """Takes heights and heads over."""
        Requires(dict_pred(heights) and dict_pred(heads))
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (
            self.height(n) == Old(heights[n] if n in heights else 0), [[self.height(n)]])))
        Ensures(Forall(int, lambda n: (self.head(n) == Old(heads[n] if n in heads else 0), [[self.head(n)]])))
        self.heights: dict[int, int] = heights
        self.heads: dict[int, int] = heads
        Fold(self.state())

    @Predicate
    def state(self) -> bool:
        return Acc(self.heights) and dict_pred(self.heights) and Acc(self.heads) and dict_pred(self.heads)

    @Pure
    def height(self, name: int) -> int:
        """How many entries the ledger has."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), self.heights[name] if name in self.heights else 0)

    @Pure
    def head(self, name: int) -> int:
        """The head over all entries."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), self.heads[name] if name in self.heads else 0)

    def append(self, name: int, height: int, head: int, entry: int) -> int:
        """Appends an entry where the caller expects it to go: the new height."""
        Requires(self.state())
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() >= 0 and n is name), self.height(n) == Old(self.height(n))), [[self.height(n)]])))
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() >= 0 and n is name), self.head(n) == Old(self.head(n))), [[self.head(n)]])))
        Ensures((Result() >= 0) == (height >= 0 and height == Old(self.height(name))
                                    and head == Old(self.head(name))))
        Ensures(Implies(Result() >= 0, Result() == height + 1 and self.height(name) == height + 1
                        and self.head(name) == link(Old(self.head(name)), entry)))
        if height < 0 or height != self.height(name) or head != self.head(name):
            return MOVED
        grown = link(self.head(name), entry)
        Unfold(self.state())
        self.heights[name] = height + 1
        self.heads[name] = grown
        Fold(self.state())
        return height + 1


class Blobs:
    """Version and content of each sealed blob. A version is a value like a counter's: none comes twice."""

    def __init__(self, versions: Counters, contents: dict[int, int]) -> None:
        """Takes versions and contents over."""
        Requires(versions.state() and dict_pred(contents))
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (self.version(n) == Old(versions.value(n)), [[self.version(n)]])))
        Ensures(Forall(int, lambda n: (
            self.content(n) == Old(contents[n] if n in contents else 0), [[self.content(n)]])))
        self.versions: Counters = versions
        self.contents: dict[int, int] = contents
        Fold(self.state())

    @Predicate
    def state(self) -> bool:
        return Acc(self.versions) and self.versions.state() and Acc(self.contents) and dict_pred(self.contents)

    @Pure
    def version(self, name: int) -> int:
        """The blob's version; 0 where there is none."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), self.versions.value(name))

    @Pure
    def content(self, name: int) -> int:
        """The digest of what that version holds."""
        Requires(Rd(self.state()))
        return Unfolding(Rd(self.state()), self.contents[name] if name in self.contents else 0)

    def store(self, epoch: int, name: int, version: int, content: int) -> int:
        """Stores over the version that the caller expects: the new version."""
        Requires(self.state() and epoch >= 0)
        Ensures(self.state())
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() >= 0 and n is name), self.version(n) == Old(self.version(n))),
            [[self.version(n)]])))
        Ensures(Forall(int, lambda n: (
            Implies(not (Result() >= 0 and n is name), self.content(n) == Old(self.content(n))),
            [[self.content(n)]])))
        Ensures((Result() >= 0) == (version == Old(self.version(name)) and version + 1 < (epoch + 1) * SPAN))
        Ensures(Implies(Result() >= 0, Result() > version and Result() > epoch * SPAN
                        and Result() < (epoch + 1) * SPAN
                        and self.version(name) == Result() and self.content(name) == content))
        if version != self.version(name):
            return MOVED
        Unfold(self.state())
        stored = self.versions.advance(epoch, name, 1)
        if stored >= 0:
            self.contents[name] = content
        Fold(self.state())
        return stored
