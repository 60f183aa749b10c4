"""Rules against meaning: equal for every packet, whatever the sets hold.

The proof goes in parts, each small enough for milliseconds:
- up to a target: at each hook, the same packets pass or are denied at once, write the same, and come to the
  same side with the same mark;
- to a side: its chain lets through and writes what the policy has for two sides, by the side's own sets. The
  chains of all sides are one, but for the names of their sets; each other form is proven by itself;
- who looks for a machine, and the chain that denies.
Where a part cannot be shown so, the whole is tried at once, without parts: it may be equal for all that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import z3

from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.contents import OpenSets
from undercroft.assurance.firewall.expected import HEADERS6, TRANSPORTS6
from undercroft.assurance.firewall.meaning import Meaning
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.places import Kind, Place
from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.running import Arrival, Cuts, Passage, Written
from undercroft.assurance.firewall.senders import known_headers
from undercroft.assurance.firewall.symbolic import Executor
from undercroft.assurance.firewall.terms import FALSE, Bits, Truth, both, either, joined
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Expression,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Table,
    Update,
    Verdict,
)
from undercroft.firewall.policy import FirewallPolicy

HOOKS = (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
TIMEOUT_MS = 60_000
FIXED = {
    name: [bytes([number]) for number in held]
    for name, held in (("headers6", HEADERS6), ("transports6", TRANSPORTS6))
}
"""Which headers may follow one another; the contents of these sets are compared as all others' are."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What has to be shown: that `difference` holds for no packet. `name` tells of what."""

    name: str
    hooks: tuple[Hook, ...]
    difference: Truth


