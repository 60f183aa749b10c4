"""What stands around this host's table, looked at between proofs: a table that is right may be passed by.

    around = Around(ground, clock)
    if news := around.look(ports):     # what defeats the table, and was not there at the last look
        alarm(news)
    state = around.noted(state)

A look judges what `undercroft firewall prove` judges, and signs nothing. It is repeated where others changed
the kernel's tables meanwhile. What could not be told is a finding, as ever.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.assurance.firewall.hostfacts import Surroundings
from undercroft.assurance.firewall.hostfindings import Danger, Finding, folded
from undercroft.assurance.firewall.surroundings import judge
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.fleet import Port
from undercroft.firewall.kernel import Table
from undercroft.model.filter import FilterState
from undercroft.ports.packetfilter import PacketFilter

LOOK_EVERY_S, AGAIN_EVERY_S = 300.0, 30.0
"""How often a look is due, and while something stands there that should not: who mends it is told soon.

What cannot be told is looked for as soon at first, and half as often after each look that finds the same.
"""
ATTEMPTS = 3
TOLD = 4
"""Findings that are told of in the record; `prove` tells all."""

Gather = Callable[[str, Collection[str], Collection[tuple[str, int]], Mapping[str, bytes]], Surroundings]
"""`adapters.surroundings.gather`: our table's name, managed taps, priorities, machines' MACs -> facts."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The host.

    Attributes:
        packet_filter: of the network namespace in which machines' taps are.
        gather: gives the facts around the table: `adapters.surroundings.gather`.
    """

    packet_filter: PacketFilter
    gather: Gather


def judged(ground: Ground, table: Table, ports: Collection[Port]) -> tuple[Finding, ...]:
    """Return what stands around a table that was read, worst first. Raises as `gather`."""
    priorities = [(chain.hook.value, chain.priority) for chain in table.chains if chain.hook is not None]
    taps = {port.tap for port in ports}
    macs = {port.tap: port.mac for port in ports if not port.arriving}
    return judge(ground.gather(TABLE_NAME, taps, tuple(priorities), macs))


class Around:
    """What was found at the last look. One thread looks; any may ask for what was found.

    Args:
        ground: the host; None where nothing is looked at.
        clock: tells the time, with its zone.
        clock_s: seconds, monotonic.
    """

    def __init__(
        self,
        ground: Ground | None,
        clock: Callable[[], datetime],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ground = ground
        self._clock = clock
        self._clock_s = clock_s
        self._looked_s: float | None = None
        self._every_s = LOOK_EVERY_S
        self._seen: tuple[datetime | None, tuple[Finding, ...]] = None, ()

    def forget(self) -> None:
        """Take note that there is no table any more, or another one: the next look is due."""
        self._looked_s, self._every_s, self._seen = None, LOOK_EVERY_S, (None, ())

    def look(self, ports: Collection[Port]) -> str:
        """Look, where that is due; return what defeats the table and is news, "" for nothing.

        Args:
            ports: those that are filtered.

        Raises:
            NotFoundError: there is no table.
            DeniedError, OperationError: it cannot be read.
        """
        now_s = self._clock_s()
        if self._ground is None:
            return ""
        if self._looked_s is not None and now_s - self._looked_s < self.every_s / 2:
            return ""  # proofs come more often than looks, as machines come and go
        for _ in range(ATTEMPTS):
            ruleset = self._ground.packet_filter.read(TABLE_NAME, sets=())
            findings = judged(self._ground, ruleset.table, ports)
            if self._ground.packet_filter.generation() == ruleset.generation:
                break
        self._every_s = self._next_s(findings)
        known = {(one.danger, one.thing, one.found) for one in self._seen[1]}
        news = [
            one for one in findings if one.danger.voids and (one.danger, one.thing, one.found) not in known
        ]
        self._looked_s, self._seen = now_s, (self._clock(), findings)
        return _told(news)

    @property
    def every_s(self) -> float:
        """How often it is to be looked, in seconds."""
        return self._every_s

    def _next_s(self, findings: Collection[Finding]) -> float:
        if any(one.danger.voids for one in findings):
            return AGAIN_EVERY_S
        if not any(one.danger is Danger.UNKNOWN for one in findings):
            return LOOK_EVERY_S
        is_news = set(findings) != set(self._seen[1])
        return AGAIN_EVERY_S if is_news else min(2 * self._every_s, LOOK_EVERY_S)

    @property
    def problem(self) -> str:
        """What of the last look keeps the host from filtering for sure, with the cure; "" for nothing."""
        return _told([one for one in self._seen[1] if one.danger.voids or one.danger is Danger.UNKNOWN])

    def noted(self, state: FilterState) -> FilterState:
        """Return a host's state with what was found around its table."""
        at, findings = self._seen
        voided = any(one.danger.voids for one in findings)
        return replace(state, around_at=at, findings=len(findings), voided=voided)


def _told(findings: Collection[Finding]) -> str:
    found = folded(findings)
    lines = [f"{one.danger} around the table: {one.thing}: {one.found}; {one.cure}" for one in found[:TOLD]]
    if len(found) > TOLD:
        lines.append(f"{len(found) - TOLD} more around the table: undercroft firewall prove tells them")
    # Devices and tables of others are called as others please.
    return "".join(letter if letter.isprintable() else "?" for letter in "; ".join(lines))
