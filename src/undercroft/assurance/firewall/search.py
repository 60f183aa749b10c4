"""A packet that the kernel treats otherwise than the policy: looked for among a few elements that are known.

A proof leaves sets open, so what it finds may rest on elements that no set has. Here both sides get elements:
the policy's are those of a few machines, the kernel's are what it has for the same keys, and what differs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import z3

from undercroft.assurance.firewall.answers import RATES
from undercroft.assurance.firewall.contents import Elements, KnownSets, OpenSets
from undercroft.assurance.firewall.example import buildable, example
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.expected import BY_CLASS
from undercroft.assurance.firewall.meaning import Meaning
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.reading import Reading
from undercroft.assurance.firewall.running import Passage, room, within
from undercroft.assurance.firewall.skeleton import FOLLOWING, Skeleton, kept_headers
from undercroft.assurance.firewall.symbolic import Executor
from undercroft.assurance.firewall.terms import Bytes, Truth, bit_solver, both, constant, joined
from undercroft.errors import InputError, UnsupportedError
from undercroft.firewall.kernel import Hook, Ruleset, Update
from undercroft.firewall.packets import parse
from undercroft.firewall.simulate import Context, Memory, run

SAMPLE = 12
"""Elements of a set that are written out; all of a set with no more than `SMALL`."""
SMALL = 48
TIMEOUT_MS = 20_000

WAYS: tuple[tuple[Hook, ...], ...] = (
    (Hook.PREROUTING, Hook.FORWARD),
    (Hook.PREROUTING, Hook.INPUT),
    (Hook.OUTPUT,),
    (Hook.PREROUTING,),
    (Hook.FORWARD,),
    (Hook.INPUT,),
)
"""Ways of a packet: the whole ones first, whose marks are none before the first hook."""


@dataclass(frozen=True, slots=True)
class Found:
    """A packet, and what either side does with it."""

    packet: Example
    kernel_passes: bool
    policy_passes: bool


@dataclass(slots=True)
class Search:
    """Looks for a packet that tells a table and a policy apart.

    Attributes:
        skeleton: the table, and the policy's meaning.
        ruleset: as read from the kernel.
        wanted: the policy's elements.
        differing: set -> keys whose elements differ; the search is about these where there are any.
    """

    skeleton: Skeleton
    ruleset: Ruleset
    wanted: Mapping[str, Elements]
    differing: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def packets(self) -> Iterator[Found]:
        """Yield a packet for each way on which there is one, whole ways first.

        The headers of a symbolic packet may contradict one another; an example is told only where the
        interpreter of single packets does with it what was found.
        """
        for way in WAYS:
            found = self._on(way)
            if found is not None and _passes(self.ruleset, found.packet) is found.kernel_passes:
                yield found

    def _on(self, way: tuple[Hook, ...]) -> Found | None:
        packet, opened = SymbolicPacket(), OpenSets(self.skeleton.given)
        wanted = self._sample(self.wanted)
        kernel = KnownSets(self._same_keys(wanted), opened)
        policy = KnownSets(wanted, opened)
        whole = len(way) > 1 or way[0] is Hook.OUTPUT
        mark: Bytes = constant(bytes(4)) if whole else packet.mark
        try:
            mine, theirs = self._passages(way, packet, mark, kernel, policy)
        except UnsupportedError:
            return None
        solver = bit_solver(TIMEOUT_MS)
        dynamic = [item.name for item in self.skeleton.table.sets if item.dynamic]
        solver.add(
            packet.possible(),
            buildable(packet),
            opened.congruent(),
            *(room(name) for name in dynamic),
            *self._within(),
            mine.accepted != theirs.accepted,
        )
        if Hook.FORWARD in way:  # A bridge sends nothing back to where it came from.
            solver.add(joined(packet.input_name) != joined(packet.output_name))
        if way[0] is not Hook.PREROUTING:
            solver.add(kept_headers(Reading(packet, policy)))
        if solver.check() != z3.sat:
            return None
        model = solver.model()
        made = example(packet, model, way, opened, dynamic)
        passes = z3.is_true(model.eval(mine.accepted, model_completion=True))
        return Found(made, passes, not passes)

    def _within(self) -> Iterator[Truth]:
        """Yield that all limits of sets' keys let it by, those of the policy and of the table."""
        yield from (within(name, self.skeleton.timing.rate) for name in RATES)
        for chain in self.skeleton.table.chains:
            for rule in chain.rules:
                for item in rule.expressions:
                    if isinstance(item, Update) and item.limit:
                        yield within(item.set_name, item.limit)

    def _passages(
        self,
        way: tuple[Hook, ...],
        packet: SymbolicPacket,
        mark: Bytes,
        kernel: KnownSets,
        policy: KnownSets,
    ) -> tuple[Passage, Passage]:
        skeleton = self.skeleton
        executor = Executor(skeleton.table, packet, kernel)
        reading = Reading(packet, policy)
        meaning = Meaning(skeleton.policy, reading, skeleton.places, skeleton.targets, skeleton.timing)
        mine = _followed(way, mark, executor.hook)
        return mine, _followed(way, mark, meaning.at)

    def _sample(self, elements: Mapping[str, Elements]) -> dict[str, Elements]:
        """Return few elements of each set: those that differ, and those of the same machines."""
        marks = [key for keys in self.differing.values() for key in keys[:2]]
        dynamic = {item.name for item in self.skeleton.table.sets if item.dynamic}
        return _with_classes(
            {
                name: _few(held, self.differing.get(name, ()), marks)
                for name, held in elements.items()
                if name not in dynamic
            },
            elements,
        )

    def _same_keys(self, wanted: Mapping[str, Elements]) -> dict[str, Elements]:
        """Return what the kernel has for the keys of the sample, and for those that differ."""
        answer: dict[str, Elements] = {}
        dynamic = {item.name for item in self.skeleton.table.sets if item.dynamic}
        for definition in self.skeleton.table.sets:
            name = definition.name
            if name in dynamic:
                continue
            held = self.ruleset.elements.get(name, {})
            keys = [*wanted.get(name, {}), *self.differing.get(name, ())[:SAMPLE]]
            answer[name] = {key: held[key] for key in keys if key in held}
        return _with_classes(answer, self.ruleset.elements)


