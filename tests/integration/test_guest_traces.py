"""The real guest service is killed while guests ask at once: its trace breaks nothing, and has an order."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.guesthost import PlayedGuest, ServiceProcess, eid, machine

from undercroft.adapters.guestservice import GuestService
from undercroft.adapters.tracefile import TraceFile, read_traces
from undercroft.assurance import trace
from undercroft.assurance.linearizable import unordered
from undercroft.assurance.tracecheck import check
from undercroft.channel.requests import Operation, Outcome, Rests
from undercroft.model.execution import Origin

pytestmark = pytest.mark.xdist_group("guest_service")

IN_FLIGHT = 12
NAMES = (b"a", b"b", b"c")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    process = ServiceProcess(tmp_path).start()
    yield process
    process.close()


class TracedGuest(PlayedGuest):
    """A guest whose clients ask without waiting for each other, and note what they ask and hear."""

    def __init__(self, service: GuestService, notes: TraceFile, number: int, dice: random.Random) -> None:
        self.notes, self.dice, self.number = notes, dice, number
        self.waiting: dict[int, tuple[str, int, list[Any]]] = {}
        self.calls = 0
        self.heads: dict[bytes, tuple[int, bytes]] = {}
        self.versions: dict[bytes, int] = {}
        notes.write(trace.Began(notes.now_ns(), machine(number), eid(number), "", Origin.FIRST))
        super().__init__(service, machine=machine(number), execution=eid(number))

    def ask_one(self) -> None:
        request = self.request()
        number = self.session.standing.next_request
        self._send(f"g{self.number}c{self.dice.randrange(4)}", number, request)

    def _send(self, client: str, number: int, request: list[Any]) -> None:
        self.calls += 1
        operation, *arguments = request
        self.notes.write(
            trace.Asked(
                self.notes.now_ns(),
                client,
                self.calls,
                self.execution,
                number,
                Operation(operation),
                tuple(arguments),
            )
        )
        self.waiting[number] = client, self.calls, request
        self.ask(request, first=number)

    def request(self) -> list[Any]:
        name, roll = self.dice.choice(NAMES), self.dice.randrange(20)
        if roll < 6:
            return [1, name, 1 + roll]
        if roll < 9:
            return [2, name]
        if roll < 11:
            return [3, b"token%d" % self.dice.randrange(8), False]
        if roll < 13:
            return [4, name, *self.heads.get(name, (0, bytes(32))), b"entry%d" % self.calls]
        if roll < 15:
            return [5, name, b"n" * 16]
        if roll < 17:
            return [6, name, self.versions.get(name, 0), b"content%d" % self.calls]
        if roll < 18:
            return [7, name, 0]
        return (
            [10, b"key%d" % self.dice.randrange(8)] if roll < 19 else [11, b"key%d" % self.dice.randrange(8)]
        )

    def has_all(self) -> bool:
        self.hear()
        return not self.waiting

    def hear(self) -> None:
        """Note the answers that came."""
        came = [number for number in self.waiting if number in self.answers]
        for number in came:
            client, call, request = self.waiting.pop(number)
            outcome, rests, *values = self.answers.pop(number)
            told = trace.Answered(
                self.notes.now_ns(), client, call, Outcome(outcome), Rests(rests), tuple(values)
            )
            self.notes.write(told)
            if outcome == 0 and request[0] in (4, 5):
                self.heads[request[1]] = values[0], values[1]
            elif outcome == 0 and request[0] in (6, 7):
                self.versions[request[1]] = values[0]

    def ask_again(self) -> None:
        """After a kill: what is unanswered is asked under its number, in their order."""
        waiting, self.waiting = sorted(self.waiting.items()), {}
        for number, (client, _, request) in waiting:
            self._send(client, number, request)


def run(service: ServiceProcess, seed: int, kills: int, asks: int) -> list[trace.Event]:
    dice = random.Random(seed)
    with TraceFile(service.trace) as notes:
        with service.client() as client:
            guests = [TracedGuest(client, notes, number, dice) for number in (1, 2)]
            _talk(guests, dice, asks)
        for _ in range(kills):
            service.kill()
            notes.write(trace.Died(notes.now_ns(), clean=False))
            service.start()
            with service.client() as client:
                for guest in guests:
                    guest.hear()
                    guest.close()
                    guest.attach(client)
                _talk(guests, dice, asks)
        for guest in guests:
            guest.until(guest.has_all)
            guest.close()
    return read_traces([service.trace])


def _talk(guests: list[TracedGuest], dice: random.Random, asks: int) -> None:
    for guest in guests:
        guest.meet()
        guest.ask_again()
    for _ in range(asks):
        guest = dice.choice(guests)
        if len(guest.waiting) < IN_FLIGHT:
            guest.ask_one()
        if dice.randrange(3) == 0:
            guest.pump(0.002)
            guest.hear()


def judged(events: list[trace.Event], kills: int) -> None:
    granted = [each for each in events if isinstance(each, trace.Answered) and each.outcome is Outcome.OK]
    assert sum(isinstance(each, trace.Served) for each in events) == kills + 1
    assert len(granted) > 40 * kills
    assert check(events) == []
    assert unordered(events) == []


def test_a_service_that_is_killed_while_guests_ask_repeats_nothing_and_loses_nothing(
    service: ServiceProcess,
) -> None:
    events = run(service, 1, kills=3, asks=120)
    judged(events, 3)
    numbers = [(each.eid, each.number) for each in events if isinstance(each, trace.Asked)]
    assert len(set(numbers)) < len(numbers), "nothing was asked again: the kills came between requests"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10, 20))
def test_a_service_that_is_killed_often_repeats_nothing_and_loses_nothing(
    service: ServiceProcess, seed: int
) -> None:
    judged(run(service, seed, kills=15, asks=300), 15)
