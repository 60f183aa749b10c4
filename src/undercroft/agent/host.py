"""What all parts of the agent work with: record, libvirt, sandbox, policy, and where work is done.

Three pools of threads keep three kinds of waiting apart. What answers a hook (record, sandbox, disks) must
never stand behind what waits for libvirt, because libvirt waits for the hook, nor behind the reading and
judging of everything else; and no transaction of the record is open while libvirt is asked.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from undercroft.agent.waiting import WaitingPool
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.ports.fleet import FleetHypervisor
from undercroft.ports.hypervisor import PointInTime
from undercroft.ports.records import Records
from undercroft.ports.taps import Taps
from undercroft.usecases.fleet.places import Places
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.scanning import Scanner
from undercroft.usecases.fleet.starts.admission import HostView, Means
from undercroft.usecases.fleet.starts.network import NO_FILTER, Filter
from undercroft.usecases.fleet.verdicts.advising import Advisor
from undercroft.usecases.fleet.verdicts.judging import Basis, Judging
from undercroft.usecases.fleet.verdicts.policyfile import PolicyKeeper

ANSWERERS = 4
WORKERS = 4
LIBVIRT_WORKERS = 4
VIEW_EVERY_S = 2.0
"""How often, at most, the view of the host's files is made anew while machines come and go."""


Stills = Callable[[Domain], AbstractContextManager[PointInTime]]
"""Holds a running machine's disks at one point in time; asks libvirt."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Seen:
    """What is known of the host's machines and files, and the view that was made of it last."""

    domains: dict[str, Domain] = field(default_factory=dict)
    volumes: tuple[PoolVolume, ...] = ()
    changes: dict[str, int] = field(default_factory=dict)
    count: int = 0
    view: HostView | None = None
    made_at: float = 0.0
    dirty: bool = True


class Host:
    """One host: made by `agent.service`, used by every part.

    Args:
        places: where the agent's files lie.
        name: the host's name, as libvirt's surveys tell it.
        records: the record.
        fleet: libvirt.
        point_in_time: gives the disks of a running machine as they are at one moment.
        scanner: reads disks.
        advisor: the advisories.
        policy: the policy, kept while somebody edits it.
        taps: the host's network devices.
        report: takes a line for the service's log.
        filter: the packet filter at machines' ports.
    """

    def __init__(
        self,
        places: Places,
        name: str,
        *,
        records: Records,
        fleet: FleetHypervisor,
        point_in_time: Stills,
        scanner: Scanner,
        advisor: Advisor,
        policy: PolicyKeeper,
        taps: Taps,
        report: Callable[[str], None],
        filter: Filter = NO_FILTER,  # noqa: A002 - what it is
    ) -> None:
        self.places = places
        self.name = name
        self.records = records
        self.fleet = fleet
        self.point_in_time = point_in_time
        self.scanner = scanner
        self.advisor = advisor
        self.policy = policy
        self.taps = taps
        self.report = report
        self.judging = Judging(records, now, name)
        self.means = Means(
            records=records,
            scanner=scanner,
            judging=self.judging,
            advisor=advisor,
            basis=lambda: Basis(self.policy.policy, self.advisor.mark(now())),
            view=self.view,
            clock=now,
            host=name,
            state=places.state,
            filter=filter,
        )
        self._seen = _Seen()
        self._lock = threading.Lock()
        self._answers = ThreadPoolExecutor(ANSWERERS, "answers")
        self._work = ThreadPoolExecutor(WORKERS, "work")
        self._libvirt = WaitingPool(LIBVIRT_WORKERS, "libvirt")

    async def answer(
        self, call: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run what a hook waits for, which never waits for libvirt."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._answers, lambda: call(*arguments, **named))

    async def work(
        self, call: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run what never waits for libvirt."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._work, lambda: call(*arguments, **named))

    async def ask(
        self, call: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run what waits for libvirt."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._libvirt, lambda: call(*arguments, **named))

    def close(self) -> None:
        """End the threads; what waits in them is dropped."""
        self._answers.shutdown(wait=True, cancel_futures=True)
        self._work.shutdown(wait=True, cancel_futures=True)
        self._libvirt.shutdown(wait=False, cancel_futures=True)

    def recall(self) -> None:
        """Take the last survey from the record: machines may start before libvirt answers anything."""
        with self.records.reading() as record:
            domains = {machine.domain.uuid: machine.domain for machine in record.machines(self.name)}
            volumes = record.volumes(self.name)
        with self._lock:
            self._seen = _Seen(domains, volumes)

    def mark(self) -> int:
        """Return what tells later which machines have changed since."""
        with self._lock:
            return self._seen.count

    def surveyed(self, survey: Survey, since: int) -> tuple[Survey, frozenset[str]]:
        """Take over a survey: those that were seen since are as they were then, whichever look was the later.

        Args:
            survey: what libvirt said.
            since: the `mark` from before it was asked.

        Returns:
            The survey that counts, and the UUIDs of those that were seen since.
        """
        with self._lock:
            seen = self._seen
            newer = frozenset(uuid for uuid, count in seen.changes.items() if count > since)
            domains = {domain.uuid: domain for domain in survey.domains if domain.uuid not in newer}
            domains |= {uuid: seen.domains[uuid] for uuid in newer if uuid in seen.domains}
            seen.changes = {uuid: seen.changes[uuid] for uuid in newer}
            seen.domains, seen.volumes, seen.dirty = domains, survey.volumes, True
        ordered = tuple(sorted(domains.values(), key=lambda domain: domain.name))
        return replace(survey, domains=ordered), newer

    def changed(self, uuid: str, domain: Domain | None) -> None:
        """Take over one machine; None: it is gone."""
        with self._lock:
            self._seen.count += 1
            self._seen.changes[uuid] = self._seen.count
            before = self._seen.domains.pop(uuid, None)
            if domain is not None:
                self._seen.domains[uuid] = domain
            # Where it runs or what it is called changes no file.
            if before is None or domain is None or replace(before, power=domain.power) != domain:
                self._seen.dirty = True

    def domain(self, uuid: str) -> Domain | None:
        """Return a machine as it was seen last."""
        with self._lock:
            return self._seen.domains.get(uuid)

    def domains(self) -> Mapping[str, Domain]:
        """Return all machines as they were seen last, by UUID."""
        with self._lock:
            return dict(self._seen.domains)

    def volumes(self) -> tuple[PoolVolume, ...]:
        """Return the volumes of the last survey."""
        with self._lock:
            return self._seen.volumes

    def view(self) -> HostView:
        """Return what may lie below an image; it may lag `VIEW_EVERY_S` behind machines that come and go."""
        with self._lock:
            seen = self._seen
            due = seen.view is None or (seen.dirty and time.monotonic() - seen.made_at >= VIEW_EVERY_S)
            if not due and seen.view is not None:
                return seen.view
            seen.dirty = False
            survey = Survey(self.name, "", now(), tuple(seen.domains.values()), seen.volumes)
        made = _view(survey, self.policy.policy.backing)
        with self._lock:
            self._seen.view, self._seen.made_at = made, time.monotonic()
        return made

    def problem(self, what: str, error: Exception) -> None:
        """Report what went wrong; the agent goes on."""
        kind = "" if isinstance(error, UndercroftError) else f"{type(error).__name__}: "
        self.report(f"{what}: {kind}{error}")


def _view(survey: Survey, backing: tuple[str, ...]) -> HostView:
    volumes = {(volume.pool, volume.name): volume.path for volume in survey.volumes}
    return HostView(HostFiles(survey, backing), volumes)
