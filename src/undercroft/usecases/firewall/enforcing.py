"""The engine that keeps the kernel's table equal to a policy and the machines of this host.

    enforcer = Enforcer(Nftables(), Path("/var/lib/undercroft/firewall.json"), clock)
    enforcer.recall()                       # once, at the start
    enforcer.enforce(policy, fleet)         # policy, labels or addresses have changed
    enforcer.admit(ports)                   # one machine, before it runs
    answer = enforcer.prove()

What is in the kernel is changed by as little as it takes: elements where policy and classes stay, in one
transaction that touches nothing else; chains and sets besides where they do not. A process that is killed at
any point leaves the old policy or the new one in the kernel, and a memory that fits to it. See `numbering`
for what the marks of packets on their way mean meanwhile.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from undercroft.assurance.firewall.proof import Answer, Prover
from undercroft.errors import NotFoundError, OperationError, StateError
from undercroft.firewall.classes import Classes
from undercroft.firewall.compiler import TABLE_NAME, compile_ruleset
from undercroft.firewall.elements import Elements
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Ruleset, Table
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind
from undercroft.ports.packetfilter import FilterFeatures, PacketFilter
from undercroft.usecases.firewall import memory as files
from undercroft.usecases.firewall import numbering
from undercroft.usecases.firewall.delta import Standing, elements_delta
from undercroft.usecases.firewall.needs import check_features
from undercroft.usecases.firewall.numbering import Memory


@dataclass(frozen=True, slots=True)
class Enforced:
    """What a call has done to the kernel.

    Attributes:
        generation: of the kernel's tables, of which it is known that ours is as wanted.
        whole: chains and sets were looked at too, not elements alone.
        added, removed: elements, against what was known to be there; one whose data changes is in both.
    """

    generation: int
    whole: bool
    added: int
    removed: int


@dataclass(slots=True)
class _Held:
    """What the kernel was made to hold.

    Attributes:
        policy: the one.
        classes: and their numbers.
        standing: the machines.
        table: without elements.
        elements: of the table's sets.
        certain: False where somebody, or an error, may have changed it since.
    """

    policy: FirewallPolicy
    classes: Classes
    standing: Standing
    table: Table
    elements: Elements
    certain: bool = True


class Enforcer:
    """The filter of one host. Every method takes a lock of its own; any thread may call.

    All raise DeniedError without CAP_NET_ADMIN, and OperationError where the kernel refuses or lacks a
    feature. After an error the kernel has what it had before, or what was wanted, and the next call finds out
    which.
    """

    def __init__(self, packet_filter: PacketFilter, memory: Path, clock: Callable[[], datetime]) -> None:
        """Do nothing yet.

        Args:
            packet_filter: of the host's network namespace.
            memory: a file of its own in a folder that is there, for the numbers of classes.
            clock: tells the time, with its zone.
        """
        self._filter = packet_filter
        self._path = memory
        self._clock = clock
        self._lock = threading.RLock()
        self._prover = Prover(clock)
        self._features: FilterFeatures | None = None
        self._memory = Memory()
        self._held: _Held | None = None
        self._generation = 0

    @property
    def policy(self) -> FirewallPolicy | None:
        """The policy that was enforced last, None before the first and after a withdrawal."""
        with self._lock:
            return self._held.policy if self._held else None

    @property
    def fleet(self) -> Fleet | None:
        """The machines as they were given last, with those that were admitted and without the dismissed."""
        with self._lock:
            return self._held.standing.fleet if self._held else None

    @property
    def state(self) -> StateKind:
        """How the kernel knows answers; asked for once, at `recall`."""
        with self._lock:
            return StateKind.CONNTRACK if self._probed().conntrack else StateKind.TUPLES

    def recall(self) -> str:
        """Find out which classes the kernel's marks stand for, after a start of the agent.

        Returns:
            What is wrong with the memory, for people; "" where it fits to the kernel's table, or there is no
            table. Where something is wrong, the next `enforce` gives each class a new number.
        """
        with self._lock:
            self._probed(anew=True)
            return self._recalled()

    def enforce(self, policy: FirewallPolicy, fleet: Fleet) -> Enforced:
        """Make the kernel's table equal to policy and fleet, by the least change.

        Args:
            policy: applied.
            fleet: all machines, none that was admitted before missing.

        Raises:
            StateError: two machines share a tap, a MAC or an address; there are more classes than numbers, or
                more machines than the sets have room for. Nothing has changed.
        """
        with self._lock:
            return self._whole(policy, Standing(fleet))

    def admit(self, ports: Sequence[Port]) -> Enforced:
        """Put the ports of one machine into the kernel, before it runs, instead of its earlier ones.

        Elements go that an earlier execution of the machine left, or an earlier owner of these taps or MACs.

        Args:
            ports: all of the machine's; one at least.

        Raises:
            StateError: no policy is enforced; or another machine has one of the addresses: then the ports are
                closed, whatever they were before.
        """
        with self._lock:
            held = self._required()
            standing = Standing(held.standing.fleet)
            change = standing.admitted(ports)
            standing.check(change)
            standing.take(change)
            return self._whole(held.policy, standing)

    def dismiss(self, machine: str) -> Enforced:
        """Take the elements of a machine's ports out of the kernel; a machine without any changes nothing.

        Raises:
            StateError: no policy is enforced.
        """
        with self._lock:
            held = self._required()
            standing = Standing(held.standing.fleet)
            standing.take(standing.dismissed(machine))
            return self._whole(held.policy, standing)

    def withdraw(self) -> int:
        """Take the table away, so that nothing is filtered; return the generation that this made, or 0."""
        with self._lock:
            self._held = None
            try:
                self._generation = self._filter.delete(TABLE_NAME)
            except NotFoundError:
                return 0
            return self._generation

    def prove(self) -> Answer:
        """Read the table back and prove it, whole or what was changed since the last proof.

        Raises:
            StateError: no policy is enforced.
        """
        with self._lock:
            held = self._required()
            ruleset = self._filter.read(TABLE_NAME)
            return self._prover.prove(ruleset, held.policy, held.standing.fleet, held.classes)

    def drifted(self, generation: int) -> Answer | None:
        """Tell what a change of the tables means.

        Args:
            generation: that the change made, as `PacketFilter.watch` tells it.

        Returns:
            None where we made it ourselves, or it was none of our table, or no policy is enforced. A
            counterexample where our table is not the policy any more; a certificate where it is other than we
            made it, and means the same.
        """
        raise NotImplementedError

    def flows_of(self, port: Port) -> Mapping[str, tuple[bytes, ...]]:
        """Return what the dynamic sets remember of a port: set name -> keys, to be adopted by another host.

        With conntrack as the state there is nothing that could be moved: it is empty.
        """
        raise NotImplementedError

    def adopt(self, elements: Mapping[str, tuple[bytes, ...]]) -> None:
        """Add what another host's `flows_of` gave to the dynamic sets, for the addresses of our ports alone.

        With conntrack as the state this does nothing.
        """
        raise NotImplementedError

    def _probed(self, *, anew: bool = False) -> FilterFeatures:
        if self._features is None or anew:
            self._features = self._filter.features()
        return self._features

    def _required(self) -> _Held:
        if self._held is None:
            raise StateError("no firewall policy is enforced on this host: enforce one first")
        return self._held

    def _recalled(self) -> str:
        """Make the memory fit to the kernel's table, and return what was wrong with it."""
        now = self._clock()
        problem = ""
        try:
            found = files.load(self._path)
        except StateError as error:
            found, problem = Memory(), str(error)
        try:
            table = self._filter.read(TABLE_NAME, sets=()).table
        except NotFoundError:
            self._memory = numbering.without_table(found, now)
            return problem
        except OperationError:
            table = None
        matched = numbering.matched(found, table, now) if table else None
        if matched is not None:
            self._memory = matched
            return ""
        problem = problem or f"{self._path}: it does not fit to the kernel's table {TABLE_NAME!r}"
        self._memory = numbering.distrusted(found, self._filter.read(TABLE_NAME), now)
        return f"{problem}; all classes get new numbers when the policy is enforced next"

    def _whole(self, policy: FirewallPolicy, standing: Standing) -> Enforced:
        check_features(self._probed(), policy)
        if self._held is None or not self._held.certain:
            self._recalled()
        held = self._held.elements if self._held else {}
        now = self._clock()
        memory = numbering.numbered(self._memory, policy.digest, standing.labels(), now)
        wanted = memory.numberings[-1]
        ruleset = compile_ruleset(policy, standing.fleet, wanted.classes, self.state)
        ruleset = replace(ruleset, table=numbering.noted(ruleset.table, wanted))
        if memory.numberings != self._memory.numberings:
            files.store(self._path, memory)
        made = self._replaced(ruleset)
        self._memory = numbering.settled(memory, wanted, now)
        adds, removes = elements_delta(held, ruleset.elements)
        self._held = _Held(policy, wanted.classes, standing, ruleset.table, _copied(ruleset))
        self._generation = made or self._generation or self._filter.generation()
        return Enforced(self._generation, True, _count(adds), _count(removes))

    def _replaced(self, ruleset: Ruleset) -> int:
        if self._held is not None:
            self._held.certain = False
        return self._filter.replace(ruleset)


def _copied(ruleset: Ruleset) -> Elements:
    return {name: dict(elements) for name, elements in ruleset.elements.items()}


def _count(elements: Mapping[str, Mapping[bytes, object] | Sequence[bytes]]) -> int:
    return sum(map(len, elements.values()))
