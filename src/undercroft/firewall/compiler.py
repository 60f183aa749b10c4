"""From a policy and its classes to the kernel's table; from machines to elements of its sets.

Rules vary with the policy and its classes only. What varies with machines are elements, some twelve for
each port, so that one machine's change is one small delta. Pure.

    table = compile_table(policy, classes, StateKind.TUPLES)
    ruleset = compile_ruleset(policy, fleet, classes, StateKind.TUPLES)
    delta = port_elements(port, classes)
"""

from collections.abc import Iterable, Mapping

from undercroft.errors import StateError
from undercroft.firewall.arriving import arriving_chains
from undercroft.firewall.classes import Classes
from undercroft.firewall.elements import Elements, fleet_elements, policy_elements
from undercroft.firewall.fleet import Fleet, check_fleet
from undercroft.firewall.foreign import foreign_chains
from undercroft.firewall.grants import Granted, Grants, Side, grants_of
from undercroft.firewall.kernel import Chain, Ruleset, SetDefinition, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.reaching import base_chains, reaching_chains, side_chains
from undercroft.firewall.senders import sender_chains
from undercroft.firewall.sets import fixed_sets, side_sets
from undercroft.firewall.tracking import StateKind, tracking_chains
from undercroft.firewall.vlans import vlan_sets

TABLE_NAME = "undercroft"


def compile_table(
    policy: FirewallPolicy, classes: Classes, state: StateKind, grants: Grants | None = None
) -> Table:
    """Return the table without elements, base chains last.

    Args:
        policy: any.
        classes: of all machines.
        state: how the kernel can know answers.
        grants: `grants_of` the policy and classes, where it is at hand.
    """
    grants = grants or grants_of(policy, classes)
    found = grants.found
    kept = tuple(side for side in grants.sides if _has_chain(side, found[side.mark]))
    zone_marks = frozenset(side.mark for side in kept if side.zone)
    chains = (
        *tracking_chains(policy, state),
        *(chain for side in kept for chain in side_chains(side, found[side.mark], policy.log, state)),
        *reaching_chains(policy, zone_marks),
        *arriving_chains(policy),
        *foreign_chains(),
        *sender_chains(policy),
        *base_chains(policy),
    )
    sets = (*fixed_sets(state), *vlan_sets(policy, classes), *_side_sets(kept, found))
    return Table(TABLE_NAME, sets, _leaves_first(chains))


def compile_ruleset(policy: FirewallPolicy, fleet: Fleet, classes: Classes, state: StateKind) -> Ruleset:
    """Return the whole table with the elements of all machines.

    Raises:
        StateError: two machines share a tap, a MAC or an address, one's tap is called as an uplink is, or a
            machine's labels have no class.
    """
    check_fleet(fleet)
    for port in fleet.ports:
        if port.tap in policy.ports.uplinks:
            raise StateError(
                f"{port.name}: its tap {port.tap} is called as an uplink of the policy is (ports.uplinks): "
                "give it another name (target dev) with virsh edit"
            )
    grants = grants_of(policy, classes)
    table = compile_table(policy, classes, state, grants)
    elements: Elements = {definition.name: {} for definition in table.sets}
    for part in (
        policy_elements(policy, classes, fleet.host_addresses, grants),
        fleet_elements(fleet, classes),
    ):
        for name, pairs in part.items():
            elements[name].update(pairs)
    return Ruleset(table, elements)


def _has_chain(side: Side, grant: Granted) -> bool:
    return side.zone is None or bool(grant.near)


def _side_sets(kept: Iterable[Side], found: Mapping[int, Granted]) -> tuple[SetDefinition, ...]:
    return tuple(definition for side in kept for definition in side_sets(side, found[side.mark]))


def _leaves_first(chains: tuple[Chain, ...]) -> tuple[Chain, ...]:
    return tuple(sorted(chains, key=lambda chain: chain.hook is not None))
