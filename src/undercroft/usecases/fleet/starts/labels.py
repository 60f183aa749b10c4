"""The filter's ports of one host's machines: they have the labels that the record says, before it says so.

    labels = Labels(Enforcer(...), records, "host1", host_addresses)
    labels.recall()                                   # once, before anybody starts a machine
    labels.follow()                                   # applied policy and fleet, as they are on record now
    with labels.changing(records, uuid) as record:    # what may change one machine's labels
        record.put_hold(...)
        labels.label(record, uuid, taps)              # in the kernel, before the record says so

Policy and fleet are read from the record, never from what somebody hands in. What a transaction has told the
kernel before its end counts for its machine until it has ended; a fleet that was read meanwhile changes
nothing of that. Whoever holds the lock here reads the record at most, and never waits for a transaction: so
that transactions may wait for it.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.errors import DamagedError, OperationError, UndercroftError
from undercroft.firewall.fleet import Port
from undercroft.firewall.policy import Address, FirewallPolicy
from undercroft.firewall.stored import from_text
from undercroft.model.filter import AppliedPolicy, FilterState
from undercroft.ports.records import Record, Records
from undercroft.usecases.firewall.claims import Named
from undercroft.usecases.firewall.enforcing import Enforced, Enforcer, TouchedError
from undercroft.usecases.firewall.machines import Gathered, Gatherer, Look
from undercroft.usecases.fleet.starts.arrivals import Arrivals
from undercroft.usecases.fleet.starts.told import Claim, left, shielded, with_claims

_PROBLEMS_TOLD = 20


@dataclass(frozen=True, slots=True)
class Followed:
    """What `follow` did.

    Attributes:
        applied: the policy that is in force here, None for none.
        enforced: what the kernel was told, None where there was nothing to tell.
        problems: what is wrong with machines or policy, one sentence each.
    """

    applied: AppliedPolicy | None
    enforced: Enforced | None = None
    problems: tuple[str, ...] = ()


class Labels:
    """`network.Filter` of one host. Every method may be called from any thread.

    Args:
        enforcer: of the kernel in whose network the machines' taps are.
        records: the record.
        host: this host's name.
        host_addresses: gives its addresses.
        stale: called where the kernel may be behind the record: `follow` is due.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        records: Records,
        host: str,
        host_addresses: Callable[[], tuple[Address, ...]],
        stale: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._enforcer = enforcer
        self._records = records
        self._host = host
        self._host_addresses = host_addresses
        self.stale = stale
        self.shield: Callable[[Port], None] = lambda _: None
        """Keeps a port's frames from passing the table by: `adapters.surroundings.shielding.shield`."""
        self.touched: Callable[[], None] = lambda: None
        """Called where somebody else's change of the table was undone before anybody looked at it."""
        self._lock = threading.RLock()
        self._claims: dict[str, Claim] = {}
        self._arrivals = Arrivals(host)
        self._applied: AppliedPolicy | None = None
        self._required = False
        self._before: FilterState | None = None
        self._named: Named | None = None
        self._is_known = False
        self._is_withdrawn = False
        self._may_quarantine = True

    # What starts and quarantines need: `network.Filter`

    @property
    def required(self) -> bool:
        """True where a policy is in force on this host, or was when its agent ended."""
        return self._required

    @property
    def is_known(self) -> bool:
        """True once the record was read after the start of the agent."""
        return self._is_known

    @property
    def quarantines(self) -> bool:
        """True where a policy is in force that has labels for quarantined machines, and will go on to."""
        policy = self._enforcer.policy
        return self._may_quarantine and policy is not None and bool(policy.quarantine_labels)

    @contextmanager
    def changing(self, records: Records, machine: str) -> Iterator[Record]:
        """Begin a transaction that may change a machine's labels. See `network.Filter.changing`."""
        mine: Claim | None = None
        whole = False
        try:
            with records.transaction() as record:
                try:
                    yield record
                finally:
                    # Transactions come one after the other: what is claimed now is of this one.
                    mine = self._claims.get(machine)
            whole = True
        finally:
            if whole and mine is not None:
                self._release(machine, mine)  # the kernel has what is on record by now
            else:
                self._settle(machine, mine)

    def label(self, record: Record, machine: str, taps: Sequence[str]) -> None:
        """Give a machine's ports the labels that it has in this transaction, before it ends.

        Raises OperationError: one of `taps` has none, or the kernel refuses; it may have the old ones then.
        """
        with self._lock:
            ports = self._labelled(record, machine, taps)
            if ports is None:
                return
            self._claims[machine] = Claim(ports)
            try:
                self._tell(machine, ports)
            except UndercroftError:
                del self._claims[machine]
                raise

    def admit(self, machine: str, taps: Sequence[str]) -> None:
        """Give a machine's ports the labels that are on record, before it runs. Raises as `label`."""
        with self._lock, self._records.reading() as record:
            if (ports := self._labelled(record, machine, taps)) is not None:
                self._tell(machine, ports)

    def put_back(self, tap: str) -> None:
        """Shield a port that somebody put onto a bridge: off it, it lost what kept it so."""
        self._shield([port for port in self._all_ports if port.tap == tap])

    def dismiss(self, machine: str) -> None:
        """Take the labels of a machine that is gone from its ports; what fails is done by `follow`.

        One that lives here by the record has begun since, and keeps them: whoever gives it labels reads under
        this lock as well.
        """
        with self._lock:
            if self._enforcer.policy is None:
                self._arrivals.forget(machine)
                return
            before = self._all_ports
            try:
                with self._records.reading() as record:
                    if any(one.host == self._host for one in record.live_origins([machine])):
                        return
                self._claims.pop(machine, None)
                self._arrivals.forget(machine)
                self._enforcer.dismiss(machine)
                self._shield(left(before, self._all_ports))
            except UndercroftError as error:
                self.stale(f"the labels of machine {machine}, which is gone: {error}")

    # Migration

    def arrive(self, machine: str) -> None:
        """Take note that a machine is said to be about to be migrated to this host.

        Raises OperationError: the record cannot be read.
        """
        with self._lock, self._records.reading() as record:
            self._arrivals.announce(record, machine)

    def arrived(self, machine: str) -> bool:
        """Take note that a machine runs here from now on; False where it was not arriving."""
        with self._lock:
            if not (self._arrivals.is_announced(machine) or any(one.arriving for one in self.ports(machine))):
                return False
            try:
                with self._records.reading() as record:
                    self._arrivals.arrived(record, machine)
            except UndercroftError as error:
                self.stale(f"machine {machine}, which has come: {error}")
                return False
        self._settle(machine, None)
        return True

    def leave(self, machine: str) -> None:
        """Take note that a machine runs on another host by post-copy, and here never again."""
        try:
            with self._lock, self._records.reading() as record:
                self._arrivals.left(record, machine)
        except UndercroftError as error:
            self.stale(f"machine {machine}, which has left: {error}")
            return
        self._settle(machine, None)

    def ports(self, machine: str) -> tuple[Port, ...]:
        """Return a machine's ports as the kernel has them."""
        return tuple(port for port in self._all_ports if port.machine == machine)

    @property
    def _all_ports(self) -> tuple[Port, ...]:
        fleet = self._enforcer.fleet
        return fleet.ports if fleet else ()

    # The whole

    def presume(self, *, required: bool) -> None:
        """Take whether taps need labels from elsewhere until `recall` has read the record."""
        self._required = required

    def recall(self) -> None:
        """Begin, after a start of the agent: what a host has filtered, it will. Raises as `Enforcer`.

        It is to be called again until it does not raise, before anything is enforced.
        """
        with self._records.reading() as record:
            applied = record.applied_policy()
            state, has_filtered = self._told_before(record)
        if state is None and has_filtered and applied is not None and applied.body:
            state = FilterState(self._host, 0, applied.digest, 0, 0, None, "", applied.at)
        self._required = state is not None and bool(state.digest)
        self._before, self._is_known = state, True
        if self._required or (applied is not None and applied.body):
            self._enforcer.recall()

    def _told_before(self, record: Record) -> tuple[FilterState | None, bool]:
        """Return what was said of this host's filter, and whether it is taken to have filtered."""
        try:
            # Of this host alone: what another one's row has become keeps nobody here from beginning.
            state = record.filter_state(self._host)
        except DamagedError as error:
            self.stale(f"{error}; it is taken to have filtered, and told anew")
            return None, True
        # It was forgotten (`orders.forget`) where its hook's settings say that it has filtered.
        return state, state is not None or self._required

    def follow(self) -> Followed:
        """Bring the kernel to the applied policy and the fleet, as they are on record now.

        A policy that cannot be enforced leaves the one before in force, and is one of the problems.

        Raises:
            TouchedError: somebody else's change of the table is to be looked at before.
            OperationError, StateError, DeniedError: record or kernel fail, or nothing can be enforced.
        """
        with self._records.reading() as record:
            applied = record.applied_policy()
        if applied is None:
            return Followed(None)
        if not applied.body:
            return self._withdrawn(applied)
        before = self._applied
        try:
            policy = from_text(applied.body)
            return self._enforced(applied, policy)
        except TouchedError:
            raise
        except UndercroftError as error:
            old = self._enforcer.policy
            if old is None or before is None or before.number == applied.number:
                raise
            done = self._enforced(before, old)
            problem = f"policy {applied.number} cannot be enforced, {before.number} stays in force: {error}"
            return replace(done, problems=(problem, *done.problems))

    def prepare_change(self) -> bool:
        """Tell whether the applied policy will close no quarantined machine any more; none is from now on.

        Whoever calls it then holds them off their bridges (`network.close`), before `follow`.
        """
        with self._records.reading() as record:
            applied = record.applied_policy()
        if applied is None or not self._required:
            return False
        try:
            self._may_quarantine = bool(applied.body and from_text(applied.body).quarantine_labels)
        except UndercroftError:
            return False  # it stays as it is
        return not self._may_quarantine

    def doubt(self) -> None:
        """Let the filter quarantine nobody until it is enforced again: what it holds is not the policy."""
        self._may_quarantine = False

    def state(
        self, followed: Followed | None, proven_at: datetime | None, problem: str, at: datetime
    ) -> FilterState:
        """Return what this host's kernel holds, for the record."""
        applied, fleet = self._applied, self._enforcer.fleet
        # Where nothing is in force yet that was before: the next agent goes by it as well.
        holds = applied or (self._before if self._required else None)
        problems = [problem, *(followed.problems[:_PROBLEMS_TOLD] if followed else ())]
        return FilterState(
            host=self._host,
            number=holds.number if holds else 0,
            digest=holds.digest if holds else "",
            generation=followed.enforced.generation if followed and followed.enforced else 0,
            machines=len({port.machine for port in fleet.ports}) if fleet else 0,
            proven_at=proven_at,
            problem="; ".join(filter(None, problems)),
            at=at,
        ).bounded()

    def _withdrawn(self, applied: AppliedPolicy) -> Followed:
        with self._lock:
            # An agent that was killed may have left a table that it told nobody of.
            if not self._is_withdrawn:
                before = self._all_ports
                self._enforcer.withdraw()
                self._shield(left(before, ()))
            self._required, self._applied, self._is_withdrawn = False, applied, True
            self._claims.clear()
        return Followed(applied)

    def _enforced(self, applied: AppliedPolicy, policy: FirewallPolicy) -> Followed:
        with self._lock:
            with self._records.reading() as record:
                found = self._gathered(record, policy)
            self._is_withdrawn = False  # also where the kernel's answer is lost
            before = self._all_ports
            done = self._enforcer.enforce(policy, with_claims(found.fleet, self._claims), undoes=False)
            self._required, self._applied = True, applied
            self._may_quarantine = True
            ports = (*left(before, self._all_ports), *found.fleet.ports)
        return Followed(applied, done, (*found.problems, *shielded(self.shield, ports)))

    def _shield(self, ports: Sequence[Port]) -> None:
        """Shield ports; of those that are not, `follow` is told."""
        if problems := shielded(self.shield, ports):
            self.stale("; ".join(problems))

    def _release(self, machine: str, mine: Claim) -> None:
        with self._lock:
            if self._claims.get(machine) is mine:
                del self._claims[machine]
        self._shield(mine.ports)  # a tap that was opened has lost what kept it so

    def _settle(self, machine: str, mine: Claim | None) -> None:
        """Give a machine's ports what the record says, after a transaction of its own has ended.

        Where another one has told the kernel since, that one counts.
        """
        policy = self._enforcer.policy
        if policy is None:
            return
        try:
            with self._lock:
                if mine is not None:
                    self._release(machine, mine)
                if machine in self._claims:
                    return
                with self._records.reading() as record:
                    ports, _ = self._ports(record, policy, machine)
                if set(ports) != set(self.ports(machine)):
                    self._tell(machine, ports)
                else:
                    self._shield(ports)  # a tap that was opened has lost what kept it so
        except UndercroftError as error:
            self.stale(f"the labels of machine {machine}: {error}")

    def _heed(self, done: Enforced) -> None:
        if done.touched:
            self.touched()

    def _labelled(self, record: Record, machine: str, taps: Sequence[str]) -> tuple[Port, ...] | None:
        """Return a machine's ports, None where nothing is filtered. Raises OperationError as `label`."""
        policy = self._enforcer.policy
        if policy is None:
            if self._required:
                raise OperationError("the firewall's policy is not in force: undercroft doctor says why")
            return None
        ports, problems = self._ports(record, policy, machine)
        missing = sorted(set(taps) - {port.tap for port in ports})
        if missing:
            why = "; ".join(problems) or "not on record"
            raise OperationError(f"{', '.join(missing)}: no labels: {why}")
        return ports

    def _tell(self, machine: str, ports: tuple[Port, ...]) -> None:
        """Put a machine's ports into the kernel. Raises OperationError."""
        before = self._all_ports
        try:
            self._heed(self._enforcer.admit(ports) if ports else self._enforcer.dismiss(machine))
            self._shield((*left(before, self._all_ports), *ports))
        except UndercroftError as error:
            raise OperationError(f"the filter does not take the labels: {error}") from error

    def _ports(
        self, record: Record, policy: FirewallPolicy, machine: str
    ) -> tuple[tuple[Port, ...], tuple[str, ...]]:
        """Return a machine's ports, and what is wrong with it."""
        named = self._named_by(policy)
        look = Look.about(record, named, machine, self._host)
        arriving = self._arrivals.now(record, {one.uuid for one in look.machines})
        found = Gatherer(look, named).at(self._host, self._host_addresses(), arriving)
        return found.ports_of(machine), found.problems_of(machine)

    def _gathered(self, record: Record, policy: FirewallPolicy) -> Gathered:
        gatherer = Gatherer(Look.at(record), self._named_by(policy))
        return gatherer.at(self._host, self._host_addresses(), self._arrivals.now(record))

    def _named_by(self, policy: FirewallPolicy) -> Named:
        """Return what a policy says by machines' names: there may be thousands, and it is asked for each."""
        if self._named is None or self._named.policy is not policy:
            self._named = Named(policy)
        return self._named
