"""The firewall of this host: the applied policy and the record's machines, in the kernel, and proven to be.

Guarantees:
- what machines may is what the policy says that was applied last, as far as this kernel can; a policy that it
  cannot leaves the one before in force, and is told in this host's `FilterState`;
- a machine's change on record is in the kernel at once where this host made it, else within seconds;
- who changes the table beside Undercroft is found by the kernel's word on every change: an alarm says with
  which packet it differs, and the policy whether it is put right;
- what could pass the table by is looked at with a proof, at least every few minutes: a finding that defeats
  it is an alarm, and stays a problem of this host for as long as it is there;
- where the table keeps machines in quarantine no more, by a policy or a change that stands, they are held off
  their bridges.

Without an applied policy nothing is asked of the kernel, and nothing is changed in it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from undercroft.agent.filteralarms import Alarms
from undercroft.agent.host import Host, now
from undercroft.agent.moves import Moves
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.errors import NotFoundError, OperationError, StateError, UndercroftError
from undercroft.firewall.policy import Address, Drift
from undercroft.model.filter import FilterState
from undercroft.model.fleet import Hold
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.ports.packetfilter import GenerationChange, PacketFilter
from undercroft.ports.records import Record, Records
from undercroft.usecases.firewall.enforcing import Enforcer, TouchedError
from undercroft.usecases.firewall.surrounding import Around, Gather, Ground
from undercroft.usecases.fleet.starts.labels import Followed, Labels
from undercroft.usecases.fleet.starts.network import close, is_of_host

MEMORY_NAME = "firewall.json"
POLL_S = 1.0
"""How often the record is asked whether anything has changed, by two numbers."""
GATHER_S = 0.2
"""How long changes are gathered before all machines are looked at; at least as long as the last look took."""
ANEW_EVERY_S = 30.0
"""How often all machines are looked at without a known reason: other hosts' metadata, own addresses."""
PROVE_AFTER_S = 0.5
PROVE_EVERY_S = 300.0
STATE_EVERY_S = 10.0
"""How often, at most, a state goes on record that differs from the last by the age of its proof only."""
AGAIN_S = 2.0
MAX_TOLD_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Firewall:
    """What one host filters with: the kernel's filter, what holds it to a policy, and machines' labels."""

    packet_filter: PacketFilter
    enforcer: Enforcer
    labels: Labels
    around: Around

    @classmethod
    def of(
        cls,
        packet_filter: PacketFilter,
        records: Records,
        host: str,
        state: Path,
        host_addresses: Callable[[], tuple[Address, ...]],
        gather: Gather | None = None,
    ) -> "Firewall":
        """Return that of a host; nothing is asked of the kernel yet.

        Args:
            packet_filter: of the network namespace in which machines' taps are.
            records: the record.
            host: this host's name.
            state: the agent's folder, in which the numbers of classes are kept.
            host_addresses: gives the host's own addresses.
            gather: gives the facts around the table, None where nobody looks at them.
        """
        enforcer = Enforcer(packet_filter, state / MEMORY_NAME, now)
        around = Around(Ground(packet_filter, gather) if gather else None, now)
        return cls(packet_filter, enforcer, Labels(enforcer, records, host, host_addresses), around)


