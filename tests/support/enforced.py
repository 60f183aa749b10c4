"""The engine of the firewall in tests: made, and held against what the compiler says."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from undercroft.firewall.classes import Classes
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.kernel import Ruleset, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.ports.packetfilter import PacketFilter
from undercroft.usecases.firewall import memory
from undercroft.usecases.firewall.enforcing import Enforcer
from undercroft.usecases.firewall.numbering import NOTE_CHAIN, Numbering, matched

NUMBERS = "numbers"


def now() -> datetime:
    return datetime(2026, 11, 25, tzinfo=UTC)


def make(packet_filter: PacketFilter, folder: Path) -> Enforcer:
    """Return a new engine with its memory in a folder."""
    return Enforcer(packet_filter, folder / NUMBERS, now)


def plain(ruleset: Ruleset) -> Ruleset:
    """Return a table without what is of no meaning: order, what packets remember, by what it was made."""
    table = ruleset.table
    chains = tuple(
        sorted((chain for chain in table.chains if chain.name != NOTE_CHAIN), key=lambda chain: chain.name)
    )
    sets = tuple(sorted(table.sets, key=lambda definition: definition.name))
    elements = {
        definition.name: dict(ruleset.elements.get(definition.name, {}))
        for definition in sets
        if not definition.dynamic
    }
    return Ruleset(replace(table, chains=chains, sets=sets), elements)


def reached(ruleset: Ruleset, wanted: Ruleset) -> Ruleset:
    """Return a table without the chains and sets that another has not."""
    chains = {chain.name for chain in wanted.table.chains}
    sets = {definition.name for definition in wanted.table.sets}
    table = replace(
        ruleset.table,
        chains=tuple(chain for chain in ruleset.table.chains if chain.name in chains),
        sets=tuple(definition for definition in ruleset.table.sets if definition.name in sets),
    )
    return Ruleset(table, {name: found for name, found in ruleset.elements.items() if name in sets})


def numbering_of(enforcer: Enforcer, held: Table) -> Numbering:
    """Return the numbering of the memory that is the kernel's."""
    kept = matched(memory.load(enforcer.memory), held, now())
    assert kept is not None
    return kept.numberings[0]


def classes_of(enforcer: Enforcer, packet_filter: PacketFilter) -> Classes:
    """Return the classes that the kernel has."""
    return numbering_of(enforcer, packet_filter.read(TABLE_NAME).table).classes


def as_wanted(
    enforcer: Enforcer, packet_filter: PacketFilter, policy: FirewallPolicy, fleet: Fleet | None
) -> None:
    """Check that the kernel has what the compiler makes of a policy, by the numbers of the memory."""
    assert fleet is not None
    found = packet_filter.read(TABLE_NAME, written=False)
    numbering = numbering_of(enforcer, found.table)
    assert numbering.policy == policy.digest
    wanted = compile_ruleset(policy, fleet, numbering.classes, enforcer.state)
    assert plain(found) == plain(wanted)