def _passes(ruleset: Ruleset, packet: Example) -> bool | None:
    """Return what the table does with a packet; None where it cannot be told."""
    parsed = parse(packet.frame)
    if parsed is None:
        return None
    memory = Memory(connection_bits=packet.state)
    for name, key in packet.remembered:
        memory.sets.setdefault(name, set()).add(key)
    mark = packet.mark
    for hook in packet.hooks:
        outgoing = hook in {Hook.FORWARD, Hook.OUTPUT}
        context = Context(
            packet.input_name,
            packet.output_name if outgoing else "",
            mark,
            packet.input_kind,
            packet.output_kind if outgoing else "",
        )
        try:
            outcome = run(ruleset, hook, parsed, context, memory)
        except InputError:
            return None
        if not outcome.accept:
            return False
        mark = outcome.mark
    return True


def _followed(way: tuple[Hook, ...], mark: Bytes, at: Callable[[Hook, Bytes], Passage]) -> Passage:
    """Follow a packet over its hooks; what one writes is no part of the next."""
    accepted: Truth = both()
    passage = Passage(accepted, mark, ())
    for hook in way:
        passage = at(hook, passage.mark)
        accepted = both(accepted, passage.accepted)
    return Passage(accepted, passage.mark, passage.written)


def _few(held: Elements, differing: Sequence[bytes], marks: Sequence[bytes]) -> Elements:
    if len(held) <= SMALL:
        return held
    keys = [key for key in differing if key in held][:SAMPLE]
    related = [
        key for key, data in held.items() if any(data == mark or _related(key, mark) for mark in marks)
    ][:SAMPLE]
    some = list(held)[:SAMPLE]
    return {key: held[key] for key in (*keys, *related, *some)}


def _with_classes(sample: dict[str, Elements], every: Mapping[str, Elements]) -> dict[str, Elements]:
    """Return the sample with the classes of all ports, and the verdicts of all classes, that it names."""
    for name, (other, length) in FOLLOWING.items():
        ports = {key[:length] for key in sample.get(name, {})}
        held = every.get(other, {})
        sample[other] = {**sample.get(other, {}), **{port: held[port] for port in ports if port in held}}
    named = {data for held in sample.values() for data in held.values() if isinstance(data, bytes)}
    for name in BY_CLASS:
        held = every.get(name, {})
        sample[name] = {**sample.get(name, {}), **{mark: held[mark] for mark in named if mark in held}}
    return sample


def _related(key: bytes, mark: bytes) -> bool:
    """Tell whether two keys may be of one machine: they begin with one device, or end with one address."""
    return key[:16] == mark[:16] if len(mark) >= 16 else key.endswith(mark)