class Filters:
    """Follows the firewall.

    Args:
        host: the host.
        firewall: what it filters with.
        required: called when it changes whether taps need labels: the hook has to know.
    """

    def __init__(self, host: Host, firewall: Firewall, required: Callable[[], None]) -> None:
        self._host = host
        self._labels = firewall.labels
        self._enforcer = firewall.enforcer
        self._packet_filter = firewall.packet_filter
        self._around = firewall.around
        self._told_required = required
        self._was_required = False
        self._is_recalled = False
        self._changed = asyncio.Event()
        self._in_force = asyncio.Event()
        self._to_prove = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._followed: Followed | None = None
        self._failure = ""
        self._drift = ""
        self._proven_at: datetime | None = None
        self._written: FilterState | None = None
        self._written_at = 0.0
        self._alarms = Alarms(host)
        self._looking = threading.Lock()
        self._mark: tuple[int, int] | None = None
        self._took_s = 0.0
        self._moves = Moves(host, firewall.labels, firewall.enforcer)
        self._background: set[asyncio.Task[None]] = set()
        self._labels.stale = self._stale
        self._labels.touched = self._touched

    def begin(self, *, labelled: bool = False) -> None:
        """Put the applied policy into force before anybody starts a machine. What fails is a problem.

        Args:
            labelled: whether taps needed labels by the hook's settings: it counts until the record was read.
        """
        self._labels.presume(required=labelled)
        self._was_required = labelled
        self._follow()

    def changed(self) -> None:
        """Look at all machines soon: this host has changed something. From any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    # What happens to single machines

    def heard(self, event: MachineEvent) -> None:
        """Take libvirt's event as it arrives: flows go with a machine that migrates; what runs has come."""
        migrated, post_copy = event.detail == "migrated", event.detail == "postcopy"
        goes = (migrated or post_copy) and self._labels.required
        if event.happening is Happening.SUSPENDED and goes:
            self._begin(self._left(event.uuid, for_good=post_copy))
        elif event.happening is Happening.RESUMED:
            self._begin(self._moves.arrived(event.uuid) if goes else self._came(event.uuid))

    async def _left(self, machine: str, *, for_good: bool) -> None:
        """Let flows go with a machine that stands still; one that does for good speaks from elsewhere."""
        await self._host.work(self._moves.left, machine)
        if for_good:
            await self._host.work(self._labels.leave, machine)

    async def _came(self, machine: str) -> None:
        await self._host.work(self._labels.arrived, machine)

    def arrives(self, machine: str) -> None:
        """Take note that a machine is about to be migrated to this host."""
        self._labels.arrive(machine)

    def gone(self, machine: str, *, migrated: bool) -> None:
        """Take a machine's labels from its ports, which may be another's at once; from any thread."""
        if migrated and self._labels.required:
            self._moves.left(machine)
        self._labels.dismiss(machine)

    def _begin(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def run(self) -> None:
        """Follow for ever."""
        self._loop = asyncio.get_running_loop()
        if self._labels.required:
            self._in_force.set()
            self._to_prove.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_for_ever())
            group.create_task(self._watch_for_ever())
            group.create_task(self._prove_for_ever())
            if self._labels.required:
                group.create_task(self._moves.catch_up())

    # Policy and machines

    async def _follow_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        anew_at = loop.time() + (AGAIN_S if self._failure else ANEW_EVERY_S)
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            try:
                if self._alarms.are_untold:
                    await self._host.work(self._alarms.tell_again)
                mark = await self._host.work(self._read_mark)
                due = loop.time() >= anew_at and (self._labels.required or bool(self._failure))
                if not (self._changed.is_set() or mark != self._mark or due):
                    continue
                await asyncio.sleep(max(GATHER_S, self._took_s))
                self._changed.clear()
                await self._host.work(self._follow)
                self._mark = mark
                anew_at = loop.time() + (AGAIN_S if self._failure else ANEW_EVERY_S)
            except UndercroftError as error:
                self._host.problem("the firewall cannot follow the record for a moment", error)
                await asyncio.sleep(AGAIN_S)
            if self._labels.required:
                self._in_force.set()
                self._to_prove.set()

    def _read_mark(self) -> tuple[int, int]:
        """Return what differs once a policy was applied, or a hold, verdict or execution is another."""
        with self._host.records.reading() as record:
            applied = record.applied_policy()
            number = applied.number if applied else 0
            return number, record.log_head()[1] if number else 0

    def _follow(self, *, looked: bool = False) -> None:
        """Bring the kernel to the record, and say on record what came of it.

        Args:
            looked: somebody else's change is known; any is looked for otherwise, which else were no alarm.
        """
        began = time.monotonic()
        try:
            if not self._is_recalled:
                self._labels.recall()
                self._is_recalled = True
            if not looked:
                self._look_for_drift()
            if self._is_left_alone():
                return
            if self._labels.prepare_change():
                self._hold_without_filter()
            self._followed = self._labels.follow()
            self._failure = ""
            if not self._labels.required:  # nothing is filtered: what was said of the table is over
                self._drift, self._proven_at = "", None
                self._around.forget()
        except TouchedError:
            self.changed()  # once more: it is looked at first
        except UndercroftError as error:
            if str(error) != self._failure:
                self._host.problem("the firewall's policy is not in force as it should be", error)
            self._failure = str(error)
        if self._labels.required is not self._was_required:
            self._was_required = self._labels.required
            self._told_required()
        self._took_s = time.monotonic() - began
        self._put_state()

    def _is_left_alone(self) -> bool:
        """Tell whether somebody else's change stands, which the policy wants reported only."""
        policy, followed = self._enforcer.policy, self._followed
        if not self._drift or policy is None or followed is None or policy.drift is Drift.REPAIR:
            return False
        return followed.applied is not None and self._read_mark()[0] == followed.applied.number

    def _hold_without_filter(self) -> None:
        """Hold what the filter keeps in quarantine off its bridge.

        Raises OperationError where that fails; a policy that was to go stays then.
        """
        host = self._host
        with host.records.transaction() as record:  # after all that knew of no change
            holds = [one for one in record.holds() if one.by_filter and is_of_host(record, one, host.name)]
        for hold in holds:
            with host.records.transaction() as record:
                if hold in record.holds():
                    self._hold_taps(record, hold)

    def _hold_taps(self, record: Record, hold: Hold) -> None:
        host = self._host
        found = (one for one in record.find_machines(hold.machine) if one.host == host.name)
        machine = next(found, None)
        interfaces = machine.domain.interfaces if machine else ()
        closed, failures = close(record, host.taps, hold, interfaces, host.places.state)
        held = {tap.tap for tap in closed.taps}
        for tap in (one.tap for one in interfaces if one.holdable and one.tap):
            if tap not in held and _is_there(host, tap):
                why = "; ".join(failures)
                raise OperationError(f"machine {hold.machine} cannot be held without the filter: {why}")

    # Changes of others

    async def _watch_for_ever(self) -> None:
        await self._in_force.wait()
        while True:
            try:
                async for change in self._packet_filter.watch():
                    await self._take(change)
            except UndercroftError as error:
                self._host.problem("changes of the firewall's tables are not seen for a moment", error)
            await asyncio.sleep(AGAIN_S)

    async def _take(self, change: GenerationChange) -> None:
        if not await self._host.work(self._is_drift, change):
            return
        policy = self._enforcer.policy
        if policy is None or policy.drift is Drift.REPAIR:
            await self._host.work(self._follow, looked=True)
            self._to_prove.set()
        else:
            await self._host.work(self._leave_alone)

    def _leave_alone(self) -> None:
        """Report a change that the policy does not want put right; a quarantine does not rest on it."""
        self._labels.doubt()
        self._hold_without_filter()
        self._put_state()

    def _look_for_drift(self) -> None:
        if self._enforcer.policy is not None:
            self._is_drift(GenerationChange(self._packet_filter.generation()))

    def _is_drift(self, change: GenerationChange) -> bool:
        """Tell whether somebody else has made another table of ours, which is an alarm then."""
        with self._looking:
            try:
                answer = self._enforcer.drifted(change.generation)
            except UndercroftError as error:
                # What cannot be read is no policy that is in force.
                answer = Counterexample("what the table says", str(error))
            if isinstance(answer, Certificate):
                self._proven(answer)
            if not isinstance(answer, Counterexample):
                return False
            policy, words = self._enforcer.policy, _words(answer, change)
            is_news = words != self._drift
            self._drift = "" if policy is None or policy.drift is Drift.REPAIR else words
        if is_news:
            self._alarms.alarm("filter", words)
        return True

    # Proof

    async def _prove_for_ever(self) -> None:
        while True:
            try:
                async with asyncio.timeout(min(PROVE_EVERY_S, self._around.every_s)):
                    await self._to_prove.wait()
            except TimeoutError:
                pass
            if not self._labels.required:
                self._to_prove.clear()
                continue
            await asyncio.sleep(PROVE_AFTER_S)
            self._to_prove.clear()
            try:
                answer = await self._host.work(self._enforcer.prove)
            except (StateError, NotFoundError):
                continue  # nothing is in force, or what was has just gone: `follow` and the watch see to it
            except UndercroftError as error:
                self._host.problem("the firewall is not proven for a moment", error)
                continue
            if isinstance(answer, Certificate):
                self._proven(answer)
            else:
                self._drift = _text(answer)
                await self._host.work(
                    self._alarms.alarm, "proof", f"the firewall is not proven: {self._drift}"
                )
            await self._host.work(self._look_around)
            await self._host.work(self._put_state)

    def _look_around(self) -> None:
        """Look at what stands around the table, where that is due; what defeats it is an alarm, once."""
        fleet = self._enforcer.fleet
        try:
            news = self._around.look(fleet.ports) if fleet else ""
        except (StateError, NotFoundError):
            return  # what was in force has just gone
        except UndercroftError as error:
            self._host.problem("what stands around the firewall's table is not seen for a moment", error)
            return
        if news:
            self._alarms.alarm("around", f"the firewall is passed by: {news}")

    def _proven(self, certificate: Certificate) -> None:
        self._proven_at, self._drift = certificate.proven_at, ""

    # What is on record of it

    def _put_state(self) -> None:
        """Put this host's state on record where it is news."""
        if (self._followed is None or self._followed.applied is None) and not self._failure:
            return
        if not self._labels.is_known:  # what the host has filtered by is on record, and stays there
            return
        problem = "; ".join(filter(None, (self._failure, self._drift, self._around.problem)))
        state = self._around.noted(self._labels.state(self._followed, self._proven_at, problem, now()))
        if self._written is not None and self._is_old(self._written, state):
            return
        try:
            with self._host.records.transaction() as record:
                record.put_filter_state(state)
        except UndercroftError as error:
            self._host.problem("the firewall's state is not on record; it is tried again", error)
            return
        self._written, self._written_at = state, time.monotonic()

    def _is_old(self, written: FilterState, state: FilterState) -> bool:
        as_new = replace(
            written,
            at=state.at,
            generation=state.generation,
            proven_at=state.proven_at,
            around_at=state.around_at,
        )
        first = (written.proven_at is None) != (state.proven_at is None)
        first |= (written.around_at is None) != (state.around_at is None)
        return as_new == state and not first and time.monotonic() - self._written_at < STATE_EVERY_S

    def _touched(self) -> None:
        """Tell soon of what was undone before it could be looked at; a transaction may wait for this."""
        reason = "somebody has changed the firewall's table in the kernel; a machine's change has undone it"
        self._alarms.keep("filter", reason)
        self.changed()

    def _stale(self, reason: str) -> None:
        self._host.report(f"the firewall is behind the record: {reason}")
        self.changed()


def _words(answer: Counterexample, change: GenerationChange) -> str:
    """Return what has become of the table, and who did it, as far as the kernel knows."""
    name = "".join(letter if letter.isprintable() else "?" for letter in change.process_name)
    who = f"process {change.process_id} ({name})" if change.process_id else "somebody"
    return f"{who} has changed the firewall's table in the kernel: {_text(answer)}"[:MAX_TOLD_CHARS]


def _text(answer: Counterexample) -> str:
    """Return what differs, in lines; names in foreign tables are anybody's."""
    lines = answer.text().strip().splitlines()
    text = "\n".join("".join(letter if letter.isprintable() else "?" for letter in line) for line in lines)
    return text[:MAX_TOLD_CHARS]


def _is_there(host: Host, tap: str) -> bool:
    try:
        host.taps.is_held(tap)
    except NotFoundError:
        return False
    return True
