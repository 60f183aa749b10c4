"""The kernel's packet filter: our table in it, read, replaced as a whole, and changed by single elements."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from undercroft.firewall.kernel import Ruleset, Table, Verdict

Elements = Mapping[str, Mapping[bytes, bytes | Verdict | None]]
"""Set name -> key -> data (None for a set)."""

Keys = Mapping[str, Collection[bytes]]
"""Set name -> keys."""

Timeouts = Mapping[str, Mapping[bytes, int]]
"""Set name -> key -> milliseconds after which the element goes."""


@dataclass(frozen=True, slots=True)
class TableName:
    """A table of any family: "ip", "ip6", "inet", "arp", "bridge", "netdev", or "family 9"."""

    family: str
    name: str


@dataclass(frozen=True, slots=True)
class GenerationChange:
    """Somebody changed some table; the number is of all tables together.

    Attributes:
        generation: the new number, never 0.
        process_id: of who did it, 0 where that is not known.
        process_name: as that process calls itself, which may be anything; "" where it is not known.
    """

    generation: int
    process_id: int = 0
    process_name: str = ""


@dataclass(frozen=True, slots=True)
class FilterFeatures:
    """What the kernel can do in the bridge family.

    Attributes:
        conntrack: it knows the state of a frame's connection.
        dynamic_sets: packets put elements into sets, with a timeout.
        rate_limits: rules with a rate.
        logs: rules that tell a netlink group.
        verdict_maps: a look-up gives a verdict.
        concatenation_bytes: the longest key of several fields, 0 for none.
        inet_tables: tables for IPv4 and IPv6 above the bridge.
        missing: in words, what it lacks of these, and of keys of other lengths.
    """

    conntrack: bool
    dynamic_sets: bool
    rate_limits: bool
    logs: bool
    verdict_maps: bool
    concatenation_bytes: int
    inet_tables: bool
    missing: tuple[str, ...] = ()


class PacketFilter(Protocol):
    """Tables of the bridge family in the network namespace of this process; `adapters.nftables` is one.

    Every method may be called from any thread. Each change is one transaction: the kernel has all of it or
    nothing, and no table but the named one is touched. `generation`, where it is not 0, is the number that a
    change was made for: with another one it is not made.

    All raise DeniedError without the right to (CAP_NET_ADMIN), and OperationError when the kernel refuses,
    lacks a feature, or answers with what cannot be read.
    """

    def generation(self) -> int:
        """Return the number of the present generation of all tables; every change of any gives a new one."""
        ...

    def untouched(self, table: str, since: int) -> int:
        """Tell whether nobody but this object has changed a table, without reading it.

        Args:
            table: its name; it may have come or gone.
            since: a generation.

        Returns:
            The present generation, or a slightly older one, up to which that is so; 0 where somebody has
            changed it, or where it is not known: the first answer about a table is 0 for every older
            generation.
        """
        ...

    def tables(self) -> tuple[TableName, ...]:
        """Return all tables of all families, by family and name."""
        ...

    def features(self) -> FilterFeatures:
        """Return what the kernel can do, by asking it for each in a transaction that it then gives up."""
        ...

    def read(self, table: str, sets: Collection[str] | None = None, *, written: bool = True) -> Ruleset:
        """Return a table with the elements of its sets, all of one generation, chains and sets by name.

        Args:
            table: its name.
            sets: whose elements to read; all where it is None.
            written: also those of sets that packets write, of which a flood makes a great many.

        Raises:
            NotFoundError: there is no such table.
            OperationError: others change it faster than it can be read.
        """
        ...

    def find(self, table: Table, keys: Keys) -> Elements:
        """Return those of the keys that the kernel has, with their data. For a few: each is a question.

        Raises InputError for a set that `table` does not have, NotFoundError for one that the kernel has not.
        """
        ...

    def replace(self, ruleset: Ruleset, generation: int = 0) -> int:
        """Make the kernel's table equal to this one, whatever it was; elements that stay are not touched.

        A dynamic set whose definition stays keeps what packets put into it; elements given for it are added.
        `ruleset.generation` has no part in it. Chains that are new and that nothing goes to yet may come in
        a transaction, and so a generation, before the one in which the policy changes.

        Returns:
            The last generation that this made, 0 where nothing had to be changed.

        Raises:
            InputError: a value that no kernel holds, as a key that is not as long as its set's.
            StateError: it is another generation than the given one.
        """
        ...

    def change(self, table: Table, adds: Elements, removes: Keys, generation: int = 0) -> int:
        """Remove and then add elements; a key in both gets its new data.

        Args:
            table: as it is in the kernel; only its name and its sets are looked at.
            adds: may be there already with the same data.
            removes: must be there.
            generation: see above.

        Returns:
            The generation that this made, 0 where nothing had to be changed.

        Raises:
            InputError: see `replace`; or `table` has no such set.
            NotFoundError: no such table or set in the kernel, or a key to be removed is not in it.
            StateError: a key has other data already, the set is full, or it is another generation.
        """
        ...

    def remember(self, table: Table, timeouts_ms: Timeouts) -> int:
        """Put elements into sets whose elements end, each for a time of its own, as packets do by a rule.

        What is there already stays; whether it gets the new time is the kernel's to say.

        Args:
            table: as for `change`.
            timeouts_ms: at least 1 each.

        Returns:
            The generation that this made, 0 where nothing had to be changed.

        Raises:
            InputError: as `change`; or the set's elements do not end, or a time is less than 1 ms.
            NotFoundError: no such table or set in the kernel.
            StateError: the set is full.
        """
        ...

    def delete(self, table: str, generation: int = 0) -> int:
        """Delete a table with all that is in it, and return the generation that this made.

        Raises NotFoundError where there is none, StateError where it is another generation.
        """
        ...

    def watch(self) -> AsyncIterator[GenerationChange]:
        """Yield the present generation, then every change of any table, for ever.

        Changes that came faster than they were taken are one item, with the last number.
        """
        ...
