"""What follows from a start: it is confirmed, its network opens, stays closed, or it is stopped.

It is done for each machine by itself, so that one that is slow keeps no other back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import chain, repeat
from weakref import WeakValueDictionary

from undercroft.agent.host import Host, now
from undercroft.agent.scans import Scans, Wish
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution
from undercroft.model.fleet import Hold
from undercroft.model.schema import Json
from undercroft.ports.fleet import Happening
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.events import has_heard
from undercroft.usecases.fleet.starts.confirming import Confirmed, Next, confirm
from undercroft.usecases.fleet.starts.gate import reseeded
from undercroft.usecases.fleet.starts.network import close
from undercroft.usecases.fleet.subjects import domain_subjects
from undercroft.usecases.fleet.verdicts.floors import raise_floors, seen_to_have

CONFIRM_AGAIN_S = (1.0, 2.0, 5.0, 15.0)
"""Pauses before a start is confirmed again that could not be; the last goes on."""


class Starts:
    """Follows machines that run.

    Args:
        host: the host.
        scans: the queue of scans.
        judge: takes keys of subjects that are to be judged anew.
        look: returns a machine as libvirt has it now, None for one that is gone; raises OperationError.
        survey: asks for a survey, since something was missed.
    """

    def __init__(
        self,
        host: Host,
        scans: Scans,
        judge: Callable[[Sequence[str]], None],
        look: Callable[[str], Awaitable[Domain | None]],
        survey: Callable[[], None],
    ) -> None:
        self._host = host
        self._scans = scans
        self._judge = judge
        self._look = look
        self._survey = survey
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._following: set[asyncio.Task[None]] = set()
        self._told = asyncio.Event()

    def confirm(self, domain: Domain, execution: Execution) -> None:
        """Confirm a start that is on record."""
        self._begin(self._confirm(domain, execution))

    def follow(self, domain: Domain, confirmed: Confirmed) -> None:
        """Do what a look at a running machine asks for."""
        self._begin(self._then(domain, confirmed))

    def look_at(self, uuid: str) -> None:
        """Judge a machine that a hook let start by itself by what it runs, as soon as it does."""
        self._begin(self._look_when_running(uuid))

    def held(self, uuid: str) -> None:
        """Confirm a start whose hook comes on record after libvirt's event: there was no hold then."""
        self._begin(self._confirm_heard(uuid))

    def reseeded(self, uuid: str) -> None:
        """Open what waited for nothing but its guest's confirmation, which is on record by now."""
        self._begin(self._open_reseeded(uuid))

    def again(self) -> None:
        """Confirm at once what could not be: what it waited for may have happened."""
        self._told.set()
        self._told = asyncio.Event()

    def changed(self, domain: Domain) -> None:
        """Close what was plugged into a machine whose network is closed."""
        self._begin(self._close_new_taps(domain))

    def _begin(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _confirm(self, domain: Domain, execution: Execution) -> None:
        """Confirm a start: until it is done, or the machine is in another one or off."""
        pauses = chain(CONFIRM_AGAIN_S, repeat(CONFIRM_AGAIN_S[-1]))
        async with self._locks.setdefault(domain.uuid, asyncio.Lock()):
            told = self._told  # from before it is tried, as it may be told meanwhile
            while (confirmed := await self._confirmed(domain, execution)) is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(next(pauses)):
                        await told.wait()
                told = self._told
                seen = self._host.domain(domain.uuid)
                if seen is None or not seen.power.has_process:
                    return
                domain = seen
        await self._then(domain, confirmed)
        await self._raise_floor(domain)
        # No read of the running machine: its disks were read before it began, or as the snapshot that it went
        # back to. A read would hold it, in the very seconds in which its administrator is at work on it.
        self._judge([subject.key for subject in domain_subjects(self._host.name, domain)])
        if domain.snapshots:
            self._scans.add(domain.uuid, Wish(snapshots_alone=True))

    async def _open_reseeded(self, uuid: str) -> None:
        """Open it, until that is done or the machine is off: a survey asks again as well."""
        for pause in chain(CONFIRM_AGAIN_S, repeat(CONFIRM_AGAIN_S[-1])):
            domain = self._host.domain(uuid)
            if domain is None or not domain.power.has_process:
                return
            try:
                async with self._locks.setdefault(uuid, asyncio.Lock()):
                    await self._host.work(reseeded, self._host.means, self._host.taps, domain)
            except UndercroftError as error:
                self._host.problem(f"{domain.name}: its guest is fresh, and its network stays closed", error)
            else:
                return
            await asyncio.sleep(pause)

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
        if domain is None or not domain.power.has_process:
            return  # as a rule: libvirt's event is yet to come
        try:
            execution = await self._host.work(self._heard_of, uuid)
        except UndercroftError as error:
            self._host.problem(f"{domain.name}: its start is confirmed after a survey", error)
            self._survey()
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
                    await self._host.ask(self._host.fleet.destroy, domain.uuid, domain.libvirt_id)
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
        with host.means.filter.changing(host.records, domain.uuid) as record:
            hold = _hold(record, domain.uuid)
            if hold is None:
                return ()
            places, means = host.places, host.means
            _, failures = close(record, host.taps, hold, domain.interfaces, places.state, means.filter)
            if failures:
                reason = f"{domain.name} is held, and was given a way out that stays open: {failures[0]}"
                body: dict[str, Json] = {"alarm": "open", "executions": [hold.eid], "reason": reason}
                record.log("alarm", domain.uuid, body, now())
                host.report(f"alarm: {reason}")
            return failures

    async def _look_when_running(self, uuid: str) -> None:
        for _ in range(60):
            domain = None
            with suppress(UndercroftError):
                domain = await self._look(uuid)
            if domain is not None and domain.power.has_process:
                self._host.changed(uuid, domain)
                self._scans.add(uuid, Wish(settle=True), first=True)
                return
            await asyncio.sleep(1)


def _hold(record: Record, machine: str) -> Hold | None:
    return next((hold for hold in record.holds() if hold.machine == machine), None)
