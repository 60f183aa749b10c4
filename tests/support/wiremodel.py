"""The packet model and the policy's meaning beside a kernel: frames are played, and all three compared.

with Wire(PORTS) as wire, Nftables() as kernel:
    figures = campaign(wire, kernel, 4_000, seed=1)
assert not figures.differences
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from firewallworld import (
    FLEET,
    OUTSIDE_MAC,
    POLICIES,
    VLAN_POLICY,
    Frames,
    memory_of,
    routed_mark,
    ruleset,
    with_entries,
    without_rates,
)
from frames import Crafted, kind_of, reaches
from wire import BRIDGE_MAC, kind_of_port

from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.kernel import Hook, Ruleset
from undercroft.firewall.meaning import Meaning
from undercroft.firewall.packets import Packet, parse
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.simulate import Context, Memory, run
from undercroft.firewall.tracking import FRAGMENT_TIMEOUT_MS
from undercroft.ports.packetfilter import PacketFilter


class Taps(Protocol):
    """A bridge of taps, in this process or in a guest."""

    def put(self, port: str, frame: bytes, mark: int = 0) -> dict[str, list[bytes]]:
        """See `Wire.put`."""
        ...


PORTS = (*(port.tap for port in FLEET.ports), "eth0", "veth9", "vnet99", "nic7")
OWN_MACS = frozenset((BRIDGE_MAC, *(bytes.fromhex("fe5400ff00") + bytes([n]) for n in range(len(PORTS)))))

TURNS = (POLICIES[0], VLAN_POLICY, POLICIES[1], POLICIES[0], POLICIES[1], VLAN_POLICY, POLICIES[2])
EPISODE_FRAMES = 400
EPISODE_S = 6
LIFETIME_S = FRAGMENT_TIMEOUT_MS / 1000
"""An episode ends before the shortest timeout of a set, which no model has; else it is played anew."""
MOST_LATE = 20


@dataclass
class Figures:
    """What was compared. `ways`: decisions of one frame at one port."""

    frames: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, bool]] = field(default_factory=Counter)
    ways: int = 0
    passed: int = 0
    differences: list[str] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        """Add those of an episode."""
        self.frames += other.frames
        self.reasons += other.reasons
        self.ways += other.ways
        self.passed += other.passed
        self.differences += other.differences


@dataclass
class Twin:
    """The model and the meaning of one policy, with what each remembers."""

    policy: FirewallPolicy
    rules: Ruleset
    figures: Figures
    br_netfilter: bool
    memory: Memory = field(default_factory=Memory)
    remembered: Remembered = field(default_factory=Remembered)

    def __post_init__(self) -> None:
        self.meaning = Meaning(self.policy, FLEET)

    def by_model(self, packet: Packet, path: Path, ways: tuple[str, ...]) -> set[str]:
        """Return where the compiled table lets a packet out."""
        mark = routed_mark(path)
        if path.kind is not PathKind.FROM_HOST:
            context = Context(path.source, input_kind=kind_of_port(path.source))
            first = run(self.rules, Hook.PREROUTING, packet, context, self.memory)
            if not first.accept:
                return set()
            mark = first.mark
        hooks = {PathKind.FROM_HOST: Hook.OUTPUT, PathKind.TO_HOST: Hook.INPUT}
        return {
            way
            for way in ways
            if run(
                self.rules,
                hooks.get(_way(path, way).kind, Hook.FORWARD),
                packet,
                Context(path.source, way, mark, kind_of_port(path.source), kind_of_port(way)),
                self.memory,
            ).accept
        }

    def by_meaning(
        self, packet: Packet, path: Path, ways: tuple[str, ...]
    ) -> Iterator[tuple[str, Path, str]]:
        """Yield where the policy lets a packet out, by which way, and why."""
        for way in ways:
            whole = _way(path, way)
            decision = self.meaning.decide(packet, whole, self.remembered)
            self.figures.reasons[decision.reason, decision.accept] += 1
            if decision.remember:
                self.remembered = with_entries(self.remembered, decision.remember)
            if decision.accept:
                yield way, whole, decision.reason


def _way(path: Path, out: str) -> Path:
    if path.kind is PathKind.FROM_HOST:
        return Path(PathKind.FROM_HOST, "", out, path.routed, target_kind=kind_of_port(out))
    kind = PathKind.FORWARD if out else PathKind.TO_HOST
    return Path(kind, path.source, out, None, kind_of_port(path.source), kind_of_port(out))


def episode(wire: Taps, kernel: PacketFilter, twin: Twin, drawn: Crafted, count: int) -> None:
    """Play frames one after the other, and compare each, and at the end what is remembered."""
    figures, ends_at = twin.figures, time.monotonic() + EPISODE_S
    for _ in range(count):
        if time.monotonic() > ends_at:
            break
        path, frame = drawn.draw(twin.remembered)
        came_out = wire.put(path.source, frame, routed_mark(path))
        figures.frames[kind_of(frame)] += 1
        compare(twin, drawn, path, frame, came_out)
    dynamic = [definition.name for definition in twin.rules.table.sets if definition.dynamic]
    held = kernel.read(twin.rules.table.name, dynamic).elements
    sets = {
        "kernel": {name: set(keys) for name, keys in without_rates(held).items()},
        "model": without_rates(twin.memory.sets),
        "meaning": without_rates(memory_of(twin.remembered).sets),
    }
    if not sets["kernel"] == sets["model"] == sets["meaning"]:
        figures.differences.append(f"remembered: {sets}")


def compare(twin: Twin, drawn: Crafted, path: Path, frame: bytes, came_out: dict[str, list[bytes]]) -> None:
    """Compare where one frame came out with what model and meaning say."""
    figures, packet = twin.figures, parse(frame)
    if packet is None and path.kind is PathKind.FROM_HOST:
        return  # Half a tag: an arriving frame is dropped, the host's own is not, and no model has these.
    ways: tuple[str, ...] = ()
    if packet:
        ways = reaches(PORTS[::-1], OWN_MACS, path, frame, br_netfilter=twin.br_netfilter)
    figures.ways += len(ways)
    by_kernel = set(came_out)
    if any(found != [frame] for found in came_out.values()):
        figures.differences.append(f"changed: {path} {frame.hex()} {came_out}")
    by_model = twin.by_model(packet, path, ways) if packet else set()
    by_meaning = list(twin.by_meaning(packet, path, ways)) if packet else []
    figures.passed += len(by_kernel)
    if not by_kernel == by_model == {way for way, _, _ in by_meaning}:
        told = f"kernel {by_kernel}, model {by_model}, meaning {by_meaning}"
        figures.differences.append(f"{path} {frame.hex()}: {told}")
    for _, whole, reason in by_meaning:
        if reason in {"allowed", "an answer"}:
            drawn.near.note(whole, frame)


def campaign(
    wire: Taps,
    kernel: PacketFilter,
    count: int,
    seed: int,
    altered: Callable[[Ruleset], Ruleset] = lambda rules: rules,
) -> Figures:
    """Play so many frames, under each of the policies in turn.

    Args:
        wire: with all of `PORTS`.
        kernel: that of the wire; it has no table yet, and one of a policy after this.
        count: of frames.
        seed: the same one gives the same frames, as far as the kernel does the same.
        altered: makes of a policy's table what the kernel gets.
    """
    figures, number, late = Figures(), 0, 0
    br_netfilter = not wire.put("eth0", OUTSIDE_MAC + OUTSIDE_MAC + b"\x88\x64")
    while sum(figures.frames.values()) < count and len(figures.differences) < 20:
        policy = TURNS[number % len(TURNS)]
        rules = ruleset(policy)
        if number:
            kernel.delete(rules.table.name)
        kernel.replace(altered(rules))
        chance = random.Random(f"{seed} {number}")
        twin = Twin(policy, rules, Figures(), br_netfilter)
        began = time.monotonic()
        episode(wire, kernel, twin, Crafted(chance, Frames(chance)), EPISODE_FRAMES)
        number += 1
        if time.monotonic() - began < LIFETIME_S:
            figures.add(twin.figures)
        elif (late := late + 1) > MOST_LATE:
            raise TimeoutError(f"the machine is too busy: {late} episodes took longer than {LIFETIME_S} s")
    return figures


def told(figures: Figures) -> str:
    """Return the figures for people."""
    lines = [f"{sum(figures.frames.values()):,} frames, {figures.ways:,} ways, {figures.passed:,} passed"]
    lines += [f"{kind}: {count:,}" for kind, count in figures.frames.most_common()]
    lines += [f"{count:,} {'+' if ok else '-'} {why}" for (why, ok), count in figures.reasons.most_common()]
    return "\n".join(lines)
