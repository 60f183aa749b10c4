"""One batch that makes the kernel's table equal to another: only what differs is touched.

Rules of a chain that changes are deleted and made again, in the chain, which stays on its hook: no moment has
the chain without its rules, and an element that both tables have is in its set at every moment. So a packet
that is allowed before and after is allowed meanwhile.

The order is the one that the kernel needs. It deletes only what nothing names: rules, elements, sets, chains.
It makes only what names what is there: chains, sets, elements, rules.
"""

from collections.abc import Iterable, Iterator

from undercroft.adapters.nftables import codec
from undercroft.adapters.nftables.elements import Data
from undercroft.adapters.nftables.wire import Request
from undercroft.errors import InputError
from undercroft.firewall.kernel import Chain, Lookup, Ruleset, SetDefinition, Table, Update
from undercroft.ports.packetfilter import Elements, Keys, Timeouts


def created(wanted: Ruleset) -> list[Request]:
    """Return the requests that make a table that is not there. Raises InputError, see `codec`."""
    table = wanted.table
    requests = [codec.new_table(table.name, table.flags)]
    requests += [codec.new_chain(table.name, chain) for chain in table.chains]
    requests += _filled_sets(wanted, table.sets)
    for chain in table.chains:
        requests += codec.new_rules(table.name, chain)
    return requests


def recreated(wanted: Ruleset) -> list[Request]:
    """Return the requests that make a table anew, whatever is in it. Raises InputError.

    For what `changed` cannot do. Base chains leave their hooks and come back: the kernel drops some frames
    meanwhile, and lets frames by that only the policy of a base chain drops, and no rule.
    """
    name = wanted.table.name
    # The first one is for the second, which would fail without a table.
    return [codec.same_table(name), codec.delete_table(name), *created(wanted)]


def changed(held: Ruleset, wanted: Ruleset) -> list[Request]:
    """Return the requests that make of the held table the wanted one; none where they are equal.

    Both have the same name. Raises InputError for values that no kernel holds.
    """
    name = wanted.table.name
    sets = _Sets(held, wanted)
    chains = _Chains(held, wanted, frozenset(definition.name for definition in sets.gone))
    requests = [
        *(codec.delete_rules(name, chain.name) for chain in chains.emptied),
        *sets.removals(),
        *(codec.delete_set(name, gone.name) for gone in sets.gone if not gone.anonymous),
        *(codec.delete_chain(name, chain.name) for chain in chains.gone),
        *(codec.new_chain(name, chain) for chain in chains.made),
        *_filled_sets(wanted, sets.made),
        *sets.additions(),
        *(request for chain in chains.filled for request in codec.new_rules(name, chain)),
    ]
    if not requests and held.table.flags == wanted.table.flags:
        return []
    # The first one gives the flags; where they are the same it changes nothing.
    return [codec.new_table(name, wanted.table.flags), *requests]


def elements_changed(table: Table, adds: Elements, removes: Keys) -> list[Request]:
    """Return the requests that take elements out of sets and then put others in.

    Raises InputError for a set that the table does not have, or a value that is not of its shape.
    """
    sets = sets_named(table, (*removes, *adds))
    requests: list[Request] = []
    for name, keys in removes.items():
        requests += codec.delete_elements(table.name, sets[name], keys)
    for name, elements in adds.items():
        requests += codec.new_elements(table.name, sets[name], elements)
    return requests


def elements_remembered(table: Table, timeouts_ms: Timeouts) -> list[Request]:
    """Return the requests that put elements into dynamic sets, each for a time of its own.

    Raises InputError for a set that the table does not have or whose elements do not end, a key that is not
    of its shape, or a time of less than 1 ms.
    """
    sets = sets_named(table, timeouts_ms)
    requests: list[Request] = []
    for name, found in timeouts_ms.items():
        if not sets[name].timeout_ms:
            raise InputError(f"set {name!r} of table {table.name!r}: its elements have no timeout")
        by_time: dict[int, dict[bytes, Data]] = {}
        for key, timeout_ms in found.items():
            by_time.setdefault(timeout_ms, {})[key] = None
        for timeout_ms, elements in by_time.items():
            if timeout_ms < 1:
                raise InputError(f"set {name!r} of table {table.name!r}: a timeout of {timeout_ms} ms")
            requests += codec.new_elements(table.name, sets[name], elements, timeout_ms)
    return requests


