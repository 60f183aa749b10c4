"""From a policy and its classes to the kernel's table; from machines to elements of its sets.

Rules vary with the policy and its classes only. What varies with machines are elements, some twelve for
each port, so that one machine's change is one small delta. Pure.

    table = compile_table(policy, classes, StateKind.TUPLES)
    ruleset = compile_ruleset(policy, fleet, classes, StateKind.TUPLES)
    delta = port_elements(port, classes)
"""

from collections.abc import Iterable, Mapping

from undercroft.firewall.arriving import arriving_chains
from undercroft.firewall.classes import Classes
from undercroft.firewall.elements import Elements, fleet_elements, policy_elements
from undercroft.firewall.fleet import Fleet, check_fleet
from undercroft.firewall.grants import Granted, Side, granted, sides
from undercroft.firewall.kernel import Chain, Ruleset, SetDefinition, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.reaching import base_chains, reaching_chains, side_chains
from undercroft.firewall.senders import sender_chains
from undercroft.firewall.sets import fixed_sets, side_sets
from undercroft.firewall.tracking import StateKind, tracking_chains

TABLE_NAME = "undercroft"


def compile_table(policy: FirewallPolicy, classes: Classes, state: StateKind) -> Table:
    """Return the table without elements: chains before those that go to them, base chains last."""
    every = sides(policy, classes)
    grants = granted(policy, every)
    kept = tuple(side for side in every if _has_chain(side, grants[side.mark]))
    zone_marks = frozenset(side.mark for side in kept if side.zone)
    chains = (
        *tracking_chains(policy, state),
        *(chain for side in kept for chain in side_chains(side, grants[side.mark], policy.log)),
        *reaching_chains(policy, zone_marks),
        *arriving_chains(policy),
        *sender_chains(policy),
        *base_chains(policy),
    )
    sets = (*fixed_sets(state), *_side_sets(kept, grants))
    return Table(TABLE_NAME, sets, _leaves_first(chains))


def compile_ruleset(policy: FirewallPolicy, fleet: Fleet, classes: Classes, state: StateKind) -> Ruleset:
    """Return the whole table with the elements of all machines.

    Raises:
        StateError: two machines share a tap, a MAC or an address, or a machine's labels have no class.
    """
    check_fleet(fleet)
    table = compile_table(policy, classes, state)
    elements: Elements = {definition.name: {} for definition in table.sets}
    for part in (policy_elements(policy, classes, fleet.host_addresses), fleet_elements(fleet, classes)):
        for name, pairs in part.items():
            elements[name].update(pairs)
    return Ruleset(table, elements)


def _has_chain(side: Side, grant: Granted) -> bool:
    return side.zone is None or bool(grant.near)


def _side_sets(kept: Iterable[Side], grants: Mapping[int, Granted]) -> tuple[SetDefinition, ...]:
    return tuple(definition for side in kept for definition in side_sets(side, grants[side.mark]))


def _leaves_first(chains: tuple[Chain, ...]) -> tuple[Chain, ...]:
    return tuple(sorted(chains, key=lambda chain: chain.hook is not None))
