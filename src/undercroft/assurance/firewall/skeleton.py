"""Rules against meaning: equal for every packet, whatever the sets hold.

The proof goes in parts, each small enough for milliseconds:
- up to a target: at each hook, the same packets pass or are denied at once, write the same, and come to the
  same side with the same mark;
- what the first hook marks, and what comes to a side, has known headers: see `kept_headers` for the one thing
  that is assumed of the way between hooks;
- to a side: its chain lets through and writes what the policy has for two sides, by the side's own sets. The
  chains of all sides are one, but for the names of their sets; each other form is proven by itself;
- who looks for a machine, and the chain that denies.
Where a part cannot be shown so, the whole is tried at once, without parts: it may be equal for all that.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import z3

from undercroft.assurance.firewall.answers import KNOWN, Timing, equal_mark
from undercroft.assurance.firewall.comparing import AnotherShapeError, different, different_ways
from undercroft.assurance.firewall.contents import OpenSets
from undercroft.assurance.firewall.expected import HEADERS6, TRANSPORTS6
from undercroft.assurance.firewall.forms import form_of
from undercroft.assurance.firewall.ipversion import is_whole4
from undercroft.assurance.firewall.meaning import Meaning
from undercroft.assurance.firewall.packet import NAME_BYTES, SymbolicPacket
from undercroft.assurance.firewall.places import OURS, OURS_MASK, Kind, Place
from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.running import Cuts, Passage
from undercroft.assurance.firewall.senders import IPV4, IPV6, hides_more6
from undercroft.assurance.firewall.symbolic import Executor
from undercroft.assurance.firewall.terms import FALSE, Bytes, Truth, bit_solver, both, either, negated
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Hook,
    Immediate,
    Key,
    Lookup,
    Meta,
    Table,
    Verdict,
)
from undercroft.firewall.policy import FirewallPolicy

HOOKS = (Hook.PREROUTING, Hook.INPUT, Hook.FORWARD, Hook.OUTPUT, Hook.POSTROUTING)
TIMEOUT_MS = 60_000
_OF_DEVICES = frozenset(
    {
        *(Key.INPUT_NAME, Key.INPUT_INDEX, Key.INPUT_KIND),
        *(Key.OUTPUT_NAME, Key.OUTPUT_INDEX, Key.OUTPUT_KIND),
    }
)
FIXED = {
    name: [bytes([number]) for number in held]
    for name, held in (("headers6", HEADERS6), ("transports6", TRANSPORTS6))
}
"""Which headers may follow one another; the contents of these sets are compared as all others' are."""
FOLLOWING = {"sources4": ("classes", NAME_BYTES)}
"""A port's address has the class of that port, by `expected.of_port`, with which both maps are compared."""

