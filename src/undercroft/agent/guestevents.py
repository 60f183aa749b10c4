"""What guests have said, as the guest service tells it: on record first, and then what follows.

A confirmed seed opens what waited for nothing else. A proof that a guest was put back ends its execution:
another one is on record, with an alarm, before the guest goes on in it. Texts are the guests' own, and are
bounded here.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from undercroft.adapters.guestservice import GuestEvent
from undercroft.agent.host import Host, now
from undercroft.errors import DamagedError, InputError, OperationError, UndercroftError
from undercroft.model.channel import GuestChannel, Heard, Reseed
from undercroft.model.domain import Domain
from undercroft.model.execution import Execution
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.rewinds import Put, rewound

AGAIN_S = 2.0
MAX_TEXT_CHARACTERS = 400
MAX_ABILITIES = 64
MAX_NUMBER = 2**63 - 1
_HEARD = {
    "ready": Heard.READY,
    "about": Heard.READY,
    "confirmed": Heard.READY,
    "silent": Heard.SILENT,
    "gone": Heard.GONE,
    "rewound": Heard.REWOUND,
}


class Gates(Protocol):
    """What opens and closes ports: `agent.starts.Starts` is one."""

    def reseeded(self, uuid: str) -> None:
        """Open what waited for nothing but its guest's confirmation, which is on record by now."""
        ...

    def confirm(self, domain: Domain, execution: Execution) -> None:
        """Confirm a start that is on record."""
        ...


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a batch of events led to: whose seed is confirmed, and who was put back."""

    confirmed: tuple[str, ...]
    rewound: tuple[Put, ...]


class GuestEvents:
    """Takes events.

    Args:
        host: the host.
        gates: opens and closes ports.
        heard: takes each event once it is on record.
        changed: takes machines whose line is to be looked at.
    """

    def __init__(
        self,
        host: Host,
        gates: Gates,
        heard: Callable[[GuestEvent], None],
        changed: Callable[[Iterable[str]], None],
    ) -> None:
        self._host = host
        self._gates = gates
        self._heard = heard
        self._changed = changed

    async def take(self, events: Sequence[GuestEvent]) -> None:
        """Put events on record, in order, and do what follows; while the record is away they wait."""
        while True:
            try:
                taken = await self._host.work(self._into_record, events)
                break
            except OperationError as error:
                self._host.problem("what guests have said is not on record yet; it is tried again", error)
                await asyncio.sleep(AGAIN_S)
        for put in taken.rewound:
            self._follow(put)
        for event in events:
            self._heard(event)
        for machine in taken.confirmed:
            self._gates.reseeded(machine)

    async def put(self, channels: Sequence[GuestChannel]) -> None:
        """Put on record what became of lines that were handed over, unless the guest has spoken since."""
        if not channels:
            return
        try:
            await self._host.work(self._put, channels)
        except UndercroftError as error:
            self._host.problem("what is known of channels is not on record", error)

    def _put(self, channels: Sequence[GuestChannel]) -> None:
        with self._host.records.transaction() as record:
            known = _known(record, [one.machine for one in channels])
            record.put_channels([one for one in channels if not _has_spoken(known.get(one.machine), one)])

    def _follow(self, put: Put) -> None:
        """Confirm the execution that goes on in place of one that was put back, and hand it over."""
        execution = put.execution
        if put.is_new:
            self._host.report(f"alarm: {execution.name}: {execution.evidence[-1]}")
        domain = self._host.domain(execution.machine)
        if domain is not None and domain.power.has_process:
            self._gates.confirm(domain, execution)
        self._changed([execution.machine])

    def _into_record(self, events: Sequence[GuestEvent]) -> _Taken:
        host, confirmed, put = self._host, dict[str, None](), list[Put]()
        with host.records.transaction() as record:
            channels = _known(record, [event.machine for event in events])
            for event in events:
                try:
                    known = record.execution(event.execution)
                    if known is None or known.machine != event.machine or known.host != host.name:
                        continue  # it is none of this host's: nothing follows from it
                    self._one(record, event, channels, confirmed, put)
                except (InputError, DamagedError) as error:  # one machine's must not keep the others back
                    host.problem(
                        f"machine {event.machine}: what its guest has said counts for nothing", error
                    )
            said = {event.machine for event in events}
            record.put_channels([one for machine, one in channels.items() if machine in said])
        return _Taken(tuple(confirmed), tuple(put))

    def _one(
        self,
        record: Record,
        event: GuestEvent,
        channels: dict[str, GuestChannel],
        confirmed: dict[str, None],
        put: list[Put],
    ) -> None:
        heard, at = _HEARD.get(event.event), now()
        if heard is not None:
            before = channels.get(event.machine)
            if before is None or before.eid != event.execution:
                before = GuestChannel(event.machine, self._host.name, event.execution, heard, at)
            channels[event.machine] = _told(before, event, heard)
        if event.event == "confirmed":
            record.put_reseed(_reseed(event))
            confirmed[event.machine] = None
        elif event.event == "rewound":
            found = rewound(record, event.execution, _text(event, "text"), at, self._host.name)
            if found is not None:
                put.append(found)


def _known(record: Record, machines: Sequence[str]) -> dict[str, GuestChannel]:
    try:
        return dict(record.channels(machines))
    except DamagedError:
        return {}  # it is written anew


def _has_spoken(known: GuestChannel | None, news: GuestChannel) -> bool:
    spoken = {Heard.READY, Heard.SILENT, Heard.REWOUND}
    return known is not None and known.eid == news.eid and known.heard in spoken


def _told(before: GuestChannel, event: GuestEvent, heard: Heard) -> GuestChannel:
    at = before.at if before.heard is heard else now()
    after = replace(before, heard=heard, at=at, problem="")
    if event.event == "about":
        helper, kernel = _text(event, "helper"), _text(event, "kernel")
        return replace(after, helper=helper, kernel=kernel, abilities=_abilities(event))
    if event.event == "rewound":
        return replace(after, problem=_text(event, "text"))
    return after


def _reseed(event: GuestEvent) -> Reseed:
    return Reseed(
        eid=event.execution,
        machine=event.machine,
        generation=_number(event, "generation"),
        credited=event.fields.get("credited") is True,
        drained=_number(event, "drained"),
        hooks=_number(event, "hooks"),
        failed=_number(event, "failed"),
        milliseconds=_number(event, "milliseconds"),
        at=now(),
    )


def _number(event: GuestEvent, name: str) -> int:
    found = event.fields.get(name)
    if type(found) is not int or not 0 <= found <= MAX_NUMBER:
        raise InputError(f"`{name}` of `{event.event}`: a number below 2^63 expected, found {found!r:.40}")
    return found


def _text(event: GuestEvent, name: str) -> str:
    found = event.fields.get(name)
    return found[:MAX_TEXT_CHARACTERS] if isinstance(found, str) else ""


def _abilities(event: GuestEvent) -> tuple[str, ...]:
    found = event.fields.get("abilities")
    if not isinstance(found, list):
        return ()
    return tuple(one[:MAX_TEXT_CHARACTERS] for one in found[:MAX_ABILITIES] if isinstance(one, str))