@dataclass(slots=True)
class Skeleton:
    """Rules and meaning of one policy, over one symbolic packet.

    Attributes:
        table: as read from the kernel.
        policy: what is wanted.
        places: all sides.
        targets: names of those with a chain.
        timing: how answers are known.
        given: map of verdicts -> the verdicts that it holds.
    """

    table: Table
    policy: FirewallPolicy
    places: Sequence[Place]
    targets: frozenset[str]
    timing: Timing
    given: Mapping[str, Sequence[Verdict]]
    packet: SymbolicPacket = field(default_factory=SymbolicPacket)
    sets: OpenSets = field(init=False)

    def __post_init__(self) -> None:
        """Open the sets."""
        self.sets = OpenSets(self.given, FIXED)

    def unshown(self) -> str:
        """Return which part could not be shown, "" where all were: rules and meaning are then equal.

        Raises:
            UnsupportedError: the table holds what is not known here, or nothing could be shown in time.
        """
        return self._first(self._parts())

    def unequal(self) -> str:
        """Return at which hook rules and meaning differ for some packet, "" where they do not.

        Raises: as `unshown`. It takes much longer.
        """
        self.sets = OpenSets(self.given, FIXED)
        return self._first(self.whole())

    def whole(self) -> Iterator[Claim]:
        """Yield the claims for each hook as a whole."""
        executor = Executor(self.table, self.packet, self.sets)
        meaning = self._meaning(cut=False)
        for hook in HOOKS:
            found, wanted = executor.hook(hook, self.packet.mark), meaning.at(hook, self.packet.mark)
            difference = different(found, wanted, marks=hook is Hook.PREROUTING)
            if hook is not Hook.PREROUTING:
                difference = both(difference, known_headers(Reading(self.packet, self.sets)))
            yield Claim(f"at {hook}", (hook,), difference)

    def _parts(self) -> Iterator[Claim]:
        targets = {f"to-{name}" for name in self.targets}
        near = {f"near-{place.name}" for place in self.places if place.kind is Kind.MACHINES}
        cuts = Cuts(frozenset(targets | near), frozenset({"deny"}))
        executor = Executor(self.table, self.packet, self.sets, cuts)
        meaning = self._meaning(cut=True)
        for hook in HOOKS:
            found, wanted = executor.hook(hook, self.packet.mark), meaning.at(hook, self.packet.mark)
            yield Claim(f"at {hook}, up to the target", (hook,), _different_ways(found, wanted, hook))
        yield from self._sides()

    def _sides(self) -> Iterator[Claim]:
        """Yield the claims of each side's chain. They ask for no device, so they hold at every hook."""
        self.sets = OpenSets(self.given, FIXED)  # what was asked before has no part in it
        executor = Executor(self.table, self.packet, self.sets)
        meaning = self._meaning(cut=False)
        chains = {chain.name: chain for chain in self.table.chains}
        reading, mark = Reading(self.packet, self.sets), self.packet.mark
        shown: set[tuple[object, ...]] = set()
        for place in self.places:
            if place.name not in self.targets:
                continue
            form = _form(chains, f"to-{place.name}", place)
            if form not in shown:
                shown.add(form)
                self._refuse_devices(f"to-{place.name}", chains)
                found = executor.chain(f"to-{place.name}", Hook.FORWARD, mark)
                difference = different(found, meaning.passing(place, mark), marks=False)
                # What comes here has passed a check of its headers, as the claims before have shown.
                difference = both(difference, known_headers(reading))
                yield Claim(f"to {place.text}", (Hook.FORWARD,), difference)
            if place.kind is not Kind.MACHINES:
                continue
            form = _form(chains, f"near-{place.name}", place)
            if form not in shown:
                shown.add(form)
                wanted = Passage(reading.in_set(f"near-{place.name}", Field(mark)), mark, ())
                found = executor.chain(f"near-{place.name}", Hook.FORWARD, mark)
                yield Claim(f"near {place.text}", (Hook.FORWARD,), different(found, wanted, marks=False))
        denied = executor.chain("deny", Hook.FORWARD, mark)
        writes = [write.condition for write in denied.written]
        yield Claim("what is denied", (Hook.FORWARD,), either([denied.accepted, *writes]))

    def _refuse_devices(self, name: str, chains: Mapping[str, Chain]) -> None:
        """A chain that looks at devices does not do the same at every hook."""
        for rule in chains[name].rules:
            for item in rule.expressions:
                match item:
                    case Meta(key=Key.INPUT_NAME | Key.OUTPUT_NAME | Key.INPUT_INDEX | Key.OUTPUT_INDEX):
                        raise _AnotherShapeError(f"chain {name} looks at devices")
                    case Immediate(Verdict(Code.JUMP | Code.GOTO, target)) if target in chains:
                        self._refuse_devices(target, chains)
                    case _:
                        pass

    def _meaning(self, *, cut: bool) -> Meaning:
        reading = Reading(self.packet, self.sets)
        return Meaning(self.policy, reading, self.places, self.targets, self.timing, cut)

    def _first(self, claims: Iterable[Claim]) -> str:
        """Return the name of the first claim that does not hold, "" where all do."""
        try:
            for claim in claims:
                if not self.holds(claim.difference):
                    return claim.name
        except _AnotherShapeError as error:
            return str(error)
        return ""

    def holds(self, difference: Truth) -> bool:
        """Return whether a difference is one of no packet.

        Raises:
            UnsupportedError: that could not be told in time.
        """
        if difference is FALSE:
            return True
        solver = z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "bit-blast", "sat").solver()
        solver.set("timeout", TIMEOUT_MS)
        solver.add(self.packet.possible(), self.sets.congruent(), difference)
        answer = solver.check()
        if answer == z3.unknown:
            raise UnsupportedError(
                f"table {self.table.name}: Z3 gave no answer within {TIMEOUT_MS // 1000} s: not proven"
            )
        return bool(answer == z3.unsat)


class _AnotherShapeError(Exception):
    """The rules are not built of the expected parts; they may be right all the same."""


def different(found: Passage, wanted: Passage, *, marks: bool) -> Truth:
    """Return for which packets two passages differ: in what passes, what is written, and in the mark."""
    parts = [found.accepted != wanted.accepted]
    if marks:
        parts.append(both(found.accepted, joined(found.mark) != joined(wanted.mark)))
    return either([*parts, *_different_writes(found.written, wanted.written)])