PADDED = {"sources4": (NAME_BYTES + 6, NAME_BYTES + 8)}
"""Behind the MAC, by `expected.of_port`: a key with something else there is none, and a foreign element."""


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
        self.sets = self._open()

    def _open(self) -> OpenSets:
        return OpenSets(self.given, FIXED, FOLLOWING, PADDED)

    def unshown(self) -> str:
        """Return which part could not be shown, "" where all were: rules and meaning are then equal.

        Raises:
            UnsupportedError: the table holds what is not known here, or nothing could be shown in time.
        """
        try:
            return self._first(self._hooks()) or self._first(self._sides())
        except AnotherShapeError as error:
            return str(error)

    def unequal(self) -> str:
        """Return at which hook rules and meaning differ for some packet, "" where they do not.

        Raises: as `unshown`. It takes much longer.
        """
        self.sets = self._open()
        return next((claim.name for claim in self.whole() if not self.holds(claim.difference)), "")

    def whole(self) -> Iterator[Claim]:
        """Yield the claims for each hook as a whole."""
        executor = Executor(self.table, self.packet, self.sets)
        meaning = self._meaning(cut=False)
        for hook in HOOKS:
            found, wanted = executor.hook(hook, self.packet.mark), meaning.at(hook, self.packet.mark)
            difference = different(found, wanted)
            if hook is Hook.PREROUTING:
                yield Claim(f"headers at {hook}", (hook,), self._unchecked(found))
            else:
                difference = both(difference, kept_headers(self._reading()))
            yield Claim(f"at {hook}", (hook,), difference)

    def _hooks(self) -> Iterator[Claim]:
        """Yield the claims of each hook, up to the target, and of what comes there."""
        targets = {f"to-{name}" for name in self.targets}
        machines = [place.name for place in self.places if place.kind is Kind.MACHINES]
        of_machines = {f"{start}-{name}" for name in machines for start in ("near", "whole")}
        cuts = Cuts(frozenset(targets | of_machines), frozenset({"deny"}))
        executor = Executor(self.table, self.packet, self.sets, cuts)
        meaning = self._meaning(cut=True)
        for hook in HOOKS:
            found, wanted = executor.hook(hook, self.packet.mark), meaning.at(hook, self.packet.mark)
            yield Claim(f"at {hook}, up to the target", (hook,), different_ways(found, wanted, hook))
            loose = self._unchecked(found) if hook is Hook.PREROUTING else self._formless(found)
            yield Claim(f"at {hook}, headers", (hook,), loose)

    def _unchecked(self, found: Passage) -> Truth:
        """Return which packets get a mark although their headers are not known ones; none may."""
        return both(found.accepted, _is_marked(found.mark), negated(_known_headers(self._reading())))

    def _formless(self, found: Passage) -> Truth:
        """Return which packets have a target and are not IP with known headers; none may be.

        Nor may any take the short way that is no whole packet of IPv4.
        What is marked had its headers looked at where it came in: see `kept_headers`.
        """
        coming = [way.condition for way in found.arrivals if not way.name.startswith(("near-", "class-near"))]
        short = [way.condition for way in found.arrivals if way.name.startswith(("whole-", "class-whole"))]
        formless = both(either(coming), kept_headers(self._reading()), negated(self._form()))
        return either([formless, both(either(short), negated(is_whole4(self._reading())))])

    def _form(self) -> Truth:
        """Return what all packets have that come to a side's chain, as `_formless` shows."""
        reading = self._reading()
        return both(either([reading.holds(IPV4), reading.holds(IPV6)]), _known_headers(reading))

    def _sides(self) -> Iterator[Claim]:
        """Yield the claims of each side's chain. They ask for no device, so they hold at every hook."""
        self.sets = self._open()  # what was asked before has no part in it
        executor = Executor(self.table, self.packet, self.sets)
        meaning = self._meaning(cut=False)
        chains = {chain.name: chain for chain in self.table.chains}
        mark = self.packet.mark
        shown: set[tuple[object, ...]] = set()
        for place in self.places:
            if place.name not in self.targets:
                continue
            starts = ("to", "whole", "near") if place.kind is Kind.MACHINES else ("to",)
            for start in starts:
                name = f"{start}-{place.name}"
                form = (start, place.kind in KNOWN, *form_of(chains, name, place))
                if form not in shown:
                    shown.add(form)
                    self._refuse_devices(name, chains)
                    found = executor.chain(name, Hook.FORWARD, mark)
                    difference = self._differs(start, place, found, meaning)
                    yield Claim(f"{start} {place.text}", (Hook.FORWARD,), difference)
        self._refuse_devices("deny", chains)
        denied = executor.chain("deny", Hook.FORWARD, mark)
        writes = [write.condition for write in denied.written]
        yield Claim("what is denied", (Hook.FORWARD,), either([denied.accepted, *writes]))

    def _differs(self, start: str, place: Place, found: Passage, meaning: Meaning) -> Truth:
        """Return for which of the packets that come to a side's chain it does not what it should."""
        reading, mark = self._reading(), self.packet.mark
        if start == "near":
            return different(found, Passage(reading.in_set(f"near-{place.name}", Field(mark)), mark, ()))
        coming = both(self._form(), is_whole4(reading)) if start == "whole" else self._form()
        return both(different(found, meaning.passing(place, mark)), coming)

    def _refuse_devices(self, name: str, chains: Mapping[str, Chain]) -> None:
        """A chain that looks at devices does not do the same at every hook."""
        for rule in chains[name].rules:
            for item in rule.expressions:
                match item:
                    case Meta(key=key) if key in _OF_DEVICES:
                        raise AnotherShapeError(f"chain {name} looks at devices")
                    case Immediate(Verdict(Code.JUMP | Code.GOTO, target)) if target in chains:
                        self._refuse_devices(target, chains)
                    case Lookup(set_name, verdicts=True):
                        raise AnotherShapeError(f"chain {name} goes where {set_name} says")
                    case _:
                        pass

    def _reading(self) -> Reading:
        return Reading(self.packet, self.sets)

    def _meaning(self, *, cut: bool) -> Meaning:
        return Meaning(self.policy, self._reading(), self.places, self.targets, self.timing, cut)

    def _first(self, claims: Iterable[Claim]) -> str:
        """Return the name of the first claim that does not hold, "" where all do.

        All are tried at once, as they are about one packet: that takes half of the time.
        """
        every = list(claims)
        solver = self._solver()
        solver.add(either([claim.difference for claim in every]))
        answer = solver.check()
        if answer == z3.unsat:
            return ""
        if answer == z3.sat:
            model = solver.model()
            return next(
                claim.name
                for claim in every
                if z3.is_true(model.eval(claim.difference, model_completion=True))
            )
        return next((claim.name for claim in every if not self.holds(claim.difference)), "")

    def holds(self, difference: Truth) -> bool:
        """Return whether a difference is one of no packet.

        Raises:
            UnsupportedError: that could not be told in time.
        """
        if difference is FALSE:
            return True
        solver = self._solver()
        solver.add(difference)
        answer = solver.check()
        if answer == z3.unknown:
            raise UnsupportedError(
                f"table {self.table.name}: Z3 gave no answer within {TIMEOUT_MS // 1000} s: not proven"
            )
        return bool(answer == z3.unsat)

    def _solver(self) -> z3.Solver:
        """Return a solver that knows what holds of every packet, and of all keys asked for so far."""
        solver = bit_solver(TIMEOUT_MS)
        solver.add(self.packet.possible(), self.sets.congruent())
        return solver


def kept_headers(reading: Reading) -> Truth:
    """Return what is assumed of hooks after the first: what was marked there has known headers still.

    The first hook marks IPv6 packets with known headers only, as the proof shows. Of what bears no mark
    nothing is assumed: later hooks look at its headers themselves.
    """
    return either([negated(_is_marked(reading.packet.mark)), _known_headers(reading)])


def _is_marked(mark: Bytes) -> Truth:
    return equal_mark(Field(mark), OURS_MASK, OURS)


def _known_headers(reading: Reading) -> Truth:
    """Return whether no IPv6 header is there that is not known; in a packet that ends before it none is."""
    following = reading.network(6, 1)
    unknown = both(following.there, negated(reading.in_set("headers6", following)))
    return negated(both(reading.packet.is_ipv6(), either([unknown, hides_more6(reading)])))
