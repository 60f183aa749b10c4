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

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from undercroft.assurance.firewall.certificate import Answer, Counterexample
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.compiler import TABLE_NAME
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.policy import FirewallPolicy
from undercroft.firewall.tracking import StateKind
from undercroft.ports.packetfilter import PacketFilter
from undercroft.usecases.firewall.delta import Change
from undercroft.usecases.firewall.flows import flows_about, moving, taken_in
from undercroft.usecases.firewall.holding import Enforced, Holding, TouchedError
from undercroft.usecases.firewall.proofs import Proofs

__all__ = ["Enforced", "Enforcer", "TouchedError"]


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
        self.memory = memory
        self._filter = packet_filter
        self._holding = Holding(packet_filter, memory, clock)
        self._proofs = Proofs(packet_filter, clock)
        self._lock = threading.RLock()
        # A proof of the whole may take longer than a machine that starts should wait.
        self._proving = threading.RLock()

    @property
    def policy(self) -> FirewallPolicy | None:
        """The policy that was enforced last, None before the first and after a withdrawal."""
        with self._lock:
            return self._holding.held.policy if self._holding.held else None

    @property
    def fleet(self) -> Fleet | None:
        """The machines as they were given last, with those that were admitted and without the dismissed."""
        with self._lock:
            return self._holding.held.standing.fleet if self._holding.held else None

    @property
    def state(self) -> StateKind:
        """How the kernel knows answers, as it was asked at `recall`."""
        with self._lock:
            return self._holding.state

    def recall(self) -> str:
        """Find out which classes the kernel's marks stand for, after a start of the agent.

        Returns:
            What is wrong with the memory, for people; "" where it fits to the kernel's table, or there is no
            table. Where something is wrong, the next `enforce` gives each class a new number.
        """
        with self._lock:
            self._holding.probe()
            return self._holding.recall()

    def enforce(self, policy: FirewallPolicy, fleet: Fleet, *, undoes: bool = True) -> Enforced:
        """Make the kernel's table equal to policy and fleet, by the least change.

        Args:
            policy: applied.
            fleet: all machines; one that was admitted and is missing here is closed.
            undoes: whether somebody else's change that nobody has looked at (`drifted`) may be undone.

        Raises:
            TouchedError: there is such a change, and it may not. Nothing has changed.
            StateError: two machines share a tap, a MAC or an address; there are more classes than numbers, or
                more machines than the sets have room for. Nothing has changed.
        """
        with self._lock:
            done = self._holding.enforce(policy, fleet, undoes=undoes)
            self._proofs.forget()
            return done

    def admit(self, ports: Sequence[Port]) -> Enforced:
        """Put the ports of one machine into the kernel, before it runs, instead of its earlier ones.

        Elements go that an earlier execution of the machine left, or an earlier owner of these taps or MACs;
        whether a machine may have a MAC is the caller's question. Where nobody has the machine's labels yet,
        the policy is compiled anew for them, before this returns. A tap that is gone again changes nothing:
        its elements wait for `dismiss`.

        Args:
            ports: all of the machine's.

        Raises:
            InputError: they are of several machines.
            StateError: no policy is enforced; or another machine or the host has one of the addresses; or the
                sets are full. The machine and the taps are then closed, whatever they were before.
        """
        if len({port.machine for port in ports}) != 1:
            raise InputError(f"{len(ports)} ports of several machines, or none; give all of one machine's")
        with self._lock:
            standing = self._holding.required().standing
            change = standing.admitted(ports)
            try:
                standing.check(change)
                return self._exchanged(change)
            except (StateError, NotFoundError, OperationError):
                with contextlib.suppress(StateError, NotFoundError, OperationError):
                    self._exchanged(change.closing)
                raise

    def dismiss(self, machine: str) -> Enforced:
        """Take the elements of a machine's ports out of the kernel; a machine without any changes nothing.

        Args:
            machine: its UUID.

        Raises:
            StateError: no policy is enforced.
        """
        with self._lock:
            return self._exchanged(self._holding.required().standing.dismissed(machine))

    def withdraw(self) -> int:
        """Take the table away, so that nothing is filtered; return the generation that this made, or 0."""
        with self._lock:
            self._proofs.forget()
            return self._holding.withdraw()

    def prove(self) -> Answer:
        """Read the table back and prove it, whole or what was changed since the last proof.

        Raises:
            StateError: no policy is enforced.
            OperationError: others change the tables faster than they can be read.
        """
        with self._proving:
            with self._lock:
                self._holding.look()
                answer = self._proofs.changed(self._holding.required(), self._holding.seen)
            if answer is None:
                answer = self._proven(anyway=True)
            assert answer is not None
            return answer

    def drifted(self, generation: int) -> Answer | None:
        """Tell what a change of the tables means; ours is read where somebody else may have changed it.

        Args:
            generation: that the change made, as `PacketFilter.watch` tells it.

        Returns:
            None where we made it ourselves, or it was none of our table, or no policy is enforced. A
            counterexample where our table is not the policy any more; a certificate where it is other than we
            made it, and means the same. The next `enforce` makes it as it was in both cases.

        Raises:
            OperationError: others change the tables faster than they can be read.
        """
        with self._proving:
            with self._lock:
                if self._holding.held is None or self._holding.is_own(generation) or self._holding.look():
                    return None
            return self._proven(anyway=False)

    def flows_of(self, ports: Sequence[Port]) -> Mapping[str, tuple[bytes, ...]]:
        """Return what the dynamic sets remember of ports: set name -> keys, to be adopted by another host.

        With conntrack as the state there is nothing to move, and it is empty: the kernel of the other host
        takes a flow up with the next packet of who opened it.

        Raises:
            StateError: no policy is enforced.
            OperationError: others change the tables faster than they can be read.
        """
        with self._lock:
            table = self._holding.required().table
            if self._holding.state is StateKind.CONNTRACK:
                return {}
        # There may be many, and meanwhile machines start.
        names = {definition.name for definition in moving(table)}
        return flows_about(table, self._filter.read(TABLE_NAME, names).elements, ports)

    def adopt(self, elements: Mapping[str, tuple[bytes, ...]], machine: str = "") -> None:
        """Remember what another host's `flows_of` gave, as far as it is about ports that were admitted here.

        With conntrack as the state this does nothing.

        Args:
            elements: untrusted.
            machine: UUID of the one that moved; "" for any of this host's.

        Raises:
            InputError: too many keys, or one that is no key of its set.
            StateError: no policy is enforced, or a set is full. Nothing was taken for that set, nor for those
                after it; flows come first.
        """
        with self._lock:
            held = self._holding.required()
            if self._holding.state is StateKind.CONNTRACK:
                return
            ports = held.standing.ports_of(machine) if machine else held.standing.fleet.ports
            timeouts_ms = taken_in(held.table, held.policy, ports, elements)
            if not timeouts_ms:
                return
            try:
                self._holding.made(self._filter.remember(held.table, timeouts_ms))
            except StateError:
                # A flood of pings, or of fragments, is not to keep flows from their machine.
                for name, of_set in timeouts_ms.items():
                    self._holding.made(self._filter.remember(held.table, {name: of_set}))

    def _exchanged(self, change: Change) -> Enforced:
        done = self._holding.exchange(change)
        if done.whole:
            self._proofs.forget()
        else:
            self._proofs.note(change)
        return done

    def _proven(self, *, anyway: bool) -> Answer | None:
        """Read the table and prove it; None where it is as we made it, and that is enough."""
        with self._lock:
            held = self._holding.required()
            try:
                found = self._filter.read(TABLE_NAME, written=False)
            except NotFoundError as error:
                self._holding.know(0)
                self._proofs.forget()
                return Counterexample("what the table says", f"{error}: it is gone, and nothing is filtered")
            as_held = held.is_held(found)
            self._holding.know(found.generation if as_held else 0)
            if as_held and not anyway:
                return None
            proof = self._proofs.begun(held, found)
        return proof()
