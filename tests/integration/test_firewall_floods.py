"""Openings that nobody answers fill what they have to themselves, and keep nobody else from opening.

Sets are small and rates low here, so that a flood is some hundreds of frames.
"""

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import pytest
from firewallworld import FLEET, OUTSIDE_MAC, ip_packet, ruleset
from netns import in_own_network
from wire import Wire

from undercroft.adapters.nftables import Nftables
from undercroft.firewall import headers as h
from undercroft.firewall.expressions import CONTENT, PROTOCOL, equal, goto, remembered, rule
from undercroft.firewall.fleet import Port
from undercroft.firewall.kernel import Chain, Expression, Limit, Rule, Ruleset, Update

SYN, SYN_ACK, ACK, RST = 0x02, 0x12, 0x10, 0x14
WEB, DB, BOTH = FLEET.ports[0], FLEET.ports[1], FLEET.ports[5]
TAPS = (WEB.tap, DB.tap, BOTH.tap, "eth0")
SMALL = 64
FLOOD = 400
STRANGER = bytes([203, 0, 113, 9])

Altered = Callable[[Ruleset], Ruleset]


def sized(sizes: Mapping[str, int]) -> Altered:
    """Return what gives sets these sizes."""

    def altered(rules: Ruleset) -> Ruleset:
        sets = tuple(replace(one, size=sizes.get(one.name, one.size)) for one in rules.table.sets)
        return replace(rules, table=replace(rules.table, sets=sets))

    return altered


def limited(limit: Limit | None) -> Altered:
    """Return what gives new openings another rate, or none."""

    def expression(old: Expression) -> Expression:
        return replace(old, limit=limit) if isinstance(old, Update) and old.limit else old

    def altered(rules: Ruleset) -> Ruleset:
        chains = tuple(
            replace(chain, rules=tuple(Rule(tuple(map(expression, one.expressions))) for one in chain.rules))
            for chain in rules.table.chains
        )
        return replace(rules, table=replace(rules.table, chains=chains))

    return altered


def without_tries(rules: Ruleset) -> Ruleset:
    """What the filter once did: an opening is a flow, for an hour, whoever answers."""
    answer = (h.IPV4_TARGET, h.IPV4_SOURCE, PROTOCOL, h.TARGET_PORT, h.SOURCE_PORT)
    kept = rule(equal(CONTENT, h.IPV4), remembered("flows4", 3_600_000, *answer), goto("passed4"))
    chains = tuple(
        Chain(chain.name, (kept,)) if chain.name in {"opened", "whole-opened"} else chain
        for chain in rules.table.chains
    )
    return replace(rules, table=replace(rules.table, chains=chains))


