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
from collections.abc import Callable

from undercroft.agent.filteralarms import Alarms, text, words
from undercroft.agent.filterstates import States
from undercroft.agent.firewall import Firewall
from undercroft.agent.host import Host
from undercroft.agent.moves import Moves
from undercroft.agent.unfiltered import hold_without_filter
from undercroft.assurance.firewall.certificate import Certificate, Counterexample
from undercroft.errors import NotFoundError, StateError, UndercroftError
from undercroft.firewall.policy import Drift
from undercroft.ports.fleet import MachineEvent
from undercroft.ports.packetfilter import GenerationChange
from undercroft.usecases.firewall.enforcing import TouchedError

POLL_S = 1.0
"""How often the record is asked whether anything has changed, by two numbers."""
GATHER_S = 0.2
"""How long changes are gathered before all machines are looked at; at least as long as the last look took."""
ANEW_EVERY_S = 30.0
"""How often all machines are looked at without a known reason: other hosts' metadata, own addresses."""
PROVE_AFTER_S = 0.5
PROVE_EVERY_S = 300.0
AGAIN_S = 2.0


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
        self._states = States(host, firewall.labels, firewall.around)
        self._alarms = Alarms(host)
        self._looking = threading.Lock()
        self._mark: tuple[int, int] | None = None
        self._took_s = 0.0
        self._moves = Moves(host, firewall.labels, firewall.enforcer)
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
        self._moves.heard(event)

    def arrives(self, machine: str) -> None:
        """Take note that a machine is about to be migrated to this host."""
        self._labels.arrive(machine)

    def gone(self, machine: str, *, migrated: bool) -> None:
        """Take a machine's labels from its ports, which may be another's at once; from any thread."""
        if migrated and self._labels.required:
            self._moves.left(machine)
        self._labels.dismiss(machine)

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
        anew_at = loop.time() + (AGAIN_S if self._states.failure else ANEW_EVERY_S)
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
                due = loop.time() >= anew_at and (self._labels.required or bool(self._states.failure))
                if not (self._changed.is_set() or mark != self._mark or due):
                    continue
                await asyncio.sleep(max(GATHER_S, self._took_s))
                self._changed.clear()
                await self._host.work(self._follow)
                self._mark = mark
                anew_at = loop.time() + (AGAIN_S if self._states.failure else ANEW_EVERY_S)
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
                hold_without_filter(self._host)
            self._states.followed = self._labels.follow()
            self._states.failure = ""
            if not self._labels.required:  # nothing is filtered: what was said of the table is over
                self._states.forget()
        except TouchedError:
            self.changed()  # once more: it is looked at first
        except UndercroftError as error:
            if str(error) != self._states.failure:
                self._host.problem("the firewall's policy is not in force as it should be", error)
            self._states.failure = str(error)
        if self._labels.required is not self._was_required:
            self._was_required = self._labels.required
            self._told_required()
        self._took_s = time.monotonic() - began
        self._states.put()

    def _is_left_alone(self) -> bool:
        """Tell whether somebody else's change stands, which the policy wants reported only."""
        policy, followed = self._enforcer.policy, self._states.followed
        if not self._states.drift or policy is None or followed is None or policy.drift is Drift.REPAIR:
            return False
        return followed.applied is not None and self._read_mark()[0] == followed.applied.number

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
        hold_without_filter(self._host)
        self._states.put()

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
                self._states.proven(answer)
            if not isinstance(answer, Counterexample):
                return False
            policy, told = self._enforcer.policy, words(answer, change)
            is_news = told != self._states.drift
            self._states.drift = "" if policy is None or policy.drift is Drift.REPAIR else told
        if is_news:
            self._alarms.alarm("filter", told)
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
                self._states.proven(answer)
            else:
                self._states.drift = text(answer)
                await self._host.work(
                    self._alarms.alarm, "proof", f"the firewall is not proven: {self._states.drift}"
                )
            await self._host.work(self._look_around)
            await self._host.work(self._states.put)

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

    # What others say

    def _touched(self) -> None:
        """Tell soon of what was undone before it could be looked at; a transaction may wait for this."""
        reason = "somebody has changed the firewall's table in the kernel; a machine's change has undone it"
        self._alarms.keep("filter", reason)
        self.changed()

    def _stale(self, reason: str) -> None:
        self._host.report(f"the firewall is behind the record: {reason}")
        self.changed()