def _different_ways(found: Passage, wanted: Passage, hook: Hook) -> Truth:
    """The same, where packets may also leave for a target; they have to bear the same mark there."""
    if any(arrival.after_writing for arrival in found.arrivals):
        raise _AnotherShapeError("a packet writes before its target is known")
    mine, theirs = _ways(found.arrivals), _ways(wanted.arrivals)
    if mine.keys() != theirs.keys():
        raise _AnotherShapeError(f"at {hook}, other ways lead to targets")
    parts = [mine[way] != theirs[way] for way in mine]
    moved = both(either(list(mine.values())), joined(found.mark) != joined(wanted.mark)) if mine else FALSE
    return either([different(found, wanted, marks=hook is Hook.PREROUTING), *parts, moved])


def _ways(arrivals: Sequence[Arrival]) -> dict[tuple[str, tuple[int, ...]], Truth]:
    """Return by name and key for which packets it is the way; a key's bytes live as long as the packet."""
    ways: dict[tuple[str, tuple[int, ...]], list[Truth]] = {}
    for arrival in arrivals:
        if arrival.condition is not FALSE:
            key = tuple(byte.get_id() for byte in arrival.key)
            ways.setdefault((arrival.name, key), []).append(arrival.condition)
    return {way: either(conditions) for way, conditions in ways.items()}


def _different_writes(found: Sequence[Written], wanted: Sequence[Written]) -> Iterator[Truth]:
    """Yield for each dynamic set and timeout, for which packets some key is written by one side only."""
    for name, timeout_ms in sorted({(write.set_name, write.timeout_ms) for write in (*found, *wanted)}):
        mine, theirs = (
            _by_key(write for write in side if (write.set_name, write.timeout_ms) == (name, timeout_ms))
            for side in (found, wanted)
        )
        if mine.keys() == theirs.keys():
            yield from (mine[place][1] != theirs[place][1] for place in mine)
        else:
            some = next(iter((mine or theirs).values()))[0]
            any_key = z3.BitVec(f"any key of {name} {timeout_ms}", some.size())
            one, other = (
                either([both(condition, key == any_key) for key, condition in side.values()])
                for side in (mine, theirs)
            )
            yield one != other


def _by_key(writes: Iterable[Written]) -> dict[int, tuple[Bits, Truth]]:
    keys: dict[int, Bits] = {}
    conditions: dict[int, list[Truth]] = {}
    for write in writes:
        if write.condition is not FALSE:
            key = joined(write.key)
            keys[key.get_id()] = key
            conditions.setdefault(key.get_id(), []).append(write.condition)
    return {place: (key, either(conditions[place])) for place, key in keys.items()}


def _form(chains: Mapping[str, Chain], name: str, place: Place) -> tuple[object, ...]:
    """Return a side's chain with the side's name taken out: equal forms are equal but for the side."""
    chain = chains.get(name)
    if chain is None or chain.hook is not None:
        raise _AnotherShapeError(f"there is no chain {name}")
    form: list[object] = []
    for rule in chain.rules:
        form.append(tuple(_anonymous(expression, place.name) for expression in rule.expressions))
        for item in rule.expressions:
            match item:
                case Immediate(Verdict(Code.JUMP | Code.GOTO, target)) if _is_of(target, place.name):
                    form += _form(chains, target, place)
                case _:
                    pass
    return tuple(form)


def _is_of(name: str, place: str) -> bool:
    return name.endswith(f"-{place}") and name.partition("-")[2] == place


def _anonymous(expression: Expression, name: str) -> object:
    match expression:
        case Lookup(set_name) | Update(set_name) if _is_of(set_name, name):
            return set_name.removesuffix(name), repr(expression).replace(repr(set_name), "")
        case Immediate(Verdict(code, chain)) if _is_of(chain, name):
            return code, chain.removesuffix(name)
        case _:
            return repr(expression)