class World:
    """A bridge with two machines' taps and an uplink, filtered."""

    def __init__(self, kernel: Nftables, wire: Wire, *altered: Altered) -> None:
        self._kernel, self._wire = kernel, wire
        rules = ruleset()
        for change in altered:
            rules = change(rules)
        kernel.replace(rules)

    def tcp(self, source: Port | bytes, target: Port | bytes, ports: tuple[int, int], flags: int) -> bool:
        """Send a segment from a machine, or an address outside; tell whether it came to the other."""
        one, other = (end if isinstance(end, bytes) else end.ipv4[0].packed for end in (source, target))
        from_mac = source.mac if isinstance(source, Port) else OUTSIDE_MAC
        to_mac = target.mac if isinstance(target, Port) else OUTSIDE_MAC
        segment = struct.pack(">HHIIBBHHH", *ports, 1, 1, 0x50, flags, 1024, 0, 0)
        frame = to_mac + from_mac + b"\x08\0" + ip_packet(4, one, other, 6, segment)
        tap = source.tap if isinstance(source, Port) else "eth0"
        return (target.tap if isinstance(target, Port) else "eth0") in self._wire.put(tap, frame)

    def converses(self, source: Port | bytes, target: Port | bytes, port: int, own: int = 40_000) -> bool:
        """Open a connection, and tell whether its packets pass in both directions."""
        there, back = (own, port), (port, own)
        return all(
            (
                self.tcp(source, target, there, SYN),
                self.tcp(target, source, back, SYN_ACK),
                self.tcp(source, target, there, ACK),
                self.tcp(target, source, back, ACK),
            )
        )

    def flood(self, source: Port | None, target: Port | None, port: int) -> int:
        """Open what nobody answers, from forged addresses or to many ports; return how many came through."""
        came = 0
        for number in range(FLOOD):
            forged = bytes([198, 51, 100 + number // 250, number % 250 + 1])
            came += self.tcp(source or forged, target or forged, (1024 + number, port), SYN)
        return came

    def held(self, name: str) -> Collection[bytes]:
        """Return what a set has."""
        return self._kernel.read("undercroft", (name,)).elements[name].keys()


@in_own_network
def test_forged_openings_from_outside_keep_nobody_inside_from_opening() -> None:
    small = sized({"flows4": SMALL, "knocks4": SMALL * 2})
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire, small, limited(Limit(10_000, 1, 10_000)))
        assert world.converses(STRANGER, WEB, 443)
        assert world.flood(None, WEB, 443) < FLOOD
        assert len(world.held("knocks4")) == SMALL * 2
        assert world.converses(WEB, DB, 5432)
        assert world.converses(WEB, STRANGER, 443, own=41_000)
        assert world.tcp(STRANGER, WEB, (40_000, 443), ACK)  # What was open before stays so.
        assert world.tcp(WEB, STRANGER, (443, 40_000), ACK)


@in_own_network
def test_control_where_an_opening_is_a_flow_forged_ones_keep_all_from_opening() -> None:
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire, sized({"flows4": SMALL}), without_tries)
        assert world.converses(WEB, DB, 5432)
        assert world.flood(None, WEB, 443) < FLOOD
        assert not world.converses(WEB, DB, 5432, own=41_000)
        assert not world.converses(STRANGER, BOTH, 443)


@in_own_network
@pytest.mark.parametrize("paced", [True, False])
def test_a_machine_that_opens_without_end_keeps_no_other_from_opening_as_there_is_a_rate(paced: bool) -> None:
    limit = limited(Limit(1, 60, 50) if paced else None)
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire, sized({"tries4": SMALL * 2, "flows4": SMALL}), limit)
        came = world.flood(WEB, None, 443)
        assert (came < SMALL) is paced
        assert world.converses(BOTH, STRANGER, 443) is paced  # Without one: the control.
        assert world.converses(STRANGER, BOTH, 443, own=42_000)


@in_own_network
def test_openings_at_one_machine_have_a_rate_of_their_own() -> None:
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire, limited(Limit(1, 60, 50)))
        assert world.flood(None, WEB, 443) < SMALL
        assert not world.converses(STRANGER, WEB, 443)
        assert world.converses(STRANGER, BOTH, 443)
        assert world.converses(WEB, STRANGER, 443, own=41_000)


@in_own_network
def test_an_answer_passes_also_where_there_is_no_room_for_its_flow() -> None:
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire, sized({"flows4": SMALL}))
        for number in range(2 * SMALL):
            assert world.converses(WEB, DB, 5432, own=40_000 + number)
        assert len(world.held("flows4")) == SMALL


@in_own_network
def test_what_a_forged_opening_gets_for_an_answer_makes_no_flow() -> None:
    with Nftables() as kernel, Wire(TAPS) as wire:
        world = World(kernel, wire)
        assert not world.tcp(WEB, STRANGER, (443, 40_000), SYN_ACK)
        assert world.tcp(STRANGER, WEB, (40_000, 443), SYN)
        for flags in (SYN_ACK, RST):
            assert world.tcp(WEB, STRANGER, (443, 40_000), flags)
            assert not world.held("flows4")
        assert world.tcp(WEB, STRANGER, (443, 40_000), ACK)
        assert len(world.held("flows4")) == 1
