"""Surveys of the host: what was missed is put right from what is there.

After every CONNECTED, and when machines or snapshots come and go. Events that arrive while a
survey is being taken are newer than it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from undercroft.agent.due import Due
from undercroft.agent.host import Host, now
from undercroft.agent.scans import Scans
from undercroft.errors import UndercroftError
from undercroft.model.domain import Domain, Survey
from undercroft.model.execution import Execution
from undercroft.model.fleet import Hold
from undercroft.ports.fleet import Happening
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.events import has_heard
from undercroft.usecases.fleet.history.reconcile import surveyed
from undercroft.usecases.fleet.starts.confirming import unconfirmed
from undercroft.usecases.fleet.starts.network import is_of_host
from undercroft.usecases.fleet.subjects import put_subjects

SURVEY_AFTER_S = 3.0
"""How long after a machine was defined or removed the host is surveyed: volumes come and go with them."""
SURVEY_AT_MOST_EVERY_S = 20.0
JUST_BEGINNING = timedelta(minutes=2)
"""A machine that a hook holds may be off in a survey for so long."""
WORD_WITHIN = timedelta(seconds=15)
"""How long libvirt's event of a start may be on its way; until then nobody decides without it."""


class Surveys:
    """Surveys one host.

    Args:
        host: the host.
        scans: the queue of scans.
        confirm: takes a machine whose start nobody has confirmed, and its execution.
        after_hooks: waits for what the hook told of machines before: a survey would find them running, and
            begin executions that the hook has announced.
        surveyed: called when a survey is on record.
    """

    def __init__(
        self,
        host: Host,
        scans: Scans,
        confirm: Callable[[Domain, Execution], None],
        after_hooks: Callable[[Iterable[str]], Awaitable[None]],
        surveyed: Callable[[], None],
    ) -> None:
        self._host = host
        self._due = Due(host, scans)
        self._confirm = confirm
        self._after_hooks = after_hooks
        self._surveyed = surveyed
        self._wanted = asyncio.Event()
        self._missed = True
        self._early = False

    def soon(self, *, missed: bool = False) -> None:
        """Ask for a survey; `missed`: events may have been."""
        self._missed = self._missed or missed
        self._wanted.set()

    async def run(self) -> None:
        """Survey for ever, and look who is to be read again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._survey_for_ever())
            group.create_task(self._due.run())

    async def _survey_for_ever(self) -> None:
        while True:
            await self._wanted.wait()
            await asyncio.sleep(0 if not self._host.domains() else SURVEY_AFTER_S)
            self._wanted.clear()
            try:
                await self.survey()
            except UndercroftError as error:
                self._host.problem("the host could not be surveyed; it is tried again", error)
                self._wanted.set()
            await asyncio.sleep(SURVEY_AT_MOST_EVERY_S)

    async def survey(self) -> None:
        """Survey once. Raises OperationError where libvirt or the record fails."""
        # What is told as missed from here on may be newer than what libvirt answers: it is for the next one.
        missed, self._missed = self._missed, False
        try:
            open_starts = await self._surveyed_now(missed=missed)
        except BaseException:
            self._missed = self._missed or missed
            raise
        if missed and self._early:
            self._missed = True  # those whose event is on its way are looked at once more
        if self._missed:
            self._wanted.set()
        for domain, execution in open_starts:
            self._confirm(domain, execution)
        await self._due.ask()

    async def _surveyed_now(self, *, missed: bool) -> list[tuple[Domain, Execution]]:
        """Put a survey on record; return what waits for somebody to confirm how it started."""
        mark = self._host.mark()
        survey = await self._host.ask(self._host.fleet.survey)
        await self._after_hooks([domain.uuid for domain in survey.domains])
        open_starts = await self._host.work(self._put, survey, mark, missed=missed)
        self._surveyed()
        return open_starts

    def _put(self, survey: Survey, mark: int, *, missed: bool) -> list[tuple[Domain, Execution]]:
        """Put a survey on record; return what runs and waits for somebody to confirm how it started."""
        host = self._host
        with host.records.transaction() as record:
            # Here, where no event can come between: one that is on record was taken over before.
            survey, moving = host.surveyed(survey, mark)
            alarms = surveyed(record, survey, moving)
            record.put_survey(survey)
            put_subjects(record, survey)
            running = {domain.uuid: domain for domain in survey.domains if domain.power.has_process}
            holds = record.holds()
            for hold in holds:
                if hold.machine not in running and _is_over(record, hold, survey):
                    record.drop_hold(hold.machine, "it is not running any more", now())
            live = {one.machine: one for one in record.live_executions() if one.host == survey.host}
        for alarm in alarms:
            host.report(f"alarm: {alarm.reason}")
        pending = {hold.machine for hold in holds if hold.pending or hold.reseed}
        begun = [(running[uuid], execution) for uuid, execution in live.items() if uuid in running]
        starts = [(domain, one) for domain, one in begun if not _is_just_beginning(one, survey)]
        self._early = bool(moving) or len(starts) < len(begun)
        with host.records.reading() as record:
            return [
                (domain, execution)
                for domain, execution in starts
                if domain.uuid in pending or (missed and unconfirmed(record, domain, execution))
            ]


def _is_just_beginning(execution: Execution, survey: Survey) -> bool:
    """Tell whether libvirt's word on a start is still on its way."""
    age = survey.taken_at - execution.started_at
    return age < WORD_WITHIN and not has_heard(execution, Happening.STARTED)


def _is_over(record: Record, hold: Hold, survey: Survey) -> bool:
    """Tell whether the machine of a hold, which is off, is of this host and not just beginning."""
    begun_long_ago = survey.taken_at - hold.since > JUST_BEGINNING
    return begun_long_ago and is_of_host(record, hold, survey.host)
