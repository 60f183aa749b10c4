"""Mutants of a table before the proof and before packets: neither may let by what the other one catches."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from filtermutants import Mutant
from filterproofs import passes
from firewallworld import (
    CLASSES,
    FLEET,
    POLICY,
    Frames,
    memory_of,
    routed_mark,
    ruleset,
    with_entries,
    with_room,
)

from undercroft.assurance.firewall.certificate import Certificate
from undercroft.assurance.firewall.proof import Prover
from undercroft.errors import InputError
from undercroft.firewall.decisions import Path, Remembered
from undercroft.firewall.kernel import Immediate, Lookup, Ruleset, Update
from undercroft.firewall.meaning import Meaning
from undercroft.firewall.packets import Packet, parse
from undercroft.firewall.simulate import Memory, follow
from undercroft.firewall.tracking import StateKind

MOST_PER_CHAIN = 1500


class Fate(StrEnum):
    """What became of a mutant.

    EXAMPLE: the proof gave a packet, which the interpreter of single packets tells the tables apart by.
    TRAFFIC: the proof failed, and a packet of the traffic tells the tables apart, or what it leaves behind.
    PROOF: the proof failed; of the traffic no packet came where it makes a difference, or the kernel would
    not take the table. EQUAL: it was proven to be the policy, and no packet tells it apart.
    """

    EXAMPLE = "example"
    TRAFFIC = "traffic"
    PROOF = "proof"
    EQUAL = "equal"


@dataclass(frozen=True)
class Judged:
    """A mutant with its fate, and which theorem failed, "" for none."""

    what: str
    fate: Fate
    theorem: str = ""


@dataclass(frozen=True)
class Played:
    """One packet of the traffic: where it goes, what is known before and after, and what became of it."""

    path: Path
    packet: Packet
    before: dict[str, frozenset[bytes]]
    connection_bits: int
    accept: bool
    after: dict[str, set[bytes]]


@dataclass
class Traffic:
    """Packets of one table, by the chains that they came through; what the policy means of each is known."""

    honest: Ruleset
    state: StateKind
    by_chain: dict[str, list[Played]] = field(default_factory=dict)

    @classmethod
    def drawn(cls, state: StateKind, count: int, seed: int) -> "Traffic":
        """Draw so many frames, with what each leaves behind for the next."""
        traffic = cls(ruleset(POLICY, state), state)
        frames, meaning, remembered = Frames(random.Random(seed)), Meaning(POLICY, FLEET), Remembered()
        for _ in range(count):
            path, frame = frames.draw(remembered)
            packet = parse(frame)
            if packet is None:
                continue
            if state is StateKind.CONNTRACK:
                connection = frames.random.choice(("established", "related", ""))
                remembered = replace(remembered, connection=connection)
            decision = meaning.decide(packet, path, remembered)
            traffic.note(path, packet, memory_of(remembered), decision.accept)
            if decision.reason in {"allowed", "an answer"}:
                frames.note(path, frame)
            if decision.remember:
                remembered = with_entries(remembered, decision.remember)
            remembered = with_room(remembered)
        return traffic

    def note(self, path: Path, packet: Packet, memory: Memory, accept: bool) -> None:
        """Play a packet through the honest table and keep it for each chain that it came through."""
        known = {name: frozenset(keys) for name, keys in memory.sets.items()}
        outcome = follow(self.honest, packet, path, memory, routed_mark(path))
        played = Played(path, packet, known, memory.connection_bits, accept, memory.sets)
        for name in self._visited(outcome.way):
            found = self.by_chain.setdefault(name, [])
            if len(found) < MOST_PER_CHAIN:
                found.append(played)

    def tells_apart(self, changed: Ruleset) -> bool:
        """Tell whether a packet, or what it leaves behind, is other with a changed table."""
        for played in self._concerned(changed):
            memory = Memory({name: set(keys) for name, keys in played.before.items()})
            memory.connection_bits = played.connection_bits
            try:
                outcome = follow(changed, played.packet, played.path, memory, routed_mark(played.path))
            except InputError:  # The kernel takes no rule that reads what was not loaded.
                return True
            if outcome.accept is not played.accept or memory.sets != played.after:
                return True
        return False

    def _visited(self, way: Iterable[tuple[str, int]]) -> set[str]:
        chains = {chain.name: chain for chain in self.honest.table.chains}
        visited = {name for name, chain in chains.items() if chain.hook}
        for name, number in way:
            visited.add(name)
            visited |= {
                item.verdict.chain
                for item in chains[name].rules[number].expressions
                if isinstance(item, Immediate) and item.verdict.chain
            }
        return visited

    def _concerned(self, changed: Ruleset) -> Iterator[Played]:
        """Yield packets that came through a chain that is other now, or that asks a set that is."""
        before = {chain.name: chain for chain in self.honest.table.chains}
        now = {chain.name: chain for chain in changed.table.chains}
        chains = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        held, other = self.honest.elements, changed.elements
        sets = {name for name in held if held[name] != other.get(name)}
        chains |= {
            chain.name
            for chain in self.honest.table.chains
            for rule in chain.rules
            for item in rule.expressions
            if isinstance(item, Lookup | Update) and item.set_name in sets
        }
        for name in sorted(chains):
            yield from self.by_chain.get(name, ())


def judged(mutant: Mutant, traffic: Traffic) -> Judged:
    """Return what becomes of a mutant.

    Raises:
        AssertionError: the proof and the packets contradict each other.
    """
    answer = Prover().prove(mutant.ruleset, POLICY, FLEET, CLASSES)
    if isinstance(answer, Certificate):
        assert not traffic.tells_apart(mutant.ruleset), f"proven, though packets tell: {mutant.what}"
        return Judged(mutant.what, Fate.EQUAL)
    if answer.packet is not None:
        assert passes(mutant.ruleset, answer.packet) is answer.kernel_passes, mutant.what
        assert passes(traffic.honest, answer.packet) is answer.policy_passes, mutant.what
        assert answer.kernel_passes is not answer.policy_passes, mutant.what
        return Judged(mutant.what, Fate.EXAMPLE, answer.theorem)
    apart = traffic.tells_apart(mutant.ruleset)
    return Judged(mutant.what, Fate.TRAFFIC if apart else Fate.PROOF, answer.theorem)
