"""What the kernel's table was made to hold, and the changes that keep it equal to what is wanted.

How sure it is stands in one number: `Holding.seen`, a generation. Every change of any table up to it is
known, and ours was as held then. Our own changes that follow at once move it on. A change that somebody else
made in between does not, until the table has been read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.firewall.classes import Classes, Labels
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.elements import Elements
from undercroft.firewall.fleet import Fleet
from undercroft.firewall.kernel import Ruleset, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind
from undercroft.ports.packetfilter import FilterFeatures, PacketFilter
from undercroft.usecases.firewall import memory as files
from undercroft.usecases.firewall import numbering
from undercroft.usecases.firewall.delta import Change, Standing, elements_delta
from undercroft.usecases.firewall.needs import check_features
from undercroft.usecases.firewall.numbering import Memory

ATTEMPTS = 5
"""To put single elements right before the whole table is."""

_GENERATIONS = 1 << 32
_REFUSED = (NotFoundError, StateError, OperationError)


class TouchedError(StateError):
    """Somebody else has touched the table, and nobody has looked at what it is now."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """What a call has done to the kernel.

    Attributes:
        generation: of the kernel's tables, with what this made; 0 where there is no table.
        whole: chains and sets were looked at too, not elements alone.
        added, removed: elements, against what was known to be there; one whose data changes is in both.
        touched: somebody else has touched the table since it was last known to be as held, which this has
            undone without a look.
    """

    generation: int
    whole: bool
    added: int
    removed: int
    touched: bool = False


@dataclass(slots=True)
class Held:
    """What the kernel was made to hold: a policy, classes and machines, and the table that they come to."""

    policy: FirewallPolicy
    classes: Classes
    standing: Standing
    table: Table
    elements: Elements

    def is_held(self, found: Ruleset) -> bool:
        """Tell whether a table that was read is this one, but for what packets put into its dynamic sets."""
        return found.table == self.table and all(
            found.elements.get(definition.name, {}) == self.elements[definition.name]
            for definition in self.table.sets
            if not definition.dynamic
        )


class Holding:
    """Not for several threads at once."""

    def __init__(self, packet_filter: PacketFilter, memory: Path, clock: Callable[[], datetime]) -> None:
        self._filter = packet_filter
        self._path = memory
        self._clock = clock
        self._memory = Memory()
        self._features: FilterFeatures | None = None
        self._own: set[int] = set()
        # Nobody knows whether the kernel has taken our last table.
        self._uncertain = False
        self.held: Held | None = None
        self.seen = 0

    @property
    def state(self) -> StateKind:
        """How the kernel knows answers."""
        features = self._features or self.probe()
        return StateKind.CONNTRACK if features.conntrack else StateKind.TUPLES

    def probe(self) -> FilterFeatures:
        """Ask the kernel what it can do."""
        self._features = self._filter.features()
        return self._features

    def required(self) -> Held:
        """Return what is held. Raises StateError where no policy is."""
        if self.held is None:
            raise StateError("no firewall policy is enforced on this host yet: apply one first")
        return self.held

    def is_own(self, generation: int) -> bool:
        """Tell whether all that a generation changed is known: it is our own, or older than what was read."""
        if generation in self._own:
            return True
        return self.seen != 0 and (self.seen - generation) % _GENERATIONS < _GENERATIONS // 2

    def look(self) -> bool:
        """Tell whether the table is as held, as far as that can be known without reading it."""
        generation = self._filter.untouched(TABLE_NAME, self.seen) if self.held and self.seen else 0
        if generation:
            self.know(generation)
        return generation != 0

    def _touched(self, *, undoes: bool) -> bool:
        """Tell whether somebody else has touched a table that was known to be as held until then.

        Raises TouchedError where that is so, and it is not to be undone.
        """
        touched = self.held is not None and self.seen != 0 and not self.look()
        if touched and not undoes:
            raise TouchedError("somebody else has touched the firewall's table: look at it first")
        return touched

    def know(self, generation: int) -> None:
        """Take that the table was as held in this generation."""
        self.seen = generation
        self._own.clear()

    def recall(self) -> str:
        """Make the memory fit to the kernel's table, and return what was wrong with it, "" for nothing."""
        now, problem = self._clock(), ""
        try:
            found = files.load(self._path)
        except StateError as error:
            found, problem = Memory(), str(error)
        try:
            table = self._filter.read(TABLE_NAME, sets=()).table
        except NotFoundError:
            self._memory = numbering.without_table(found, now)
            return problem
        except OperationError as error:
            # Nobody knows its numbers better than the file.
            self._memory = numbering.without_table(found, now)
            return problem or f"the kernel's table cannot be read: {error}"
        matched = numbering.matched(found, table, now)
        if matched is not None:
            self._memory = matched
            return ""
        self._memory = numbering.distrusted(found, self._filter.read(TABLE_NAME, written=False), now)
        problem = problem or f"{self._path}: it does not fit to the kernel's table {TABLE_NAME!r}"
        return f"{problem}; all classes get new numbers when a policy is enforced next"

    def enforce(self, policy: FirewallPolicy, fleet: Fleet, *, undoes: bool) -> Enforced:
        """Make the kernel's table equal to policy and fleet, which the compiler checks. See `Enforcer`."""
        standing, held = Standing(fleet), self.held
        touched = self._touched(undoes=undoes)
        known = held and self.seen and held.policy.digest == policy.digest
        if held and known and standing.labels() <= held.classes.numbers.keys():
            wanted = compile_ruleset(policy, fleet, held.classes, self.state)
            adds, removes = elements_delta(held.elements, _copied(wanted))
            try:
                made = self._filter.change(held.table, adds, removes, self.seen)
            except _REFUSED:
                touched = touched or self._touched(undoes=undoes)
                return replace(self._whole(policy, standing, held.standing.labels()), touched=touched)
            if not made and self._filter.generation() != self.seen:
                touched = touched or self._touched(undoes=undoes)
                return replace(self._whole(policy, standing, held.standing.labels()), touched=touched)
            held.policy, held.standing, held.elements = policy, standing, _copied(wanted)
            self.know(made or self.seen)
            return Enforced(self.seen, False, _count(adds), _count(removes))
        leaving = held.standing.labels() if held else set()
        return replace(self._whole(policy, standing, leaving), touched=touched)

    def exchange(self, change: Change) -> Enforced:
        """Make one machine's change. See `Enforcer.admit`."""
        held = self.required()
        if self._uncertain or any(port.labels not in held.classes.numbers for port in change.come):
            return self._exchanged_whole(held, change)
        adds, removes = elements_delta(
            change.elements_before(held.classes), change.elements_after(held.classes)
        )
        try:
            made = self._filter.change(held.table, adds, removes)
        except _REFUSED:
            put_right = self._put_right(held, adds, removes)
            if put_right is None:
                return self._exchanged_whole(held, change)
            made = put_right
        held.standing.take(change)
        for name, keys in removes.items():
            for key in keys:
                held.elements[name].pop(key, None)
        for name, elements in adds.items():
            held.elements[name].update(elements)
        self.made(made)
        return Enforced(made or self.seen, False, _count(adds), _count(removes))

    def _exchanged_whole(self, held: Held, change: Change) -> Enforced:
        leaving = {port.labels for port in change.gone} | {one.labels for one in change.gone_elsewhere}
        touched = self._touched(undoes=True)
        held.standing.take(change)
        try:
            return replace(self._whole(held.policy, held.standing, leaving), touched=touched)
        except BaseException:
            held.standing.take(change.undone)
            raise

    def withdraw(self) -> int:
        """Take the table away. See `Enforcer.withdraw`."""
        try:
            made = self._filter.delete(TABLE_NAME)
        except NotFoundError:
            made = 0
        self.held = None
        self.recall()
        return made

    def made(self, generation: int) -> None:
        """Note a generation that a change of elements made, 0 for none, whatever came before it."""
        if generation and self.seen and generation == self.seen % (_GENERATIONS - 1) + 1:
            self.know(generation)
        elif generation:
            self._own.add(generation)

    def _put_right(self, held: Held, adds: Elements, removes: Mapping[str, Sequence[bytes]]) -> int | None:
        """Make single elements so, whatever is there; return the generation, None where that cannot be done.

        Somebody else has changed them, or an answer of the kernel was lost.
        """
        keys = {name: {*adds.get(name, ()), *removes.get(name, ())} for name in adds.keys() | removes.keys()}
        for _ in range(ATTEMPTS):
            try:
                generation = self._filter.generation()
                found = self._filter.find(held.table, keys)
                return self._filter.change(held.table, *elements_delta(found, adds), generation)
            except _REFUSED:
                continue
        return None

    def _whole(self, policy: FirewallPolicy, standing: Standing, leaving: set[Labels]) -> Enforced:
        """Replace the table.

        Args:
            policy: wanted.
            standing: the machines.
            leaving: labels whose class stays for this time, whether or not anybody has it still: packets on
                their way bear its number, and are let through or denied as they were.
        """
        check_features(self._features or self.probe(), policy)
        before = self._filter.generation()
        if before != self.seen or not self.held:
            # Somebody may have put another table there, with numbers of its own.
            self.recall()
        now = self._clock()
        memory = numbering.numbered(self._memory, policy.digest, standing.labels() | leaving, now)
        wanted = memory.numberings[-1]
        ruleset = compile_ruleset(policy, standing.fleet, wanted.classes, self.state)
        table = _in_order(numbering.noted(ruleset.table, wanted))
        if memory.numberings != self._memory.numberings:
            files.store(self._path, memory)
        self.know(0)
        self._uncertain = True
        made = self._filter.replace(replace(ruleset, table=table))
        self._uncertain = False
        self._memory = numbering.settled(memory, wanted, now)
        elements = _copied(ruleset)
        adds, removes = elements_delta(self.held.elements if self.held else {}, elements)
        self.held = Held(policy, wanted.classes, standing, table, elements)
        # Where nothing had to be changed, it was read after this generation, and so was as it is now.
        self.know(made or before)
        return Enforced(self.seen, True, _count(adds), _count(removes))


def _in_order(table: Table) -> Table:
    """Return the table as the kernel's is read."""
    return replace(
        table,
        sets=tuple(sorted(table.sets, key=lambda definition: definition.name)),
        chains=tuple(sorted(table.chains, key=lambda chain: chain.name)),
    )


def _copied(ruleset: Ruleset) -> Elements:
    return {name: dict(elements) for name, elements in ruleset.elements.items()}


def _count(elements: Mapping[str, Mapping[bytes, object] | Sequence[bytes]]) -> int:
    return sum(map(len, elements.values()))
