"""libvirt's events: into the history at once, and what follows from a start or a change.

The history takes events in the order in which they came, all that are waiting in one transaction. What
follows from a start is done by `starts`. After every CONNECTED the host is surveyed (`surveys`).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from undercroft.agent.filters import Filters
from undercroft.agent.host import Host, now
from undercroft.agent.scans import Scans, Wish
from undercroft.agent.starts import Starts
from undercroft.agent.surveys import Surveys
from undercroft.errors import NotFoundError, OperationError, UndercroftError
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution
from undercroft.ports.fleet import Happening, MachineEvent
from undercroft.usecases.fleet.history.events import UNSEEN, machine_event
from undercroft.usecases.fleet.starts.network import let_go
from undercroft.usecases.fleet.subjects import domain_subjects

TAKEN_AT_ONCE = 64
MAX_ARRIVED = 1000
"""Events that wait here; more wait with the hypervisor, which surveys in place of what it has to drop."""
AGAIN_S = 2.0
HOOKS_FIRST_S = 15.0
"""How long libvirt's events wait for the hook's, which a record that is away holds up as well."""
LOOK_S = 0.01
_BEGINS = frozenset({Happening.STARTED, Happening.RESUMED})
_CHANGES_DISKS = frozenset({Happening.STOPPED, Happening.DEFINED, Happening.CHANGED})
_CHANGES_HOST = frozenset({Happening.DEFINED, Happening.UNDEFINED})


@dataclass(frozen=True, slots=True)
class _Taken:
    """One event, its machine as libvirt had it since (where that fails: before), and what was made of it."""

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
        filters: the firewall, which follows what happens to machines.
        lines: takes machines to which something has happened, () for all: their channels follow.
    """

    def __init__(
        self,
        host: Host,
        scans: Scans,
        judge: Callable[[Sequence[str]], None],
        heard: Callable[[str, str], None],
        behind: Callable[[str], bool],
        filters: Filters,
        lines: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._lines = lines
        self._scans = scans
        self._judge = judge
        self._heard = heard
        self._behind = behind
        self._filters = filters
        self._arrived: asyncio.Queue[MachineEvent] = asyncio.Queue(MAX_ARRIVED)
        self.starts = Starts(host, scans, judge, self._look, self._missed)
        self._surveys = Surveys(host, scans, self.starts.confirm, self._after_hooks, self._surveyed)
        self.connected = False

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._take_for_ever())
            group.create_task(self._surveys.run())

    def _missed(self) -> None:
        self._surveys.soon(missed=True)

    def _surveyed(self) -> None:
        self._filters.changed()
        self._lines(())

    def survey_soon(self) -> None:
        """Ask for a survey."""
        self._surveys.soon()

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
                self._filters.heard(event)
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
            seen = await self._seen_of(events)
            try:
                taken = await self._host.work(self._into_history, events, seen)
                break
            except OperationError as error:
                self._host.problem("libvirt's events are not on record yet; it is tried again", error)
                await asyncio.sleep(AGAIN_S)
            except UndercroftError as error:
                self._host.problem("libvirt's events could not be recorded; a survey makes up for it", error)
                self._surveys.soon(missed=True)
                return
        if any(event.uuid not in seen for event in events):
            self._surveys.soon(missed=True)  # what was seen last may not be so any more
        self._filters.changed()
        self._judge([key for one in taken for key in _keys(self._host.name, one.domain)])
        self._lines([event.uuid for event in events])
        for one in taken:
            self._after(one)

    async def _after_hooks(self, uuids: Iterable[str]) -> None:
        """Wait for what the hook told of these machines before; what fails for ever keeps nothing back."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HOOKS_FIRST_S
        waiting = set(uuids)
        while any(map(self._behind, waiting)) and loop.time() < until:
            await asyncio.sleep(LOOK_S)

    async def _seen_of(self, events: Sequence[MachineEvent]) -> dict[str, Domain | None]:
        """Return the machines as they are now, None for those that are gone; not those libvirt fails for."""
        uuids = list(dict.fromkeys(event.uuid for event in events))
        found = await asyncio.gather(*map(self._look, uuids), return_exceptions=True)
        seen: dict[str, Domain | None] = {}
        for uuid, domain in zip(uuids, found, strict=True):
            if isinstance(domain, UndercroftError):
                continue
            if isinstance(domain, BaseException):
                raise domain
            seen[uuid] = domain
            self._host.changed(uuid, domain)
        return seen

    async def _look(self, uuid: str) -> Domain | None:
        """Return a machine as it is now, None for one that is gone. Raises OperationError: libvirt fails."""
        try:
            return await self._host.ask(self._host.fleet.domain, uuid)
        except NotFoundError:
            return None

    def _into_history(self, events: Sequence[MachineEvent], seen: dict[str, Domain | None]) -> list[_Taken]:
        host = self._host
        domains = {event.uuid: host.domain(event.uuid) for event in events} | seen
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
            for uuid, domain in seen.items():
                record.put_domain(host.name, uuid, domain, now())
                for subject in domain_subjects(host.name, domain) if domain else ():
                    record.put_subject(subject)
        return taken

    # What follows

    def _after(self, taken: _Taken) -> None:
        event, domain = taken.event, taken.domain
        if event.happening in _BEGINS and domain is not None and taken.execution is not None:
            self.starts.confirm(domain, taken.execution)
            if event.happening is Happening.STARTED and UNSEEN in taken.execution.evidence:
                self._scans.add(event.uuid, Wish(settle=True), first=True)
        if event.happening is Happening.CHANGED and domain is not None:
            self.starts.changed(domain)
        if (event.happening, event.detail) == (Happening.RESUMED, "migrated"):
            # Its images could not be read in peace when it was admitted: what runs here now is looked at.
            self._scans.add(event.uuid, Wish(settle=True), first=True)
        if event.happening in _CHANGES_DISKS and domain is not None and not domain.power.has_process:
            self._scans.add(event.uuid, first=True)
        # A snapshot that was just taken may not have been there yet when the machine was asked for.
        has_snapshots = event.happening is Happening.RESUMED and domain is not None and domain.snapshots
        if event.happening in _CHANGES_HOST or has_snapshots:
            self._surveys.soon()


def _keys(host: str, domain: Domain | None) -> tuple[str, ...]:
    return tuple(subject.key for subject in domain_subjects(host, domain)) if domain else ()
