"""A change of a table in two transactions, where one would let a frame by.

The kernel lets a frame that is under way when a transaction ends see new elements with old rules. Where such
an element goes to a chain that the same transaction made, the frame finds that chain without rules. So new
chains come first, in a transaction that changes no frame's fate, as nothing goes to them yet. Who is killed
between the two leaves the old policy, with chains that nothing goes to.
"""

from collections.abc import Collection
from dataclasses import replace

from undercroft.adapters.nftables import difference
from undercroft.adapters.nftables.wire import Request
from undercroft.firewall.kernel import Chain, Immediate, Lookup, Ruleset, SetDefinition, Update, Verdict


def stages(held: Ruleset, wanted: Ruleset) -> list[list[Request]]:
    """Return the transactions, each of some requests, that make of the held table the wanted one.

    Raises InputError for values that no kernel holds.
    """
    chains, sets = _first(held, wanted)
    if not chains:
        whole = difference.changed(held, wanted)
        return [whole] if whole else []
    names = {definition.name for definition in sets}
    elements = {name: found for name, found in wanted.elements.items() if name in names}
    first = Ruleset(replace(wanted.table, chains=chains, sets=sets, flags=held.table.flags), elements)
    both = replace(held.table, chains=(*held.table.chains, *chains), sets=(*held.table.sets, *sets))
    then = difference.changed(Ruleset(both, {**held.elements, **elements}), wanted)
    return [difference.created(first), then]


def _first(held: Ruleset, wanted: Ruleset) -> tuple[tuple[Chain, ...], tuple[SetDefinition, ...]]:
    """Return the chains and sets that are new, on no hook, and name nothing that comes with the second."""
    held_chains = {chain.name: chain for chain in held.table.chains}
    held_sets = {definition.name for definition in held.table.sets}
    regular = [chain for chain in wanted.table.chains if chain.hook is None]
    chains = {chain.name: chain for chain in regular if chain.name not in held_chains}
    sets = {one.name: one for one in wanted.table.sets if one.name not in held_sets and not one.anonymous}
    staying = {
        chain.name
        for chain in regular
        if (before := held_chains.get(chain.name)) and before.hook is None and not before.bound
    }
    staying_sets = {one.name for one in wanted.table.sets if one in held.table.sets and not one.anonymous}
    while True:
        known, known_sets = staying | chains.keys(), staying_sets | sets.keys()
        late = [name for name, chain in chains.items() if not _names_only(chain, known, known_sets)]
        late_sets = [name for name in sets if not _goes_only_to(wanted, name, known)]
        if not late and not late_sets:
            return tuple(chains.values()), tuple(sets.values())
        chains = {name: chain for name, chain in chains.items() if name not in late}
        sets = {name: one for name, one in sets.items() if name not in late_sets}


def _names_only(chain: Chain, chains: Collection[str], sets: Collection[str]) -> bool:
    for rule in chain.rules:
        for expression in rule.expressions:
            match expression:
                case Lookup() | Update() if expression.set_name not in sets:
                    return False
                case Immediate(verdict) if verdict.chain and verdict.chain not in chains:
                    return False
    return True


def _goes_only_to(wanted: Ruleset, name: str, chains: Collection[str]) -> bool:
    found = wanted.elements.get(name, {}).values()
    return all(not isinstance(data, Verdict) or not data.chain or data.chain in chains for data in found)
