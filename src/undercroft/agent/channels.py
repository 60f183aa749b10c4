"""Machines' channels: the agent connects, hands them to the guest service, and hears what guests prove.

What should be is read from the record and from libvirt's last word: each machine that runs, has a channel and
has a live execution here. What the guest service has is brought in line with that, one machine after another,
in a thread of its own: nothing else of the agent waits for the service. When the service was away, all is
handed over again.

    channels = Channels(host, starts)
    channels.changed([uuid])          # something has happened to these machines; () for all of them
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

from undercroft.adapters.guestservice import GuestEvent, GuestService, Watch
from undercroft.agent import handover
from undercroft.agent.guestevents import Gates, GuestEvents
from undercroft.agent.handover import Handover, Slowed
from undercroft.agent.host import Host, now
from undercroft.agent.waiting import WaitingPool
from undercroft.errors import OperationError, UndercroftError
from undercroft.model.channel import GuestChannel, Heard
from undercroft.model.domain import Domain
from undercroft.model.schema import Json
from undercroft.model.vaulthome import VaultHome
from undercroft.usecases.fleet.starts.lines import Line, lines

AGAIN_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Pauses before a channel that could not be handed over is tried again; the last goes on."""
AWAY_S = 1.0
"""How often an absent service is looked for."""
ALARM_AFTER_S = 60.0
"""For how long it may be away, with machines that need it, until that is an alarm."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Channels:
    """Keeps the guest service in line with what runs.

    Args:
        host: the host.
        gates: opens what waited, and confirms executions that a proof began.
        service: the guest service's client; its orders may block.
    """

    def __init__(self, host: Host, gates: Gates, service: GuestService | None = None) -> None:
        self._host = host
        self._service = service or GuestService(host.places.guest_socket)
        self._events = GuestEvents(host, gates, self._heard, self.changed)
        self._pool = WaitingPool(1, "guests")
        self.hands = Handover(host.records, host.name, self._service)
        self._dirty: set[str] = set()
        self._all = True
        self._failures: dict[str, int] = {}
        self._look = asyncio.Event()
        self._needed = asyncio.Event()
        self._here = asyncio.Event()
        self._watch: Watch | None = None
        self._is_told = False

    def changed(self, machines: Iterable[str] = ()) -> None:
        """Look at these machines soon; at all of them where none is named."""
        named = set(machines)
        self._dirty |= named
        self._all = self._all or not named
        self._look.set()

    async def run(self) -> None:
        """Hand over and hear for ever."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_for_ever())
                group.create_task(self._hear_for_ever())
        finally:
            self._pool.submit(self._close)  # after the order that runs, which may wait for its answer
            self._pool.shutdown()

    def _close(self) -> None:
        self._service.close()
        if self._watch is not None:
            self._watch.close()

    async def _ask(
        self, call: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs
    ) -> Result:
        """Run what waits for the service."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: call(*arguments, **named))

    # What the service should have

    async def _follow_for_ever(self) -> None:
        self._look.set()
        while True:
            await self._look.wait()
            self._look.clear()
            named, self._dirty = (None if self._all else self._dirty), set()
            self._all = False
            try:
                wanted = await self._host.work(lines, self._host.records, self._host.name, self._seen(named))
            except UndercroftError as error:
                self._host.problem("which channels there are cannot be told; it is tried again", error)
                self._again(named or ())
                continue
            if wanted:
                self._needed.set()
            if not self._needed.is_set():
                continue
            if not self._here.is_set():
                await self._here.wait()
                self._all = True  # what was wanted may be over by now
                self._look.set()
                continue
            await self._bring(wanted, named)

    def _seen(self, named: set[str] | None) -> Sequence[Domain]:
        domains = self._host.domains()
        return [domain for uuid, domain in domains.items() if named is None or uuid in named]

    async def _bring(self, wanted: Mapping[str, Line], named: set[str] | None) -> None:
        """Bring the service in line; what fails of one machine keeps no other back."""
        hands = self.hands
        about = set(hands.given) | set(wanted) if named is None else named
        homes = await self._host.work(self._homes) if about else None
        news: list[GuestChannel] = []
        loop = asyncio.get_running_loop()
        for machine in sorted(about):
            line = wanted.get(machine)
            try:
                if line is None and await self._host.work(hands.lives, machine):
                    self._again([machine])  # it has stopped, and that is not on record yet, or cannot be read
                    continue
                if await self._ask(hands.bring, machine, line, homes) and line is not None:
                    news.append(GuestChannel(machine, self._host.name, line.eid, Heard.ATTACHED, now()))
                if line is not None and (slow := hands.slowed.get(machine)) is not None:
                    loop.call_later(slow.wait_s, self.changed, [machine])
                    news += self._slowed(line, slow)
                if machine in hands.fenceless:
                    self._again([machine])
                else:
                    self._failures.pop(machine, None)
                if machine in hands.asked:
                    loop.call_later(handover.ANSWER_S, self.changed, [machine])
            except UndercroftError as error:
                if line is not None and machine not in self._failures:
                    found = GuestChannel(machine, self._host.name, line.eid, Heard.UNREACHABLE, now())
                    news.append(self._failed(found, error))
                self._again([machine])
        await self._events.put(news)

    def _failed(self, channel: GuestChannel, error: UndercroftError) -> GuestChannel:
        self._host.problem(
            f"machine {channel.machine}: its channel is not handed over; it is tried again", error
        )
        return replace(channel, problem=str(error))

    def _slowed(self, line: Line, slow: Slowed) -> Sequence[GuestChannel]:
        """Report that a machine waits, as its guest proved too often that it was put back; once."""
        if not slow.reason:
            return ()
        self._host.report(f"alarm: {slow.reason}")
        at, why = now(), slow.reason
        return [GuestChannel(line.machine, self._host.name, line.eid, Heard.REWOUND, at, problem=why)]

    def _again(self, machines: Iterable[str]) -> None:
        """Look at machines again after a while; the longer, the oftener it failed."""
        named = list(machines)
        count = max((self._failures.get(machine, 0) for machine in named), default=0)
        self._failures |= {machine: self._failures.get(machine, 0) + 1 for machine in named}
        pause = AGAIN_S[min(count, len(AGAIN_S) - 1)]
        asyncio.get_running_loop().call_later(pause, self.changed, named)

    def _homes(self) -> Mapping[str, VaultHome] | None:
        """Return which host keeps which vault; None where it cannot be read: what is held stays as it is."""
        try:
            with self._host.records.reading() as record:
                return record.vault_homes()
        except UndercroftError as error:
            self._host.problem("which host keeps which vault cannot be told", error)
            return None

    def _heard(self, event: GuestEvent) -> None:
        """Take note of a line that has ended, and of a guest that has answered to what was asked.

        Where the process of a line that has ended lives on, it is connected anew.
        """
        if event.event == "gone" and self.hands.gone(event.machine, event.execution):
            self._again([event.machine])
        elif event.event in {"ready", "rewound"} and self.hands.answered(event.machine):
            self.changed([event.machine])

    # The service

    async def _hear_for_ever(self) -> None:
        away_since = 0.0
        loop = asyncio.get_running_loop()
        while True:
            await self._needed.wait()
            try:
                watch = await self._ask(self._began)
            except UndercroftError as error:
                away_since = away_since or loop.time()
                if loop.time() - away_since >= ALARM_AFTER_S:
                    await self._tell(error)
                await asyncio.sleep(AWAY_S)
                continue
            away_since, self._is_told = 0.0, False
            try:
                self._here.set()
                self.changed()
                await self._hear(watch)
            except UndercroftError as error:
                away_since = loop.time()
                self._host.problem("the guest service is away; ports that wait stay closed", error)
            finally:
                self._here.clear()
                watch.close()

    def _began(self) -> Watch:
        """Return a watch of the service, once it is known what it has: it goes on without an agent."""
        self._service.close()  # what is left of its run before
        watch = self._watch = self._service.watch()
        try:
            self.hands.found(self._service.guests())
        except (UndercroftError, KeyError):
            watch.close()
            raise
        return watch

    async def _hear(self, watch: Watch) -> None:
        """Take events until the service goes. Raises OperationError then."""
        loop = asyncio.get_running_loop()
        while True:
            events: Sequence[GuestEvent] = watch.ready()
            if events:
                await self._events.take(events)
                continue
            told = asyncio.Event()
            loop.add_reader(watch.fileno(), told.set)
            try:
                await told.wait()
            finally:
                loop.remove_reader(watch.fileno())

    async def _tell(self, error: UndercroftError) -> None:
        """Raise the alarm that the service is away, once for as long as it is."""
        if self._is_told:
            return
        reason = (
            f"the guest service is away: no guest gets fresh randomness, ports that wait stay closed: {error}"
        )
        try:
            await self._host.work(self._log_alarm, reason)
        except OperationError as failed:
            self._host.problem("that the guest service is away is not on record", failed)
            return
        self._is_told = True
        self._host.report(f"alarm: {reason}")

    def _log_alarm(self, reason: str) -> None:
        body: dict[str, Json] = {"alarm": "guest-service", "executions": [], "reason": reason}
        with self._host.records.transaction() as record:
            record.log("alarm", self._host.name, body, now())