def sets_named(table: Table, names: Iterable[str]) -> dict[str, SetDefinition]:
    """Return a table's sets of these names. Raises InputError for one that it does not have."""
    sets = {definition.name: definition for definition in table.sets}
    for name in names:
        if name not in sets:
            raise InputError(f"table {table.name!r} has no set {name!r}; it has {sorted(sets)}")
    return sets


def _filled_sets(wanted: Ruleset, sets: tuple[SetDefinition, ...]) -> Iterator[Request]:
    name = wanted.table.name
    for number, definition in enumerate(sets, start=1):
        yield codec.new_set(name, definition, number)
    for definition in sets:
        yield from codec.new_elements(name, definition, wanted.elements.get(definition.name, {}))


class _Sets:
    """Which sets go, which are made, and which elements of those that stay."""

    def __init__(self, held: Ruleset, wanted: Ruleset) -> None:
        self._held, self._wanted = held, wanted
        there = {definition.name: definition for definition in held.table.sets}
        self._staying = tuple(
            definition
            for definition in wanted.table.sets
            if self._stays(there.get(definition.name), definition)
        )
        names = {definition.name for definition in self._staying}
        self.gone = tuple(definition for definition in held.table.sets if definition.name not in names)
        self.made = tuple(definition for definition in wanted.table.sets if definition.name not in names)

    def _stays(self, held: SetDefinition | None, wanted: SetDefinition) -> bool:
        if held != wanted:
            return False
        # The elements of a set of one rule are as unchanging as the rule.
        return not wanted.anonymous or self._elements(self._held, wanted) == self._elements(
            self._wanted, wanted
        )

    def removals(self) -> Iterator[Request]:
        """Yield the requests that take out what is not wanted, or has other data."""
        for definition in self._staying:
            wanted = self._elements(self._wanted, definition)
            keys = [
                key
                for key, data in self._elements(self._held, definition).items()
                if not definition.dynamic and (key not in wanted or wanted[key] != data)
            ]
            yield from codec.delete_elements(self._wanted.table.name, definition, keys)

    def additions(self) -> Iterator[Request]:
        """Yield the requests that put in what is wanted and not there with this data."""
        for definition in self._staying:
            held = self._elements(self._held, definition)
            elements = {
                key: data
                for key, data in self._elements(self._wanted, definition).items()
                if key not in held or (not definition.dynamic and held[key] != data)
            }
            yield from codec.new_elements(self._wanted.table.name, definition, elements)

    @staticmethod
    def _elements(ruleset: Ruleset, definition: SetDefinition) -> dict[bytes, Data]:
        return dict(ruleset.elements.get(definition.name, {}))


class _Chains:
    """Which chains go, which are made or get another policy, and whose rules are made again."""

    def __init__(self, held: Ruleset, wanted: Ruleset, gone_sets: frozenset[str]) -> None:
        there = {chain.name: chain for chain in held.table.chains}
        same = {chain.name for chain in wanted.table.chains if _place(there.get(chain.name)) == _place(chain)}
        unchanged = {
            chain.name
            for chain in wanted.table.chains
            if chain.name in same
            and there[chain.name].rules == chain.rules
            and not _names_any(chain, gone_sets)
        }
        # What is bound to one rule goes with that rule.
        free = tuple(chain for chain in held.table.chains if not chain.bound)
        self.gone = tuple(chain for chain in free if chain.name not in same)
        self.emptied = tuple(chain for chain in free if chain.rules and chain.name not in unchanged)
        self.made = tuple(
            chain
            for chain in wanted.table.chains
            if chain.name not in same
            or (chain.hook is not None and there[chain.name].policy is not chain.policy)
        )
        self.filled = tuple(chain for chain in wanted.table.chains if chain.name not in unchanged)


def _place(chain: Chain | None) -> tuple[object, ...] | None:
    return None if chain is None else (chain.hook, chain.priority, chain.bound)


def _names_any(chain: Chain, sets: frozenset[str]) -> bool:
    return any(
        expression.set_name in sets
        for rule in chain.rules
        for expression in rule.expressions
        if isinstance(expression, Lookup | Update)
    )
