"""The packet model and the kernel agree on every frame, and so does the policy's meaning.

A frame is put into a tap, or sent by the host; where it comes out is compared, port by port, with what the
model (`simulate`) makes of the compiled table, and with what policy and fleet say (`meaning`). After every
episode the sets that packets have filled are compared, too: the kernel's, the model's, and the meaning's.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from firewallworld import FLEET, POLICIES, Frames, memory_of, routed_mark, ruleset, with_entries
from frames import Crafted, kind_of, reaches
from netns import call_in_own_network
from wire import BRIDGE_MAC, Wire

from undercroft.adapters.nftables import Nftables
from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.kernel import Code, Hook, Immediate, Rule, Ruleset, Verdict
from undercroft.firewall.meaning import Meaning
from undercroft.firewall.packets import Packet, parse
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.simulate import Context, Memory, run

PORTS = (*(port.tap for port in FLEET.ports), "eth0", "veth9", "vnet99")
OWN_MACS = frozenset((BRIDGE_MAC, *(bytes.fromhex("fe5400ff00") + bytes([n]) for n in range(len(PORTS)))))

EPISODE_FRAMES = 400
EPISODE_S = 15
"""An episode ends before the shortest timeout of a set (30 s), which no model has."""
FRAMES = 4_000
SOAK_FRAMES = 120_000


@dataclass
class Figures:
    """What was compared. `ways`: decisions of one frame at one port."""

    frames: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, bool]] = field(default_factory=Counter)
    ways: int = 0
    passed: int = 0
    differences: list[str] = field(default_factory=list)


@dataclass
class Twin:
    """The model and the meaning of one policy, with what each remembers."""

    policy: FirewallPolicy
    rules: Ruleset
    figures: Figures
    memory: Memory = field(default_factory=Memory)
    remembered: Remembered = field(default_factory=Remembered)

    def __post_init__(self) -> None:
        self.meaning = Meaning(self.policy, FLEET)

    def by_model(self, packet: Packet, path: Path, ways: tuple[str, ...]) -> set[str]:
        """Return where the compiled table lets a packet out."""
        mark = routed_mark(path)
        if path.kind is not PathKind.FROM_HOST:
            first = run(self.rules, Hook.PREROUTING, packet, Context(path.source), self.memory)
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
                Context(path.source, way, mark),
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
        return Path(PathKind.FROM_HOST, "", out, path.routed)
    return Path(PathKind.FORWARD, path.source, out) if out else Path(PathKind.TO_HOST, path.source)


def episode(wire: Wire, kernel: Nftables, twin: Twin, drawn: Crafted, count: int) -> None:
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
        "kernel": {name: set(keys) for name, keys in held.items() if keys},
        "model": {name: keys for name, keys in twin.memory.sets.items() if keys},
        "meaning": {name: keys for name, keys in memory_of(twin.remembered).sets.items() if keys},
    }
    if not sets["kernel"] == sets["model"] == sets["meaning"]:
        figures.differences.append(f"remembered: {sets}")


def compare(twin: Twin, drawn: Crafted, path: Path, frame: bytes, came_out: dict[str, list[bytes]]) -> None:
    """Compare where one frame came out with what model and meaning say."""
    figures, packet = twin.figures, parse(frame)
    if packet is None and path.kind is PathKind.FROM_HOST:
        return  # Half a tag: an arriving frame is dropped, the host's own is not, and no model has these.
    ways = reaches(PORTS[::-1], OWN_MACS, path, frame) if packet else ()
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


def campaign(count: int, seed: int, altered: Callable[[Ruleset], Ruleset] = lambda rules: rules) -> Figures:
    """Play so many frames, under each of the policies in turn; the kernel's table may be altered."""
    figures = Figures()
    with Wire(PORTS) as wire, Nftables() as kernel:
        number = 0
        while sum(figures.frames.values()) < count and len(figures.differences) < 20:
            policy = POLICIES[(0, 0, 1, 0, 1, 2)[number % 6]]
            rules = ruleset(policy)
            if number:
                kernel.delete(rules.table.name)
            kernel.replace(altered(rules))
            chance = random.Random(f"{seed} {number}")
            twin = Twin(policy, rules, figures)
            episode(wire, kernel, twin, Crafted(chance, Frames(chance)), EPISODE_FRAMES)
            number += 1
    return figures


def told(figures: Figures) -> str:
    """Return the figures for people."""
    lines = [f"{sum(figures.frames.values()):,} frames, {figures.ways:,} ways, {figures.passed:,} passed"]
    lines += [f"{kind}: {count:,}" for kind, count in figures.frames.most_common()]
    lines += [f"{count:,} {'+' if ok else '-'} {why}" for (why, ok), count in figures.reasons.most_common()]
    return "\n".join(lines)


def test_kernel_model_and_meaning_agree_on_frames_of_every_form() -> None:
    figures = call_in_own_network(lambda: campaign(FRAMES, 1))
    assert not figures.differences, "\n".join(figures.differences)
    assert sum(figures.frames.values()) >= FRAMES
    assert len(figures.frames) >= 15
    assert figures.passed > FRAMES // 20


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_kernel_model_and_meaning_agree_on_120_000_frames() -> None:
    figures = call_in_own_network(lambda: campaign(SOAK_FRAMES, 2))
    print(told(figures))  # noqa: T201 - the figures of docs/ROBUSTNESS.md
    assert not figures.differences, "\n".join(figures.differences)
    assert sum(figures.frames.values()) >= SOAK_FRAMES


@pytest.mark.parametrize(
    "chain",
    ["managed", "sender4", "sender-arp", "sender-ns", "reach6", "source4", "target4", "deny", "other"],
)
def test_control_the_same_frames_tell_of_one_rule_more_in_the_kernel(chain: str) -> None:
    def with_hole(rules: Ruleset) -> Ruleset:
        hole = Rule((Immediate(Verdict(Code.ACCEPT)),))
        chains = [
            replace(held, rules=(hole, *held.rules)) if held.name == chain else held
            for held in rules.table.chains
        ]
        assert tuple(chains) != rules.table.chains
        return replace(rules, table=replace(rules.table, chains=tuple(chains)))

    assert call_in_own_network(lambda: campaign(EPISODE_FRAMES, 3, with_hole)).differences
