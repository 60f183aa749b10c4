"""Who sends what counts for nothing is read more rarely, and nobody else is."""

import os
import socket
from collections.abc import Iterator

import pytest
from tests.unit.guestservice.test_guest import Play

from undercroft.guestservice.guest import Guest
from undercroft.guestservice.lines import Lines
from undercroft.guestservice.link import HIGH_BYTES
from undercroft.guestservice.loop import READ, Loop


class Turns:
    """A loop with the links of two guests."""

    def __init__(self) -> None:
        self.gone: list[Guest] = []
        self.said: list[str] = []
        self.loop = Loop(self._end)
        self.lines = Lines(self.loop, self._lost, self.said.append)
        self.loud, self.other = Play(), Play()
        for each in (self.loud, self.other):
            self.lines.add(each.guest)

    def _end(self) -> None:
        self.lines.flush()

    def _lost(self, guest: Guest) -> None:
        self.gone.append(guest)
        self.lines.drop(guest)


@pytest.fixture
def turns() -> Iterator[Turns]:
    made = Turns()
    yield made
    for each in (made.loud, made.other):
        made.lines.drop(each.guest)
        each.theirs.close()
        each.guest.link.close()
    made.loop.forget_all()


def test_who_sends_noise_is_not_read_for_a_while_and_the_other_is(turns: Turns) -> None:
    turns.loud.theirs.send(b"\0" + os.urandom(4_000).replace(b"\0", b"\1") + b"\0")
    turns.other.theirs.send(b"\0")
    turns.loop.turn(0)
    assert not turns.loud.guest.link.polled & READ
    assert turns.other.guest.link.polled & READ
    while not turns.loud.guest.link.polled & READ:
        turns.loop.turn(0.01)


def test_who_does_not_take_what_is_sent_is_read_no_more_until_it_does(turns: Turns) -> None:
    link = turns.loud.guest.link
    link.out += bytes(2 * HIGH_BYTES)
    turns.lines.send(turns.loud.guest)
    turns.loop.turn(0)
    assert not link.polled & READ
    while link.out:
        turns.loud.theirs.recv(1 << 20)
        turns.loop.turn(0)
    assert link.polled & READ


def test_a_socket_that_ends_is_told_once_also_while_nothing_is_read_of_it(turns: Turns) -> None:
    turns.loud.guest.link.out += bytes(2 * HIGH_BYTES)
    turns.lines.send(turns.loud.guest)
    turns.loop.turn(0)
    turns.loud.theirs.shutdown(socket.SHUT_RDWR)
    turns.loud.theirs.close()
    for _ in range(5):
        turns.loop.turn(0)
    assert turns.gone == [turns.loud.guest]


def test_a_mistake_of_the_service_s_that_a_guest_finds_ends_its_own_link_alone(
    turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guest, "receive", lambda *_: 1 // 0)
    turns.loud.theirs.send(b"\0")
    turns.loop.turn(0)
    assert turns.gone == [turns.loud.guest]
    assert "ZeroDivisionError" in turns.said[0]
