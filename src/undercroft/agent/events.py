"""libvirt's events: into the history at once, and what follows from a start or a change.

The history takes events in the order in which they came, all that are waiting in one transaction. What
follows (a port that opens, a disk that is read) is done for each machine by itself, so that one that is slow
keeps no other back. After every CONNECTED the host is surveyed (`surveys`).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from weakref import WeakValueDictionary

from undercroft.agent.host import Host, now
from undercroft.agent.scans import Scans, Wish
from undercroft.agent.surveys import Surveys
from undercroft.errors import NotFoundError, OperationError, UndercroftError
from undercroft.model.domain import Domain, Power
from undercroft.model.execution import Execution
from undercroft.model.fleet import Hold
from undercroft.model.schema import Json
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.ports.records import Record
from undercroft.usecases.fleet.floors import raise_floors, seen_to_have
from undercroft.usecases.fleet.historyevents import UNSEEN, has_heard, machine_event
from undercroft.usecases.fleet.network import close, let_go
from undercroft.usecases.fleet.starting import Confirmed, Next, confirm
from undercroft.usecases.fleet.subjects import domain_subjects

TAKEN_AT_ONCE = 64
MAX_ARRIVED = 1000
"""Events that wait here; more wait with the hypervisor, which surveys in place of what it has to drop."""
AGAIN_S = 2.0
HOOKS_FIRST_S = 15.0
"""How long libvirt's events wait for the hook's, which a record that is away holds up as well."""
LOOK_S = 0.01
CONFIRM_AGAIN_S = (1.0, 2.0, 5.0, 15.0)
"""Pauses before a start is confirmed again that could not be; the last goes on."""
_LIVE = frozenset({Power.RUNNING, Power.PAUSED})
_BEGINS = frozenset({Happening.STARTED, Happening.RESUMED})
_CHANGES_DISKS = frozenset({Happening.STOPPED, Happening.DEFINED, Happening.CHANGED})
_CHANGES_HOST = frozenset({Happening.DEFINED, Happening.UNDEFINED})


@dataclass(frozen=True, slots=True)
class _Taken:
    """One event, the machine as libvirt had it after it, and what the history made of it."""

    event: MachineEvent
    domain: Domain | None
    execution: Execution | None


class Events:
    """The watcher of libvirt.

    Args:
        host: the host.
        scans: the queue of scans.
        judge: takes keys of subjects that are to be judged anew.
        heard: takes "connected" or "lost", and the reason of a loss.
        behind: tells whether the hook's events of a machine are not on record yet, which come first.
    """

    def __init__(
        self,
        host: Host,
        scans: Scans,
        judge: Callable[[Sequence[str]], None],
        heard: Callable[[str, str], None],
        behind: Callable[[str], bool],
    ) -> None:
        self._host = host
        self._scans = scans
        self._judge = judge
        self._heard = heard
        self._behind = behind
        self._arrived: asyncio.Queue[MachineEvent] = asyncio.Queue(MAX_ARRIVED)
        self._surveys = Surveys(host, scans, self._confirm_soon, self._after_hooks)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._following: set[asyncio.Task[None]] = set()
        self.connected = False

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._take_for_ever())
            group.create_task(self._surveys.run())

    def survey_soon(self) -> None:
        """Ask for a survey."""
        self._surveys.soon()

    def follow(self, domain: Domain, confirmed: Confirmed) -> None:
        """Do what a look at a running machine asks for."""
        self._begin(self._then(domain, confirmed))

    def look_at(self, uuid: str) -> None:
        """Judge a machine that a hook let start by itself by what it runs, as soon as it does."""
        self._begin(self._look_when_running(uuid))

    def held(self, uuid: str) -> None:
        """Confirm a start whose hook comes on record after libvirt's event: there was no hold then."""
        self._begin(self._confirm_heard(uuid))

    # Events

    async def _listen(self) -> None:
        async for event in self._host.fleet.events():
            if event.happening is Happening.LOST:
                self.connected = False
                self._heard("lost", event.detail)
            elif event.happening is Happening.CONNECTED:
                self.connected = True
                self._heard("connected", "")
                self._surveys.soon(missed=True)
            else:
                await self._arrived.put(event)

    async def _take_for_ever(self) -> None:
        while True:
            events = [await self._arrived.get()]
            while len(events) < TAKEN_AT_ONCE:
                try:
                    events.append(self._arrived.get_nowait())
                except asyncio.QueueEmpty:
                    break
            await self._take(events)

    async def _take(self, events: Sequence[MachineEvent]) -> None:
        """Take events into the history, in order; while the record is away they wait."""
        while True:
            await self._after_hooks([event.uuid for event in events])
            domains = await self._domains_of(events)
            try:
                taken = await self._host.work(self._into_history, events, domains)
                break
            except OperationError as error:
                self._host.problem("libvirt's events are not on record yet; it is tried again", error)
                await asyncio.sleep(AGAIN_S)
            except UndercroftError as error:
                self._host.problem("libvirt's events could not be recorded; a survey makes up for it", error)
                self._surveys.soon(missed=True)
                return
        self._judge([key for one in taken for key in _keys(self._host.name, one.domain)])
        for one in taken:
            self._after(one)

    async def _after_hooks(self, uuids: Iterable[str]) -> None:
        """Wait for what the hook told of these machines before; what fails for ever keeps nothing back."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HOOKS_FIRST_S
        waiting = set(uuids)
        while any(map(self._behind, waiting)) and loop.time() < until:
            await asyncio.sleep(LOOK_S)

    async def _domains_of(self, events: Sequence[MachineEvent]) -> dict[str, Domain | None]:
        """Return the machines as they are now, None for those that are gone."""
        uuids = list(dict.fromkeys(event.uuid for event in events))
        found = await asyncio.gather(*map(self._domain, uuids))
        domains = dict(zip(uuids, found, strict=True))
        for uuid, domain in domains.items():
            self._host.changed(uuid, domain)
        return domains

    async def _domain(self, uuid: str) -> Domain | None:
        try:
            return await self._host.ask(self._host.fleet.domain, uuid)
        except NotFoundError:
            return None
        except UndercroftError:
            self._surveys.soon(missed=True)  # what was seen last may not be so any more
            return self._host.domain(uuid)

    def _into_history(
        self, events: Sequence[MachineEvent], domains: dict[str, Domain | None]
    ) -> list[_Taken]:
        host = self._host
        with host.records.transaction() as record:
            taken = [
                _Taken(
                    event,
                    domains[event.uuid],
                    machine_event(record, event, domains[event.uuid], host.name),
                )
                for event in events
            ]
            for one in taken:
                if one.event.happening is Happening.STOPPED and one.execution and not one.execution.live:
                    let_go(record, one.event.uuid, one.execution.eid, one.event.at)
            for uuid, domain in domains.items():
                record.put_domain(host.name, uuid, domain, now())
                for subject in domain_subjects(host.name, domain) if domain else ():
                    record.put_subject(subject)
        return taken

    # What follows

    def _after(self, taken: _Taken) -> None:
        event, domain = taken.event, taken.domain
        if event.happening in _BEGINS and domain is not None and taken.execution is not None:
            self._begin(self._confirm(domain, taken.execution))
            if event.happening is Happening.STARTED and UNSEEN in taken.execution.evidence:
                self._scans.add(event.uuid, Wish(settle=True), first=True)
        if event.happening is Happening.CHANGED and domain is not None:
            self._begin(self._close_new_taps(domain))
        if (event.happening, event.detail) == (Happening.RESUMED, "migrated"):
            # Its images could not be read in peace when it was admitted: what runs here now is looked at.
            self._scans.add(event.uuid, Wish(settle=True), first=True)
        if event.happening in _CHANGES_DISKS and domain is not None and domain.power not in _LIVE:
            self._scans.add(event.uuid, first=True)
        if event.happening in _CHANGES_HOST:
            self._surveys.soon()

    def _begin(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    def _confirm_soon(self, domain: Domain, execution: Execution) -> None:
        self._begin(self._confirm(domain, execution))

    async def _confirm(self, domain: Domain, execution: Execution) -> None:
        """Confirm a start: until it is done, or the machine is in another one or off."""
        pauses = chain(CONFIRM_AGAIN_S, repeat(CONFIRM_AGAIN_S[-1]))
        async with self._locks.setdefault(domain.uuid, asyncio.Lock()):
            while (confirmed := await self._confirmed(domain, execution)) is None:
                await asyncio.sleep(next(pauses))
                seen = self._host.domain(domain.uuid)
                if seen is None or seen.power not in _LIVE:
                    return
                domain = seen
        await self._then(domain, confirmed)
        await self._raise_floor(domain)
        # No read of the running machine: its disks were read before it began, or as the snapshot that it went
        # back to. A read would hold it, in the very seconds in which its administrator is at work on it.
        self._judge(_keys(self._host.name, domain))
        if domain.snapshots:
            self._scans.add(domain.uuid, Wish(snapshots_alone=True))

    async def _raise_floor(self, domain: Domain) -> None:
        """Count what its start was seen to have: a rollback may come before its disks are read again."""
        try:
            await self._host.work(self._raise_floor_now, domain)
        except UndercroftError as error:
            self._host.problem(f"{domain.name}: its floor rises when its disks are read again", error)

    def _raise_floor_now(self, domain: Domain) -> None:
        host = self._host
        with host.records.reading() as record:
            subject = domain_subjects(host.name, domain)[0]
            reached = seen_to_have(subject, record.scan(subject.key))
        if reached is not None:
            with host.advisor.advice(now()) as advised:
                raise_floors(host.records, (reached,), advised.knowledge)

    async def _confirm_heard(self, uuid: str) -> None:
        domain = self._host.domain(uuid)
        if domain is None or domain.power not in _LIVE:
            return  # as a rule: libvirt's event is yet to come
        try:
            execution = await self._host.work(self._heard_of, uuid)
        except UndercroftError as error:
            self._host.problem(f"{domain.name}: its start is confirmed after a survey", error)
            self._surveys.soon(missed=True)
            return
        if execution is not None:
            await self._confirm(domain, execution)

    def _heard_of(self, uuid: str) -> Execution | None:
        """Return the execution of a machine that lives, where libvirt has told of its start."""
        with self._host.records.reading() as record:
            known = record.own_executions(uuid, 1)
        heard = (one for one in known if one.live and has_heard(one, Happening.STARTED))
        return next(heard, None)

    async def _confirmed(self, domain: Domain, execution: Execution) -> Confirmed | None:
        """Return what `confirm` says, None where it has to be asked again."""
        try:
            return await self._host.work(self._confirm_live, domain, execution)
        except UndercroftError as error:
            self._host.problem(f"{domain.name}: its start is not confirmed, its network stays", error)
            return None

    def _confirm_live(self, domain: Domain, execution: Execution) -> Confirmed:
        with self._host.records.reading() as record:
            known = record.execution(execution.eid)
        if known is None or not known.live:
            return Confirmed(Next.NOTHING, "it is over")
        return confirm(self._host.means, self._host.taps, domain, known)

    async def _then(self, domain: Domain, confirmed: Confirmed) -> None:
        match confirmed.then:
            case Next.LOOK:
                self._scans.add(domain.uuid, Wish(settle=True), first=True)
            case Next.DESTROY:
                self._host.report(f"{domain.name}: stopped: {confirmed.reason}")
                try:
                    await self._host.ask(self._host.fleet.destroy, domain.uuid)
                except UndercroftError as error:
                    self._host.problem(f"{domain.name}: cannot be stopped; it is looked at again", error)
                    self._scans.add(domain.uuid, Wish(settle=True), first=True)

    async def _close_new_taps(self, domain: Domain) -> None:
        """Close what was plugged into a machine whose network is closed.

        What cannot be closed is an alarm, and the policy is asked at once: it may want the machine stopped.
        """
        try:
            failures = await self._host.work(self._close_again, domain)
        except UndercroftError as error:
            self._host.problem(f"{domain.name}: its network should be closed", error)
            failures = ("its interfaces could not be looked at",)
        if failures:
            self._scans.add(domain.uuid, Wish(settle=True), first=True)

    def _close_again(self, domain: Domain) -> tuple[str, ...]:
        """Return why any interface of a machine that is held stays open."""
        host = self._host
        with host.records.transaction() as record:
            hold = _hold(record, domain.uuid)
            if hold is None:
                return ()
            _, failures = close(record, host.taps, hold, domain.interfaces, host.places.state)
            if failures:
                reason = f"{domain.name} is held, and was given a way out that stays open: {failures[0]}"
                body: dict[str, Json] = {"alarm": "open", "executions": [hold.eid], "reason": reason}
                record.log("alarm", domain.uuid, body, now())
                host.report(f"alarm: {reason}")
            return failures

    async def _look_when_running(self, uuid: str) -> None:
        for _ in range(60):
            domain = await self._domain(uuid)
            if domain is not None and domain.power in _LIVE:
                self._host.changed(uuid, domain)
                self._scans.add(uuid, Wish(settle=True), first=True)
                return
            await asyncio.sleep(1)


def _keys(host: str, domain: Domain | None) -> tuple[str, ...]:
    return tuple(subject.key for subject in domain_subjects(host, domain)) if domain else ()


def _hold(record: Record, machine: str) -> Hold | None:
    return next((hold for hold in record.holds() if hold.machine == machine), None)
